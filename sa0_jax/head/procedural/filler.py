"""Graded triangles that fill the skin between the structured rings (builder only, millimetres)."""

import itertools

import numpy as np
from jaxtyping import Bool, Float, Int

from sa0_jax.head.procedural.anatomy import smoothstep
from sa0_jax.head.procedural.sdf import along_rays, gradient, project, skin_field

Triangles = Int[np.ndarray, 'f 3']

# The skin is star-shaped seen from these points: the centres of the front and back charts.
FRONT_CENTER = np.array([0.0, -30.0, 0.0])
BACK_CENTER = np.array([0.0, -55.0, -34.0])

# Fine regions of the size field: centre (left side), radii, strength.
FINE_REGIONS = (
  ((31.5, 0, 78), (30, 24, 30), 1.0),
  ((0, -70, 95), (38, 24, 30), 1.0),
  ((8, -39, 100), (24, 19, 26), 1.12),
  ((0, -15, 92), (18, 24, 25), 1.0),
  ((66, -22, -10), (14, 34, 24), 0.75),
)
FINE_EDGE, COARSE_EDGE = 2.5, 5.9


def edge_length(points: Float[np.ndarray, 'n 3']) -> Float[np.ndarray, ' n']:
  """Wanted length of a triangle's edge in mm: fine around eyes, nose and mouth, coarse behind."""
  p = np.abs(points) * [1, 0, 0] + points * [0, 1, 1]
  coarse = COARSE_EDGE + 6.5 * smoothstep(p[:, 2], 35, -50)
  coarse = coarse + 3.0 * smoothstep(p[:, 1], -118, -150) + 2.0 * smoothstep(p[:, 1], 45, 90)
  fine = np.maximum.reduce(
    [
      strength * np.exp(-((((p - center) / radii) ** 2).sum(1)))
      for center, radii, strength in FINE_REGIONS
    ]
  )
  return np.clip(coarse * (1 - fine) + FINE_EDGE * fine, 2.1, 16)


def to_chart(
  points: Float[np.ndarray, 'n 3'], center: Float[np.ndarray, '3'], sign: int
) -> Float[np.ndarray, 'n 2']:
  """Azimuthal equidistant coordinates in degrees around the +z (sign 1) or −z (−1) axis."""
  d = points - center
  d = d / np.linalg.norm(d, axis=1, keepdims=True)
  polar = np.degrees(np.arccos(np.clip(sign * d[:, 2], -1, 1)))
  radius = np.maximum(np.hypot(d[:, 0], d[:, 1]), 1e-9)
  return d[:, :2] * (polar / radius)[:, None]


def from_chart(chart: Float[np.ndarray, 'n 2'], sign: int) -> Float[np.ndarray, 'n 3']:
  """Unit directions of chart coordinates."""
  degrees = np.maximum(np.hypot(chart[:, 0], chart[:, 1]), 1e-9)
  polar = np.radians(degrees)
  return np.column_stack([chart * (np.sin(polar) / degrees)[:, None], sign * np.cos(polar)])


def inside_polygon(
  polygon: Float[np.ndarray, 'm 2'], points: Float[np.ndarray, 'n 2']
) -> Bool[np.ndarray, ' n']:
  """Even-odd rule."""
  x, y = points[:, :1], points[:, 1:]
  a, b = polygon, np.roll(polygon, -1, axis=0)
  crosses = (a[:, 1] > y) != (b[:, 1] > y)
  with np.errstate(divide='ignore', invalid='ignore'):
    at = a[:, 0] + (y - a[:, 1]) * (b[:, 0] - a[:, 0]) / (b[:, 1] - a[:, 1])
  return (crosses & (x < at)).sum(1) % 2 == 1


def resample(curve: Float[np.ndarray, 'n 3']) -> Float[np.ndarray, 'm 3']:
  """Vertices along a dense curve, as far apart as the size field wants; both ends stay."""
  middle = 0.5 * (curve[1:] + curve[:-1])
  steps = np.linalg.norm(np.diff(curve, axis=0), axis=1) / edge_length(middle)
  along = np.concatenate([[0], np.cumsum(steps)])
  at = np.linspace(0, along[-1], max(2, round(along[-1])) + 1)
  return np.stack([np.interp(at, along, curve[:, k]) for k in range(3)], axis=1)


def strip(rings: list[list[int]], closed: bool) -> list[tuple[int, int, int]]:
  """Triangles between successive rings of vertex ids."""
  triangles = []
  for a, b in itertools.pairwise(rings):
    count = len(a)
    for i in range(count if closed else count - 1):
      j = (i + 1) % count
      triangles += [(a[i], a[j], b[j]), (a[i], b[j], b[i])]
  return triangles


def _edge_map(triangles: list[list[int]]) -> dict[tuple[int, int], list[int]]:
  edges: dict[tuple[int, int], list[int]] = {}
  for row, t in enumerate(triangles):
    for a, b in ((t[0], t[1]), (t[1], t[2]), (t[2], t[0])):
      edges.setdefault((min(a, b), max(a, b)), []).append(row)
  return edges


def _recover_edges(
  points: Float[np.ndarray, 'n 2'], triangles: Triangles, wanted: list[tuple[int, int]]
) -> Triangles:
  """Flips diagonals of a planar triangulation until the wanted edges exist."""
  rows = [[int(v) for v in t] for t in triangles]

  def side(a: int, b: int, c: int) -> float:
    (ax, ay), (bx, by), (cx, cy) = points[a], points[b], points[c]
    return float((bx - ax) * (cy - ay) - (by - ay) * (cx - ax))

  for _ in range(40):
    edges = _edge_map(rows)
    missing = [w for w in wanted if (min(w), max(w)) not in edges]
    if not missing:
      break
    changed: set[int] = set()
    for a, b in missing:
      for (c, d), owners in edges.items():
        if len(owners) != 2 or a in (c, d) or b in (c, d) or changed & set(owners):
          continue
        if side(a, b, c) * side(a, b, d) >= 0 or side(c, d, a) * side(c, d, b) >= 0:
          continue
        u = next(v for v in rows[owners[0]] if v not in (c, d))
        w = next(v for v in rows[owners[1]] if v not in (c, d))
        if side(u, w, c) * side(u, w, d) < 0:
          rows[owners[0]], rows[owners[1]] = [u, w, c], [u, w, d]
          changed |= set(owners)
          break
  return np.array(rows)


def _scatter(
  border: Float[np.ndarray, 'b 3'],
  polygons: list[Float[np.ndarray, '_ 2']],
  center: Float[np.ndarray, '3'],
  sign: int,
  rng: np.random.Generator,
) -> tuple[Float[np.ndarray, 'n 2'], Float[np.ndarray, 'n 3']]:
  """Dart throwing: points on the skin inside the chart's polygon, one edge length apart."""
  from scipy.spatial import cKDTree

  count = 9000 if sign > 0 else 4000
  chart = rng.uniform(polygons[0].min(0), polygons[0].max(0), (count * 6, 2))
  chart = chart[inside_polygon(polygons[0], chart)]
  for hole in polygons[1:]:
    chart = chart[~inside_polygon(hole, chart)]
  degrees = np.maximum(np.hypot(*chart.T), 1.0)
  rough = center + 92 * from_chart(chart, sign)
  density = np.sin(np.radians(degrees)) / degrees / edge_length(rough) ** 2
  chance = np.clip(density / np.quantile(density, 0.97), 0.03, 1)
  chart = chart[rng.random(len(chart)) < chance][:count]
  points = along_rays(center, from_chart(chart, sign))
  spacing = edge_length(points)
  keep = cKDTree(border).query(points)[0] > 0.62 * spacing
  keep &= points[:, 0] > 0.45 * spacing
  chart, points, spacing = chart[keep], points[keep], spacing[keep]
  tree = cKDTree(points)
  chosen = np.zeros(len(points), bool)
  blocked = np.zeros(len(points), bool)
  for i in range(len(points)):
    if not blocked[i]:
      chosen[i] = True
      blocked[tree.query_ball_point(points[i], 0.80 * spacing[i])] = True
  return chart[chosen], points[chosen]


def fill_region(
  positions: Float[np.ndarray, 'v 3'],
  loops: list[list[int]],
  center: Float[np.ndarray, '3'],
  sign: int,
  rng: np.random.Generator,
) -> tuple[Float[np.ndarray, 'n 3'], Triangles]:
  """Graded Delaunay triangles between an outer loop of vertices and holes.

  Args:
    positions: existing vertices.
    loops: vertex ids of the outer loop, then of each hole.
    center: centre of the azimuthal chart.
    sign: +1 for the front, −1 for the back.
    rng: where the darts come from.

  Returns:
    New vertices, numbered from len(positions) on, and triangles, counter-clockwise outside.

  Raises:
    RuntimeError: an edge of a loop is missing from the triangulation.
  """
  from scipy.spatial import Delaunay

  border = np.array(sorted({i for loop in loops for i in loop}))
  chart = to_chart(positions, center, sign)
  polygons = [chart[loop] for loop in loops]
  new_chart, new_points = _scatter(positions[border], polygons, center, sign, rng)
  ids = np.concatenate([border, len(positions) + np.arange(len(new_points))])
  points = np.concatenate([chart[border], new_chart])
  local = {int(v): k for k, v in enumerate(ids)}
  edges = [
    (local[a], local[b]) for loop in loops for a, b in zip(loop, loop[1:] + loop[:1], strict=True)
  ]
  triangles = _recover_edges(points, Delaunay(points).simplices, edges)
  middle = points[triangles].mean(1)
  keep = inside_polygon(polygons[0], middle)
  for hole in polygons[1:]:
    keep &= ~inside_polygon(hole, middle)
  triangles = triangles[keep]
  a, b, c = (points[triangles[:, k]] for k in range(3))
  area = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
  triangles = np.where((area * sign > 0)[:, None], triangles, triangles[:, ::-1])
  triangles = triangles[np.abs(area) > 1e-7]
  present = set(_edge_map(triangles.tolist()))
  missing = [e for e in edges if (min(e), max(e)) not in present]
  if missing:
    raise RuntimeError(f'fill_region: {len(missing)} border edges missing, first {missing[0]}')
  return new_points, ids[triangles]


def _opposite_angle(p: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
  u, v = a - p, b - p
  return float(np.arccos(np.clip(u @ v / np.sqrt((u @ u) * (v @ v)), -1, 1)))


def flip_edges(
  positions: Float[np.ndarray, 'v 3'], triangles: Triangles, frozen: set[tuple[int, int]]
) -> Triangles:
  """Three passes of Delaunay edge flips in space; frozen edges stay."""
  rows = [[int(v) for v in t] for t in triangles]
  for _ in range(3):
    edges = _edge_map(rows)
    existing = set(edges)
    touched: set[int] = set()
    for (a, b), owners in edges.items():
      if len(owners) != 2 or (a, b) in frozen or touched & set(owners):
        continue
      first, second = rows[owners[0]], rows[owners[1]]
      c = next(v for v in first if v not in (a, b))
      d = next(v for v in second if v not in (a, b))
      pa, pb, pc, pd = positions[[a, b, c, d]]
      if _opposite_angle(pc, pa, pb) + _opposite_angle(pd, pa, pb) < np.pi + 0.02:
        continue
      if (min(c, d), max(c, d)) in existing:
        continue
      if first[(first.index(a) + 1) % 3] != b:
        a, b, pa, pb = b, a, pb, pa
      before = np.cross(pb - pa, pc - pa) + np.cross(pa - pb, pd - pb)
      normals = np.cross(pd - pa, pc - pa), np.cross(pb - pd, pc - pd)
      limit = 0.2 * np.linalg.norm(before)
      if any(n @ before <= limit * np.linalg.norm(n) for n in normals):
        continue
      rows[owners[0]], rows[owners[1]] = [a, d, c], [d, b, c]
      touched |= set(owners)
      existing.add((min(c, d), max(c, d)))
    if not touched:
      break
  return np.array(rows)


def relax(
  positions: Float[np.ndarray, 'v 3'],
  triangles: Triangles,
  pinned: Bool[np.ndarray, ' v'],
  iterations: int,
) -> Float[np.ndarray, 'v 3']:
  """Moves free vertices along the skin to even out edges against the size field."""
  pairs = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
  edges = np.unique(np.sort(pairs, axis=1), axis=0)
  free = np.flatnonzero(~pinned)
  out = positions.copy()
  for _ in range(iterations):
    size = edge_length(out)
    length = np.linalg.norm(out[edges[:, 0]] - out[edges[:, 1]], axis=1)
    weight = length / (0.5 * (size[edges[:, 0]] + size[edges[:, 1]]))
    total, norm = np.zeros_like(out), np.zeros(len(out))
    for i, j in ((0, 1), (1, 0)):
      np.add.at(total, edges[:, i], weight[:, None] * out[edges[:, j]])
      np.add.at(norm, edges[:, i], weight)
    move = total[free] / norm[free][:, None] - out[free]
    normal = gradient(skin_field, out[free])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    move -= (move * normal).sum(1, keepdims=True) * normal
    moved = out[free] + 0.5 * move
    moved[:, 0] = np.maximum(moved[:, 0], 0.35 * size[free])
    out[free] = project(moved, 2)
  return out
