"""Numba loops that pose, light and draw strands of hair; imported only when a frame is rendered."""

from typing import no_type_check

import numpy as np
from numba import njit

# Each thread owns interleaved blocks of this many pixel rows, as in `mesh_render_kernels`.


@njit(cache=True, nogil=True)
@no_type_check
def pose_strands(strands, shares, transforms):
  """Poses strands.

  Args:
    strands: [n, k, 3] float32 metres, at rest.
    shares: [n, k] float32 how much a point follows the neck joint; the rest follows the root.
    transforms: [2, 3, 4] float64 of the root and of the neck joint, rest to world.

  Returns:
    ([n, k, 3] float64 points, [n, k, 3] float32 unit tangents), world.
  """
  count, knots = shares.shape
  points = np.empty((count, knots, 3))
  tangents = np.empty((count, knots, 3), np.float32)
  for n in range(count):
    for k in range(knots):
      share = shares[n, k]
      x, y, z = strands[n, k, 0], strands[n, k, 1], strands[n, k, 2]
      for c in range(3):
        root = transforms[0, c, 0] * x + transforms[0, c, 1] * y + transforms[0, c, 2] * z
        neck = transforms[1, c, 0] * x + transforms[1, c, 1] * y + transforms[1, c, 2] * z
        root += transforms[0, c, 3]
        neck += transforms[1, c, 3]
        points[n, k, c] = root + share * (neck - root)
    for k in range(knots):
      before, after = max(k - 1, 0), min(k + 1, knots - 1)
      tx = points[n, after, 0] - points[n, before, 0]
      ty = points[n, after, 1] - points[n, before, 1]
      tz = points[n, after, 2] - points[n, before, 2]
      length = np.sqrt(tx * tx + ty * ty + tz * tz) + 1e-12
      tangents[n, k, 0], tangents[n, k, 1], tangents[n, k, 2] = (
        tx / length,
        ty / length,
        tz / length,
      )
  return points, tangents


# As in `shading_kernels`: sums over directions run in vector registers.
_VECTOR = {'reassoc', 'contract', 'nsz', 'arcp'}


@njit(cache=True, nogil=True, fastmath=_VECTOR)
@no_type_check
def hair_light(tangents, normals, visibility, directions, colors, shares):
  """Light on strands: a fibre is lit from its sides, a mass of fibres from without.

  Args:
    tangents: [n, 3] float32 unit, in the axes of directions.
    normals: [n, 3] float32 outward from the head, same axes.
    visibility: [n, d] float32.
    directions: [3, d], colors [3, d], shares [3, d] float32: as in `vertex_light`.

  Returns:
    ([n, 3] float32 irradiance, [n, 3] float32 how much of each source is seen).
  """
  count = tangents.shape[0]
  light = np.empty((count, 3), np.float32)
  seen = np.empty((count, 3), np.float32)
  zero, one = np.float32(0), np.float32(1)
  low, high = np.float32(0.25), np.float32(0.75)
  bias, slope = np.float32(0.3), np.float32(0.7)
  for n in range(count):
    tx, ty, tz = tangents[n, 0], tangents[n, 1], tangents[n, 2]
    nx, ny, nz = normals[n, 0], normals[n, 1], normals[n, 2]
    red, green, blue, key, fill, rim = zero, zero, zero, zero, zero, zero
    for d in range(directions.shape[1]):
      vis = visibility[n, d]
      dx, dy, dz = directions[0, d], directions[1, d], directions[2, d]
      along = tx * dx + ty * dy + tz * dz
      mass = max(bias + slope * (nx * dx + ny * dy + nz * dz), zero)
      got = vis * mass * (low + high * np.sqrt(max(one - along * along, zero)))
      red += got * colors[0, d]
      green += got * colors[1, d]
      blue += got * colors[2, d]
      key += vis * shares[0, d]
      fill += vis * shares[1, d]
      rim += vis * shares[2, d]
    light[n, 0], light[n, 1], light[n, 2] = red, green, blue
    seen[n, 0], seen[n, 1], seen[n, 2] = key, fill, rim
  return light, seen


@njit(cache=True, nogil=True)
@no_type_check
def strand_color(points, tangents, light, seen, reflectance, sources, eye, out):
  """Colour of every knot: diffuse and two highlights (Marschner's R and TRT).

  Args:
    points: [n, k, 3] float64 world.
    tangents: [n, k, 3] float32 world.
    light: [n · k, 3], seen: [n · k, 3]: from `hair_light`.
    reflectance: [n, k, 3] float32.
    sources: [3, 17] float64 rows of `light.source_table`.
    eye: [3] float64 camera centre.
    out: [n · k, c] float32 attributes; columns 3 to 5 are written.
  """
  count, knots = tangents.shape[0], tangents.shape[1]
  for n in range(count):
    lobe = np.empty((2, 3))
    for k in range(knots):
      row = n * knots + k
      vx, vy, vz = eye[0] - points[n, k, 0], eye[1] - points[n, k, 1], eye[2] - points[n, k, 2]
      length = np.sqrt(vx * vx + vy * vy + vz * vz)
      tx, ty, tz = tangents[n, k, 0], tangents[n, k, 1], tangents[n, k, 2]
      view = (tx * vx + ty * vy + tz * vz) / length
      for c in range(3):
        lobe[0, c] = 0.0
        lobe[1, c] = 0.0
      for s in range(sources.shape[0]):
        incoming = tx * sources[s, 0] + ty * sources[s, 1] + tz * sources[s, 2]
        # Angles to the fibre's normal plane; cuticle scales tilt the first lobe to the root, the
        # second, which has passed through the fibre, to the tip.
        total = np.arcsin(min(max(view, -1.0), 1.0)) + np.arcsin(min(max(incoming, -1.0), 1.0))
        blur = 0.5 / sources[s, 6]
        for part in range(2):
          shift = total + (0.14 if part == 0 else -0.22)
          spread = (0.012 if part == 0 else 0.06) + blur
          value = np.exp(-0.5 * shift * shift / spread) * seen[row, s] / np.sqrt(spread)
          for c in range(3):
            lobe[part, c] += value * sources[s, 14 + c]
      for c in range(3):
        tint = reflectance[n, k, c]
        value = tint * light[row, c] + 0.007 * lobe[0, c] + 0.16 * tint * lobe[1, c]
        out[row, 3 + c] = value


@njit(cache=True, nogil=True)
@no_type_check
def project_strands(points, widths, extrinsics, intrinsics, near):
  """Screen bands of all segments.

  Args:
    points: [n, k, 3] float64 world.
    widths: [n, k] float32 metres.
    extrinsics: [4, 4] float64 world to camera.
    intrinsics: [4] float64.
    near: depth of the near plane; segments before it are not drawn.

  Returns:
    [n, k − 1, 10] float64: four corners x, y in order around the band, depth at both ends. Depth
    0 marks a segment that is not drawn.
  """
  count, knots = widths.shape
  out = np.zeros((count, knots - 1, 10))
  for n in range(count):
    seen = np.empty((knots, 3))
    side = np.empty((knots, 2))
    for k in range(knots):
      p = points[n, k]
      z = extrinsics[2, 0] * p[0] + extrinsics[2, 1] * p[1] + extrinsics[2, 2] * p[2]
      z += extrinsics[2, 3]
      inverse = 1.0 / max(z, near)
      for c in range(2):
        value = extrinsics[c, 0] * p[0] + extrinsics[c, 1] * p[1] + extrinsics[c, 2] * p[2]
        value += extrinsics[c, 3]
        seen[k, c] = intrinsics[c] * value * inverse + intrinsics[2 + c]
      seen[k, 2] = z
    for k in range(knots):
      before, after = max(k - 1, 0), min(k + 1, knots - 1)
      dx, dy = seen[after, 0] - seen[before, 0], seen[after, 1] - seen[before, 1]
      length = np.sqrt(dx * dx + dy * dy) + 1e-9
      half = 0.5 * widths[n, k] * intrinsics[0] / max(seen[k, 2], near)
      side[k, 0], side[k, 1] = -dy / length * half, dx / length * half
    for k in range(knots - 1):
      if seen[k, 2] < near or seen[k + 1, 2] < near:
        continue
      for c in range(2):
        out[n, k, c] = seen[k, c] - side[k, c]
        out[n, k, 2 + c] = seen[k, c] + side[k, c]
        out[n, k, 4 + c] = seen[k + 1, c] + side[k + 1, c]
        out[n, k, 6 + c] = seen[k + 1, c] - side[k + 1, c]
      out[n, k, 8], out[n, k, 9] = seen[k, 2], seen[k + 1, 2]
  return out


@njit(cache=True, nogil=True)
@no_type_check
def draw_strands(bands, first_face, face, barycentric, depth):
  """Draws bands into the buffers of a mesh rendering, row span by row span.

  A band is long, narrow and slanted: testing the pixels of its bounding box, as for triangles,
  would mostly test pixels beside it. Bands are visited in order.

  Args:
    bands: [s, 10] float64 rows of `project_strands`.
    first_face: number of the first band as a face.
    face, barycentric, depth: buffers of `MeshBuffers`; the weights written are (1 − t, 0, t) at
      share t of the way from the band's first end to its second.
  """
  height, width = depth.shape
  for s in range(bands.shape[0]):
    z0, z1 = bands[s, 8], bands[s, 9]
    if z0 == 0.0:
      continue
    low = min(min(bands[s, 1], bands[s, 3]), min(bands[s, 5], bands[s, 7]))
    high = max(max(bands[s, 1], bands[s, 3]), max(bands[s, 5], bands[s, 7]))
    if high < 0.0 or low > height:
      continue
    top = max(int(np.ceil(low - 0.5)), 0)
    bottom = min(int(np.floor(high - 0.5)), height - 1)
    # Share of the way along the band's middle, as a function of the pixel.
    ax, ay = 0.5 * (bands[s, 0] + bands[s, 2]), 0.5 * (bands[s, 1] + bands[s, 3])
    ux = 0.5 * (bands[s, 4] + bands[s, 6]) - ax
    uy = 0.5 * (bands[s, 5] + bands[s, 7]) - ay
    squared = ux * ux + uy * uy + 1e-12
    for row in range(top, bottom + 1):
      y = row + 0.5
      left, right = 1e30, -1e30
      for corner in range(4):
        i, j = 2 * corner, (2 * corner + 2) % 8
        y0, y1 = bands[s, i + 1], bands[s, j + 1]
        if (y0 <= y) != (y1 <= y):
          x = bands[s, i] + (y - y0) / (y1 - y0) * (bands[s, j] - bands[s, i])
          left, right = min(left, x), max(right, x)
      if left > right or right < 0.0 or left > width:
        continue
      for column in range(max(int(np.ceil(left - 0.5)), 0), min(int(np.ceil(right - 0.5)), width)):
        t = ((column + 0.5 - ax) * ux + (y - ay) * uy) / squared
        t = min(max(t, 0.0), 1.0)
        z = z0 + t * (z1 - z0)
        if z < depth[row, column]:
          depth[row, column] = z
          face[row, column] = first_face + s
          barycentric[row, column, 0] = 1.0 - t
          barycentric[row, column, 1] = 0.0
          barycentric[row, column, 2] = t
