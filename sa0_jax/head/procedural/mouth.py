"""Expression directions of the mouth, jaw and tongue (builder only, mm)."""

import numpy as np
from jaxtyping import Float

from sa0_jax.head.procedural.anatomy import JOINT_POSITIONS, smoothstep
from sa0_jax.head.procedural.expressions import Basis, FaceMasks, add_pair, pushed
from sa0_jax.head.procedural.fields import turn_about_x
from sa0_jax.head.procedural.mesh import BuiltMesh
from sa0_jax.head.procedural.skinning import CORNER_SHARE, JAW, jaw_share

# mouthClose undoes this opening of the jaw, in radians, at the lips.
CLOSED_JAW = 0.35


def mouth(mesh: BuiltMesh, masks: FaceMasks) -> Basis:
  """Every direction below the nose."""
  return {**_corners(mesh, masks), **_lips(mesh, masks), **_jaw(mesh, masks)}


def _corners(mesh: BuiltMesh, masks: FaceMasks) -> Basis:
  """What pulls one corner of the mouth or half a lip."""
  basis: Basis = {}
  skin, upper, lower = masks.skin, masks.skin * masks.upper, masks.skin * masks.lower
  corner = (26, -68.2, 89)

  def pair(name: str, displacement: np.ndarray) -> None:
    add_pair(basis, mesh, name, displacement)

  pair(
    'mouthSmile',
    pushed(
      mesh,
      skin,
      [
        (corner, (15, 13, 22), (7.2, 7.2, -6.2)),
        ((10, -62.7, 101), (12, 9, 16), (1.2, 0.9, -1.4)),
        ((28, -49, 87), (6, 14, 16), (0.8, 1.0, -1.3)),
        ((10, -74.7, 100), (13, 7, 16), (1.0, 1.0, -1.2)),
      ],
    )
    + pushed(mesh, masks.off_lids, [((42, -36, 68), (18, 16, 26), (1.5, 4.0, 2.6))]),
  )
  pair(
    'mouthFrown',
    pushed(
      mesh,
      skin,
      [
        (corner, (14, 13, 22), (0.6, -5.8, -0.8)),
        ((30, -84.7, 78), (14, 12, 20), (1, -2, 0)),
      ],
    ),
  )
  pair('mouthDimple', pushed(mesh, skin, [(corner, (12, 12, 20), (3.2, 1.0, -4.0))]))
  pair(
    'mouthStretch',
    pushed(
      mesh,
      skin,
      [
        ((26, -68.8, 89), (15, 15, 24), (6.5, -3.4, -5.0)),
        ((30, -96.7, 60), (20, 18, 30), (1.5, -2.0, 0)),
      ],
    ),
  )
  pair(
    'mouthPress',
    pushed(mesh, upper, [((12, -61.7, 102), (14, 5.5, 14), (0, -1.5, -0.9))])
    + pushed(mesh, lower, [((12, -73.7, 100), (14, 5.5, 14), (0, 1.7, -0.9))]),
  )
  pair(
    'mouthUpperUp',
    pushed(mesh, upper, [((11, -61.7, 101), (12, 10, 18), (0.3, 5.0, 0.6))])
    + pushed(mesh, skin, [((20, -45.5, 92), (13, 13, 16), (0, 1.8, 0.8))]),
  )
  pair(
    'mouthLowerDown',
    pushed(mesh, lower, [((11, -72.7, 99), (12, 10, 18), (0.4, -5.2, 0.5))]),
  )
  return basis


def _lips(mesh: BuiltMesh, masks: FaceMasks) -> Basis:
  """What both halves of the lips do together."""
  skin, upper, lower = masks.skin, masks.skin * masks.upper, masks.skin * masks.lower
  basis: Basis = {}
  basis['mouthPucker'] = (
    pushed(
      mesh,
      skin,
      [
        ((25, -68.2, 90), (14, 14, 22), (-8.5, 0, 5.5)),
        ((11, -67.7, 100), (11, 12, 18), (-2.0, 0, 4.2)),
      ],
      symmetric=True,
    )
    + pushed(mesh, skin, [((0, -67.7, 101), (9, 12, 16), (0, 0, 2.6))])
    + pushed(mesh, upper, [((10, -60.7, 101), (13, 6, 16), (0, -0.6, 0))], symmetric=True)
    + pushed(mesh, lower, [((10, -75.7, 100), (13, 6, 16), (0, 1.0, 0))], symmetric=True)
  )
  basis['mouthFunnel'] = (
    pushed(mesh, skin, [((25, -68.2, 90), (14, 14, 22), (-6.0, 0, 4.5))], symmetric=True)
    + pushed(mesh, upper, [((0, -62.7, 101), (18, 7.5, 16), (0, 3.6, 5.0))])
    + pushed(mesh, lower, [((0, -72.7, 99), (18, 7.5, 16), (0, -4.2, 5.0))])
  )
  basis['mouthRollUpper'] = pushed(mesh, upper, [((0, -62.7, 102), (22, 4.8, 12), (0, -2.4, -4))])
  basis['mouthRollLower'] = pushed(mesh, lower, [((0, -72.2, 100), (22, 5.2, 12), (0, 2.4, -4))])
  basis['mouthShrugUpper'] = pushed(mesh, skin, [((0, -60.7, 101), (22, 9, 18), (0, 2.6, 1.6))])
  basis['mouthShrugLower'] = pushed(
    mesh, lower, [((0, -75.7, 98), (22, 11, 18), (0, 3.0, 2.2))]
  ) + pushed(mesh, skin, [((0, -96.7, 92), (20, 12, 18), (0, 3.0, 0.8))])
  basis['mouthLeft'] = pushed(mesh, skin, [((0, -67.7, 95), (30, 14, 30), (7, 0, 0))])
  basis['mouthRight'] = -basis['mouthLeft']
  return basis


def _jaw(mesh: BuiltMesh, masks: FaceMasks) -> Basis:
  """Sliding jaw, lips closed over an open jaw, tongue."""
  labels = mesh.semantics
  share = jaw_share(mesh)
  moved = share.copy()
  moved[mesh.vertices_of(4, 5)] = 1.0
  basis: Basis = {
    'jawLeft': moved[:, None] * [6.0, 0, 0],
    'jawRight': moved[:, None] * [-6.0, 0, 0],
    'jawForward': moved[:, None] * [0, 0, 5.0],
    'mouthClose': _closed_lips(mesh, masks, share),
  }
  tongue = mesh.vertices_of(5)
  out = np.zeros_like(mesh.positions)
  reach = smoothstep(mesh.positions[tongue, 2], 50, 80)
  out[tongue] = reach[:, None] * [0, 4.5, 30.0]
  basis['tongueOut'] = out * (labels.component == 5)[:, None]
  return basis


def _closed_lips(
  mesh: BuiltMesh, masks: FaceMasks, share: Float[np.ndarray, ' v']
) -> Float[np.ndarray, 'v 3']:
  """Brings the lips back together when the jaw is open by `CLOSED_JAW`.

  One smooth falloff covers the mouth's rings and the skin around them.
  """
  x, y, z = mesh.positions.T
  arm = mesh.positions - JOINT_POSITIONS[JAW]
  opened = turn_about_x(arm, np.full(len(arm), CLOSED_JAW)) - arm
  ring = mesh.semantics.mouth_ring.astype(np.float64)
  distance = np.hypot(x / 29.0, (y + 68.2) / 13.0)
  falloff = np.where(ring >= 5, 1.0, np.where(ring >= 0, np.maximum(ring - 2, 0) / 3.0, 1.0))
  falloff = falloff * (1 - smoothstep(distance, 0.75, 2.3)) * (z > 40) * mesh.semantics.skin
  return -((share - CORNER_SHARE) * falloff)[:, None] * opened
