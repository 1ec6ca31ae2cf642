"""Terms on the predicted attributes themselves (SpatialAvatar-0, METHOD §5)."""

from collections.abc import Callable, Mapping
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

# γ → local positions and log-scales.
Geometry = Callable[[Array], tuple[Array, Array]]


def uv_total_variation(
  values: Float[Array, '*batch h w c'],
  valid: Bool[Array | np.ndarray, 'h w'],
  seam_pairs: Int[Array | np.ndarray, 'm 2'] | None = None,
) -> Float[Array, '']:
  """Anisotropic total variation over the UV map: (1 / |Ω|) Σ_p ‖f_right − f_p‖₁ + ‖f_below − f_p‖₁.

  A difference counts where both its texels are valid. The mean over Ω divides by the number of
  valid texels, channels are summed, the batch is averaged. Shifts only: the gradient sums in a
  fixed order on every device.

  Args:
    values: the attribute on the UV grid; invalid texels have no influence.
    valid: Ω.
    seam_pairs: flat indices (row · w + column) of valid texels that neighbour each other across a
      seam of the unwrap; each pair adds one more difference to the sum.
  """
  valid = jnp.asarray(valid)
  values = jnp.where(valid[..., None], values, 0.0)
  right = jnp.abs(values[..., :, 1:, :] - values[..., :, :-1, :])
  below = jnp.abs(values[..., 1:, :, :] - values[..., :-1, :, :])
  both_right, both_below = valid[:, 1:] & valid[:, :-1], valid[1:] & valid[:-1]
  total = jnp.sum(jnp.where(both_right[..., None], right, 0.0), axis=(-3, -2, -1))
  total += jnp.sum(jnp.where(both_below[..., None], below, 0.0), axis=(-3, -2, -1))
  if seam_pairs is not None:
    flat = values.reshape(*values.shape[:-3], -1, values.shape[-1])
    total += _pair_differences(flat, jnp.asarray(seam_pairs))
  return jnp.mean(total) / jnp.maximum(jnp.sum(valid), 1)


def neighbour_pairs(
  valid: Bool[np.ndarray, 'h w'], seam_pairs: Int[np.ndarray, 'k 2'] | None = None
) -> Int[np.ndarray, 'm 2']:
  """Pairs of neighbouring Gaussians: right, then lower neighbours, then those across seams.

  Args:
    valid: Ω; Gaussians are numbered along its rows.
    seam_pairs: as in `uv_total_variation`, flat texel indices.

  Returns:
    [m, 2] int32 indices into Ω.

  Raises:
    ValueError: a seam pair names a texel that is not valid.
  """
  number = np.full(valid.shape, -1, np.int32)
  number[valid] = np.arange(np.count_nonzero(valid), dtype=np.int32)
  parts = [
    np.stack([number[:, :-1], number[:, 1:]], -1).reshape(-1, 2),
    np.stack([number[:-1], number[1:]], -1).reshape(-1, 2),
  ]
  parts = [pairs[(pairs >= 0).all(-1)] for pairs in parts]
  if seam_pairs is not None:
    if seam_pairs.size and not (seam_pairs.min() >= 0 and seam_pairs.max() < valid.size):
      raise ValueError(f'neighbour_pairs: a seam pair lies outside the {valid.shape} UV grid')
    across = number.reshape(-1)[seam_pairs]
    if (across < 0).any():
      raise ValueError('neighbour_pairs: a seam pair names a texel that is not valid')
    parts.append(across)
  return np.concatenate(parts)


def pair_total_variation(
  values: Float[Array, '*batch n c'], pairs: Int[Array | np.ndarray, 'm 2']
) -> Float[Array, '']:
  """`uv_total_variation` of values per Gaussian: (1 / n) Σ_pairs ‖f_i − f_j‖₁, batch averaged.

  Args:
    values: the attribute.
    pairs: from `neighbour_pairs`.

  The gradient scatters into Gaussians, in an order that a GPU may vary from run to run; where runs
  must repeat bit by bit, use the form over the grid.
  """
  return jnp.mean(_pair_differences(values, jnp.asarray(pairs))) / max(values.shape[-2], 1)


def _pair_differences(
  values: Float[Array, '*batch n c'], pairs: Int[Array, 'm 2']
) -> Float[Array, '*batch']:
  first, second = (jnp.take(values, pairs[:, k], axis=-2) for k in range(2))
  return jnp.sum(jnp.abs(first - second), axis=(-2, -1))


def residual_l1(corrections: Mapping[str, Float[Array, '...']]) -> Float[Array, '']:
  """Mean absolute correction, over batch, Ω and channels of each family, then over families.

  Args:
    corrections: [*batch, n, c] by family (position, rotation, scale, colour); a family counts the
      same however many channels it has.
  """
  if not corrections:
    raise ValueError('residual_l1: no corrections were given')
  return jnp.mean(jnp.stack([jnp.mean(jnp.abs(part)) for part in corrections.values()]))


def jacobian_penalty(
  geometry: Geometry,
  gamma: Float[Array, '*batch k'],
  key: Key[Array, '*batch'] | None = None,
  estimator: Literal['hutchinson', 'exact'] = 'hutchinson',
) -> Float[Array, '']:
  """log(1 + ‖J_x‖²_F + ‖J_s‖²_F): how much positions and log-scales depend on the view direction.

  'hutchinson' replaces ‖J‖²_F by ‖∇_γ Σ_p ⟨v_p, f_p(γ)⟩‖² with one Rademacher vector v_p a texel
  and head, whose expectation it is; one reverse pass a head. 'exact' sums over the k forward-mode
  tangents of γ, one at a time. Both differentiate by whatever `geometry` closes over.

  Args:
    geometry: γ [*batch, k] → (positions [*batch, n, 3], log-scales [*batch, n, 3]). With a batch,
      each element's output must depend on its own γ alone: `jax.vmap` of a function of one γ does.
    gamma: the encoded view direction, k = 27 numbers.
    key: for 'hutchinson', the draw of each batch element; not used by 'exact'.
    estimator: which.

  Returns:
    The penalty of each batch element, averaged.

  Raises:
    ValueError: an unknown estimator, or 'hutchinson' without a key.
  """
  if estimator == 'exact':
    squares = _exact_squares(geometry, gamma)
  elif estimator == 'hutchinson':
    if key is None:
      raise ValueError("jacobian_penalty: the estimator 'hutchinson' needs a key")
    squares = _hutchinson_squares(geometry, gamma, key)
  else:
    raise ValueError(f"jacobian_penalty: 'hutchinson' or 'exact', got {estimator!r}")
  return jnp.mean(jnp.log1p(squares))


def _exact_squares(geometry: Geometry, gamma: Float[Array, '*batch k']) -> Float[Array, '*batch']:
  outputs, push = jax.linearize(geometry, gamma)
  axes = [tuple(range(gamma.ndim - 1, output.ndim)) for output in outputs]

  # Recomputed for the gradient: the n × 3 × k entries never exist at once.
  @jax.checkpoint
  def add(squares: Array, direction: Array) -> tuple[Array, None]:
    columns = push(jnp.broadcast_to(direction, gamma.shape))
    parts = [jnp.sum(column**2, axis=axis) for column, axis in zip(columns, axes, strict=True)]
    return squares + sum(parts), None

  directions = jnp.eye(gamma.shape[-1], dtype=gamma.dtype)
  start = jnp.zeros(gamma.shape[:-1], jnp.result_type(*outputs))
  return jax.lax.scan(add, start, directions)[0]


def _hutchinson_squares(
  geometry: Geometry, gamma: Float[Array, '*batch k'], key: Key[Array, '*batch']
) -> Float[Array, '*batch']:
  (positions, log_scales), pull = jax.vjp(geometry, gamma)
  batch = gamma.ndim - 1

  def draw(key: Key[Array, '']) -> tuple[Array, ...]:
    return tuple(
      jax.random.rademacher(k, output.shape[batch:], output.dtype)
      for k, output in zip(jax.random.split(key), (positions, log_scales), strict=True)
    )

  for _ in range(batch):
    draw = jax.vmap(draw)
  signs = draw(key)
  (of_positions,) = pull((signs[0], jnp.zeros_like(log_scales)))
  (of_log_scales,) = pull((jnp.zeros_like(positions), signs[1]))
  return jnp.sum(of_positions**2, axis=-1) + jnp.sum(of_log_scales**2, axis=-1)
