"""Tile lists with static shapes in XLA: one depth sort, expansion, one stable sort by tile."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from sa0_kernels.projection import Projection
from sa0_kernels.rasterize.types import Settings, TileLists


class Footprints(NamedTuple):
  """Image-space ellipses {½(A x² + C y²) + B x y ≤ exponent_max} around `xy`."""

  xy: Float[Array, 'n 2']
  conic: Float[Array, 'n 3']
  exponent_max: Float[Array, ' n']


def _tile_boxes(
  settings: Settings, tile: int, projection: Projection, exponent_max: Float[Array, ' n']
) -> tuple[Int[Array, 'n 2'], Int[Array, 'n 2']]:
  """First tile (x, y) and number of tiles (x, y) of each footprint's bounding box."""
  reach = jnp.sqrt(2.0 * jnp.maximum(exponent_max, 0.0)[:, None] * projection.covariance[:, ::2])
  size = jnp.asarray([settings.width, settings.height])
  # Pixel centres inside the box, clamped while still floating point so that casts never overflow.
  first = jnp.clip(jnp.ceil(projection.xy - reach - 0.5), 0, size)
  last = jnp.clip(jnp.floor(projection.xy + reach - 0.5), -1, size - 1)
  drawn = projection.visible & (last >= first).all(-1)
  first_tile = first.astype(jnp.int32) // tile
  count = last.astype(jnp.int32) // tile - first_tile + 1
  return first_tile, jnp.where(drawn[:, None], count, 0)


def _meets_tile(
  footprints: Footprints, corner: Float[Array, 'm 2'], tile: int, size: tuple[int, int]
) -> Bool[Array, ' m']:
  """Whether the ellipse meets the rectangle spanned by the tile's pixel centres.

  The ellipse's horizontal extent over a band of rows is attained at its extreme points clamped into
  the band, because its right border is a concave and its left border a convex function of y.
  """
  low = corner + 0.5 - footprints.xy
  limit = jnp.asarray(size, corner.dtype) - 0.5
  high = jnp.minimum(corner + tile - 0.5, limit) - footprints.xy
  a, b, c = footprints.conic[:, 0], footprints.conic[:, 1], footprints.conic[:, 2]
  determinant = a * c - b * b
  reach_y = jnp.sqrt(2.0 * footprints.exponent_max * a / determinant)
  rightmost = -b / c * jnp.sqrt(2.0 * footprints.exponent_max * c / determinant)
  bottom, top = jnp.maximum(low[:, 1], -reach_y), jnp.minimum(high[:, 1], reach_y)

  def border(dy: Array, sign: float) -> Array:
    inside = 2.0 * a * footprints.exponent_max - determinant * dy * dy
    return (-b * dy + sign * jnp.sqrt(jnp.maximum(inside, 0.0))) / a

  right = border(jnp.clip(rightmost, bottom, top), 1.0)
  left = border(jnp.clip(-rightmost, bottom, top), -1.0)
  slack = 1e-3  # px; rounding must never lose an instance
  return (bottom <= top + slack) & (right >= low[:, 0] - slack) & (left <= high[:, 0] + slack)


def _depth_order(projection: Projection) -> Int[Array, ' n']:
  """Gaussians front to back, equal depths in the order of the inputs, invisible ones last."""
  depth = jnp.where(projection.visible, projection.depth, jnp.inf)
  if depth.dtype == jnp.float32:
    # Depths of what is visible are positive, and positive floats order like their bits: integers
    # need no care for NaN and signed zeros, which keeps accelerators from their radix sort.
    depth = jax.lax.bitcast_convert_type(depth, jnp.int32)
  return jnp.argsort(depth, stable=True).astype(jnp.int32)


def build_tile_lists(
  settings: Settings,
  tile: int,
  projection: Projection,
  conic: Float[Array, 'n 3'],
  exponent_max: Float[Array, ' n'],
) -> TileLists:
  """Lists the Gaussians of every tile, front to back.

  Args:
    settings: image size and capacity.
    tile: tile side, px.
    projection: projected Gaussians.
    conic: inverse covariances.
    exponent_max: exponent at which each contribution ends.

  Returns:
    The lists, of the static length `settings.capacity(n)`. When `num_instances` exceeds it the
    lists are truncated and the image must be discarded.
  """
  n, capacity = projection.xy.shape[0], settings.capacity(projection.xy.shape[0])
  tiles_x = -(-settings.width // tile)
  num_tiles = tiles_x * -(-settings.height // tile)
  order = _depth_order(projection)
  first_tile, tile_count = _tile_boxes(settings, tile, projection, exponent_max)
  first_tile, tile_count = first_tile[order], tile_count[order]
  counts = tile_count[:, 0] * tile_count[:, 1]
  ends = jnp.cumsum(counts)
  owner = jnp.repeat(jnp.arange(n, dtype=jnp.int32), counts, total_repeat_length=capacity)

  emission = jnp.arange(capacity, dtype=jnp.int32)
  local = emission - (ends - counts)[owner]
  columns = jnp.maximum(tile_count[owner, 0], 1)
  tile_xy = first_tile[owner] + jnp.stack([local % columns, local // columns], axis=-1)
  gaussian = order[owner]
  footprints = Footprints(projection.xy[gaussian], conic[gaussian], exponent_max[gaussian])
  corner = (tile_xy * tile).astype(conic.dtype)
  hit = _meets_tile(footprints, corner, tile, (settings.width, settings.height))
  hit &= emission < ends[-1]
  key = jnp.where(hit, tile_xy[:, 1] * tiles_x + tile_xy[:, 0], num_tiles)
  # Two arrays: what accelerators sort with their fast radix sort, and not three; with half the bits
  # in the key it makes half the passes.
  short = jnp.uint16 if num_tiles <= jnp.iinfo(jnp.uint16).max else jnp.int32
  key, emission = jax.lax.sort((key.astype(short), emission), num_keys=1, is_stable=True)
  key = key.astype(jnp.int32)
  gaussian = gaussian[emission]
  # Two searches, for ends cut out of one array of tiles + 1 begin where a GPU kernel cannot read
  # them (256 bytes). Unrolled, for as a loop each halving costs a GPU a few launches.
  tile_start, tile_end = (
    jnp.searchsorted(key, jnp.arange(num_tiles), side, method='scan_unrolled').astype(jnp.int32)
    for side in ('left', 'right')
  )
  return TileLists(
    gaussian, emission, tile_start, tile_end, key, owner, order, counts, ends, ends[-1]
  )


def tile_lists_of(
  settings: Settings,
  tile: int,
  projected: tuple[Projection, Float[Array, 'n 3'], Float[Array, ' n']],
  kept: TileLists | None,
) -> TileLists:
  """The lists to composite by: those the caller kept, or new ones.

  Raises:
    ValueError: the kept lists are of another image size, tile size, or number of Gaussians.
  """
  if kept is None:
    return build_tile_lists(settings, tile, *projected)
  n = projected[0].xy.shape[0]
  num_tiles = -(-settings.width // tile) * -(-settings.height // tile)
  if kept.tile_start.shape != (num_tiles,) or kept.order.shape != (n,):
    raise ValueError(
      f'rasterize: config.lists are of {kept.order.shape[-1]} Gaussians and '
      f'{kept.tile_start.shape[-1]} tiles, this image has {n} and {num_tiles} of {tile} px: '
      'make them with the same camera, configuration and implementation'
    )
  return kept
