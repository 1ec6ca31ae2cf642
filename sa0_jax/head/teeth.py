"""Teeth for FLAME: 120 vertices and 168 faces behind the lips, as the field's tools add them.

FLAME's mouth is empty. The patch builds two rows of teeth from the two inner lip rings, 15 vertices
each: 8 rows of 15 vertices, joined by 6 strips of 28 triangles (front, cutting edge and back of the
upper row, then of the lower). They have no UV, so they carry no Gaussians; they stand in the mesh.
"""

import dataclasses
import itertools

import numpy as np
from jaxtyping import Float, Int

from sa0_jax.head.model import HeadModel

FLAME_VERTICES = 5023
FLAME_FACES = 9976
TEETH_VERTICES = 120
TEETH_FACES = 168

_COLUMNS = 15
_UPPER_RING = np.array(
  [1713, 1715, 1716, 1735, 1696, 1694, 1657, 3543, 2774, 2811, 2813, 2850, 2833, 2832, 2830]
)
_LOWER_RING = np.array(
  [1576, 1577, 1773, 1774, 1795, 1802, 1865, 3503, 2948, 2905, 2898, 2881, 2880, 2713, 2712]
)
# Order of the rows of new vertices. Part of the format: avatars are bound to vertex order.
_ROWS = (
  'upper_root',
  'lower_root',
  'upper_edge',
  'lower_edge',
  'upper_root_back',
  'upper_edge_back',
  'lower_root_back',
  'lower_edge_back',
)
# Rows from the front gum over the cutting edge to the back gum: neighbours are joined by a strip.
_PROFILES = (
  ('upper_root', 'upper_edge', 'upper_edge_back', 'upper_root_back'),
  ('lower_root', 'lower_edge', 'lower_edge_back', 'lower_root_back'),
)
_NECK, _JAW = 1, 2


def add_teeth(head: HeadModel) -> HeadModel:
  """A FLAME head of 5023 vertices with teeth: 5143 vertices, 10144 faces.

  With d the mean distance between the lip rings and m their midline, made level (y := its mean) and
  moved 1.5 d back: the upper cutting edge is m raised by 0.1 d, the lower m lowered by 0.1 d and
  moved 0.4 d back; roots are 2 d above and below their edges; back rows are 1 d behind. Identity
  directions are the mean of the two rings', so teeth follow the mouth's width; expressions and pose
  correctives leave them; the upper row is fixed to the neck joint, the lower to the jaw.

  Args:
    head: FLAME as published. A head that already has the teeth comes back unchanged.

  Returns:
    The head with teeth appended after its own vertices and faces, without UV (`ft` −1), as
    components 'teeth_upper' and 'teeth_lower'.

  Raises:
    ValueError: the head has another number of vertices or faces.
  """
  size = (len(head.v_template), len(head.faces))
  if size == (FLAME_VERTICES + TEETH_VERTICES, FLAME_FACES + TEETH_FACES):
    return head
  if size != (FLAME_VERTICES, FLAME_FACES):
    raise ValueError(
      f'head {head.name!r} has {size[0]} vertices and {size[1]} faces: the teeth fit FLAME only, '
      f'which has {FLAME_VERTICES} and {FLAME_FACES}'
    )
  rings = 0.5 * (head.shapedirs[_UPPER_RING] + head.shapedirs[_LOWER_RING])
  weights = np.zeros((TEETH_VERTICES, 5), head.weights.dtype)
  weights[_rows_of('upper'), _NECK] = 1
  weights[_rows_of('lower'), _JAW] = 1
  components, component_names = _teeth_components(head)
  return dataclasses.replace(
    head,
    v_template=np.concatenate([head.v_template, _teeth_vertices(head.v_template)]),
    faces=np.concatenate([head.faces, _teeth_faces(head.v_template)]),
    shapedirs=np.concatenate([head.shapedirs, np.tile(rings, (len(_ROWS), 1, 1))]),
    exprdirs=_append_zeros(head.exprdirs),
    posedirs=_append_zeros(head.posedirs),
    joint_regressor=_append_zeros(head.joint_regressor.T).T,
    weights=np.concatenate([head.weights, weights]),
    ft=np.concatenate([head.ft, np.full((TEETH_FACES, 3), -1, head.ft.dtype)]),
    components=components,
    component_names=component_names,
  )


def teeth_component(part: str) -> Int[np.ndarray, ' n']:
  """Vertices of the 'upper' or 'lower' teeth in a patched head."""
  return FLAME_VERTICES + _rows_of(part)


def _rows_of(part: str) -> np.ndarray:
  rows = [row for row, name in enumerate(_ROWS) if name.startswith(part)]
  return (_COLUMNS * np.array(rows)[:, None] + np.arange(_COLUMNS)).reshape(-1)


def _append_zeros(array: np.ndarray) -> np.ndarray:
  zeros = np.zeros((TEETH_VERTICES, *array.shape[1:]), array.dtype)
  return np.concatenate([array, zeros])


def _teeth_vertices(v_template: Float[np.ndarray, 'v 3']) -> Float[np.ndarray, '120 3']:
  upper, lower = v_template[_UPPER_RING], v_template[_LOWER_RING]
  distance = np.linalg.norm(upper - lower, axis=-1).mean()
  up, back = distance * np.array([0, 1, 0]), distance * np.array([0, 0, -1])
  middle = 0.5 * (upper + lower)
  middle[:, 1] = middle[:, 1].mean()
  middle += 1.5 * back
  upper_edge = middle + 0.1 * up
  lower_edge = middle - 0.1 * up + 0.4 * back
  rows = {
    'upper_edge': upper_edge,
    'upper_root': upper_edge + 2 * up,
    'lower_edge': lower_edge,
    'lower_root': lower_edge - 2 * up,
  }
  rows |= {f'{name}_back': row + back for name, row in rows.items()}
  return np.concatenate([rows[name] for name in _ROWS]).astype(v_template.dtype)


def _teeth_faces(v_template: Float[np.ndarray, 'v 3']) -> Int[np.ndarray, '168 3']:
  """Six strips, each quad (a, b) × (i, i+1) split from a_i to b_(i+1), facing outwards.

  Seen from the front, with the ring running to the viewer's right (the subject's left, +x), the
  upper row's walk root → edge goes down, so root_i, edge_i, edge_(i+1) is counter-clockwise. The
  lower row walks up, and a ring that runs the other way mirrors everything.
  """
  ring_runs_left = v_template[_UPPER_RING[-1], 0] > v_template[_UPPER_RING[0], 0]
  faces = []
  for profile, walks_down in zip(_PROFILES, (True, False), strict=True):
    for first, second in itertools.pairwise(profile):
      a = FLAME_VERTICES + _COLUMNS * _ROWS.index(first) + np.arange(_COLUMNS)
      b = FLAME_VERTICES + _COLUMNS * _ROWS.index(second) + np.arange(_COLUMNS)
      strip = np.stack(
        [
          np.stack([a[:-1], b[:-1], b[1:]], axis=-1),
          np.stack([a[:-1], b[1:], a[1:]], axis=-1),
        ],
        axis=1,
      ).reshape(-1, 3)
      faces.append(strip if walks_down == ring_runs_left else strip[:, ::-1])
  return np.concatenate(faces).astype(np.int32)


def _teeth_components(head: HeadModel) -> tuple[np.ndarray, tuple[str, ...]]:
  names = (*head.component_names, 'teeth_upper', 'teeth_lower')
  skin = np.zeros(FLAME_VERTICES, np.int32) if head.components is None else head.components
  components = np.concatenate([skin, np.zeros(TEETH_VERTICES, np.int32)]).astype(np.int32)
  components[teeth_component('upper')] = len(names) - 2
  components[teeth_component('lower')] = len(names) - 1
  return components, names
