"""Joins skin, eyeballs, teeth and tongue into one mesh with its labels (builder only)."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int

from sa0_jax.head.procedural import parts, rings
from sa0_jax.head.procedural.anatomy import MIRROR
from sa0_jax.head.procedural.hairline import hairline_distance
from sa0_jax.head.procedural.semantics import ProceduralSemantics
from sa0_jax.head.procedural.skin import SkinMesh, build_skin


@dataclasses.dataclass(frozen=True, eq=False)
class BuiltMesh:
  """The neutral head in authored millimetres.

  Attributes:
    positions: [v, 3].
    faces: [f, 3].
    semantics: labels of the vertices.
    part_uv: planar coordinates of each separate part, by component number (1..5).
    cut: left vertices of the coronal curve behind the ears, from the crown down to the collar.
    back: [f] whether a face is skin behind that curve.
  """

  positions: Float[np.ndarray, 'v 3']
  faces: Int[np.ndarray, 'f 3']
  semantics: ProceduralSemantics
  part_uv: dict[int, Float[np.ndarray, '_ 2']]
  cut: Int[np.ndarray, ' c']
  back: Bool[np.ndarray, ' f']

  def vertices_of(self, *components: int) -> Int[np.ndarray, ' n']:
    """Vertex ids of some components."""
    return np.flatnonzero(np.isin(self.semantics.component, components))


def build_mesh() -> BuiltMesh:
  """Builds the neutral mesh."""
  skin = build_skin()
  eye = parts.left_eyeball()
  pieces = [eye, parts.mirrored(eye), parts.teeth(True), parts.teeth(False), parts.tongue()]
  offsets = np.cumsum([len(skin.positions)] + [len(p.positions) for p in pieces])
  positions = np.concatenate([skin.positions] + [p.positions for p in pieces])
  faces = np.concatenate(
    [skin.faces] + [p.faces + start for p, start in zip(pieces, offsets[:-1], strict=True)]
  )
  labels = _labels(skin, pieces, positions)
  # Rounding leaves parts of the two sides a hair apart.
  positions = 0.5 * (positions + positions[labels.pair] * MIRROR)
  labels = dataclasses.replace(labels, template=positions.astype(np.float32))
  part_uv = {number + 1: piece.uv for number, piece in enumerate(pieces)}
  back = np.concatenate([skin.back, np.zeros(len(faces) - len(skin.back), bool)])
  return BuiltMesh(positions, faces, labels, part_uv, skin.cut, back)


def _labels(
  skin: SkinMesh, pieces: list[parts.Part], positions: Float[np.ndarray, 'v 3']
) -> ProceduralSemantics:
  count, total = len(skin.positions), len(positions)
  component = np.zeros(total, np.int8)
  eye_ring = np.full(total, -1, np.int8)
  enamel = np.zeros(total, np.float32)
  pair = np.arange(total)
  pair[:count] = skin.pair
  start = count
  for number, piece in enumerate(pieces, 1):
    rows = slice(start, start + len(piece.positions))
    component[rows] = number
    enamel[rows] = piece.enamel
    if number <= 2:
      eye_ring[rows] = piece.ring
    start = rows.stop
  left_eye, right_eye = (np.flatnonzero(component == k) for k in (1, 2))
  pair[left_eye], pair[right_eye] = right_eye, left_eye
  for number in (3, 4, 5):
    pair[component == number] = _mirror_pairs(positions, np.flatnonzero(component == number))
  per_vertex = _ring_labels(skin, total)
  return ProceduralSemantics(
    template=positions.astype(np.float32),
    component=component,
    pair=pair.astype(np.int32),
    collar=np.concatenate([skin.collar, np.zeros(total - count, bool)]),
    eye_ring=eye_ring,
    enamel=enamel,
    hairline=hairline_distance(positions).astype(np.float32),
    **per_vertex,
    **_loops(skin),
  )


def _mirror_pairs(
  positions: Float[np.ndarray, 'v 3'], ids: Int[np.ndarray, ' n']
) -> Int[np.ndarray, ' n']:
  """For each vertex of a symmetric part, the vertex at its mirror image."""
  from scipy.spatial import cKDTree

  distance, nearest = cKDTree(positions[ids]).query(positions[ids] * [-1, 1, 1])
  if distance.max() > 1e-6:
    raise RuntimeError(f'part is not symmetric: {distance.max():.2g} mm')
  return ids[nearest]


def _ring_labels(skin: SkinMesh, total: int) -> dict[str, np.ndarray]:
  names = ('lid_ring', 'mouth_ring', 'nostril_ring', 'ear_ring', 'lip_side')
  out = {name: np.full(total, -1, np.int8) for name in names}
  out['lip_side'][:] = 0
  out['lid_angle'] = np.zeros(total, np.float32)
  out['lip_fraction'] = np.zeros(total, np.float32)
  for side in (np.arange(total), skin.pair):
    for number, ring in enumerate(skin.lids):
      out['lid_ring'][side[ring]] = number
      out['lid_angle'][side[ring]] = rings.lid_angles()
    for number, ring in enumerate(skin.mouth):
      out['mouth_ring'][side[ring]] = number
      out['lip_side'][side[ring]] = rings.lip_sides()
      out['lip_fraction'][side[ring]] = rings.lip_fractions()
    for number, ring in enumerate(skin.ear):
      out['ear_ring'][side[ring]] = number
    for number, ring in enumerate(skin.nostril[:-1]):
      out['nostril_ring'][side[ring]] = number
    out['nostril_ring'][side[skin.nostril[-1]]] = 0
  return out


def _loops(skin: SkinMesh) -> dict[str, np.ndarray]:
  def both(group: list[np.ndarray]) -> np.ndarray:
    left = np.stack(group)
    return np.stack([left, skin.pair[left]]).astype(np.int32)

  half = np.stack(skin.mouth)
  return {
    'lid_loops': both(skin.lids),
    'mouth_loops': np.concatenate([half, skin.pair[half[:, -2:0:-1]]], axis=1).astype(np.int32),
    'nostril_loops': both(skin.nostril[:-1]),
    'ear_loops': both(skin.ear[:-1]),
  }
