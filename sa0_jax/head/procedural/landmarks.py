"""Landmarks of the procedural head: the 68-point scheme and MediaPipe (builder only)."""

import numpy as np
from jaxtyping import Float, Int

from sa0_jax.head.model import LandmarkEmbedding
from sa0_jax.head.procedural import landmark_tables as tables
from sa0_jax.head.procedural.anatomy import EYE_CENTER, EYE_RADIUS, IRIS_RADIUS, MIRROR
from sa0_jax.head.procedural.mesh import BuiltMesh
from sa0_jax.head.procedural.rings import LID_LASH_EDGE, MOUTH_BORDER, MOUTH_SEAM


def closest_on_faces(
  positions: Float[np.ndarray, 'v 3'],
  faces: Int[np.ndarray, 'f 3'],
  points: Float[np.ndarray, 'm 3'],
) -> tuple[Int[np.ndarray, ' m'], Float[np.ndarray, 'm 3']]:
  """The nearest surface point to each point: (face, barycentric weights)."""
  from scipy.spatial import cKDTree

  corners = positions[faces]
  candidates = min(24, len(faces))
  near = cKDTree(corners.mean(1)).query(points, k=candidates)[1].reshape(len(points), -1)
  weights = _closest_weights(
    np.repeat(points, candidates, axis=0), corners[near].reshape(-1, 3, 3)
  ).reshape(len(points), candidates, 3)
  found = (weights[..., None] * corners[near]).sum(2)
  best = np.linalg.norm(found - points[:, None], axis=2).argmin(1)
  rows = np.arange(len(points))
  return near[rows, best], weights[rows, best]


def _closest_weights(
  points: Float[np.ndarray, 'n 3'], triangles: Float[np.ndarray, 'n 3 3']
) -> Float[np.ndarray, 'n 3']:
  """Barycentric weights of the point of each triangle nearest to each point."""
  a, b, c = triangles[:, 0], triangles[:, 1], triangles[:, 2]
  u, v, w = b - a, c - a, points - a
  uu, uv, vv = ((x * y).sum(1) for x, y in ((u, u), (u, v), (v, v)))
  wu, wv = (w * u).sum(1), (w * v).sum(1)
  determinant = np.maximum(uu * vv - uv * uv, 1e-12)
  beta, gamma = (vv * wu - uv * wv) / determinant, (uu * wv - uv * wu) / determinant
  inner = np.stack([1 - beta - gamma, beta, gamma], axis=1)
  # Outside the triangle the nearest point is on an edge: try all three.
  best, best_distance = inner, np.where((inner >= 0).all(1), 0.0, np.inf)
  for i, j in ((0, 1), (1, 2), (2, 0)):
    edge = triangles[:, j] - triangles[:, i]
    t = ((points - triangles[:, i]) * edge).sum(1) / np.maximum((edge * edge).sum(1), 1e-12)
    t = np.clip(t, 0, 1)
    distance = np.linalg.norm(points - triangles[:, i] - t[:, None] * edge, axis=1)
    weights = np.zeros_like(inner)
    rows = np.arange(len(t))
    weights[rows, i], weights[rows, j] = 1 - t, t
    closer = distance < best_distance
    best, best_distance = (
      np.where(closer[:, None], weights, best),
      np.minimum(distance, best_distance),
    )
  return best


def _vertex_on_face(faces: Int[np.ndarray, 'f 3'], vertex: int) -> tuple[int, np.ndarray]:
  row, corner = np.argwhere(faces == vertex)[0]
  return int(row), np.eye(3)[corner]


def _embedding(
  mesh: BuiltMesh, entries: list[tuple[int, int | Float[np.ndarray, '3']]]
) -> LandmarkEmbedding:
  """Numbers each with a vertex or a place near the skin, in the order of their numbers."""
  skin = np.flatnonzero(mesh.semantics.skin[mesh.faces].all(1) & _outer_skin(mesh))
  on_midline = np.abs(mesh.positions[:, 0]) < 1e-6
  middle = skin[on_midline[mesh.faces[skin]].sum(1) == 2]
  index, face, weights = [], [], []
  for number, target in sorted(entries, key=lambda entry: entry[0]):
    index.append(number)
    if isinstance(target, int | np.integer):
      row, weight = _vertex_on_face(mesh.faces, int(target))
    else:
      candidates = middle if target[0] == 0 else skin
      rows, found = closest_on_faces(mesh.positions, mesh.faces[candidates], target[None])
      row, weight = int(candidates[rows[0]]), found[0]
      if target[0] == 0:
        weight = weight * on_midline[mesh.faces[row]]
        weight = weight / weight.sum()
    face.append(row)
    weights.append(weight)
  return LandmarkEmbedding(
    np.array(index, np.int32), np.array(face, np.int32), np.array(weights, np.float32)
  )


def _outer_skin(mesh: BuiltMesh) -> np.ndarray:
  """Faces of the visible skin: not inside mouth, lids or nostrils."""
  labels = mesh.semantics
  inside = (labels.mouth_ring >= 0) & (labels.mouth_ring < MOUTH_SEAM)
  inside |= (labels.lid_ring >= 0) & (labels.lid_ring < LID_LASH_EDGE)
  inside |= (labels.nostril_ring >= 0) & (labels.nostril_ring < 3)
  return ~inside[mesh.faces].any(1)


def scheme68(mesh: BuiltMesh) -> LandmarkEmbedding:
  """The 68-point scheme: jaw 0–16 from the subject's right, brows, nose, eyes, lips."""
  entries: list[tuple[int, int | np.ndarray]] = []
  for number, point in tables.LEFT_OF_68.items():
    place = np.array(point, np.float64)
    entries.append((number, place))
    mirrored = tables.MIRROR_68.get(number)
    if mirrored is not None:
      entries.append((mirrored, place * MIRROR))
  labels = mesh.semantics
  for number, (eye, step) in tables.LIDS_OF_68.items():
    entries.append((number, int(labels.lid_loops[eye, LID_LASH_EDGE, step])))
  for number, step in tables.OUTER_LIP_68.items():
    entries.append((number, int(labels.mouth_loops[MOUTH_BORDER, step])))
  for number, step in tables.INNER_LIP_68.items():
    entries.append((number, int(labels.mouth_loops[MOUTH_SEAM, step])))
  return _embedding(mesh, entries)


def mediapipe(mesh: BuiltMesh) -> LandmarkEmbedding:
  """MediaPipe's 478 points: lids, lips and irises on the head's own rings, the rest on its skin.

  Places on the skin come from the mean of MediaPipe's own detections on a video, registered to the
  rings and a few more points by a thin-plate spline, made symmetric.
  """
  labels = mesh.semantics
  entries: list[tuple[int, int | np.ndarray]] = []
  for right, left, step in tables.MEDIAPIPE_LIDS:
    for number, eye in ((right, 1), (left, 0)):
      entries.append((number, int(labels.lid_loops[eye, LID_LASH_EDGE, step])))
  for number, mirrored, place in tables.MEDIAPIPE_SKIN:
    point = np.array(place, np.float64)
    entries.append((number, point))
    if mirrored != number:
      entries.append((mirrored, point * MIRROR))
  parts = [_embedding(mesh, entries), _on_lips(mesh), _on_irises(mesh)]
  index, face, weights = (
    np.concatenate([getattr(part, name) for part in parts])
    for name in ('index', 'face', 'barycentric')
  )
  order = np.argsort(index)
  return LandmarkEmbedding(index[order], face[order], weights[order])


def _on_lips(mesh: BuiltMesh) -> LandmarkEmbedding:
  """Points on the edges of the mouth's rings."""
  labels = mesh.semantics
  index, face, weights = [], [], []
  for right, left, ring, upper, fraction in tables.MEDIAPIPE_LIPS:
    loop = labels.mouth_loops[ring]
    half = loop[:17] if upper else loop[32:15:-1]
    along = labels.lip_fraction[half].astype(np.float64)
    step = min(int(np.searchsorted(along, fraction, side='right')) - 1, 15)
    t = (fraction - along[step]) / (along[step + 1] - along[step])
    for number, start, end in (
      (left, half[step], half[step + 1]),
      (right, labels.pair[half[step]], labels.pair[half[step + 1]]),
    ):
      if number in index:
        continue
      row = int(np.flatnonzero(((mesh.faces == start) | (mesh.faces == end)).sum(1) == 2)[0])
      index.append(number)
      face.append(row)
      weights.append(np.where(mesh.faces[row] == start, 1 - t, 0.0) + (mesh.faces[row] == end) * t)
  return LandmarkEmbedding(
    np.array(index, np.int32), np.array(face, np.int32), np.array(weights, np.float32)
  )


def _on_irises(mesh: BuiltMesh) -> LandmarkEmbedding:
  """Middles and rims of the irises, on the eyeballs."""
  index, face, weights = [], [], []
  for right, left, x, y in tables.MEDIAPIPE_IRISES:
    for number, component, side in ((left, 1, 1), (right, 2, -1)):
      rows = np.flatnonzero(mesh.semantics.component[mesh.faces[:, 0]] == component)
      # Towards the nose is −x on the left eye.
      target = EYE_CENTER + np.array([-x * IRIS_RADIUS, y * IRIS_RADIUS, EYE_RADIUS])
      target[0] *= side
      target[2] = EYE_CENTER[2] + np.sqrt(EYE_RADIUS**2 - (x * x + y * y) * IRIS_RADIUS**2)
      found, weight = closest_on_faces(mesh.positions, mesh.faces[rows], target[None])
      index.append(number)
      face.append(int(rows[found[0]]))
      weights.append(weight[0])
  return LandmarkEmbedding(
    np.array(index, np.int32), np.array(face, np.int32), np.array(weights, np.float32)
  )
