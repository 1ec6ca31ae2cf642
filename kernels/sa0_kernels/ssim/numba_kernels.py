"""Strips of rows that stay in cache, parallel over strips."""

from typing import no_type_check

import numba
import numpy as np

from sa0_kernels.numba_math import FAST, F
from sa0_kernels.ssim.types import RADIUS, WINDOW

_STRIP = 32  # rows of output per task
_WINDOW = np.asarray(WINDOW, np.float32)


@numba.njit(fastmath=FAST)
@no_type_check
def _blur_row(padded, stride, out):
  """out[x] = Σ_k window[k] padded[x + k·stride]; `padded` has RADIUS·stride values at each end."""
  centre = padded[RADIUS * stride :]
  for x in range(out.shape[0]):
    out[x] = _WINDOW[RADIUS] * centre[x]
  for k in range(RADIUS):
    weight = _WINDOW[k]
    left, right = padded[k * stride :], padded[(2 * RADIUS - k) * stride :]
    for x in range(out.shape[0]):
      out[x] += weight * (left[x] + right[x])


@numba.njit(fastmath=FAST)
@no_type_check
def _blur_columns(rows, first, out):
  """out[x] = Σ_k window[k] rows[first + k, x]."""
  for x in range(out.shape[0]):
    out[x] = F(0)
  for k in range(2 * RADIUS + 1):
    weight, row = _WINDOW[k], rows[first + k]
    for x in range(out.shape[0]):
      out[x] += weight * row[x]


@numba.njit(fastmath=FAST)
@no_type_check
def _moments_of_row(a, b, moments):
  """Pads and multiplies one row of both images: a, b, aa, bb, ab."""
  pad = (moments.shape[1] - a.shape[0]) // 2
  rows = moments[:, pad:]
  for x in range(a.shape[0]):
    rows[0, x] = a[x]
    rows[1, x] = b[x]
  for x in range(a.shape[0]):
    rows[2, x] = a[x] * a[x]
    rows[3, x] = b[x] * b[x]
  for x in range(a.shape[0]):
    rows[4, x] = a[x] * b[x]


@numba.njit(fastmath=FAST)
@no_type_check
def _index_of_row(moments, stabilizers, derivatives):
  """SSIM of one row from its blurred moments: `moments[0]` becomes the index per value.

  Args:
    moments: [5, n] blurred a, b, aa, bb, ab; overwritten.
    stabilizers: C1, C2.
    derivatives: [3, n] output: by mean(a), E[aa], E[ab].
  """
  c1, c2 = stabilizers
  for x in range(moments.shape[1]):
    mean_a, mean_b = moments[0, x], moments[1, x]
    a1 = F(2) * mean_a * mean_b + c1
    a2 = F(2) * (moments[4, x] - mean_a * mean_b) + c2
    b1 = mean_a * mean_a + mean_b * mean_b + c1
    b2 = moments[2, x] + moments[3, x] + c1 - b1 + c2
    inverse = F(1) / (b1 * b2)
    ratio = a1 * a2 * inverse
    moments[0, x] = ratio
    derivatives[0, x] = (
      F(2) * mean_b * (a2 - a1) * inverse - F(2) * mean_a * ratio * (b2 - b1) * inverse
    )
    derivatives[1, x] = -ratio * b1 * inverse
    derivatives[2, x] = F(2) * a1 * inverse


@numba.njit(parallel=True, fastmath=FAST, cache=True)
@no_type_check
def forward(image, target, stride, constants, derivatives):
  """Sum of the index over the counted values; fills derivatives [3, h, n], zero in the margin.

  Args:
    image, target: [h, n] rows of interleaved channels, n = width · stride.
    stride: channels.
    constants: C1, C2, margin.
    derivatives: output.
  """
  height, n = image.shape
  margin = int(constants[2])
  strips = (height + _STRIP - 1) // _STRIP
  sums = np.zeros(strips, np.float64)
  for strip in numba.prange(strips):
    begin, end = strip * _STRIP, min(strip * _STRIP + _STRIP, height)
    padded = np.zeros((5, n + 2 * RADIUS * stride), np.float32)
    blurred = np.zeros((5, end - begin + 2 * RADIUS, n), np.float32)
    moments = np.empty((5, n), np.float32)
    for y in range(max(begin - RADIUS, 0), min(end + RADIUS, height)):
      _moments_of_row(image[y], target[y], padded)
      for m in range(5):
        _blur_row(padded[m], stride, blurred[m, y - begin + RADIUS])
    for y in range(begin, end):
      for m in range(5):
        _blur_columns(blurred[m], y - begin, moments[m])
      _index_of_row(moments, (constants[0], constants[1]), derivatives[:, y])
      counted = margin <= y < height - margin
      edge = margin * stride if counted else n
      derivatives[:, y, :edge] = F(0)
      derivatives[:, y, n - edge :] = F(0)
      total = 0.0
      for x in range(edge, n - edge):
        total += moments[0, x]
      sums[strip] += total
  total = 0.0
  for strip in range(strips):
    total += sums[strip]
  return total


@numba.njit(parallel=True, fastmath=FAST, cache=True)
@no_type_check
def backward(image, target, stride, derivatives, scale, gradient):
  """gradient = scale · (blur(d_mean) + 2 image blur(d_aa) + target blur(d_ab))."""
  height, n = image.shape
  strips = (height + _STRIP - 1) // _STRIP
  for strip in numba.prange(strips):
    begin, end = strip * _STRIP, min(strip * _STRIP + _STRIP, height)
    padded = np.zeros(n + 2 * RADIUS * stride, np.float32)
    blurred = np.zeros((3, end - begin + 2 * RADIUS, n), np.float32)
    parts = np.empty((3, n), np.float32)
    for y in range(max(begin - RADIUS, 0), min(end + RADIUS, height)):
      for m in range(3):
        padded[RADIUS * stride : RADIUS * stride + n] = derivatives[m, y]
        _blur_row(padded, stride, blurred[m, y - begin + RADIUS])
    for y in range(begin, end):
      for m in range(3):
        _blur_columns(blurred[m], y - begin, parts[m])
      out, a, b = gradient[y], image[y], target[y]
      for x in range(n):
        out[x] = scale * (parts[0, x] + F(2) * a[x] * parts[1, x] + b[x] * parts[2, x])
