"""Which Gaussians touch which tile: depth order, exact footprint test, stable counting sort.

Instances exist in two orders. *Emission* order: Gaussians front to back, the tiles of each in
sequence; instance rows of gradients live there, so that summing a Gaussian's gradient reads
consecutive rows. *Tile* order: the same instances sorted by tile, depth order kept inside; that is
what compositing walks.
"""

from typing import no_type_check

import numba
import numpy as np

from sa0_kernels.numba_math import FAST, F
from sa0_kernels.rasterize.numba_layout import (
  CONIC_A,
  CONIC_B,
  CONIC_C,
  EXPONENT_MAX,
  REACH_Y,
  TILE,
  X,
  Y,
)

_CHUNKS = 16  # parts of the counting sort; fixed, so the thread count changes nothing
_RADIX = 2048


@numba.njit(cache=True)
@no_type_check
def depth_order(depth):
  """Indices of finite depths, nearest first; ties keep their order (radix sort of the bits)."""
  n = depth.shape[0]
  bits = depth.view(np.uint32)
  keys, values = np.empty(n, np.uint32), np.empty(n, np.int32)
  other_keys, other_values = np.empty(n, np.uint32), np.empty(n, np.int32)
  histogram = np.zeros((3, _RADIX), np.int32)
  count = 0
  for i in range(n):
    if np.isfinite(depth[i]):  # positive floats sort like their bits
      key = bits[i]
      keys[count], values[count] = key, i
      count += 1
      histogram[0, key & np.uint32(2047)] += 1
      histogram[1, (key >> np.uint32(11)) & np.uint32(2047)] += 1
      histogram[2, key >> np.uint32(22)] += 1
  for digit in range(3):
    position = histogram[digit]
    start = 0
    for j in range(_RADIX):
      size = position[j]
      position[j] = start
      start += size
    shift = np.uint32(11 * digit)
    for i in range(count):
      key = keys[i]
      slot = (key >> shift) & np.uint32(2047)
      target = position[slot]
      position[slot] = target + 1
      other_keys[target], other_values[target] = key, values[i]
    keys, other_keys = other_keys, keys
    values, other_values = other_values, values
  return values[:count]


@numba.njit(fastmath=FAST, inline='always')
@no_type_check
def _columns_in_band(splat, first_row, last_row, width):
  """First and last pixel column whose centres meet the ellipse between two rows of pixels.

  The right border x(dy) = (−B dy + √(2 A e − (AC − B²) dy²)) / A is concave, so its maximum over a
  band of rows lies at the rightmost point of the ellipse clamped into the band; the left border
  mirrors it.
  """
  x, y = splat[X], splat[Y]
  a, b, c, reach = splat[CONIC_A], splat[CONIC_B], splat[CONIC_C], splat[REACH_Y]
  determinant = a * c - b * b
  low = max(F(first_row) + F(0.5) - y, -reach)
  high = min(F(last_row) + F(0.5) - y, reach)
  if low > high:
    return 0, -1
  energy = F(2) * a * splat[EXPONENT_MAX]
  rightmost = -b / c * np.sqrt(F(2) * splat[EXPONENT_MAX] * c / determinant)
  dy = min(max(rightmost, low), high)
  right = x + (-b * dy + np.sqrt(max(energy - determinant * dy * dy, F(0)))) / a
  dy = min(max(-rightmost, low), high)
  left = x + (-b * dy - np.sqrt(max(energy - determinant * dy * dy, F(0)))) / a
  first = np.ceil(max(left - F(0.5), F(0)))
  last = np.floor(min(right - F(0.5), F(width - 1)))
  return int(first), int(last)


@numba.njit(fastmath=FAST, inline='always')
@no_type_check
def _row_range(splat, height):
  """First and last pixel row inside the footprint and the image."""
  first = np.ceil(max(splat[Y] - splat[REACH_Y] - F(0.5), F(0)))
  last = np.floor(min(splat[Y] + splat[REACH_Y] - F(0.5), F(height - 1)))
  return int(first), int(last)


@numba.njit(parallel=True, fastmath=FAST, cache=True)
@no_type_check
def count_tiles(order, splats, width, height):
  """Number of tiles each Gaussian of `order` touches, as offsets [k + 1] of its instances."""
  counts = np.empty(order.shape[0], np.int32)
  for k in numba.prange(order.shape[0]):
    splat = splats[order[k]]
    first, last = _row_range(splat, height)
    n = 0
    if first <= last:
      for band in range(first // TILE, last // TILE + 1):
        left, right = _columns_in_band(
          splat, band * TILE, min(band * TILE + TILE, height) - 1, width
        )
        if left <= right:
          n += right // TILE - left // TILE + 1
    counts[k] = n
  offsets = np.empty(order.shape[0] + 1, np.int32)
  offsets[0] = 0
  for k in range(order.shape[0]):
    offsets[k + 1] = offsets[k] + counts[k]
  return offsets


@numba.njit(parallel=True, fastmath=FAST, cache=True)
@no_type_check
def emit_tiles(order, offsets, splats, width, height):
  """Tile index of every instance, in emission order."""
  tiles = np.empty(offsets[-1], np.int32)
  tiles_x = (width + TILE - 1) // TILE
  for k in numba.prange(order.shape[0]):
    splat = splats[order[k]]
    first, last = _row_range(splat, height)
    n = offsets[k]
    if first <= last:
      for band in range(first // TILE, last // TILE + 1):
        left, right = _columns_in_band(
          splat, band * TILE, min(band * TILE + TILE, height) - 1, width
        )
        if left <= right:
          for column in range(left // TILE, right // TILE + 1):
            tiles[n] = band * tiles_x + column
            n += 1
  return tiles


@numba.njit(parallel=True, cache=True)
@no_type_check
def sort_by_tile(order, offsets, tiles, tile_start, gaussian, row):
  """Stable counting sort of the instances by tile.

  Args:
    order: [k] Gaussians front to back.
    offsets: [k + 1] first instance of each.
    tiles: [m] tile of every instance, emission order.
    tile_start: [tiles + 1] filled with the first instance of each tile.
    gaussian: [≥ m] filled with the Gaussian of each instance, tile order.
    row: [≥ m] filled with the emission index of each instance, tile order.
  """
  visible = order.shape[0]
  num_tiles = tile_start.shape[0] - 1
  position = np.zeros((_CHUNKS, num_tiles), np.int32)
  for chunk in numba.prange(_CHUNKS):
    begin, end = visible * chunk // _CHUNKS, visible * (chunk + 1) // _CHUNKS
    for j in range(offsets[begin], offsets[end]):
      position[chunk, tiles[j]] += 1
  start = 0
  for tile in range(num_tiles):
    tile_start[tile] = start
    for chunk in range(_CHUNKS):
      size = position[chunk, tile]
      position[chunk, tile] = start
      start += size
  tile_start[num_tiles] = start
  for chunk in numba.prange(_CHUNKS):
    for k in range(visible * chunk // _CHUNKS, visible * (chunk + 1) // _CHUNKS):
      for j in range(offsets[k], offsets[k + 1]):
        target = position[chunk, tiles[j]]
        position[chunk, tiles[j]] = target + 1
        gaussian[target] = order[k]
        row[target] = j
