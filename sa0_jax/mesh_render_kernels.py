"""Numba loops of `sa0_jax.mesh_render`; imported only when a mesh is rasterized."""

from typing import no_type_check

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
@no_type_check
def _grow_box(box, a, b, intrinsics, near):
  """Grows (left, right, top, bottom) by what edge a → b shows beyond the near plane."""
  left, right, top, bottom = box
  fx, fy, cx, cy = intrinsics[0], intrinsics[1], intrinsics[2], intrinsics[3]
  if a[2] >= near:
    x, y = fx * a[0] / a[2] + cx, fy * a[1] / a[2] + cy
    left, right, top, bottom = min(left, x), max(right, x), min(top, y), max(bottom, y)
  if (a[2] >= near) != (b[2] >= near):
    t = (near - a[2]) / (b[2] - a[2])
    x = fx * (a[0] + t * (b[0] - a[0])) / near + cx
    y = fy * (a[1] + t * (b[1] - a[1])) / near + cy
    left, right, top, bottom = min(left, x), max(right, x), min(top, y), max(bottom, y)
  return left, right, top, bottom


@njit(cache=True, nogil=True)
@no_type_check
def _edge_plane(a, b, intrinsics):
  """The plane through the camera and edge a → b: r · (a × b) as a function of the pixel."""
  nx = a[1] * b[2] - a[2] * b[1]
  ny = a[2] * b[0] - a[0] * b[2]
  nz = a[0] * b[1] - a[1] * b[0]
  px, py = nx / intrinsics[0], ny / intrinsics[1]
  return px, py, nz - px * intrinsics[2] - py * intrinsics[3]


@njit(cache=True, nogil=True)
@no_type_check
def setup_triangles(points, faces, intrinsics, near, size, cull):
  """Edge planes and pixel boxes of all triangles.

  For the pixel ray r = (x, y, 1) the perspective-correct weight of corner i is proportional to
  r · (v_j × v_k), and depth is det(v_0, v_1, v_2) divided by the sum of the three: nothing is
  divided by a corner's own depth, so corners behind the camera are harmless.

  Args:
    points: [v, 3] float64 camera-space vertices.
    faces: [f, 3] int32.
    intrinsics: [4] float64.
    near: depth of the near plane.
    size: (width, height).
    cull: whether triangles seen from behind are dropped.

  Returns:
    ([f, 10] float64: three edge planes in pixel coordinates and the determinant, [f, 4] int32
    pixel boxes left, right, top, bottom; empty for triangles that are not drawn).
  """
  count = faces.shape[0]
  planes = np.zeros((count, 10))
  boxes = np.zeros((count, 4), np.int32)
  width, height = float(size[0]), float(size[1])
  for f in range(count):
    i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
    a = (points[i, 0], points[i, 1], points[i, 2])
    b = (points[j, 0], points[j, 1], points[j, 2])
    c = (points[k, 0], points[k, 1], points[k, 2])
    total = (
      a[0] * (b[1] * c[2] - b[2] * c[1])
      + a[1] * (b[2] * c[0] - b[0] * c[2])
      + a[2] * (b[0] * c[1] - b[1] * c[0])
    )
    # OpenCV axes turn a counter-clockwise front face into a negative determinant.
    if total == 0.0 or not np.isfinite(total) or (cull and total > 0.0):
      continue
    sign = 1.0 if total > 0.0 else -1.0
    x0, y0, z0 = _edge_plane(b, c, intrinsics)
    x1, y1, z1 = _edge_plane(c, a, intrinsics)
    x2, y2, z2 = _edge_plane(a, b, intrinsics)
    planes[f, 0], planes[f, 1], planes[f, 2] = sign * x0, sign * y0, sign * z0
    planes[f, 3], planes[f, 4], planes[f, 5] = sign * x1, sign * y1, sign * z1
    planes[f, 6], planes[f, 7], planes[f, 8] = sign * x2, sign * y2, sign * z2
    planes[f, 9] = sign * total
    box = (np.inf, -np.inf, np.inf, -np.inf)
    box = _grow_box(box, a, b, intrinsics, near)
    box = _grow_box(box, b, c, intrinsics, near)
    box = _grow_box(box, c, a, intrinsics, near)
    if box[0] <= box[1]:
      # Clamp before the cast: a projected coordinate may exceed the range of integers.
      boxes[f, 0] = int(np.floor(min(max(box[0] - 0.5, 0.0), width)))
      boxes[f, 1] = int(np.ceil(min(max(box[1] + 0.5, 0.0), width)))
      boxes[f, 2] = int(np.floor(min(max(box[2] - 0.5, 0.0), height)))
      boxes[f, 3] = int(np.ceil(min(max(box[3] + 0.5, 0.0), height)))
  return planes, boxes


@njit(cache=True, nogil=True)
@no_type_check
def fill_triangles(planes, boxes, near, face, barycentric, depth):
  """Z-buffers all triangles into face, barycentric and depth (depth starts at +inf).

  Triangles are visited in their order and a pixel keeps the strictly nearer one.
  """
  for f in range(planes.shape[0]):
    left, right, top, bottom = boxes[f, 0], boxes[f, 1], boxes[f, 2], boxes[f, 3]
    if left >= right:
      continue
    x0, y0, z0 = planes[f, 0], planes[f, 1], planes[f, 2]
    x1, y1, z1 = planes[f, 3], planes[f, 4], planes[f, 5]
    x2, y2, z2 = planes[f, 6], planes[f, 7], planes[f, 8]
    determinant = planes[f, 9]
    for row in range(top, bottom):
      y = row + 0.5
      r0, r1, r2 = y0 * y + z0, y1 * y + z1, y2 * y + z2
      inside = False
      for column in range(left, right):
        x = column + 0.5
        w0, w1, w2 = x0 * x + r0, x1 * x + r1, x2 * x + r2
        if w0 < 0.0 or w1 < 0.0 or w2 < 0.0:
          if inside:
            break
          continue
        inside = True
        total = w0 + w1 + w2
        if total <= 0.0:
          continue
        inverse = 1.0 / total
        z = determinant * inverse
        if z < near or z >= depth[row, column]:
          continue
        depth[row, column] = z
        face[row, column] = f
        barycentric[row, column, 0] = w0 * inverse
        barycentric[row, column, 1] = w1 * inverse
        barycentric[row, column, 2] = w2 * inverse


@njit(cache=True, nogil=True)
@no_type_check
def _orthographic_depth(points, faces, resolution, depth):
  """Largest third coordinate per pixel; points are already in pixels."""
  for f in range(faces.shape[0]):
    a, b, c = points[faces[f, 0]], points[faces[f, 1]], points[faces[f, 2]]
    area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    if area == 0.0:
      continue
    left = max(int(np.floor(min(a[0], b[0], c[0]) - 0.5)), 0)
    right = min(int(np.ceil(max(a[0], b[0], c[0]) + 0.5)), resolution)
    top = max(int(np.floor(min(a[1], b[1], c[1]) - 0.5)), 0)
    bottom = min(int(np.ceil(max(a[1], b[1], c[1]) + 0.5)), resolution)
    for row in range(top, bottom):
      for column in range(left, right):
        x, y = column + 0.5, row + 0.5
        w1 = ((x - a[0]) * (c[1] - a[1]) - (y - a[1]) * (c[0] - a[0])) / area
        w2 = ((b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0])) / area
        w0 = 1.0 - w1 - w2
        if w0 < 0.0 or w1 < 0.0 or w2 < 0.0:
          continue
        z = w0 * a[2] + w1 * b[2] + w2 * c[2]
        depth[row, column] = max(depth[row, column], z)


@njit(cache=True, nogil=True)
@no_type_check
def visible_from(points, faces, frames, resolution, bias):
  """Which points see each direction.

  Args:
    points: [v, 3] float64, centred, inside the unit sphere.
    faces: [f, 3] int32.
    frames: [d, 3, 3] float64 rows right, up, direction.
    resolution: size of the depth maps.
    bias: how much nearer an occluder must be, in the units of points.

  Returns:
    [v, d] float32, the share of the four nearest depth texels that do not hide the point.
  """
  count = points.shape[0]
  out = np.zeros((count, frames.shape[0]), np.float32)
  for d in range(frames.shape[0]):
    frame = frames[d]
    scale = 0.5 * (resolution - 4)
    seen = np.empty((count, 3))
    for v in range(count):
      for axis in range(3):
        seen[v, axis] = (
          points[v, 0] * frame[axis, 0]
          + points[v, 1] * frame[axis, 1]
          + points[v, 2] * frame[axis, 2]
        )
      seen[v, 0] = seen[v, 0] * scale + 0.5 * resolution
      seen[v, 1] = seen[v, 1] * scale + 0.5 * resolution
    depth = np.full((resolution, resolution), -np.inf)
    _orthographic_depth(seen, faces, resolution, depth)
    for v in range(count):
      x, y = seen[v, 0] - 0.5, seen[v, 1] - 0.5
      column, row = int(np.floor(x)), int(np.floor(y))
      s, t = x - column, y - row
      z = seen[v, 2] + bias
      total = 0.0
      for dy in range(2):
        for dx in range(2):
          weight = (s if dx else 1.0 - s) * (t if dy else 1.0 - t)
          if depth[row + dy, column + dx] <= z:
            total += weight
      out[v, d] = total
  return out
