"""Displacements of the mouth's rings by a few control values (builder only, mm)."""

import dataclasses

import numpy as np
from jaxtyping import Float

from sa0_jax.head.procedural.anatomy import Number, Vector, smoothstep
from sa0_jax.head.procedural.mesh import BuiltMesh

Displacement = Float[np.ndarray, 'v 3']

ZERO: Vector = (0, 0, 0)

# How far each mouth ring follows the lips: not at all in the throat, wholly on the red, less and
# less over the skin.
RING_REACH = (
  (1, 2, 3, 4, 5, 6, 11, 12, 13, 14, 15),
  (0.0, 0.2, 0.5, 0.75, 0.9, 1.0, 1.0, 0.95, 0.85, 0.72, 0.58),
)
# The skin around the outermost ring follows it up to this distance.
SKIN_REACH = 24.0
# Rings whose upper and lower halves lie on each other when the mouth is closed.
TOUCHING_RINGS = (5, 6, 7, 8)
MINIMUM_GAP = 0.1


@dataclasses.dataclass(frozen=True)
class LipMotion:
  """Displacement of the lips at five places on each side; between them it is interpolated.

  Attributes:
    corner: the left corner.
    upper_side: the upper lip half way to the left corner.
    upper_middle: the upper lip at the midline.
    lower_side: the lower lip half way to the left corner.
    lower_middle: the lower lip at the midline.
    right_corner: the right corner.
    upper_right: the upper lip half way to the right corner.
    lower_right: the lower lip half way to the right corner.
  """

  corner: Vector = ZERO
  upper_side: Vector = ZERO
  upper_middle: Vector = ZERO
  lower_side: Vector = ZERO
  lower_middle: Vector = ZERO
  right_corner: Vector = ZERO
  upper_right: Vector = ZERO
  lower_right: Vector = ZERO

  def symmetric(self) -> 'LipMotion':
    """The same with the right side as mirror image of the left."""

    def mirror(one: Vector) -> Vector:
      return (-one[0], one[1], one[2])

    return dataclasses.replace(
      self,
      right_corner=mirror(self.corner),
      upper_right=mirror(self.upper_side),
      lower_right=mirror(self.lower_side),
    )


def lip_displacement(
  mesh: BuiltMesh, motion: LipMotion, reach: tuple[tuple[Number, ...], ...] = RING_REACH
) -> Displacement:
  """A lip motion on all rings of the mouth and on the skin around them."""
  on_loop = _along_loop(mesh, motion)
  rings = mesh.semantics.mouth_loops
  number, value = np.array(reach, np.float64)
  share = np.interp(np.arange(len(rings)), number, value)
  out = np.zeros_like(mesh.positions)
  out[rings] = share[:, None, None] * on_loop
  return out + around_mouth(mesh, out)


def _along_loop(mesh: BuiltMesh, motion: LipMotion) -> Float[np.ndarray, 'n 3']:
  from scipy.interpolate import PchipInterpolator

  labels = mesh.semantics
  loop = labels.mouth_loops[0]
  side = labels.lip_side[loop]
  fraction = labels.lip_fraction[loop] * np.sign(
    np.round(mesh.positions[labels.mouth_loops[-1], 0], 6)
  )
  nodes = (-1, -0.5, 0, 0.5, 1)
  upper = [
    motion.right_corner,
    motion.upper_right,
    motion.upper_middle,
    motion.upper_side,
    motion.corner,
  ]
  lower = [
    motion.right_corner,
    motion.lower_right,
    motion.lower_middle,
    motion.lower_side,
    motion.corner,
  ]
  on_upper, on_lower = (
    PchipInterpolator(nodes, np.array(values, np.float64))(fraction) for values in (upper, lower)
  )
  return np.where(side[:, None] >= 0, on_upper, on_lower)


def ring_profile(
  mesh: BuiltMesh,
  upper: bool,
  knots: tuple[tuple[Number, Number, Number], ...],
  side: int = 0,
) -> Displacement:
  """A displacement of one lip in y and z that depends on the ring; y counts away from the seam.

  Args:
    mesh: the neutral head.
    upper: which lip.
    knots: (ring, y, z) between which is interpolated.
    side: +1 only the left half, fading across the midline; 0 both.
  """
  labels = mesh.semantics
  rings = labels.mouth_loops
  number, y, z = np.array(knots, np.float64).T
  at = np.arange(len(rings))
  dy, dz = np.interp(at, number, y), np.interp(at, number, z)
  fraction = labels.lip_fraction[rings[0]]
  lip = np.clip(labels.lip_side[rings[0]] * (1 if upper else -1), 0, 1)
  share = lip * (1 - fraction**4)
  if side:
    x = mesh.positions[rings[-1], 0]
    share = share * smoothstep(side * x, -9.0, 9.0)
  out = np.zeros_like(mesh.positions)
  out[rings, 1] = share * (dy if upper else -dy)[:, None]
  out[rings, 2] = share * dz[:, None]
  return out + around_mouth(mesh, out)


def around_mouth(mesh: BuiltMesh, on_rings: Displacement) -> Displacement:
  """Continues the outermost ring's displacement over the skin, fading within `SKIN_REACH`."""
  from scipy.spatial import cKDTree

  labels = mesh.semantics
  outer = labels.mouth_loops[-1]
  rows = np.flatnonzero(labels.skin & (labels.mouth_ring < 0) & (mesh.positions[:, 2] > 40))
  distance, near = cKDTree(mesh.positions[outer]).query(mesh.positions[rows], k=6)
  weight = 1 / (distance + 2.0) ** 2
  weight /= weight.sum(1, keepdims=True)
  carried = (weight[..., None] * on_rings[outer][near]).sum(1)
  out = np.zeros_like(on_rings)
  out[rows] = carried * (1 - smoothstep(distance[:, :1], 0.0, SKIN_REACH))
  return out


def separated(mesh: BuiltMesh, displacement: Displacement) -> Displacement:
  """Keeps the lips from passing through each other where they touch."""
  out = displacement.copy()
  for number in TOUCHING_RINGS:
    loop = mesh.semantics.mouth_loops[number]
    upper = np.concatenate([loop[:16], loop[:48:-1]])
    lower = np.concatenate([loop[32:16:-1], loop[33:48]])
    neutral = mesh.positions[upper, 1] - mesh.positions[lower, 1]
    gap = neutral + out[upper, 1] - out[lower, 1]
    missing = np.maximum(np.minimum(neutral, MINIMUM_GAP) - gap, 0)
    out[upper, 1] += 0.5 * missing
    out[lower, 1] -= 0.5 * missing
  return out
