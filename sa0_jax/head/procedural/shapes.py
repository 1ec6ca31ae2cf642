"""Named identity directions of the procedural head (builder only, mm)."""

import numpy as np
from jaxtyping import Float

from sa0_jax.head.procedural import fields
from sa0_jax.head.procedural.anatomy import EAR_CENTER, Number, smoothstep
from sa0_jax.head.procedural.mesh import BuiltMesh
from sa0_jax.head.procedural.shape_tables import ASYMMETRIC, COMPOUND, LOCAL
from sa0_jax.mesh_render import vertex_normals

Basis = dict[str, Float[np.ndarray, 'v 3']]

# The first directions, in this order; the others follow as they are defined.
LEADING = (
  'male_female',
  'weight',
  'age_sag',
  'size',
  'head_width',
  'head_height',
  'head_depth',
  'face_length',
  'face_width',
)

# Local directions that also move the teeth: those that shift the whole mouth.
MOVES_TEETH = ('mouth_height', 'prognathism', 'philtrum_length')

# The same for what happens at the crease.
CREASE_FOLLOW = np.array([0, 0, 0, 0, 0.05, 0.2, 0.5, 0.9, 1, 0.75, 0.3, 0])


def named_shapes(mesh: BuiltMesh) -> Basis:
  """All named identity directions, one standard deviation each, in order."""
  basis: Basis = {}
  basis.update(_proportions(mesh))
  for name, pushes in LOCAL.items():
    field = fields.push_field(pushes, symmetric=True)
    basis[name] = fields.with_rigid_parts(mesh, field, teeth=name in MOVES_TEETH)
  for name, pushes in ASYMMETRIC.items():
    field = fields.push_field(pushes, symmetric=False)
    basis[name] = fields.with_rigid_parts(mesh, field, teeth=False)
  basis.update(_lids(mesh))
  basis.update(_ears(mesh))
  basis['hair_volume'] = _hair_volume(mesh)
  for name, mix in COMPOUND.items():
    basis[name] = sum(
      (weight * basis[part] for part, weight in mix.items()), np.zeros_like(mesh.positions)
    )
  order = [*LEADING, *(name for name in basis if name not in LEADING)]
  return {name: basis[name] for name in order}


def _axis_field(
  x: np.ndarray | Number = 0.0, y: np.ndarray | Number = 0.0, z: np.ndarray | Number = 0.0
) -> np.ndarray:
  return np.stack(np.broadcast_arrays(x, y, z), axis=1)


def _softplus(value: np.ndarray, scale: Number) -> np.ndarray:
  return np.logaddexp(0, value / scale) * scale


def _low(p: np.ndarray) -> np.ndarray:
  """1 on the neck, 0 on the head."""
  return smoothstep(-p[:, 1] + 0.35 * p[:, 2], 88, 150)


def _flatness(p: np.ndarray) -> np.ndarray:
  middle = np.exp(-((p[:, 0] / 26) ** 2)) * smoothstep(p[:, 2], 40, 90)
  cheeks = np.exp(-(((np.abs(p[:, 0]) - 46) / 20) ** 2)) * smoothstep(p[:, 2], 10, 50)
  zero = np.zeros(len(p))
  return _axis_field(zero, zero, -2.6 * middle + 1.6 * cheeks * smoothstep(p[:, 1], -117, -77))


def _face_width(p: np.ndarray) -> np.ndarray:
  share = smoothstep(p[:, 2], -10, 45) * smoothstep(p[:, 1], 40, 0)
  share = share * smoothstep(p[:, 1], -132, -107)
  return _axis_field(0.040 * p[:, 0] * share, np.zeros(len(p)))


def _neck_width(p: np.ndarray) -> np.ndarray:
  low = _low(p)
  return _axis_field(0.085 * p[:, 0] * low, 0.0, 0.07 * (p[:, 2] + 28) * low)


def _proportions(mesh: BuiltMesh) -> Basis:
  """Directions that scale or shift large parts of the head."""
  whole = {
    'head_width': lambda p: _axis_field(0.034 * p[:, 0]),
    'head_height': lambda p: _axis_field(0.0, 0.045 * (_softplus(p[:, 1], 12) - 8.3)),
    'head_depth': lambda p: _axis_field(0.0, 0.0, 0.032 * p[:, 2]),
    'face_length': lambda p: _axis_field(
      0.0, -0.048 * np.minimum(_softplus(-p[:, 1], 10) - 6.9, 109)
    ),
    'neck_width': _neck_width,
    'neck_forward': lambda p: _axis_field(0.0, 0.0, -0.10 * np.maximum(-p[:, 1] - 87, 0) * _low(p)),
  }
  basis = {name: fields.with_rigid_parts(mesh, field, ears=False) for name, field in whole.items()}
  basis['size'] = 0.028 * (mesh.positions - [0, -20, 0])
  basis['face_width'] = fields.with_rigid_parts(mesh, _face_width)
  basis['facial_flatness'] = fields.with_rigid_parts(mesh, _flatness)
  return basis


def _lids(mesh: BuiltMesh) -> Basis:
  """Directions of the lids; the eyeballs stay."""
  labels = mesh.semantics
  ring = labels.lid_ring
  on_lid = ring >= 0
  c, s = np.cos(labels.lid_angle), np.sin(labels.lid_angle)
  sides = fields.side_sign(mesh)
  follow = np.where(on_lid, fields.LID_FOLLOW[ring], 0.0)
  crease = np.where(on_lid, CREASE_FOLLOW[ring], 0.0) * np.maximum(s, 0) ** 0.7
  wide = _axis_field(follow * 1.1 * c * sides, np.zeros(len(ring)))
  inner = np.exp(-(((labels.lid_angle - 2.5) / 0.7) ** 2))
  basis = {
    'eye_size': wide + fields.turn_lids(mesh, 0.065, 0.055, fields.LID_FOLLOW),
    'eye_open': fields.turn_lids(mesh, 0.085, 0.02, fields.LID_FOLLOW),
    'eye_tilt': _axis_field(0.0, follow * c),
    'upper_lid_droop': (crease * (0.6 + 0.5 * np.maximum(c, 0)))[:, None] * [0, -1.7, 1.0]
    + fields.turn_lids(mesh, -0.025, 0.0, fields.LID_FOLLOW),
    'epicanthic': (crease * inner)[:, None] * [0, -2.0, 1.3] + crease[:, None] * [0, -0.5, 0.9],
  }
  for name in basis:
    basis[name] = fields.slide_on_eyeball(mesh, basis[name], last_ring=4)
  return basis


def _ears(mesh: BuiltMesh) -> Basis:
  share, sides = fields.ear_share(mesh), fields.side_sign(mesh)
  root = EAR_CENTER * np.stack([sides, np.ones(len(sides)), np.ones(len(sides))], axis=1)
  arm = mesh.positions - root
  behind = np.clip(-(arm[:, 2] - 8) / 30, 0, 1.3)
  lobe = np.exp(-(((mesh.positions[:, 1] + 48) / 9.0) ** 2))
  return {
    'ear_size': (share * 0.085)[:, None] * arm,
    'ear_length': (share * 0.08)[:, None] * arm * [0, 1, 0],
    'ear_angle': (share * behind)[:, None] * _axis_field(2.8 * sides, 0.0, 1.0),
    'ear_lobe': (share * lobe)[:, None] * _axis_field(0.4 * sides, -1.7),
  }


def _hair_volume(mesh: BuiltMesh) -> Float[np.ndarray, 'v 3']:
  """The scalp raised as by short hair."""
  labels = mesh.semantics
  x, y, z = np.abs(mesh.positions[:, 0]), mesh.positions[:, 1], mesh.positions[:, 2]
  cap = smoothstep(labels.hairline.astype(np.float64), -3, 22)
  around_ear = smoothstep(np.hypot((y + 17) / 40, (z + 15) / 27), 1.0, 1.75)
  cap = cap * np.where(x > 45, around_ear, 1.0) * labels.skin * (labels.ear_ring < 0)
  return (3.5 * cap)[:, None] * vertex_normals(mesh.positions, mesh.faces)
