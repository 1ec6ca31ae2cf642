"""Numba loops of `studio.noise`; imported only when a subject is painted."""

from typing import no_type_check

import numpy as np
from numba import njit


@njit(cache=True, nogil=True, inline='always')
@no_type_check
def _hash(x, y, z, seed):
  """Well-mixed 32 bits of a lattice point. Numba widens products, hence the casts."""
  h = np.uint32(np.uint32(x) * np.uint32(0x8DA6B343))
  h ^= np.uint32(np.uint32(y) * np.uint32(0xD8163841))
  h ^= np.uint32(np.uint32(z) * np.uint32(0xCB1AB31F))
  h ^= np.uint32(seed)
  h ^= np.uint32(h >> np.uint32(16))
  h = np.uint32(h * np.uint32(0x7FEB352D))
  h ^= np.uint32(h >> np.uint32(15))
  h = np.uint32(h * np.uint32(0x846CA68B))
  return np.uint32(h ^ np.uint32(h >> np.uint32(16)))


@njit(cache=True, nogil=True, inline='always')
@no_type_check
def _slope(h, x, y, z):
  """Dot product of an offset with one of the twelve edge directions of a cube (Perlin 2002)."""
  k = h & np.uint32(15)
  u = x if k < 8 else y
  v = y if k < 4 else (x if k == 12 or k == 14 else z)
  return (u if (k & np.uint32(1)) == 0 else -u) + (v if (k & np.uint32(2)) == 0 else -v)


@njit(cache=True, nogil=True)
@no_type_check
def _gradient_noise(x, y, z, seed):
  """Perlin's improved gradient noise at one point: about [−1, 1], zero mean."""
  fx, fy, fz = np.floor(x), np.floor(y), np.floor(z)
  i, j, k = np.int64(fx), np.int64(fy), np.int64(fz)
  x, y, z = x - fx, y - fy, z - fz
  u = x * x * x * (x * (x * 6.0 - 15.0) + 10.0)
  v = y * y * y * (y * (y * 6.0 - 15.0) + 10.0)
  w = z * z * z * (z * (z * 6.0 - 15.0) + 10.0)
  total = 0.0
  for dz in range(2):
    wz = w if dz else 1.0 - w
    for dy in range(2):
      wy = v if dy else 1.0 - v
      for dx in range(2):
        wx = u if dx else 1.0 - u
        h = _hash(i + dx, j + dy, k + dz, seed)
        total += wx * wy * wz * _slope(h, x - dx, y - dy, z - dz)
  return total


@njit(cache=True, nogil=True)
@no_type_check
def fractal_noise(points, frequency, octaves, gain, seed):
  """Sum of octaves of gradient noise at every point.

  Args:
    points: [n, 3] float32.
    frequency: [3] float64 lattice cells per unit along each axis.
    octaves: how many, each of twice the frequency.
    gain: amplitude of each relative to the one before.
    seed: uint32.

  Returns:
    [n] float32, about [−1, 1].
  """
  count = points.shape[0]
  out = np.empty(count, np.float32)
  scale = 0.0
  for octave in range(octaves):
    scale += gain**octave
  for n in range(count):
    total, amplitude, factor = 0.0, 1.0, 1.0
    for octave in range(octaves):
      total += amplitude * _gradient_noise(
        points[n, 0] * frequency[0] * factor + 17.3 * octave,
        points[n, 1] * frequency[1] * factor - 9.1 * octave,
        points[n, 2] * frequency[2] * factor + 4.7 * octave,
        seed + np.uint32(octave),
      )
      amplitude *= gain
      factor *= 2.0
    out[n] = total / scale
  return out


@njit(cache=True, nogil=True)
@no_type_check
def fractal_slope(points, frequency, octaves, gain, seed):
  """Gradient of `fractal_noise` with respect to the points, [n, 3] float32."""
  count = points.shape[0]
  out = np.empty((count, 3), np.float32)
  scale = 0.0
  for octave in range(octaves):
    scale += gain**octave
  step = 0.02
  for n in range(count):
    sx, sy, sz, amplitude, factor = 0.0, 0.0, 0.0, 1.0, 1.0
    for octave in range(octaves):
      fx, fy, fz = frequency[0] * factor, frequency[1] * factor, frequency[2] * factor
      x = points[n, 0] * fx + 17.3 * octave
      y = points[n, 1] * fy - 9.1 * octave
      z = points[n, 2] * fz + 4.7 * octave
      key = seed + np.uint32(octave)
      here = _gradient_noise(x, y, z, key)
      sx += amplitude * fx * (_gradient_noise(x + step, y, z, key) - here)
      sy += amplitude * fy * (_gradient_noise(x, y + step, z, key) - here)
      sz += amplitude * fz * (_gradient_noise(x, y, z + step, key) - here)
      amplitude *= gain
      factor *= 2.0
    out[n, 0], out[n, 1], out[n, 2] = (
      sx / (step * scale),
      sy / (step * scale),
      sz / (step * scale),
    )
  return out


@njit(cache=True, nogil=True)
@no_type_check
def spots(points, cell, seed, density, radius):
  """Round spots scattered one at most per lattice cell: moles and freckles.

  Args:
    points: [n, 3] float32.
    cell: size of a lattice cell, units of points.
    seed: uint32.
    density: [n] float32 chance that a cell near the point holds a spot.
    radius: mean radius of a spot, units of points; single spots have 0.5 to 1.5 times it.

  Returns:
    [n] float32 in [0, 1]: 1 in the middle of a spot.
  """
  count = points.shape[0]
  out = np.zeros(count, np.float32)
  for n in range(count):
    x, y, z = points[n, 0] / cell, points[n, 1] / cell, points[n, 2] / cell
    i, j, k = np.int64(np.floor(x)), np.int64(np.floor(y)), np.int64(np.floor(z))
    best = 0.0
    for dz in range(-1, 2):
      for dy in range(-1, 2):
        for dx in range(-1, 2):
          h = _hash(i + dx, j + dy, k + dz, seed)
          if (h & np.uint32(0xFFFF)) / 65536.0 >= density[n]:
            continue
          g = _hash(i + dx, j + dy, k + dz, seed + np.uint32(77))
          ox = i + dx + (g & np.uint32(0xFF)) / 255.0 - x
          oy = j + dy + ((g >> np.uint32(8)) & np.uint32(0xFF)) / 255.0 - y
          oz = k + dz + ((g >> np.uint32(16)) & np.uint32(0xFF)) / 255.0 - z
          size = (0.5 + ((g >> np.uint32(24)) & np.uint32(0xFF)) / 255.0) * radius / cell
          near = 1.0 - np.sqrt(ox * ox + oy * oy + oz * oz) / size
          best = max(best, min(2.0 * near, 1.0))
    out[n] = best
  return out
