"""Named expression directions: ARKit's blend shapes except jawOpen, which is a joint (builder, mm).

Eye rotations are joints as well; the eyeLook directions only move the lids.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from sa0_jax.head.procedural import fields
from sa0_jax.head.procedural.anatomy import Number, smoothstep
from sa0_jax.head.procedural.mesh import BuiltMesh
from sa0_jax.head.procedural.shape_tables import Push

Basis = dict[str, Float[np.ndarray, 'v 3']]
Mask = Float[np.ndarray, ' v']


@dataclasses.dataclass(frozen=True, eq=False)
class FaceMasks:
  """Where expressions may move vertices, each [v] in [0, 1].

  Attributes:
    skin: the skin but not the depth of the mouth.
    off_lids: the skin that does not slide with the lids.
    upper: the side of the mouth's seam that belongs to the upper lip.
    lower: the other side.
  """

  skin: Mask
  off_lids: Mask
  upper: Mask
  lower: Mask

  @classmethod
  def of(cls, mesh: BuiltMesh) -> 'FaceMasks':
    """The masks of a mesh."""
    labels = mesh.semantics
    ring, fraction = labels.mouth_ring, labels.lip_fraction
    height = mesh.positions[:, 1]
    corner = 0.5 * fraction**5
    lips = np.where(labels.lip_side > 0, 1 - corner, np.where(labels.lip_side < 0, corner, 0.5))
    upper = np.where(ring >= 0, lips, smoothstep(height, -72.2, -64.8))
    deep = np.where(ring >= 0, smoothstep(ring.astype(np.float64), 1.0, 5.0), 1.0)
    skin = labels.skin * deep
    lid = labels.lid_ring
    off_lids = np.where(lid >= 0, 1 - fields.LID_FOLLOW[lid], 1.0) * skin
    return cls(skin, off_lids, upper, 1 - upper)


def pushed(
  mesh: BuiltMesh, mask: Mask, pushes: Sequence[Push], symmetric: bool = False
) -> Float[np.ndarray, 'v 3']:
  """A sum of pushes where a mask allows them."""
  return fields.push_field(pushes, symmetric)(mesh.positions) * mask[:, None]


def add_pair(basis: Basis, mesh: BuiltMesh, name: str, left: Float[np.ndarray, 'v 3']) -> None:
  """Adds a direction of the left side and its mirror image."""
  basis[name + 'Left'] = left
  basis[name + 'Right'] = fields.mirror_displacement(mesh, left)


def upper_face(mesh: BuiltMesh, masks: FaceMasks) -> Basis:
  """Lids, brows, nose and cheeks."""
  basis: Basis = {}

  def pair(name: str, displacement: np.ndarray) -> None:
    add_pair(basis, mesh, name, displacement)

  def lids(upper: Number, lower: Number) -> np.ndarray:
    return fields.turn_lids(mesh, upper, lower, fields.LID_FOLLOW, side=1)

  skin, off_lids = masks.skin, masks.off_lids
  pair('eyeBlink', fields.close_lids(mesh, 1, meet=0.10))
  pair(
    'eyeSquint',
    fields.close_lids(mesh, 1, meet=0.62, amount=0.55)
    + pushed(mesh, off_lids, [((30, -13, 79), (18, 8, 16), (0, 2.0, 1.2))]),
  )
  pair(
    'eyeWide',
    lids(0.14, 0.05) + pushed(mesh, off_lids, [((31, 20, 80), (24, 9, 20), (0, 1.5, 0))]),
  )
  pair('eyeLookUp', lids(0.10, -0.06))
  pair('eyeLookDown', lids(-0.24, 0.05))
  near_lids = ((31, 0, 80), (13, 8, 10))
  pair('eyeLookIn', pushed(mesh, skin, [(*near_lids, (-0.5, 0, 0))]))
  pair('eyeLookOut', pushed(mesh, skin, [(*near_lids, (0.5, 0, 0))]))
  pair(
    'browDown',
    pushed(
      mesh,
      off_lids,
      [
        ((20, 19, 85), (17, 11, 20), (-2.6, -5.2, 1.2)),
        ((42, 20, 74), (14, 9, 20), (0, -2.4, 0.4)),
        ((23, 10, 82), (14, 5, 14), (0, -1.4, 1.0)),
      ],
    ),
  )
  basis['browInnerUp'] = pushed(
    mesh, off_lids, [((13, 21, 86), (13, 13, 22), (0.4, 6.0, 0.2))], symmetric=True
  )
  pair('browOuterUp', pushed(mesh, off_lids, [((41, 21, 74), (16, 12, 22), (0, 6.0, 0))]))
  pair('cheekSquint', pushed(mesh, off_lids, [((40, -21.5, 70), (19, 14, 22), (0.5, 4.0, 2.0))]))
  basis['cheekPuff'] = pushed(
    mesh, skin, [((44, -57, 62), (20, 19, 28), (8, 0, 6.0))], symmetric=True
  ) + pushed(mesh, skin, [((0, -66.8, 95), (24, 14, 18), (0, 0, 1.2))])
  pair(
    'noseSneer',
    pushed(mesh, skin, [((14, -36, 96), (10, 11, 16), (1.2, 3.8, -0.6))])
    + pushed(mesh, off_lids, [((14, -12, 88), (10, 9, 12), (0, 1.5, 0.9))])
    + pushed(mesh, skin * masks.upper, [((14, -56.8, 100), (12, 8, 14), (0, 2.0, 0))]),
  )
  return basis


def named_expressions(
  mesh: BuiltMesh, make_mouth: Callable[[BuiltMesh, FaceMasks], Basis]
) -> Basis:
  """All named expression directions, full ARKit activation each, in order."""
  masks = FaceMasks.of(mesh)
  return {**upper_face(mesh, masks), **make_mouth(mesh, masks)}
