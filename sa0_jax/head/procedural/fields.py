"""Smooth displacement fields that named directions are made of (builder only, mm)."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from sa0_jax.head.procedural.anatomy import (
  CORNEA_BULGE,
  EYE_CENTER,
  EYE_RADIUS,
  MIRROR,
  Number,
  Vector,
  smoothstep,
)
from sa0_jax.head.procedural.mesh import BuiltMesh
from sa0_jax.head.procedural.modes import carry_ear
from sa0_jax.head.procedural.shape_tables import Push

Displacement = Float[np.ndarray, 'n 3']
DisplacementField = Callable[[Float[np.ndarray, 'n 3']], Displacement]

# Skin follows an eyeball rigidly up to the first distance from its centre, not at all beyond the
# second.
EYE_ZONE = (15.0, 25.0)
EYE_ZONE_STRETCH = np.array([1.15, 1.0, 1.1])


def push(
  points: Float[np.ndarray, 'n 3'], center: Vector, radii: Vector, displacement: Vector
) -> Displacement:
  """A displacement carried by a Gaussian bell exp(−|(p − centre) / radii|²)."""
  offset = (points - np.asarray(center, np.float64)) / np.asarray(radii, np.float64)
  return np.exp(-(offset**2).sum(1))[:, None] * np.asarray(displacement, np.float64)


def mirror_push(one: Push) -> Push:
  """The push on the other side of the head."""
  (cx, cy, cz), radii, (dx, dy, dz) = one
  return (-cx, cy, cz), radii, (-dx, dy, dz)


def push_field(pushes: Sequence[Push], symmetric: bool) -> DisplacementField:
  """Sum of pushes; with `symmetric`, those off the midline act on both sides."""
  every = list(pushes)
  if symmetric:
    every += [mirror_push(one) for one in pushes if one[0][0] != 0]

  def field(points: Float[np.ndarray, 'n 3']) -> Displacement:
    return sum((push(points, *one) for one in every), np.zeros((len(points), 3)))

  return field


def side_sign(mesh: BuiltMesh) -> Float[np.ndarray, ' v']:
  """+1 on the left, −1 on the right, 0 on the midline."""
  return np.sign(np.round(mesh.positions[:, 0], 6))


def eye_zone(mesh: BuiltMesh, side: int) -> Float[np.ndarray, ' v']:
  """1 where a vertex moves with the eyeball of a side, 0 where it does not."""
  offset = (mesh.positions - EYE_CENTER * [side, 1, 1]) / EYE_ZONE_STRETCH
  zone = 1 - smoothstep(np.linalg.norm(offset, axis=1), *EYE_ZONE)
  zone[mesh.semantics.component == (1 if side > 0 else 2)] = 1.0
  return zone


def ear_share(mesh: BuiltMesh) -> Float[np.ndarray, ' v']:
  """0 at the ear's attachment, 1 on the free ear, 0 elsewhere."""
  ring = mesh.semantics.ear_ring
  return np.where(ring >= 0, smoothstep(ring.astype(np.float64), 0, 2.5), 0.0)


def with_rigid_parts(
  mesh: BuiltMesh, field: DisplacementField, *, ears: bool = True, teeth: bool = True
) -> Displacement:
  """A field on all vertices, with eyeballs, their lids and the ears carried along.

  Args:
    mesh: the neutral head.
    field: displacement anywhere in space.
    ears: whether each ear moves with the field at its attachment.
    teeth: whether teeth and tongue follow the field; else they stay.
  """
  out = field(mesh.positions)
  for side in (1, -1):
    zone = eye_zone(mesh, side)[:, None]
    out = out * (1 - zone) + zone * field((EYE_CENTER * [side, 1, 1])[None])
  if ears:
    for loops in mesh.semantics.ear_loops:
      carry_ear(out, loops)
  if not teeth:
    out[mesh.vertices_of(3, 4, 5)] = 0
    # The mouth's lining stays with the teeth.
    ring = mesh.semantics.mouth_ring.astype(np.float64)
    out *= np.where(ring >= 0, smoothstep(ring, 2.0, 6.0), 1.0)[:, None]
  return out


def slide_on_eyeball(mesh: BuiltMesh, displacement: Displacement, last_ring: int) -> Displacement:
  """Removes the part of a lid displacement that leads towards or away from the eyeball.

  The corners' edges lie beyond the eyeball's outline and may move freely.
  """
  out = displacement.copy()
  ring, sides = mesh.semantics.lid_ring, side_sign(mesh)
  for side in (1, -1):
    rows = np.flatnonzero((ring >= 0) & (ring <= last_ring) & (sides == side))
    normal = mesh.positions[rows] - EYE_CENTER * [side, 1, 1]
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    corner = smoothstep(np.abs(np.cos(mesh.semantics.lid_angle[rows])), 0.75, 0.97)
    held = np.where(ring[rows] < 2, 1.0, 1 - corner)[:, None]
    out[rows] -= held * (out[rows] * normal).sum(1, keepdims=True) * normal
  return out


def turn_about_x(points: Float[np.ndarray, 'n 3'], angle: Float[np.ndarray, ' n']) -> Displacement:
  """Points turned about the x axis; positive angles lower what lies in front."""
  c, s = np.cos(angle), np.sin(angle)
  x, y, z = points.T
  return np.stack([x, c * y - s * z, s * y + c * z], axis=1)


def turn_lids(
  mesh: BuiltMesh,
  upper: Number,
  lower: Number,
  follow: Float[np.ndarray, ' rings'],
  side: int = 0,
) -> Displacement:
  """Slides the lids over the eyeball.

  Args:
    mesh: the neutral head.
    upper: radians the upper lid rises.
    lower: radians the lower lid drops.
    follow: share of the angle for each lid ring.
    side: +1 left eye, −1 right eye, 0 both.
  """
  labels, sides = mesh.semantics, side_sign(mesh)
  rows = np.flatnonzero((labels.lid_ring >= 0) & ((side == 0) | (sides == side)))
  height = np.sin(labels.lid_angle[rows])
  share = np.abs(height) ** 1.2 * follow[labels.lid_ring[rows]]
  angle = np.where(height > 0, -upper, lower) * share
  center = EYE_CENTER * np.stack([sides[rows], np.ones(len(rows)), np.ones(len(rows))], axis=1)
  start = mesh.positions[rows] - center
  out = np.zeros_like(mesh.positions)
  lift = _lift(start, angle)
  out[rows] = turn_about_x(start, angle) * (1 + lift)[:, None] - start
  return out


def _lift(points: Float[np.ndarray, 'n 3'], angle: Float[np.ndarray, ' n']) -> np.ndarray:
  """Relative lift off the eyeball at the end of a turn that keeps its chord clear of the cornea.

  On the way t the radius is about r − 4 d t (1 − t) + L t with the chord's depth d; its minimum
  stays at the clearance for L = 4 d − 4 √(d (r − clearance)).
  """
  radius = np.linalg.norm(points, axis=1)
  depth = radius * (1 - np.cos(angle / 2))
  room = np.maximum(radius - CORNEA_REACH - LID_CLEARANCE, 0)
  return np.maximum(4 * depth - 4 * np.sqrt(depth * room), 0) / radius


# Share of a lid movement that each lid ring follows, from the edge to the orbit.
LID_FOLLOW = np.array([1, 1, 1, 1, 0.97, 0.92, 0.82, 0.66, 0.46, 0.24, 0.07, 0])
# Share of the closing angle that each lid ring follows, upper and lower lid.
CLOSING_UPPER = np.array([1, 1, 1, 1, 0.97, 0.9, 0.74, 0.50, 0.30, 0.14, 0.04, 0])
CLOSING_LOWER = np.array([1, 1, 1, 1, 0.85, 0.62, 0.42, 0.30, 0.18, 0.07, 0.02, 0])
# Lids of half-closed eyes must clear the cornea by this much.
LID_CLEARANCE = 0.12
# Closed lids stay this far apart, so that they do not cut each other.
CLOSED_GAP = 0.12
CORNEA_REACH = EYE_RADIUS + CORNEA_BULGE


def close_lids(mesh: BuiltMesh, side: int, meet: Number, amount: Number = 1.0) -> Displacement:
  """Brings the lids together over the eyeball.

  Directions are linear, so a lid on its way moves along a chord; the end of the path is lifted off
  the ball by as much as keeps the middle of the chord clear of the cornea.

  Args:
    mesh: the neutral head.
    side: +1 left eye, −1 right eye.
    meet: where the edges meet: 0 on the lower lid's neutral edge, 1 on the upper lid's.
    amount: share of the way they go.
  """
  loops = mesh.semantics.lid_loops[0 if side > 0 else 1]
  points = mesh.positions[loops] - EYE_CENTER * [side, 1, 1]  # [rings, n, 3]
  count = loops.shape[1]
  upper = np.arange(1, count // 2)
  lower = count - upper
  elevation = np.arctan2(points[2, :, 1], points[2, :, 2])
  goal = elevation[lower] + meet * (elevation[upper] - elevation[lower])
  ends = points.copy()
  for columns, follow in ((upper, CLOSING_UPPER), (lower, CLOSING_LOWER)):
    edge = np.arctan2(points[:4, columns, 1], points[:4, columns, 2]) - goal
    # The lining follows the edge, except where it fills the corners.
    middle = smoothstep(np.abs(np.sin(columns * 2 * np.pi / count)), 0.25, 0.7)
    edge[:2] = edge[2] * middle
    angle = amount * np.concatenate([edge, follow[4:, None] * edge[3]])
    start = points[:, columns]
    end = turn_about_x(start.reshape(-1, 3), angle.ravel()).reshape(start.shape)
    lift = _lift(start.reshape(-1, 3), angle.ravel()).reshape(angle.shape)
    lift[3] = np.maximum(lift[3], lift[2])
    lift[4:] = np.maximum(lift[4:], lift[3] * follow[4:, None])
    ends[:, columns] = end * (1 + lift)[..., None]
  if amount == 1.0:
    ends[2:4, lower] = ends[2:4, upper] - [0, CLOSED_GAP, 0]
  out = np.zeros_like(mesh.positions)
  out[loops] = ends - points
  return out


def mirror_displacement(mesh: BuiltMesh, displacement: Displacement) -> Displacement:
  """The same movement on the other side of the head."""
  return displacement[mesh.semantics.pair] * MIRROR
