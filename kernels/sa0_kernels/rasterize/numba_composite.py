"""Front-to-back compositing of one tile's Gaussians, forward and backward.

A tile is 16 × 16 pixels held in flat, row-major planes. A Gaussian touches a range of rows, which
is one contiguous run of pixels, so every pixel loop runs over contiguous memory without branches.
The planes of a tile live in ONE array at constant distances: LLVM then needs no aliasing checks and
turns the loops into vector instructions (separate arrays cost a factor of seven in the backward
pass).

The backward pass walks front to back as well. With v the cotangent of the image, the gradient of
one opacity is T_k ⟨c_k, v⟩ − S_k / (1 − α_k), where S_k is what everything behind k (background and
alpha output included) contributes to the loss; S starts as the whole sum and loses each term as it
is passed. Transmittances are thus multiplied up exactly as in the forward pass, never divided back.
"""

from typing import no_type_check

import numba
import numpy as np

from sa0_kernels.numba_math import FAST, F, exp_negative
from sa0_kernels.rasterize.numba_layout import (
  CONIC_A,
  CONIC_B,
  CONIC_C,
  EXPONENT_MAX,
  GRADIENT_COLUMNS,
  OPACITY,
  REACH_Y,
  TILE,
  X,
  Y,
)
from sa0_kernels.rasterize.numba_project import ALPHA_MAX, TRANSMITTANCE_MIN

_PIXELS = TILE * TILE
_CHECK_EVERY = 16  # Gaussians between two looks at whether a whole tile is opaque
_EXPONENT_LIMIT = 80.0  # beyond it exp underflows; the value is masked out anyway

# Planes of a tile's workspace, as offsets into one flat array.
_PIXEL_X, _PIXEL_Y, _ALIVE, _TRANSMITTANCE, _WEIGHT, _SHADE, _BEHIND = range(
  0, 7 * _PIXELS, _PIXELS
)
_FORWARD_PLANES = 5
_GROUP = 4  # channels blended in one pass over a run of pixels
_BACKWARD_PLANES = 7

_COORDINATES = np.concatenate(
  [np.tile(np.arange(TILE), TILE), np.repeat(np.arange(TILE), TILE)]
).astype(np.float32)


@numba.njit(fastmath=FAST, inline='always')
@no_type_check
def _rows_touched(splat, tile_y):
  """The run of the tile's pixels [begin, end) in the rows that the footprint touches."""
  first = np.ceil(max(splat[Y] - splat[REACH_Y] - F(0.5) - F(tile_y), F(0)))
  last = np.floor(min(splat[Y] + splat[REACH_Y] - F(0.5) - F(tile_y), F(TILE - 1)))
  return int(first) * TILE, (int(last) + 1) * TILE


@numba.njit(fastmath=FAST, inline='always')
@no_type_check
def _any_alive(work):
  total = F(0)
  for p in range(_PIXELS):
    total += work[_ALIVE + p]
  return total > F(0)


@numba.njit(fastmath=FAST, inline='always')
@no_type_check
def _interleave(index, count):
  """Even tiles first, then odd ones: static halves of the loop then hold equal work."""
  evens = (count + 1) // 2
  return 2 * index if index < evens else 2 * (index - evens) + 1


@numba.njit(fastmath=FAST, inline='always')
@no_type_check
def _blend(splat, constants, corner_x, corner_y, run, count):
  """Composites one Gaussian over `count` pixels; leaves its blending weights behind.

  Args:
    splat: packed row.
    constants: raster constants.
    corner_x, corner_y: first pixel of the tile.
    run: the workspace from the first pixel on: plane k of pixel p is run[k + p].
    count: number of pixels.
  """
  x, y = splat[X] - F(0.5) - corner_x, splat[Y] - F(0.5) - corner_y
  a, b, c = F(0.5) * splat[CONIC_A], splat[CONIC_B], F(0.5) * splat[CONIC_C]
  opacity, exponent_max = splat[OPACITY], splat[EXPONENT_MAX]
  alpha_max, limit = constants[ALPHA_MAX], constants[TRANSMITTANCE_MIN]
  for p in range(count):
    dx, dy = run[_PIXEL_X + p] - x, run[_PIXEL_Y + p] - y
    exponent = a * dx * dx + c * dy * dy + b * dx * dy
    falloff = exp_negative(max(min(exponent, F(_EXPONENT_LIMIT)), F(0)))
    alpha = min(opacity * falloff, alpha_max)
    alpha = alpha if exponent <= exponent_max else F(0)
    before = run[_TRANSMITTANCE + p]
    lives = run[_ALIVE + p] if before * (F(1) - alpha) > limit else F(0)
    weight = alpha * before * lives
    run[_ALIVE + p] = lives
    run[_WEIGHT + p] = weight
    run[_TRANSMITTANCE + p] = before - weight


@numba.njit(fastmath=FAST, inline='always')
@no_type_check
def _feature(features, i, channel):
  """One feature, zero past the last channel: channels are taken four at a time."""
  return features[i, channel] if channel < features.shape[1] else F(0)


@numba.njit(fastmath=FAST, inline='always')
@no_type_check
def _padded_channels(channels):
  return (channels + _GROUP - 1) // _GROUP * _GROUP


@numba.njit(fastmath=FAST, inline='always')
@no_type_check
def _add_features(features, i, run, begin, count, blended):
  """Adds weight · feature to the planes of a tile, four channels a pass."""
  for channel in range(0, features.shape[1], _GROUP):
    f0, f1 = _feature(features, i, channel), _feature(features, i, channel + 1)
    f2, f3 = _feature(features, i, channel + 2), _feature(features, i, channel + 3)
    planes = blended[channel * _PIXELS + begin :]
    for p in range(count):
      weight = run[_WEIGHT + p]
      planes[p] += weight * f0
      planes[_PIXELS + p] += weight * f1
      planes[2 * _PIXELS + p] += weight * f2
      planes[3 * _PIXELS + p] += weight * f3


@numba.njit(fastmath=FAST, inline='always')
@no_type_check
def _shade(features, i, run, begin, count, cotangent):
  """Fills the plane ⟨feature, cotangent⟩, four channels a pass."""
  for channel in range(0, features.shape[1], _GROUP):
    f0, f1 = _feature(features, i, channel), _feature(features, i, channel + 1)
    f2, f3 = _feature(features, i, channel + 2), _feature(features, i, channel + 3)
    planes = cotangent[channel * _PIXELS + begin :]
    keep = F(0) if channel == 0 else F(1)
    for p in range(count):
      run[_SHADE + p] = (
        keep * run[_SHADE + p]
        + f0 * planes[p]
        + f1 * planes[_PIXELS + p]
        + f2 * planes[2 * _PIXELS + p]
        + f3 * planes[3 * _PIXELS + p]
      )


@numba.njit(fastmath=FAST, inline='always')
@no_type_check
def _feature_gradients(run, begin, count, cotangent, channels, gradient):
  """Writes Σ weight · cotangent of every channel behind the first six entries of the row."""
  for channel in range(0, channels, _GROUP):
    planes = cotangent[channel * _PIXELS + begin :]
    g0 = g1 = g2 = g3 = F(0)
    for p in range(count):
      weight = run[_WEIGHT + p]
      g0 += weight * planes[p]
      g1 += weight * planes[_PIXELS + p]
      g2 += weight * planes[2 * _PIXELS + p]
      g3 += weight * planes[3 * _PIXELS + p]
    column = GRADIENT_COLUMNS + channel
    gradient[column] = g0
    if channel + 1 < channels:
      gradient[column + 1] = g1
    if channel + 2 < channels:
      gradient[column + 2] = g2
    if channel + 3 < channels:
      gradient[column + 3] = g3


@numba.njit(parallel=True, fastmath=FAST, cache=True)
@no_type_check
def composite(tile_start, gaussian, splats, features, background, constants, image, transmittance):
  """Renders every tile: blended features over the background, and final transmittance.

  Args:
    tile_start: [tiles + 1] first instance of each tile.
    gaussian: [m] Gaussian of each instance, tile order.
    splats: [n, 8] packed rows of `numba_project.project`.
    features: [n, c].
    background: [c].
    constants: raster constants.
    image: [h, w, c] output.
    transmittance: [h, w] output.
  """
  height, width, channels = image.shape
  tiles_x = (width + TILE - 1) // TILE
  num_tiles = tile_start.shape[0] - 1
  for index in numba.prange(num_tiles):
    tile = _interleave(index, num_tiles)
    tile_x, tile_y = (tile % tiles_x) * TILE, (tile // tiles_x) * TILE
    work = np.ones(_FORWARD_PLANES * _PIXELS, np.float32)
    work[: _COORDINATES.shape[0]] = _COORDINATES
    blended = np.zeros(_padded_channels(channels) * _PIXELS, np.float32)
    for k in range(tile_start[tile], tile_start[tile + 1]):
      splat = splats[gaussian[k]]
      begin, end = _rows_touched(splat, tile_y)
      count = end - begin
      if count <= 0:
        continue
      run = work[begin:]
      _blend(splat, constants, F(tile_x), F(tile_y), run, count)
      _add_features(features, gaussian[k], run, begin, count, blended)
      if (k - tile_start[tile]) % _CHECK_EVERY == _CHECK_EVERY - 1 and not _any_alive(work):
        break
    for row in range(min(TILE, height - tile_y)):
      for column in range(min(TILE, width - tile_x)):
        p = row * TILE + column
        remaining = work[_TRANSMITTANCE + p]
        transmittance[tile_y + row, tile_x + column] = remaining
        for channel in range(channels):
          image[tile_y + row, tile_x + column, channel] = (
            blended[channel * _PIXELS + p] + remaining * background[channel]
          )


@numba.njit(fastmath=FAST, inline='always')
@no_type_check
def _blend_backward(splat, constants, corner_x, corner_y, run, count, gradient):
  """`_blend` again, and the gradients of this Gaussian's centre, conic and opacity.

  Args:
    splat, constants, corner_x, corner_y, run, count: as in `_blend`; the run also holds, per pixel,
      ⟨feature, cotangent⟩ and S, all that is still to come.
    gradient: [6 + c] row; its first six entries are written.
  """
  x, y = splat[X] - F(0.5) - corner_x, splat[Y] - F(0.5) - corner_y
  a, b, c = F(0.5) * splat[CONIC_A], splat[CONIC_B], F(0.5) * splat[CONIC_C]
  opacity, exponent_max = splat[OPACITY], splat[EXPONENT_MAX]
  alpha_max, limit = constants[ALPHA_MAX], constants[TRANSMITTANCE_MIN]
  g_x = g_y = g_a = g_b = g_c = g_opacity = F(0)
  for p in range(count):
    dx, dy = run[_PIXEL_X + p] - x, run[_PIXEL_Y + p] - y
    exponent = a * dx * dx + c * dy * dy + b * dx * dy
    falloff = exp_negative(max(min(exponent, F(_EXPONENT_LIMIT)), F(0)))
    unclamped = opacity * falloff
    alpha = min(unclamped, alpha_max)
    alpha = alpha if exponent <= exponent_max else F(0)
    before, shade = run[_TRANSMITTANCE + p], run[_SHADE + p]
    passed = F(1) - alpha
    lives = run[_ALIVE + p] if before * passed > limit else F(0)
    weight = alpha * before * lives
    behind = run[_BEHIND + p] - weight * shade
    run[_ALIVE + p] = lives
    run[_WEIGHT + p] = weight
    run[_TRANSMITTANCE + p] = before - weight
    run[_BEHIND + p] = behind
    d_alpha = (before * shade - behind / passed) * lives
    d_alpha = d_alpha if alpha == unclamped else F(0)
    d_exponent = -unclamped * d_alpha
    g_opacity += falloff * d_alpha
    g_a += dx * dx * d_exponent
    g_b += dx * dy * d_exponent
    g_c += dy * dy * d_exponent
    g_x += dx * d_exponent
    g_y += dy * d_exponent
  gradient[0] = -(F(2) * a * g_x + b * g_y)
  gradient[1] = -(F(2) * c * g_y + b * g_x)
  gradient[2] = F(0.5) * g_a
  gradient[3] = g_b
  gradient[4] = F(0.5) * g_c
  gradient[5] = g_opacity


@numba.njit(fastmath=FAST, inline='always')
@no_type_check
def _load_cotangents(images, cotangents, tile_x, tile_y, work, cotangent):
  """Fills a tile's planes: pixels inside the image are alive, S is the whole pixel's sum."""
  image, transmittance = images
  d_image, d_alpha = cotangents
  height, width, channels = image.shape
  for row in range(min(TILE, height - tile_y)):
    for column in range(min(TILE, width - tile_x)):
      p, py, px = row * TILE + column, tile_y + row, tile_x + column
      total = -transmittance[py, px] * d_alpha[py, px]
      for channel in range(channels):
        cotangent[channel * _PIXELS + p] = d_image[py, px, channel]
        total += d_image[py, px, channel] * image[py, px, channel]
      work[_ALIVE + p], work[_BEHIND + p] = F(1), total


@numba.njit(parallel=True, fastmath=FAST, cache=True)
@no_type_check
def composite_backward(instances, splats, features, constants, images, cotangents, gradients):
  """One gradient row per instance, in emission order: no two tiles write the same memory.

  Args:
    instances: (tile_start, gaussian, row): the instances in tile order and where their rows go.
    splats, features, constants: as in `composite`.
    images: (image [h, w, c] with background, final transmittance [h, w]).
    cotangents: (of the image [h, w, c], of alpha [h, w]).
    gradients: [m, 6 + c] output: x, y, conic A, B, C, opacity, features.
  """
  tile_start, gaussian, row = instances
  channels = features.shape[1]
  tiles_x = (images[1].shape[1] + TILE - 1) // TILE
  num_tiles = tile_start.shape[0] - 1
  for index in numba.prange(num_tiles):
    tile = _interleave(index, num_tiles)
    tile_x, tile_y = (tile % tiles_x) * TILE, (tile // tiles_x) * TILE
    work = np.zeros(_BACKWARD_PLANES * _PIXELS, np.float32)
    work[: _COORDINATES.shape[0]] = _COORDINATES
    work[_TRANSMITTANCE : _TRANSMITTANCE + _PIXELS] = F(1)
    cotangent = np.zeros(_padded_channels(channels) * _PIXELS, np.float32)
    _load_cotangents(images, cotangents, tile_x, tile_y, work, cotangent)
    opaque = False
    for k in range(tile_start[tile], tile_start[tile + 1]):
      gradient = gradients[row[k]]
      splat = splats[gaussian[k]]
      begin, end = _rows_touched(splat, tile_y)
      count = end - begin
      if opaque or count <= 0:
        for column in range(gradient.shape[0]):
          gradient[column] = F(0)
        continue
      run = work[begin:]
      _shade(features, gaussian[k], run, begin, count, cotangent)
      _blend_backward(splat, constants, F(tile_x), F(tile_y), run, count, gradient)
      _feature_gradients(run, begin, count, cotangent, channels, gradient)
      if (k - tile_start[tile]) % _CHECK_EVERY == _CHECK_EVERY - 1:
        opaque = not _any_alive(work)
