"""Tiled rasterizer in plain XLA with a hand-written backward pass: any device, any float type.

Tiles are taken in groups of similar length. A group walks its lists in chunks, each chunk one
[tiles, pixels, Gaussians] block: exclusive transmittances are a triangular matrix product of
log(1 − α), features another matrix product, and the walk ends when every pixel of the group is
opaque. Shapes are static, so instances live in a buffer of fixed capacity; see `grow_capacity`.

The backward pass walks front to back too (see `numba_composite`), writes one gradient row per
instance and adds the rows of each Gaussian in a fixed order: no atomics, the same bits every run.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sa0_kernels.projection import Projection, conic_from_covariance
from sa0_kernels.rasterize import reference, xla_binning
from sa0_kernels.rasterize.segments import sum_sorted_segments
from sa0_kernels.rasterize.types import RasterOutput, Settings, SplatInputs, TileLists

_TILE = 16
TILE_SIZES = (8, 16, 32)  # worth timing; see `tuning`
_CHUNK = 32  # Gaussians per step of a group
_GROUP = 16  # tiles walked together
_HIGHEST = jax.lax.Precision.HIGHEST  # accelerators would otherwise round products to TF32 or bf16


class _Splats(NamedTuple):
  """What compositing reads of every Gaussian."""

  xy: Float[Array, 'n 2']
  conic: Float[Array, 'n 3']
  opacities: Float[Array, ' n']
  exponent_max: Float[Array, ' n']
  features: Float[Array, 'n c']


class _Walk(NamedTuple):
  """A group of tiles: where their lists begin and end, and their pixels' centres."""

  start: Array  # [g]
  end: Array  # [g]
  pixel_x: Array  # [g, p]
  pixel_y: Array  # [g, p]


def unsupported(settings: Settings, inputs: SplatInputs) -> list[str]:
  """Reasons why this implementation cannot run these inputs: none."""
  del settings, inputs
  return []


def _walks(settings: Settings, tile: int, lists: xla_binning.TileLists) -> tuple[_Walk, Array]:
  """All tiles, longest lists first, in groups [groups, g]; and the tile of each place."""
  tiles_x = -(-settings.width // tile)
  num_tiles = lists.tile_start.shape[0]
  group = min(_GROUP, num_tiles)
  groups = -(-num_tiles // group)
  lengths = lists.tile_end - lists.tile_start
  by_length = jnp.argsort(-lengths, stable=True).astype(jnp.int32)
  # The padding repeats tile 0 with an empty list; `_scatter_tiles` drops it.
  padded = jnp.concatenate([by_length, jnp.zeros(groups * group - num_tiles, jnp.int32)])
  real = jnp.arange(groups * group) < num_tiles
  start = lists.tile_start[padded]
  end = jnp.where(real, lists.tile_end[padded], start)
  inside = jnp.arange(tile * tile)
  pixel_x = (padded % tiles_x * tile)[:, None] + inside % tile
  pixel_y = (padded // tiles_x * tile)[:, None] + inside // tile
  walk = _Walk(start, end, pixel_x, pixel_y)
  shaped = jax.tree.map(lambda a: a.reshape(groups, group, *a.shape[1:]), walk)
  places = jnp.where(real, padded, num_tiles).reshape(groups, group)
  return shaped, places


def _gather(splats: _Splats, gaussian: Array, walk: _Walk, step: Array) -> tuple[_Splats, Array]:
  """The next chunk of every tile's list, [g, k, …]; opacity 0 past a list's end."""
  index = walk.start[:, None] + step * _CHUNK + jnp.arange(_CHUNK)
  present = index < walk.end[:, None]
  index = jnp.minimum(index, gaussian.shape[0] - 1)
  chunk = jax.tree.map(lambda a: a[gaussian[index]], splats)
  exponent_max = jnp.where(present, chunk.exponent_max, -1.0)
  return chunk._replace(exponent_max=exponent_max), jnp.where(present, index, gaussian.shape[0])


class _Alphas(NamedTuple):
  """Per pixel and Gaussian of a chunk, [g, p, k]."""

  dx: Array
  dy: Array
  alpha: Array  # clamped, zero where skipped
  unclamped: Array  # opacity · falloff
  falloff: Array
  before: Array  # transmittance in front of the Gaussian
  kept: Array  # the pixel has not stopped before or at it
  weight: Array


def _alphas(settings: Settings, chunk: _Splats, walk: _Walk, log_t: Array) -> _Alphas:
  """Opacities, transmittances and blending weights of a chunk.

  Args:
    settings: constants.
    chunk: [g, k, …] Gaussians.
    walk: the tiles.
    log_t: [g, p] log transmittance in front of the chunk; −inf where the pixel has stopped.
  """
  dtype = chunk.xy.dtype
  dx = (walk.pixel_x.astype(dtype) + 0.5)[:, :, None] - chunk.xy[:, None, :, 0]
  dy = (walk.pixel_y.astype(dtype) + 0.5)[:, :, None] - chunk.xy[:, None, :, 1]
  a, b, c = (chunk.conic[:, None, :, i] for i in range(3))
  exponent = 0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy
  drawn = exponent <= chunk.exponent_max[:, None, :]
  falloff = jnp.exp(-jnp.maximum(exponent, 0.0))
  unclamped = chunk.opacities[:, None, :] * falloff
  alpha = jnp.where(drawn, jnp.minimum(unclamped, settings.config.alpha_max), 0.0)
  log_pass = jnp.log1p(-alpha)
  after = log_t[:, :, None] + jnp.matmul(log_pass, _triangle(dtype), precision=_HIGHEST)
  kept = after > math.log(settings.config.transmittance_min or 1e-38)
  before = jnp.exp(after - log_pass)
  weight = jnp.where(kept, alpha * before, 0.0)
  return _Alphas(dx, dy, alpha, unclamped, falloff, before, kept, weight)


def _triangle(dtype: Any) -> Array:
  """x @ triangle is the inclusive cumulative sum of a chunk."""
  return jnp.triu(jnp.ones((_CHUNK, _CHUNK), dtype))


def _advance(log_t: Array, final: Array, alphas: _Alphas) -> tuple[Array, Array]:
  """Log transmittance behind a chunk (−inf once stopped), and behind the last kept Gaussian."""
  log_pass = jnp.where(alphas.kept, jnp.log1p(-alphas.alpha), 0.0)
  final = final + jnp.sum(log_pass, axis=-1)
  return jnp.where(alphas.kept[:, :, -1], final, -jnp.inf), final


def _unfinished(walk: _Walk, step: Array, log_t: Array) -> Array:
  more = walk.start + step * _CHUNK < walk.end
  return jnp.any(more & jnp.any(log_t > -jnp.inf, axis=1))


def _composite(
  settings: Settings, splats: _Splats, gaussian: Array, walk: _Walk
) -> tuple[Array, Array]:
  """Blended features [g, p, c] and transmittance [g, p] of one group of tiles."""
  inside = (walk.pixel_x < settings.width) & (walk.pixel_y < settings.height)
  zero = jnp.zeros(walk.pixel_x.shape, splats.xy.dtype)
  log_t = jnp.where(inside, zero, -jnp.inf)
  image = jnp.zeros((*zero.shape, splats.features.shape[1]), zero.dtype)

  def body(state: Any) -> Any:
    step, log_t, final, image = state
    chunk, _ = _gather(splats, gaussian, walk, step)
    alphas = _alphas(settings, chunk, walk, log_t)
    image = image + jnp.matmul(alphas.weight, chunk.features, precision=_HIGHEST)
    log_t, final = _advance(log_t, final, alphas)
    return step + 1, log_t, final, image

  state = (jnp.int32(0), log_t, zero, image)
  *_, final, image = jax.lax.while_loop(lambda s: _unfinished(walk, s[0], s[1]), body, state)
  return image, jnp.exp(final)


def _gradient_rows(
  alphas: _Alphas, chunk: _Splats, shade: Array, behind: Array, d_image: Array
) -> Array:
  """[g, k, 6 + c]: gradients of x, y, conic A, B, C, opacity and features of a chunk.

  Args:
    alphas: the chunk's opacities.
    chunk: its Gaussians.
    shade: [g, p, k] ⟨feature, cotangent⟩.
    behind: [g, p, k] S, what lies behind each Gaussian.
    d_image: [g, p, c] cotangent.
  """
  d_alpha = alphas.before * shade - behind / (1.0 - alphas.alpha)
  free = alphas.kept & (alphas.alpha == alphas.unclamped)
  d_alpha = jnp.where(free, d_alpha, 0.0)
  d_exponent = -alphas.unclamped * d_alpha
  dx, dy = alphas.dx, alphas.dy
  sum_x = jnp.sum(dx * d_exponent, axis=1)
  sum_y = jnp.sum(dy * d_exponent, axis=1)
  a, b, c = (chunk.conic[:, :, i] for i in range(3))
  geometry = [
    -(a * sum_x + b * sum_y),
    -(c * sum_y + b * sum_x),
    0.5 * jnp.sum(dx * dx * d_exponent, axis=1),
    jnp.sum(dx * dy * d_exponent, axis=1),
    0.5 * jnp.sum(dy * dy * d_exponent, axis=1),
    jnp.sum(alphas.falloff * d_alpha, axis=1),
  ]
  features = jnp.einsum('gpk,gpc->gkc', alphas.weight, d_image, precision=_HIGHEST)
  return jnp.concatenate([jnp.stack(geometry, axis=-1), features], axis=-1)


def _composite_backward(
  settings: Settings,
  splats: _Splats,
  lists: xla_binning.TileLists,
  group: tuple[_Walk, Array, Array],
  rows: Array,
) -> Array:
  """Writes the gradient rows of one group of tiles at their emission index."""
  walk, d_image, behind = group
  inside = (walk.pixel_x < settings.width) & (walk.pixel_y < settings.height)
  zero = jnp.zeros(walk.pixel_x.shape, splats.xy.dtype)
  log_t = jnp.where(inside, zero, -jnp.inf)
  emission = jnp.append(lists.emission, jnp.int32(rows.shape[0]))  # out of range: dropped

  def body(state: Any) -> Any:
    step, log_t, final, behind, rows = state
    chunk, index = _gather(splats, lists.gaussian, walk, step)
    alphas = _alphas(settings, chunk, walk, log_t)
    shade = jnp.einsum('gpc,gkc->gpk', d_image, chunk.features, precision=_HIGHEST)
    passed = jnp.matmul(alphas.weight * shade, _triangle(zero.dtype), precision=_HIGHEST)
    left = behind[:, :, None] - passed
    values = _gradient_rows(alphas, chunk, shade, left, d_image)
    rows = rows.at[emission[index]].set(values, mode='drop', unique_indices=True)
    log_t, final = _advance(log_t, final, alphas)
    return step + 1, log_t, final, left[:, :, -1], rows

  state = (jnp.int32(0), log_t, zero, behind, rows)
  return jax.lax.while_loop(lambda s: _unfinished(walk, s[0], s[1]), body, state)[-1]


def _scatter_tiles(settings: Settings, tile: int, places: Array, values: Array) -> Array:
  """Puts [groups, g, p, c] pixels back into an image [h, w, c]."""
  rows, columns = -(-settings.height // tile), -(-settings.width // tile)
  channels = values.shape[-1]
  tiles = jnp.zeros((rows * columns, tile * tile, channels), values.dtype)
  flat = values.reshape(-1, tile * tile, channels)
  tiles = tiles.at[places.reshape(-1)].set(flat, mode='drop', unique_indices=True)
  image = tiles.reshape(rows, columns, tile, tile, channels).transpose(0, 2, 1, 3, 4)
  return image.reshape(rows * tile, columns * tile, channels)[: settings.height, : settings.width]


def _gather_tiles(image: Array, walk: _Walk) -> Array:
  """Pixels [groups, g, p, c] of an image [h, w, c]; repeats the border outside."""
  y = jnp.minimum(walk.pixel_y, image.shape[0] - 1)
  x = jnp.minimum(walk.pixel_x, image.shape[1] - 1)
  return image[y, x]


def _splats(settings: Settings, inputs: SplatInputs) -> tuple[_Splats, Projection]:
  clean, projection, exponent_max = reference.sanitize(settings, inputs)
  conic = conic_from_covariance(projection.covariance)
  splats = _Splats(projection.xy, conic, clean.opacities, exponent_max, clean.features)
  return splats, projection


def forward(settings: Settings, inputs: SplatInputs) -> tuple[RasterOutput, Any]:
  """The image, and what `backward` needs."""
  tile = settings.tile_size(_TILE)
  splats, projection = _splats(settings, inputs)
  projected = (projection, splats.conic, splats.exponent_max)
  lists = xla_binning.tile_lists_of(settings, tile, projected, inputs.lists)
  walks, places = _walks(settings, tile, lists)
  blended, transmittance = jax.lax.map(
    lambda walk: _composite(settings, splats, lists.gaussian, walk), walks
  )
  transmittance = _scatter_tiles(settings, tile, places, transmittance[..., None])
  image = _scatter_tiles(settings, tile, places, blended) + transmittance * inputs.background
  output = RasterOutput(
    features=image,
    alpha=1.0 - transmittance[..., 0],
    num_instances=lists.num_instances,
    overflowed=lists.num_instances > settings.capacity(inputs.means.shape[0]),
    num_invalid=jnp.sum(~projection.valid).astype(jnp.int32),
  )
  return output, (inputs, lists, image, transmittance)


def tile_lists(settings: Settings, inputs: SplatInputs) -> TileLists:
  """What `forward` composites by."""
  splats, projection = _splats(settings, inputs)
  tile = settings.tile_size(_TILE)
  return xla_binning.build_tile_lists(settings, tile, projection, splats.conic, splats.exponent_max)


def render(settings: Settings, inputs: SplatInputs) -> RasterOutput:
  """Renders one image without keeping anything for gradients."""
  return forward(settings, inputs)[0]


def backward(
  settings: Settings,
  residuals: Any,
  d_features: Float[Array, 'h w c'],
  d_alpha: Float[Array, 'h w'],
) -> SplatInputs:
  """Gradients of every input."""
  inputs, lists, image, transmittance = residuals
  tile = settings.tile_size(_TILE)

  def project(geometry: SplatInputs) -> tuple[Array, ...]:
    splats, _ = _splats(settings, geometry)
    return splats.xy, splats.conic, splats.opacities, splats.features

  _, pullback = jax.vjp(project, inputs)
  splats, _ = _splats(settings, inputs)
  walks, _ = _walks(settings, tile, lists)
  behind = jnp.sum(image * d_features, -1) - transmittance[..., 0] * d_alpha
  d_tiles = _gather_tiles(d_features, walks)
  behind_tiles = _gather_tiles(behind[..., None], walks)[..., 0]
  rows = jnp.zeros((lists.owner.shape[0], 6 + splats.features.shape[1]), splats.xy.dtype)

  def step(rows: Array, group: tuple[_Walk, Array, Array]) -> tuple[Array, None]:
    return _composite_backward(settings, splats, lists, group, rows), None

  rows, _ = jax.lax.scan(step, rows, (walks, d_tiles, behind_tiles))
  sums = sum_sorted_segments(rows, lists.owner, inputs.means.shape[0])
  sums = jnp.zeros_like(sums).at[lists.order].set(sums, unique_indices=True)
  gradients = pullback((sums[:, :2], sums[:, 2:5], sums[:, 5], sums[:, 6:]))[0]
  d_background = jnp.einsum('hw,hwc->c', transmittance[..., 0], d_features, precision=_HIGHEST)
  return gradients._replace(background=d_background)
