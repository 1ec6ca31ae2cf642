"""Skinning weights and joint regressor of the built mesh (builder only, mm)."""

import numpy as np
from jaxtyping import Float

from sa0_jax.head.procedural.anatomy import JOINT_POSITIONS, smoothstep
from sa0_jax.head.procedural.mesh import BuiltMesh

NECK, JAW = 1, 2
# How far the jaw's movement carries the corner of the mouth.
CORNER_SHARE = 0.42


def neighbour_mean(faces: np.ndarray, count: int):  # type: ignore[no-untyped-def]
  """Sparse matrix that averages each vertex's neighbours."""
  import scipy.sparse as sparse

  edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
  rows = np.concatenate([edges[:, 0], edges[:, 1]])
  columns = np.concatenate([edges[:, 1], edges[:, 0]])
  adjacency = sparse.coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(count, count)).tocsr()
  adjacency.data[:] = 1
  degree = np.asarray(adjacency.sum(1)).ravel()
  return sparse.diags(1 / np.maximum(degree, 1)) @ adjacency


def jaw_share(mesh: BuiltMesh) -> Float[np.ndarray, ' v']:
  """How much of the jaw's rotation each skin vertex follows, before the neck takes its part."""
  labels = mesh.semantics
  x, y, z = np.abs(mesh.positions[:, 0]), mesh.positions[:, 1], mesh.positions[:, 2]
  joint = JOINT_POSITIONS[JAW]
  below = -np.degrees(np.arctan2(y - joint[1], np.maximum(z - joint[2], -60)))
  below = np.where((z < joint[2]) & (below < 0), 180, below)
  side = smoothstep(x, 8, 48)
  share = smoothstep(below, 32.0 - 12 * side, 36.5 + 14 * side)
  share = share * (1 - smoothstep(below, 74, 106))
  share = share * (1 - smoothstep(-y - 0.2 * (84 - z), 112, 140))
  ring, fraction, lip = labels.mouth_ring, labels.lip_fraction, labels.lip_side
  corner = CORNER_SHARE * fraction**5
  lips = np.where(lip > 0, corner, np.where(lip < 0, 1 - (1 - CORNER_SHARE) * fraction**5, corner))
  deep = np.where(ring <= 3, 1.0, 0.0)
  bag = np.clip(0.5 - (y + 69.3) / 28.0, 0.05, 0.95)
  lips = lips * (1 - deep) + deep * bag
  share = np.where(ring >= 0, lips, share)
  share = np.where(labels.ear_ring >= 0, 0.0, share)
  held = ((ring >= 0) & (ring <= 12)) | (labels.ear_ring >= 0)
  mean = neighbour_mean(mesh.faces, len(share))
  for _ in range(14):
    share = np.where(held, share, 0.35 * share + 0.65 * (mean @ share))
  for _ in range(3):
    share = np.where(held & (ring != 12), share, 0.5 * share + 0.5 * (mean @ share))
  return share * labels.skin


def skinning_weights(mesh: BuiltMesh) -> Float[np.ndarray, 'v 5']:
  """Weights of root, neck, jaw and eyes; rows sum to 1."""
  component = mesh.semantics.component
  y, z = mesh.positions[:, 1], mesh.positions[:, 2]
  head = smoothstep(y + 0.25 * (z + 28), -190, -100)
  jaw = jaw_share(mesh)
  weights = np.zeros((len(y), 5))
  weights[:, JAW] = jaw * head
  weights[:, NECK] = head - weights[:, JAW]
  weights[:, 0] = 1 - head
  for number, joint in ((1, 3), (2, 4), (3, NECK), (4, JAW), (5, JAW)):
    weights[component == number] = np.eye(5)[joint]
  weights = np.clip(weights, 0, 1)
  return weights / weights.sum(1, keepdims=True)


def joint_regressor(mesh: BuiltMesh) -> Float[np.ndarray, '5 v']:
  """Rows that take the neutral vertices to the joints exactly and sum to 1.

  Neck joints hang on rings of skin around them, the jaw on the skin over its condyles, eyes on
  their balls; the least-norm correction of equal weights makes the rows exact.
  """
  from scipy.spatial import cKDTree

  positions = mesh.positions
  skin = mesh.vertices_of(0)
  tree = cKDTree(positions[skin])
  regressor = np.zeros((5, len(positions)))
  for joint, target in enumerate(JOINT_POSITIONS):
    if joint >= 3:
      ids = mesh.vertices_of(joint - 2)
    elif joint == JAW:
      near = tree.query(np.array([[62, -13, 6], [-62, -13, 6]]), k=20)[1]
      ids = _with_pairs(mesh, skin[near.ravel()])
    else:
      turn = np.radians(np.arange(0, 360, 30))
      around = np.stack([55 * np.sin(turn), 0 * turn, 55 * np.cos(turn)], axis=1)
      near = tree.query(around + target * [0, 1, 1], k=6)[1]
      ids = _with_pairs(mesh, skin[near.ravel()])
    system = np.concatenate([positions[ids].T, np.ones((1, len(ids)))])
    equal = np.full(len(ids), 1 / len(ids))
    wanted = np.append(target, 1.0)
    regressor[joint, ids] = equal + np.linalg.pinv(system) @ (wanted - system @ equal)
  return regressor


def _with_pairs(mesh: BuiltMesh, ids: np.ndarray) -> np.ndarray:
  ids = np.unique(ids)
  return np.unique(np.concatenate([ids, mesh.semantics.pair[ids]]))
