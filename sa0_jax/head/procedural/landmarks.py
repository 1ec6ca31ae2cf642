"""Landmarks of the procedural head: the 68-point scheme and MediaPipe (builder only)."""

import numpy as np
from jaxtyping import Float, Int

from sa0_jax.head.model import LandmarkEmbedding
from sa0_jax.head.procedural import landmark_tables as tables
from sa0_jax.head.procedural.anatomy import MIRROR
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
  index, face, weights = [], [], []
  for number, target in sorted(entries, key=lambda entry: entry[0]):
    index.append(number)
    if isinstance(target, int | np.integer):
      row, weight = _vertex_on_face(mesh.faces, int(target))
    else:
      rows, found = closest_on_faces(mesh.positions, mesh.faces[skin], target[None])
      row, weight = int(skin[rows[0]]), found[0]
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
