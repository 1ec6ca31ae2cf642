"""Pose correctives of the jaw: what linear blend skinning gets wrong when the mouth opens (mm).

FLAME's correctives are linear in the elements of the joints' rotation matrices minus identity. A
jaw that opens by a turns about x, so one element is sin a and another cos a − 1: an odd and an even
part can be corrected. Builder only.
"""

import numpy as np
from jaxtyping import Float, Int

from sa0_jax.head.procedural.anatomy import JOINT_POSITIONS
from sa0_jax.head.procedural.fields import turn_about_x
from sa0_jax.head.procedural.lips import around_mouth
from sa0_jax.head.procedural.mesh import BuiltMesh
from sa0_jax.head.procedural.rings import MOUTH_SEAM
from sa0_jax.head.procedural.skinning import JAW

# Columns of `posedirs`: 9 elements, row by row, for each of the joints 1..4.
COLUMN_COSINE = 9 * (JAW - 1) + 4  # R[1, 1] − 1 = cos a − 1
COLUMN_SINE = 9 * (JAW - 1) + 7  # R[2, 1] = sin a

# The corrections are designed at this opening, in radians.
DESIGN_ANGLE = 0.35
# There the corners have moved inwards by this much, and the lips part near them like a
# superellipse of this exponent.
CORNER_INWARDS = 3.2
OPENING_EXPONENT = 2.1


def jaw_correctives(
  mesh: BuiltMesh, weights: Float[np.ndarray, 'v 5']
) -> tuple[Int[np.ndarray, ' c'], Float[np.ndarray, 'v 3 c']]:
  """Columns of `posedirs` that are not zero, and their values in mm."""
  jaw = weights[:, JAW]
  arm = mesh.positions - JOINT_POSITIONS[JAW]
  even = _arc_minus_chord(arm, jaw) / (np.cos(DESIGN_ANGLE) - 1)
  odd = _unposed(_rounder_mouth(mesh, arm, jaw), jaw) / np.sin(DESIGN_ANGLE)
  skin = mesh.semantics.skin[:, None]
  return np.array([COLUMN_COSINE, COLUMN_SINE]), np.stack([even * skin, odd * skin], axis=-1)


def _arc_minus_chord(
  arm: Float[np.ndarray, 'v 3'], jaw: Float[np.ndarray, ' v']
) -> Float[np.ndarray, 'v 3']:
  """What brings half-following skin from the chord of linear blending out to its arc."""
  angle = np.full(len(jaw), DESIGN_ANGLE)
  chord = arm + jaw[:, None] * (turn_about_x(arm, angle) - arm)
  return _unposed(turn_about_x(arm, jaw * angle) - chord, jaw)


def _unposed(
  displacement: Float[np.ndarray, 'v 3'], jaw: Float[np.ndarray, ' v']
) -> Float[np.ndarray, 'v 3']:
  """A displacement of the opened mouth, in the frame of the closed one."""
  turned = turn_about_x(np.eye(3), np.full(3, DESIGN_ANGLE)).T
  blended = np.eye(3) + jaw[:, None, None] * (turned - np.eye(3))
  return np.linalg.solve(blended, displacement[..., None])[..., 0]


def _rounder_mouth(
  mesh: BuiltMesh, arm: Float[np.ndarray, 'v 3'], jaw: Float[np.ndarray, ' v']
) -> Float[np.ndarray, 'v 3']:
  """Displacement at the design angle that rounds the corners of the mouth."""
  labels = mesh.semantics
  opened = turn_about_x(arm, np.full(len(jaw), DESIGN_ANGLE)) - arm
  seam = labels.mouth_loops[MOUTH_SEAM]
  share, drop = jaw[seam], opened[seam]
  fraction, side = labels.lip_fraction[seam], labels.lip_side[seam]
  corner = seam[16]
  wanted_gap = np.maximum(1 - fraction**OPENING_EXPONENT, 0.0) ** (1 / OPENING_EXPONENT)
  # Shares of the opening at which upper and lower lip should be, around the corner's own share.
  target = np.where(
    side > 0, jaw[corner] * (1 - wanted_gap), jaw[corner] + (1 - jaw[corner]) * wanted_gap
  )
  move = (np.where(side == 0, share, target) - share)[:, None] * drop
  left = np.sign(mesh.positions[seam, 0])
  move[:, 0] -= CORNER_INWARDS * left * fraction**3
  out = np.zeros_like(mesh.positions)
  rings = labels.mouth_loops
  reach = np.interp(
    np.arange(len(rings)), [3, 5, 6, 8, 11, 13, 15], [0.0, 0.7, 1.0, 1.0, 0.85, 0.55, 0.3]
  )
  out[rings] = reach[:, None, None] * move
  return out + around_mouth(mesh, out)
