"""Measurements of a head mesh: anthropometry, self-intersections, UV cover (builder, tests)."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int

from sa0_jax.head.procedural.rings import LID_LASH_EDGE, MOUTH_SEAM
from sa0_jax.head.procedural.semantics import ProceduralSemantics

Positions = Float[np.ndarray, 'v 3']
Faces = Int[np.ndarray, 'f 3']


def triangle_areas(positions: Float[np.ndarray, 'v d'], faces: Faces) -> Float[np.ndarray, ' f']:
  """Areas; signed for planar vertices, counter-clockwise positive."""
  a, b, c = (positions[faces[:, k]] for k in range(3))
  if positions.shape[1] == 2:
    (ux, uy), (vx, vy) = (b - a).T, (c - a).T
    return 0.5 * (ux * vy - uy * vx)
  return 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)


def uv_cover(
  vt: Float[np.ndarray, 't 2'], ft: Faces, side: int
) -> tuple[Int[np.ndarray, 'side side'], Int[np.ndarray, 'side side']]:
  """Texel-centre coverage of an atlas.

  Returns:
    (how many triangles strictly contain each texel's centre, the last face that contains it or
    lies on its border, −1 for none); row 0 is v = 0.
  """
  count = np.zeros((side, side), np.int32)
  owner = np.full((side, side), -1, np.int32)
  corners = vt[ft].astype(np.float64) * side
  for face, (a, b, c) in enumerate(corners):
    area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    if abs(area) < 1e-12:
      continue
    low = np.clip(np.floor(np.minimum.reduce([a, b, c]) - 0.5).astype(int), 0, side)
    high = np.clip(np.ceil(np.maximum.reduce([a, b, c]) + 0.5).astype(int), 0, side)
    y, x = np.mgrid[low[1] : high[1], low[0] : high[0]] + 0.5
    w1 = ((x - a[0]) * (c[1] - a[1]) - (y - a[1]) * (c[0] - a[0])) / area
    w2 = ((b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0])) / area
    w0 = 1 - w1 - w2
    window = np.s_[low[1] : high[1], low[0] : high[0]]
    count[window] += (w0 > 1e-9) & (w1 > 1e-9) & (w2 > 1e-9)
    owner[window][(w0 >= 0) & (w1 >= 0) & (w2 >= 0)] = face
  return count, owner


def uv_stretch(
  positions: Positions, faces: Faces, vt: Float[np.ndarray, 't 2'], ft: Faces
) -> Float[np.ndarray, 'f 2']:
  """Largest and smallest texture length per unit of surface length, for each face."""
  a, b, c = (positions[faces[:, k]] for k in range(3))
  length = np.maximum(np.linalg.norm(b - a, axis=1), 1e-12)
  x = ((b - a) * (c - a)).sum(1) / length
  y = np.maximum(np.linalg.norm(np.cross(b - a, c - a), axis=1) / length, 1e-12)
  p, q, r = (vt[ft[:, k]] for k in range(3))
  along = (q - p) / length[:, None]
  across = ((r - p) - along * x[:, None]) / y[:, None]
  return np.linalg.svd(np.stack([along, across], axis=-1), compute_uv=False)


def _candidate_pairs(positions: Positions, faces: Faces) -> Int[np.ndarray, 'p 2']:
  """Pairs of faces whose bounding spheres touch and that share no vertex."""
  from scipy.spatial import cKDTree

  corners = positions[faces]
  center = corners.mean(1)
  radius = np.linalg.norm(corners - center[:, None], axis=2).max(1)
  found = []
  for low, high in ((0, 2.5), (2.5, 5), (5, 12), (12, np.inf)):
    rows = np.flatnonzero((radius >= low) & (radius < high))
    others = np.flatnonzero(radius < high)
    if not len(rows):
      continue
    reach = radius[rows] + radius[others].max()
    near = cKDTree(center[others]).query_ball_point(center[rows], reach)
    left = np.repeat(rows, [len(n) for n in near])
    right = others[np.concatenate([np.asarray(n, int) for n in near])]
    gap = np.linalg.norm(center[left] - center[right], axis=1)
    found.append(np.stack([left, right], axis=1)[gap < radius[left] + radius[right]])
  pairs = np.unique(np.sort(np.concatenate(found), axis=1), axis=0)
  pairs = pairs[pairs[:, 0] != pairs[:, 1]]
  shared = (faces[pairs[:, 0]][:, :, None] == faces[pairs[:, 1]][:, None, :]).any((1, 2))
  return pairs[~shared]


def _segments_cross(
  start: Positions, along: Positions, triangle: Float[np.ndarray, 'n 3 3']
) -> Bool[np.ndarray, ' n']:
  """Möller–Trumbore: whether each segment passes through its triangle."""
  a, b, c = triangle[:, 0], triangle[:, 1], triangle[:, 2]
  h = np.cross(along, c - a)
  determinant = ((b - a) * h).sum(1)
  safe = np.where(np.abs(determinant) > 1e-12, determinant, np.inf)
  s = start - a
  u = (s * h).sum(1) / safe
  q = np.cross(s, b - a)
  v = (along * q).sum(1) / safe
  t = ((c - a) * q).sum(1) / safe
  edge = 1e-6
  return (u > edge) & (v > edge) & (u + v < 1 - edge) & (t > edge) & (t < 1 - edge)


def self_intersections(positions: Positions, faces: Faces) -> Int[np.ndarray, 'p 2']:
  """Pairs of faces that pass through each other (faces with a common vertex are not tested).

  Args:
    positions: [v, 3] in millimetres (search radii are made for that).
    faces: [f, 3].
  """
  pairs = _candidate_pairs(positions, faces)
  hit = np.zeros(len(pairs), bool)
  for i, j in ((0, 1), (1, 0)):
    one, other = positions[faces[pairs[:, i]]], positions[faces[pairs[:, j]]]
    for k in range(3):
      hit |= _segments_cross(one[:, k], one[:, (k + 1) % 3] - one[:, k], other)
  return pairs[hit]


@dataclasses.dataclass(frozen=True)
class Measurement:
  """One length of a head in millimetres beside the adult mean it is held against.

  Attributes:
    name: what is measured.
    value: this head's.
    mean: mean of adults, women and men together (from general anthropometric tables).
    deviation: their standard deviation.
  """

  name: str
  value: float
  mean: float
  deviation: float


def anthropometry(positions: Positions, labels: ProceduralSemantics) -> tuple[Measurement, ...]:
  """The classical lengths of a head.

  Args:
    positions: [v, 3] millimetres, of any identity with a neutral face.
    labels: what the vertices are; regions are those of the template.
  """
  x, y, z = labels.template.T
  skin = labels.skin & (labels.ear_ring < 0)

  def breadth(region: Bool[np.ndarray, ' v']) -> float:
    rows = positions[skin & region]
    return float(np.ptp(rows[:, 0]))

  midline = skin & (np.abs(x) < 0.5) & (labels.mouth_ring < 0)
  points = _profile_points(positions, midline, y, z)
  lids, seam = labels.lid_loops[:, LID_LASH_EDGE], labels.mouth_loops[MOUTH_SEAM]
  left, right = positions[lids[0]], positions[lids[1]]
  ear = positions[labels.ear_loops[0]].reshape(-1, 3)
  occiput = positions[skin][:, 2].min()
  distance = np.linalg.norm
  rows = (
    ('head breadth', breadth((y > 20) & (y < 70) & (z < 30)), 151, 6),
    ('head length', points['glabella'][2] - occiput, 192, 8),
    ('bizygomatic breadth', breadth((y < -4) & (y > -34) & (z > 12) & (z < 60)), 136, 6),
    ('bigonial breadth', breadth((y < -66) & (y > -80) & (z > 5) & (z < 25)), 106, 7),
    ('sellion to menton', distance(points['sellion'] - points['menton']), 118, 7),
    ('menton to vertex', positions[skin][:, 1].max() - points['menton'][1], 225, 10),
    ('nose length', distance(points['sellion'] - points['subnasale']), 51, 4),
    ('nose breadth', breadth((y < -31) & (y > -44) & (z > 92) & (np.abs(x) < 19.5)), 34, 3),
    ('nose protrusion', points['pronasale'][2] - points['subnasale'][2], 16, 2),
    ('mouth breadth', distance(positions[seam[16]] - positions[seam[48]]), 51, 4),
    ('palpebral fissure', distance(left[0] - left[16]), 30, 1.7),
    ('intercanthal breadth', distance(left[16] - right[16]), 32, 2.7),
    ('interpupillary distance', _pupil_distance(positions, labels), 63, 3.6),
    ('ear length', float(np.ptp(ear[:, 1])), 61, 4),
    ('neck breadth', breadth((y < -132) & (y > -148)), 112, 10),
  )
  return tuple(Measurement(name, float(v), float(mean), float(sd)) for name, v, mean, sd in rows)


def _profile_points(
  positions: Positions, midline: Bool[np.ndarray, ' v'], y: np.ndarray, z: np.ndarray
) -> dict[str, Float[np.ndarray, '3']]:
  """Named points of the profile, found in the template's regions."""

  def extreme(region: Bool[np.ndarray, ' v'], axis: int, sign: int) -> Float[np.ndarray, '3']:
    rows = np.flatnonzero(midline & region)
    return positions[rows[np.argmax(sign * positions[rows, axis])]]

  front = z > 60
  return {
    'glabella': extreme(front & (y > 10) & (y < 30), 2, 1),
    'sellion': extreme(front & (y > -8) & (y < 12), 2, -1),
    'pronasale': extreme(front & (y > -42) & (y < -25), 2, 1),
    'subnasale': extreme(front & (y > -52) & (y < -42), 2, -1),
    'menton': extreme(front & (y < -95), 1, -1),
  }


def _pupil_distance(positions: Positions, labels: ProceduralSemantics) -> float:
  left, right = (positions[labels.component == k].mean(0) for k in (1, 2))
  return float(np.linalg.norm(left - right))
