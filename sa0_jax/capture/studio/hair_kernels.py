"""Numba loops of `studio.hair`; imported only when hair is grown or posed."""

from typing import no_type_check

import numpy as np
from numba import njit

# Nodes along each side of the blocks in which `distance_grid` shares a list of candidates.
_BLOCK = 4


@njit(cache=True, nogil=True)
@no_type_check
def _candidates(points, middle, reach, squared, rows):
  """Rows of the points that may be nearest to anything within reach of a place, in order.

  Args:
    points: [n, 3] float32.
    middle: [3] float32 the place.
    reach: distance from it to the farthest node.
    squared: [n] float32, overwritten.
    rows: [n] int32, written.

  Returns:
    How many rows there are.
  """
  best = np.float32(1e12)
  for n in range(points.shape[0]):
    dx, dy, dz = points[n, 0] - middle[0], points[n, 1] - middle[1], points[n, 2] - middle[2]
    squared[n] = dx * dx + dy * dy + dz * dz
    best = min(best, squared[n])
  # A node's nearest point is within best + reach of it, so within best + 2 reach of the middle; a
  # millimetre covers rounding.
  limit = np.sqrt(best) + np.float32(2.0) * reach + np.float32(1.0)
  count = 0
  for n in range(points.shape[0]):
    if squared[n] <= limit * limit:
      rows[count] = n
      count += 1
  return count


@njit(cache=True, nogil=True)
@no_type_check
def distance_grid(points, normals, origin, spacing, shape):
  """Signed distance to a surface given as points with outward normals.

  Args:
    points: [n, 3] float32 mm.
    normals: [n, 3] float32 unit.
    origin: [3] float64 of the grid's first node.
    spacing: mm between nodes.
    shape: nodes along each axis.

  Returns:
    [x, y, z] float32 mm: distance to the tangent plane of the nearest point, positive outside.
  """
  out = np.empty(shape, np.float32)
  squared, rows = np.empty(len(points), np.float32), np.empty(len(points), np.int32)
  middle = np.empty(3, np.float32)
  half = 0.5 * (_BLOCK - 1) * spacing
  reach = np.float32(half * np.sqrt(3.0))
  blocks = (
    (shape[0] - 1) // _BLOCK + 1,
    (shape[1] - 1) // _BLOCK + 1,
    (shape[2] - 1) // _BLOCK + 1,
  )
  for flat in range(blocks[0] * blocks[1] * blocks[2]):
    i0 = flat // (blocks[1] * blocks[2]) * _BLOCK
    j0 = flat // blocks[2] % blocks[1] * _BLOCK
    k0 = flat % blocks[2] * _BLOCK
    middle[0] = origin[0] + i0 * spacing + half
    middle[1] = origin[1] + j0 * spacing + half
    middle[2] = origin[2] + k0 * spacing + half
    count = _candidates(points, middle, reach, squared, rows)
    for i in range(i0, min(i0 + _BLOCK, shape[0])):
      x = np.float32(origin[0] + i * spacing)
      for j in range(j0, min(j0 + _BLOCK, shape[1])):
        y = np.float32(origin[1] + j * spacing)
        for k in range(k0, min(k0 + _BLOCK, shape[2])):
          z = np.float32(origin[2] + k * spacing)
          best, nearest = np.float32(1e12), 0
          for c in range(count):
            n = rows[c]
            dx, dy, dz = points[n, 0] - x, points[n, 1] - y, points[n, 2] - z
            near = dx * dx + dy * dy + dz * dz
            if near < best:
              best, nearest = near, n
          plane = (
            (x - points[nearest, 0]) * normals[nearest, 0]
            + (y - points[nearest, 1]) * normals[nearest, 1]
            + (z - points[nearest, 2]) * normals[nearest, 2]
          )
          # Far away the tangent plane of one point means nothing; the distance itself does.
          straight = np.sqrt(best)
          far = min(straight / 40.0, 1.0)
          out[i, j, k] = plane * (1 - far) + (straight if plane > 0 else -straight) * far
  return out


@njit(cache=True, nogil=True)
@no_type_check
def _look_up(grid, origin, spacing, p, out):
  """Trilinear distance and its unit gradient at p; the gradient goes to out."""
  nx, ny, nz = grid.shape
  x = min(max((p[0] - origin[0]) / spacing, 0.0), nx - 1.001)
  y = min(max((p[1] - origin[1]) / spacing, 0.0), ny - 1.001)
  z = min(max((p[2] - origin[2]) / spacing, 0.0), nz - 1.001)
  i, j, k = int(x), int(y), int(z)
  u, v, w = x - i, y - j, z - k
  total, gx, gy, gz = 0.0, 0.0, 0.0, 0.0
  for a in range(2):
    fa = u if a else 1 - u
    sa = 1.0 if a else -1.0
    for b in range(2):
      fb = v if b else 1 - v
      sb = 1.0 if b else -1.0
      for c in range(2):
        fc = w if c else 1 - w
        sc = 1.0 if c else -1.0
        value = grid[i + a, j + b, k + c]
        total += value * fa * fb * fc
        gx += value * sa * fb * fc
        gy += value * fa * sb * fc
        gz += value * fa * fb * sc
  length = np.sqrt(gx * gx + gy * gy + gz * gz) + 1e-9
  out[0], out[1], out[2] = gx / length, gy / length, gz / length
  return total


@njit(cache=True, nogil=True)
@no_type_check
def sample_distance(grid, origin, spacing, points):
  """Distances [n] and outward unit gradients [n, 3] at points [n, 3]."""
  count = points.shape[0]
  distance, outward = np.empty(count, np.float32), np.empty((count, 3), np.float32)
  for n in range(count):
    gradient = np.empty(3)
    distance[n] = _look_up(grid, origin, spacing, points[n], gradient)
    for c in range(3):
      outward[n, c] = gradient[c]
  return distance, outward


@njit(cache=True, nogil=True, inline='always')
@no_type_check
def _unit(v):
  length = np.sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]) + 1e-9
  v[0] /= length
  v[1] /= length
  v[2] /= length


@njit(cache=True, nogil=True)
@no_type_check
def _out_of_face(p, side, window):
  """Moves p sideways out of the ellipsoid (centre, radii) that keeps the face free."""
  dx = (p[0] - window[0]) / window[3]
  dy = (p[1] - window[1]) / window[4]
  dz = (p[2] - window[2]) / window[5]
  rest = 1.0 - dy * dy - dz * dz
  if rest > 0.0 and dx * dx < rest:
    border = window[0] + (1.0 if side > 0 else -1.0) * window[3] * np.sqrt(rest)
    p[0] += 0.5 * (border - p[0])


@njit(cache=True, nogil=True)
@no_type_check
def _flow(p, outward, side, comb, goal, out):
  """The unit direction in which hair is combed at p, along the surface."""
  # The parting is a matter of the top of the head; lower down hair only falls.
  high = min(max((p[1] + 5.0) / 65.0, 0.0), 1.0)
  out[0] = comb[0] * side * high
  out[1] = -comb[1]
  out[2] = comb[2]
  if goal[3] > 0:
    gx, gy, gz = goal[0] - p[0], goal[1] - p[1], goal[2] - p[2]
    reach = np.sqrt(gx * gx + gy * gy + gz * gz) + 1e-6
    out[0] += goal[3] * gx / reach
    out[1] += goal[3] * gy / reach
    out[2] += goal[3] * gz / reach
  along = out[0] * outward[0] + out[1] * outward[1] + out[2] * outward[2]
  for c in range(3):
    out[c] -= along * outward[c]
  _unit(out)


@njit(cache=True, nogil=True)
@no_type_check
def grow(roots, normals, traits, style, field, knots):
  """Grows every strand step by step over the head, under comb, stiffness and gravity.

  Args:
    roots: [n, 3] float64 mm, on the scalp.
    normals: [n, 3] float64.
    traits: [n, 4] float64: length mm, height of its layer over the surface mm, side of the parting
      (−1 to 1), height y at which it is cut.
    style: (comb [3] sideways, down, forward; bend [4] lift, stiffness, gravity, hold; goal [4]
      point the hair is gathered at and how strongly; window [6] ellipsoid kept free).
    field: (grid [x, y, z], origin [3], spacing): signed distance to head and body.
    knots: points stored a strand.

  Returns:
    [n, knots, 3] float64, evenly spaced along each strand.
  """
  comb, bend, goal, window = style
  grid, origin, spacing = field
  steps = 72
  out = np.empty((roots.shape[0], knots, 3))
  for n in range(roots.shape[0]):
    path = np.empty((steps + 1, 3))
    outward, flow, heading, p = np.empty(3), np.empty(3), np.empty(3), np.empty(3)
    length, layer, side, cut = traits[n, 0], traits[n, 1], traits[n, 2], traits[n, 3]
    stride = length / steps
    for c in range(3):
      p[c] = roots[n, c]
      outward[c] = normals[n, c]
      path[0, c] = p[c]
    _flow(p, outward, side, comb, goal, flow)
    for c in range(3):
      heading[c] = bend[0] * outward[c] + (1 - bend[0]) * flow[c]
    _unit(heading)
    last = 0
    for step in range(1, steps + 1):
      progress = step * stride
      distance = _look_up(grid, origin, spacing, p, outward)
      _flow(p, outward, side, comb, goal, flow)
      # The comb loses its hold where hair hangs free of the head.
      hold = bend[3] * np.exp(-max(distance - layer, 0.0) / 30.0)
      for c in range(3):
        heading[c] = bend[1] * heading[c] + (1 - bend[1]) * hold * flow[c]
      heading[1] -= bend[2] * (1 - bend[1])
      _unit(heading)
      for c in range(3):
        p[c] += heading[c] * stride
      distance = _look_up(grid, origin, spacing, p, outward)
      wanted = layer * min(progress / (2.0 * layer + 4.0), 1.0)
      if distance < wanted:
        for c in range(3):
          p[c] += outward[c] * (wanted - distance)
      _out_of_face(p, side, window)
      dx, dy, dz = p[0] - path[step - 1, 0], p[1] - path[step - 1, 1], p[2] - path[step - 1, 2]
      moved = np.sqrt(dx * dx + dy * dy + dz * dz) + 1e-9
      for c in range(3):
        heading[c] = (p[c] - path[step - 1, c]) / moved
        p[c] = path[step - 1, c] + heading[c] * stride
        path[step, c] = p[c]
      last = step
      gx, gy, gz = goal[0] - p[0], goal[1] - p[1], goal[2] - p[2]
      arrived = goal[3] > 0 and gx * gx + gy * gy + gz * gz < 22.0 * 22.0
      if (p[1] < cut and progress > 12.0) or arrived:
        break
    for knot in range(knots):
      at = knot * last / (knots - 1.0)
      k = min(int(at), last - 1)
      w = at - k
      for c in range(3):
        out[n, knot, c] = path[k, c] * (1 - w) + path[k + 1, c] * w
  return out


@njit(cache=True, nogil=True)
@no_type_check
def nearest(points, others):
  """Row of the nearest of others [m, 3] to each of points [n, 3]."""
  out = np.empty(points.shape[0], np.int32)
  for n in range(points.shape[0]):
    best = 1e30
    for m in range(others.shape[0]):
      dx = points[n, 0] - others[m, 0]
      dy = points[n, 1] - others[m, 1]
      dz = points[n, 2] - others[m, 2]
      squared = dx * dx + dy * dy + dz * dz
      if squared < best:
        best, out[n] = squared, m
  return out
