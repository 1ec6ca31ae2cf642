"""Expression directions of the mouth, jaw and tongue (builder only, mm)."""

import numpy as np
from jaxtyping import Float

from sa0_jax.head.procedural.anatomy import JOINT_POSITIONS, smoothstep
from sa0_jax.head.procedural.correctives import COLUMN_SINE, jaw_correctives
from sa0_jax.head.procedural.expressions import Basis, FaceMasks, add_pair, pushed
from sa0_jax.head.procedural.fields import turn_about_x
from sa0_jax.head.procedural.lips import (
  LipMotion,
  lip_displacement,
  ring_profile,
  separated,
)
from sa0_jax.head.procedural.mesh import BuiltMesh
from sa0_jax.head.procedural.parts import TONGUE_CENTER
from sa0_jax.head.procedural.shape_tables import Push
from sa0_jax.head.procedural.skinning import CORNER_SHARE, JAW, jaw_share, skinning_weights

# mouthClose undoes this opening of the jaw, in radians, at the lips.
CLOSED_JAW = 0.35

# What pulls one corner or half a lip: motion of the lips and pushes of the skin beyond them.
SIDED: dict[str, tuple[LipMotion, tuple[Push, ...]]] = {
  'mouthSmile': (
    LipMotion(
      corner=(8.0, 8.0, -8.0),
      upper_side=(4.0, 3.0, -3.6),
      upper_middle=(0.5, 0.7, -1.0),
      lower_side=(4.0, 4.3, -3.6),
      lower_middle=(0.5, 1.2, -0.9),
      upper_right=(-0.3, 0.2, -0.3),
      lower_right=(-0.3, 0.3, -0.3),
    ),
    (
      ((40, -36, 72), (17, 15, 24), (1.5, 4.4, 3.6)),
      ((29, -47, 85), (6, 13, 14), (1.0, 1.2, -1.6)),
      ((45, -62, 60), (16, 18, 24), (2.0, 1.0, 1.5)),
    ),
  ),
  'mouthFrown': (
    LipMotion(
      corner=(0.5, -6.5, -1.2),
      upper_side=(0.4, -2.4, -0.3),
      upper_middle=(0, -0.2, 0),
      lower_side=(0.4, -2.8, -0.3),
      lower_middle=(0, 0.1, 0.2),
    ),
    (((30, -84, 78), (13, 11, 20), (1.2, -1.8, 0.6)), ((0, -99, 92), (16, 10, 14), (0, 0.9, 0.3))),
  ),
  'mouthDimple': (
    LipMotion(corner=(3.8, 0.9, -5.0), upper_side=(1.3, 0.3, -1.3), lower_side=(1.3, 0.2, -1.3)),
    (((38, -68, 76), (9, 11, 14), (1.5, 0, 0.8)),),
  ),
  'mouthStretch': (
    LipMotion(
      corner=(7.0, -3.4, -6.0),
      upper_side=(3.2, -0.9, -2.6),
      upper_middle=(0.3, 0, -0.5),
      lower_side=(3.2, -2.0, -2.6),
      lower_middle=(0.3, -0.8, -0.5),
    ),
    (((34, -96, 56), (18, 18, 28), (1.8, -2.2, 0)), ((30, -130, 30), (16, 24, 20), (1.2, 0, 1.0))),
  ),
  'mouthUpperUp': (
    LipMotion(
      corner=(0.2, 0.8, 0),
      upper_side=(0.4, 5.2, 0.2),
      upper_middle=(0, 2.6, 0.3),
      upper_right=(0, 0.6, 0),
    ),
    (((20, -43, 92), (13, 13, 16), (0.2, 1.8, 0.8)),),
  ),
  'mouthLowerDown': (
    LipMotion(
      corner=(0.2, -0.8, 0),
      lower_side=(0.5, -5.4, 0.2),
      lower_middle=(0, -2.7, 0.3),
      lower_right=(0, -0.6, 0),
    ),
    (),
  ),
}

# What both halves do together, the right one as mirror image.
SYMMETRIC: dict[str, tuple[LipMotion, tuple[Push, ...]]] = {
  'mouthPucker': (
    LipMotion(
      corner=(-9.5, 0.0, 5.0),
      upper_side=(-5.8, -0.3, 5.8),
      upper_middle=(0, -0.8, 5.4),
      lower_side=(-5.8, 0.4, 5.8),
      lower_middle=(0, 0.7, 5.2),
    ),
    (((38, -66, 74), (14, 18, 22), (-1.7, 0, 0.8)),),
  ),
  'mouthFunnel': (
    LipMotion(
      corner=(-7.0, 0.0, 3.5),
      upper_side=(-3.2, 3.2, 5.6),
      upper_middle=(0, 4.0, 5.6),
      lower_side=(-3.2, -3.6, 5.6),
      lower_middle=(0, -4.5, 5.2),
    ),
    (((38, -66, 74), (14, 18, 22), (-1.8, 0, 0.6)),),
  ),
  'mouthShrugUpper': (
    LipMotion(upper_middle=(0, 2.4, 1.8), upper_side=(0, 1.5, 1.2)),
    (((0, -50, 100), (20, 8, 16), (0, 0.8, 0.4)),),
  ),
  'mouthShrugLower': (
    LipMotion(
      lower_middle=(0, 3.2, 2.2),
      lower_side=(0, 2.0, 1.5),
      upper_middle=(0, 2.2, 1.4),
      upper_side=(0, 1.3, 0.9),
    ),
    (((0, -99, 92), (20, 12, 18), (0, 3.2, 1.0)), ((0, -86, 96), (18, 7, 14), (0, 1.2, -0.8))),
  ),
}

# Rolling a lip over the teeth, and pressing it on the other: (ring, towards its border, forward).
ROLL = (
  (3, 0, 0), (5, 0, -1.8), (6, 0, -2.8), (7, 0, -3.4), (8, -0.3, -3.9), (9, -1.7, -3.9),
  (10, -2.9, -3.0), (11, -2.9, -1.8), (12, -2.2, -1.1), (14, -1.0, -0.5), (15, -0.6, -0.3),
)  # fmt: skip
PRESS = (
  (3, 0, 0), (6, 0, -0.4), (8, 0, -0.7), (9, -0.5, -0.9), (10, -1.1, -1.0), (11, -1.5, -0.8),
  (12, -1.4, -0.4), (14, -0.7, 0.3), (15, -0.4, 0.3),
)  # fmt: skip


def mouth(mesh: BuiltMesh, masks: FaceMasks) -> Basis:
  """Every direction below the nose."""
  lips = {name: separated(mesh, one) for name, one in _lips(mesh, masks).items()}
  return {**lips, **_jaw(mesh)}


def _lips(mesh: BuiltMesh, masks: FaceMasks) -> Basis:
  # Skin pushes leave the lips alone: those have their own motion.
  rings = mesh.semantics.mouth_ring.astype(np.float64)
  off_lips = masks.off_lids * np.where(rings >= 0, smoothstep(rings, 11.0, 15.0) * 0.6, 1.0)
  basis: Basis = {}
  for name, (motion, pushes) in SIDED.items():
    one = lip_displacement(mesh, motion) + pushed(mesh, off_lips, pushes)
    add_pair(basis, mesh, name, one)
  press = ring_profile(mesh, True, PRESS, side=1) + ring_profile(mesh, False, PRESS, side=1)
  add_pair(basis, mesh, 'mouthPress', press)
  for name, (motion, pushes) in SYMMETRIC.items():
    one = lip_displacement(mesh, motion.symmetric())
    basis[name] = one + pushed(mesh, off_lips, pushes, symmetric=True)
  basis['mouthRollUpper'] = ring_profile(mesh, True, ROLL)
  basis['mouthRollLower'] = ring_profile(mesh, False, ROLL)
  shift = LipMotion(
    corner=(5.5, 0.6, -2.0),
    upper_side=(6.8, 0.2, -0.6),
    upper_middle=(7.0, 0, 0.2),
    lower_side=(6.8, 0.2, -0.6),
    lower_middle=(7.0, 0, 0.2),
    right_corner=(7.0, 0, 1.8),
    upper_right=(7.2, 0, 1.0),
    lower_right=(7.2, 0, 1.0),
  )
  add_pair(basis, mesh, 'mouth', lip_displacement(mesh, shift))
  return basis


def _near_lips(mesh: BuiltMesh) -> Float[np.ndarray, ' v']:
  """1 on the lips, fading over the skin around them and into the mouth."""
  x, y, z = mesh.positions.T
  ring = mesh.semantics.mouth_ring.astype(np.float64)
  distance = np.hypot(x / 29.0, (y + 68.2) / 13.0)
  depth = np.where(ring >= 0, np.clip((ring - 2) / 3.0, 0, 1), 1.0)
  return depth * (1 - smoothstep(distance, 0.75, 2.3)) * (z > 40) * mesh.semantics.skin


def _jaw(mesh: BuiltMesh) -> Basis:
  """Sliding jaw, lips closed over an open jaw, tongue."""
  share, near = jaw_share(mesh), _near_lips(mesh)
  # Lips that touch slide together.
  moved = share + near * (0.5 - share)
  moved[mesh.vertices_of(4, 5)] = 1.0
  return {
    'jawLeft': moved[:, None] * [6.0, 0, 0],
    'jawRight': moved[:, None] * [-6.0, 0, 0],
    'jawForward': moved[:, None] * [0, 0, 5.0],
    'mouthClose': _closed_lips(mesh, near),
    'tongueOut': _tongue_out(mesh),
  }


def _tongue_out(mesh: BuiltMesh) -> Float[np.ndarray, 'v 3']:
  """Pushes the tongue over the lower teeth, flattened; meant for a jaw open by 0.2 and more."""
  tongue = mesh.vertices_of(5)
  points = mesh.positions[tongue]
  reach = smoothstep(points[:, 2], 46, 78)
  flatter = -0.4 * (points[:, 1] - TONGUE_CENTER[1])
  rise = 12.5 - 3.5 * smoothstep(points[:, 2], 70, 81)
  out = np.zeros_like(mesh.positions)
  out[tongue, 1] = reach * (flatter + rise)
  out[tongue, 2] = reach * 32.0
  return out


def _closed_lips(mesh: BuiltMesh, near: Float[np.ndarray, ' v']) -> Float[np.ndarray, 'v 3']:
  """Brings the lips together when the jaw is open by `CLOSED_JAW`, its correctives included."""
  weights = skinning_weights(mesh)
  share = weights[:, JAW]
  columns, correctives = jaw_correctives(mesh, weights)
  angle = np.full(len(share), CLOSED_JAW)
  factors = np.where(columns == COLUMN_SINE, np.sin(CLOSED_JAW), np.cos(CLOSED_JAW) - 1)
  corrective = correctives @ factors
  arm = mesh.positions - JOINT_POSITIONS[JAW]

  def posed(points: Float[np.ndarray, 'v 3'], follow: Float[np.ndarray, ' v']) -> np.ndarray:
    return points + follow[:, None] * (turn_about_x(points, angle) - points)

  closed = posed(arm, np.full(len(share), CORNER_SHARE))
  missing = near[:, None] * (closed - posed(arm + corrective, share))
  turned = turn_about_x(np.eye(3), np.full(3, CLOSED_JAW)).T
  blended = np.eye(3) + share[:, None, None] * (turned - np.eye(3))
  return np.linalg.solve(blended, missing[..., None])[..., 0]
