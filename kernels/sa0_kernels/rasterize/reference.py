"""The definition of the image: plain JAX, differentiated by JAX, any float type.

Every other implementation is held to this one. Pixels are taken in blocks; each block evaluates all
Gaussians whose footprint touches it as a [pixels, Gaussians] matrix, so that compositing is a
cumulative sum and the early stop is a comparison:

    T_k = Π_{j≤k} (1 − α_j),   kept_k = T_k > transmittance_min,   w_k = α_k T_{k−1} kept_k.

T never grows, so once one Gaussian fails the comparison all later ones do: exactly "stop before the
Gaussian that would take the transmittance under the limit".
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sa0_kernels import projection as projection_lib
from sa0_kernels.rasterize.types import RasterOutput, Settings, SplatInputs

_BLOCK = 16  # pixels a side of the blocks one matrix covers
_DEFAULT_CAPACITY = 2048  # Gaussians per block


def unsupported(settings: Settings, inputs: SplatInputs) -> list[str]:
  """Reasons why this implementation cannot run these inputs."""
  del settings
  return [] if inputs.lists is None else ['it sorts in every call and takes no config.lists']


def sanitize(
  settings: Settings, inputs: SplatInputs
) -> tuple[SplatInputs, projection_lib.Projection, Float[Array, ' n']]:
  """Replaces invalid Gaussians by invisible ones and projects.

  Returns:
    The inputs with finite opacities and features, the projection (its `valid` and `visible` account
    for them), and the exponent at which each Gaussian's contribution ends.
  """
  config = settings.config
  projection = projection_lib.project_gaussians(
    inputs.means,
    inputs.quats,
    inputs.scales,
    projection_lib.ProjectionView(
      inputs.world_to_camera,
      inputs.intrinsics,
      settings.width,
      settings.height,
      config.blur,
      config.near,
      config.frustum_margin,
    ),
  )
  finite = jnp.isfinite(inputs.opacities) & jnp.isfinite(inputs.features).all(-1)
  valid = projection.valid & finite
  opacities = jnp.where(valid, inputs.opacities, 0.0)
  features = jnp.where(valid[:, None], inputs.features, 0.0)
  # α ≥ alpha_min  ⇔  exponent ≤ log(opacity / alpha_min); negative means nothing to draw.
  exponent_max = jnp.log(jnp.maximum(jax.lax.stop_gradient(opacities), 1e-12) / config.alpha_min)
  visible = projection.visible & valid & (exponent_max > 0)
  # Lists that were kept may name a Gaussian that has gone behind the camera since.
  exponent_max = jnp.where(visible, exponent_max, -1.0)
  clean = inputs._replace(opacities=opacities, features=features)
  return clean, projection._replace(valid=valid, visible=visible), exponent_max


def _render_block(
  settings: Settings, splats: tuple[Array, ...], listed: Array, corner: Array
) -> tuple[Array, Array]:
  """Composites the Gaussians `listed` (in depth order, padded with n) over one block of pixels."""
  xy, conic, opacities, features, exponent_max = splats
  present = listed < xy.shape[0]
  xy, conic, opacities, features, exponent_max = (
    jnp.take(a, listed, axis=0, mode='clip') for a in splats
  )
  offsets = jnp.arange(_BLOCK, dtype=xy.dtype) + 0.5
  pixel_y, pixel_x = jnp.meshgrid(offsets + corner[1], offsets + corner[0], indexing='ij')
  dx = pixel_x.reshape(-1, 1) - xy[:, 0]
  dy = pixel_y.reshape(-1, 1) - xy[:, 1]
  exponent = 0.5 * (conic[:, 0] * dx * dx + conic[:, 2] * dy * dy) + conic[:, 1] * dx * dy
  drawn = present & (exponent <= exponent_max)
  # The form is positive definite; rounding may still take the exponent of a needle under zero.
  exponent = jnp.where(drawn, jnp.maximum(exponent, 0.0), 0.0)
  alpha = jnp.minimum(opacities * jnp.exp(-exponent), settings.config.alpha_max)
  alpha = jnp.where(drawn, alpha, 0.0)
  log_transmittance = jnp.cumsum(jnp.log1p(-alpha), axis=1)
  kept = jnp.exp(log_transmittance) > settings.config.transmittance_min
  before = jnp.exp(log_transmittance - jnp.log1p(-alpha))
  weights = jnp.where(kept, alpha * before, 0.0)
  final = jnp.exp(jnp.sum(jnp.where(kept, jnp.log1p(-alpha), 0.0), axis=1))
  image = jnp.matmul(weights, features, precision=jax.lax.Precision.HIGHEST)
  return image, final


def render(settings: Settings, inputs: SplatInputs) -> RasterOutput:
  """Renders one image; differentiable by JAX in every field of `inputs`."""
  inputs, projection, exponent_max = sanitize(settings, inputs)
  conic = projection_lib.conic_from_covariance(projection.covariance)
  depth = jnp.where(projection.visible, projection.depth, jnp.inf)
  order = jnp.argsort(jax.lax.stop_gradient(depth), stable=True)
  splats = tuple(
    jnp.take(a, order, axis=0)
    for a in (projection.xy, conic, inputs.opacities, inputs.features, exponent_max)
  )

  # Half sides of each Gaussian's axis-aligned footprint: exponent = exponent_max on its border.
  xy = jax.lax.stop_gradient(splats[0])
  variance = jnp.take(jax.lax.stop_gradient(projection.covariance), order, axis=0)[:, ::2]
  reach = jnp.sqrt(2.0 * jnp.maximum(splats[4], 0.0)[:, None] * variance)
  visible = jnp.take(projection.visible, order)
  per_block = min(settings.config.capacity or _DEFAULT_CAPACITY, xy.shape[0])

  def block(corner: Array) -> tuple[Array, Array, Array]:
    low, high = corner + 0.5, corner + _BLOCK - 0.5
    touches = visible & ((xy + reach >= low) & (xy - reach <= high)).all(-1)
    (listed,) = jnp.nonzero(touches, size=per_block, fill_value=xy.shape[0])
    image, final = _render_block(settings, splats, listed, corner)
    return image, final, jnp.sum(touches)

  rows, columns = -(-settings.height // _BLOCK), -(-settings.width // _BLOCK)
  corners = jnp.stack(jnp.meshgrid(jnp.arange(columns), jnp.arange(rows)), axis=-1)
  corners = (corners.reshape(-1, 2) * _BLOCK).astype(xy.dtype)
  images, finals, counts = jax.lax.map(jax.checkpoint(block), corners)

  def assemble(blocks: Array) -> Array:
    grid = blocks.reshape(rows, columns, _BLOCK, _BLOCK, -1)
    image = grid.transpose(0, 2, 1, 3, 4).reshape(rows * _BLOCK, columns * _BLOCK, -1)
    return image[: settings.height, : settings.width]

  transmittance = assemble(finals)
  return RasterOutput(
    features=assemble(images) + transmittance * inputs.background,
    alpha=1.0 - transmittance[..., 0],
    num_instances=jnp.sum(counts).astype(jnp.int32),
    overflowed=jnp.max(counts) > per_block,
    num_invalid=jnp.sum(~projection.valid).astype(jnp.int32),
  )


def forward(settings: Settings, inputs: SplatInputs) -> tuple[RasterOutput, Any]:
  """The image, and what `backward` needs."""
  return render(settings, inputs), inputs


def backward(
  settings: Settings,
  residuals: Any,
  d_features: Float[Array, 'h w c'],
  d_alpha: Float[Array, 'h w'],
) -> SplatInputs:
  """Gradients of every input by automatic differentiation."""

  def image_and_alpha(inputs: SplatInputs) -> tuple[Array, Array]:
    output = render(settings, inputs)
    return output.features, output.alpha

  _, pullback = jax.vjp(image_and_alpha, residuals)
  return pullback((d_features, d_alpha))[0]
