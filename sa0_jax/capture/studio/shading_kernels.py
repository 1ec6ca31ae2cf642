"""Numba loops of `studio.shading`; imported only when a frame is rendered."""

from typing import no_type_check

import numpy as np
from numba import njit

# What a face is made of.
SKIN, EYE, LIT = 0, 1, 2

# Columns of the vertex attributes.
NORMAL, LIGHT, SEEN, OFFSET, SHARE = 0, 3, 6, 9, 12
ATTRIBUTES = 13


# Sums over directions may be reordered, which lets them run in vector registers; the order is fixed
# by the compiler, so the bits are the same on every run.
_VECTOR = {'reassoc', 'contract', 'nsz', 'arcp'}


@njit(cache=True, nogil=True, fastmath=_VECTOR)
@no_type_check
def vertex_light(normals, visibility, directions, colors, shares, wrap):
  """Light at vertices from directions with baked visibility.

  Args:
    normals: [v, 3] float32 unit normals, in the axes of directions.
    visibility: [v, d] float32.
    directions: [3, d] float32.
    colors: [3, d] float32.
    shares: [3, d] float32 share of each source by direction.
    wrap: [3] float32 how far each colour leaks past the terminator.

  Returns:
    ([v, 3] float32 irradiance, [v, 3] float32 how much of each source is seen).
  """
  count = normals.shape[0]
  light = np.empty((count, 3), np.float32)
  seen = np.empty((count, 3), np.float32)
  zero, one = np.float32(0), np.float32(1)
  for v in range(count):
    nx, ny, nz = normals[v, 0], normals[v, 1], normals[v, 2]
    red, green, blue, key, fill, rim = zero, zero, zero, zero, zero, zero
    for d in range(directions.shape[1]):
      vis = visibility[v, d]
      cosine = nx * directions[0, d] + ny * directions[1, d] + nz * directions[2, d]
      red += max(cosine + wrap[0], zero) * vis * colors[0, d]
      green += max(cosine + wrap[1], zero) * vis * colors[1, d]
      blue += max(cosine + wrap[2], zero) * vis * colors[2, d]
      key += vis * shares[0, d]
      fill += vis * shares[1, d]
      rim += vis * shares[2, d]
    light[v, 0] = red / (one + wrap[0])
    light[v, 1] = green / (one + wrap[1])
    light[v, 2] = blue / (one + wrap[2])
    seen[v, 0], seen[v, 1], seen[v, 2] = key, fill, rim
  return light, seen


@njit(cache=True, nogil=True)
@no_type_check
def diffuse_over_mesh(light, starts, neighbours, rounds, channel):
  """Replaces each vertex's light by the mean with its neighbours, some rounds; in place."""
  count = starts.shape[0] - 1
  values = light[:, channel].copy()
  for _ in range(rounds):
    before = values.copy()
    for v in range(count):
      first, last = starts[v], starts[v + 1]
      if first == last:
        continue
      total = np.float32(0)
      for k in range(first, last):
        total += before[neighbours[k]]
      values[v] = np.float32(0.4) * before[v] + np.float32(0.6) * total / np.float32(last - first)
  light[:, channel] = values


@njit(cache=True, nogil=True, inline='always')
@no_type_check
def _sample(texels, u, v, out):
  """Bilinear look-up; row 0 is v = 1."""
  size = texels.shape[0]
  x = min(max(u * size - 0.5, 0.0), size - 1.001)
  y = min(max((1.0 - v) * size - 0.5, 0.0), size - 1.001)
  column, row = int(x), int(y)
  s, t = np.float32(x - column), np.float32(y - row)
  one = np.float32(1)
  for c in range(out.shape[0]):
    top = texels[row, column, c] * (one - s) + texels[row, column + 1, c] * s
    low = texels[row + 1, column, c] * (one - s) + texels[row + 1, column + 1, c] * s
    out[c] = top * (one - t) + low * t


@njit(cache=True, nogil=True, inline='always')
@no_type_check
def _window(value):
  """1 inside a softbox, 0 outside, by its distance from the middle in half sizes."""
  t = min(max((1.12 - abs(value)) / 0.24, 0.0), 1.0)
  return t * t * (3.0 - 2.0 * t)


@njit(cache=True, nogil=True)
@no_type_check
def _relief(a, texel, turn, sources, n, color):
  """Tilts the normal by the fine relief, and changes the light by what the tilt does to it."""
  length = np.sqrt(a[0] * a[0] + a[1] * a[1] + a[2] * a[2]) + 1e-9
  nx, ny, nz = a[0] / length, a[1] / length, a[2] / length
  gx = turn[0, 0] * texel[4] + turn[0, 1] * texel[5] + turn[0, 2] * texel[6]
  gy = turn[1, 0] * texel[4] + turn[1, 1] * texel[5] + turn[1, 2] * texel[6]
  gz = turn[2, 0] * texel[4] + turn[2, 1] * texel[5] + turn[2, 2] * texel[6]
  along = gx * nx + gy * ny + gz * nz
  mx, my, mz = nx - (gx - along * nx), ny - (gy - along * ny), nz - (gz - along * nz)
  length = np.sqrt(mx * mx + my * my + mz * mz) + 1e-9
  n[0], n[1], n[2] = mx / length, my / length, mz / length
  for s in range(sources.shape[0]):
    before = nx * sources[s, 0] + ny * sources[s, 1] + nz * sources[s, 2]
    after = n[0] * sources[s, 0] + n[1] * sources[s, 1] + n[2] * sources[s, 2]
    change = (max(after, 0.0) - max(before, 0.0)) * a[SEEN + s]
    for c in range(3):
      color[c] += texel[c] * change * sources[s, 14 + c]


@njit(cache=True, nogil=True)
@no_type_check
def _skin_highlight(a, n, view, gloss, sources, out):
  """Two lobes of reflection for every source; a sharper and stronger one where the skin is wet."""
  facing = max(n[0] * view[0] + n[1] * view[1] + n[2] * view[2], 0.02)
  rx = 2 * facing * n[0] - view[0]
  ry = 2 * facing * n[1] - view[1]
  rz = 2 * facing * n[2] - view[2]
  fresnel = 0.028 + 0.32 * (1 - facing) ** 5
  wide = 3.0 + 6.0 * gloss
  narrow = 9.0 + 40.0 * gloss + 420.0 * gloss**4
  for s in range(sources.shape[0]):
    cosine = rx * sources[s, 0] + ry * sources[s, 1] + rz * sources[s, 2]
    sharp = sources[s, 6]
    lobe = 0.0
    for part in range(2):
      k = wide if part == 0 else narrow
      share = 0.55 if part == 0 else 0.45
      both = k * sharp / (k + sharp)
      lobe += share * k / (k + sharp) * np.exp(both * (cosine - 1))
    lobe *= fresnel * (0.4 + 2.2 * gloss) * a[SEEN + s]
    for c in range(3):
      out[c] += lobe * sources[s, 3 + c]


@njit(cache=True, nogil=True)
@no_type_check
def _eye_highlight(a, local, turn, view, sources, dome, out):
  """Mirror images of the softboxes on the wet eye, whose cornea is rounder than the ball."""
  length = np.sqrt(local[0] ** 2 + local[1] ** 2 + local[2] ** 2) + 1e-9
  x, y, z = local[0] / length, local[1] / length, local[2] / length
  # Over the iris (sine 0.47) the surface bends as a sphere of 7.8 mm instead of 12.6.
  rim = min(max((np.sqrt(x * x + y * y) - 0.34) / 0.16, 0.0), 1.0)
  bend = 1.62 - 0.62 * rim * rim * (3 - 2 * rim) if z > 0 else 1.0
  x, y = x * bend, y * bend
  length = np.sqrt(x * x + y * y + z * z)
  x, y, z = x / length, y / length, z / length
  nx = turn[0, 0] * x + turn[0, 1] * y + turn[0, 2] * z
  ny = turn[1, 0] * x + turn[1, 1] * y + turn[1, 2] * z
  nz = turn[2, 0] * x + turn[2, 1] * y + turn[2, 2] * z
  facing = max(nx * view[0] + ny * view[1] + nz * view[2], 0.0)
  rx, ry, rz = 2 * facing * nx - view[0], 2 * facing * ny - view[1], 2 * facing * nz - view[2]
  fresnel = 0.026 + 0.35 * (1 - facing) ** 5
  sky = 0.5 + 0.5 * ry
  for c in range(3):
    out[c] += 0.7 * fresnel * (dome[1, c] + sky * (dome[0, c] - dome[1, c])) * a[SEEN + 0]
  for s in range(sources.shape[0]):
    ahead = rx * sources[s, 0] + ry * sources[s, 1] + rz * sources[s, 2]
    if ahead <= 0.05:
      continue
    across = rx * sources[s, 8] + ry * sources[s, 9] + rz * sources[s, 10]
    above = rx * sources[s, 11] + ry * sources[s, 12] + rz * sources[s, 13]
    half = sources[s, 7] * ahead
    lit = _window(across / half) * _window(above / half)
    halo = 0.05 * np.exp(0.5 * sources[s, 6] * (ahead - 1))
    for c in range(3):
      out[c] += fresnel * (45.0 * lit * sources[s, 14 + c] + halo * sources[s, 3 + c]) * a[SEEN + s]


@njit(cache=True, nogil=True)
@no_type_check
def shade_frame(hits, surface, texture, optics, backdrop, factor):
  """Shades and averages supersampled pixels.

  Args:
    hits: (face [H, W] int32 what each sample hits, −1 nothing; barycentric [H, W, 3] float32).
    surface: (corners [f, 3] int32 vertices of each face; corners_uv [f, 3] int32 its UV vertices,
      not read for faces of kind LIT; kinds [f] uint8 SKIN, EYE (+ 0 left, + 16 right), or LIT:
      colour is already in LIGHT; attributes [v, ATTRIBUTES] float32: world normal, light, seen
      share of three sources, offset from the eye's centre, share of the matte before easing).
    texture: (uv [t, 2] float32; texels [r, r, 7] float32 reflectance, gloss, slope of the relief in
      template axes).
    optics: (sources [3, 17], dome [2, 3], turns [3, 3, 3], rays [3, 3]): light; rotations of the
      left eye, the right eye and the skull; the matrix from (x, y, 1) of a sample to its ray.
    backdrop: [h, w, 3] float32 linear.
    factor: samples along each side of a pixel.

  Returns:
    ([h, w, 3] float32 linear colour over the backdrop, [h, w] float32 matte).
  """
  face, barycentric = hits
  corners, corners_uv, kinds, attributes = surface
  uv, texels = texture
  sources, dome, turns, rays = optics
  height, width = backdrop.shape[0], backdrop.shape[1]
  image = np.zeros((height, width, 3), np.float32)
  matte = np.zeros((height, width), np.float32)
  weight = np.float32(1.0 / (factor * factor))
  for row in range(height):
    a = np.zeros(ATTRIBUTES)
    n, view, texel, color = np.zeros(3), np.zeros(3), np.zeros(7, np.float32), np.zeros(3)
    for column in range(width):
      for sub in range(factor * factor):
        y, x = row * factor + sub // factor, column * factor + sub % factor
        f = face[y, x]
        if f < 0:
          for c in range(3):
            image[row, column, c] += weight * backdrop[row, column, c]
          continue
        i, j, k = corners[f, 0], corners[f, 1], corners[f, 2]
        w0, w1, w2 = barycentric[y, x, 0], barycentric[y, x, 1], barycentric[y, x, 2]
        share = w0 * attributes[i, SHARE] + w1 * attributes[j, SHARE] + w2 * attributes[k, SHARE]
        share = min(max(share, 0.0), 1.0)
        matte[row, column] += weight * share * share * (3.0 - 2.0 * share)
        if kinds[f] == LIT:
          for c in range(LIGHT, LIGHT + 3):
            lit = w0 * attributes[i, c] + w1 * attributes[j, c] + w2 * attributes[k, c]
            image[row, column, c - LIGHT] += weight * _soft_clip(lit)
          continue
        for c in range(ATTRIBUTES):
          a[c] = w0 * attributes[i, c] + w1 * attributes[j, c] + w2 * attributes[k, c]
        p, q, r = corners_uv[f, 0], corners_uv[f, 1], corners_uv[f, 2]
        _sample(
          texels,
          w0 * uv[p, 0] + w1 * uv[q, 0] + w2 * uv[r, 0],
          w0 * uv[p, 1] + w1 * uv[q, 1] + w2 * uv[r, 1],
          texel,
        )
        _ray(rays, x + 0.5, y + 0.5, view)
        for c in range(3):
          color[c] = texel[c] * a[LIGHT + c]
        if kinds[f] & EYE:
          _eye_highlight(
            a, a[OFFSET : OFFSET + 3], turns[kinds[f] >> 4], view, sources, dome, color
          )
        else:
          _relief(a, texel, turns[2], sources, n, color)
          _skin_highlight(a, n, view, texel[3], sources, color)
        for c in range(3):
          image[row, column, c] += weight * _soft_clip(color[c])
  return image, matte


@njit(cache=True, nogil=True, inline='always')
@no_type_check
def _ray(rays, x, y, out):
  """Unit vector from the surface towards the camera."""
  vx = rays[0, 0] * x + rays[0, 1] * y + rays[0, 2]
  vy = rays[1, 0] * x + rays[1, 1] * y + rays[1, 2]
  vz = rays[2, 0] * x + rays[2, 1] * y + rays[2, 2]
  length = -1.0 / np.sqrt(vx * vx + vy * vy + vz * vz)
  out[0], out[1], out[2] = vx * length, vy * length, vz * length


@njit(cache=True, nogil=True, inline='always')
@no_type_check
def _soft_clip(value):
  """The shoulder of a film curve: keeps highlights from clipping to flat white."""
  return value if value < 0.7 else 1.0 - 0.3 * np.exp((0.7 - value) / 0.3)
