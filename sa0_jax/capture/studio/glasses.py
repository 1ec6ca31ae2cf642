"""Spectacles: rims, bridge and temples as tubes around the eyes, rigid with the skull."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from sa0_jax.capture.studio.subject import GlassesLook
from sa0_jax.head.procedural import ProceduralSemantics
from sa0_jax.head.procedural.anatomy import to_metres
from sa0_jax.mesh_render import vertex_normals

Points = Float[np.ndarray, 'n 3']

# Millimetres: from the cornea to the plane of the lenses, from the skin to a temple, and how far a
# temple goes on behind the top of the ear.
_VERTEX_DISTANCE, _CLEARANCE, _HOOK = 12.5, 2.2, 34.0
_AROUND = 8  # vertices around a tube
_OUTLINE = 56  # points of a rim


@dataclasses.dataclass(frozen=True)
class LensShape:
  """The outline of a lens, mm.

  Attributes:
    half_width, half_height: of the outline.
    power: of the superellipse: 2 an ellipse, 4 nearly a rectangle.
    drop: how far the lower outer part hangs towards the cheek, share of the width.
    lower_rim: thickness of the lower half relative to the upper.
  """

  half_width: float
  half_height: float
  power: float
  drop: float = 0.0
  lower_rim: float = 1.0


SHAPES: dict[str, LensShape] = {
  'round': LensShape(23.0, 22.0, 2.0),
  'oval': LensShape(25.5, 18.5, 2.2),
  'rectangle': LensShape(26.0, 17.0, 3.6),
  'browline': LensShape(25.5, 19.5, 2.7, lower_rim=0.35),
  'pilot': LensShape(27.5, 22.0, 2.4, drop=0.16),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Glasses:
  """A mesh that follows the skull.

  Attributes:
    vertices: [g, 3] float32 metres, on the shaped, neutral head.
    normals: [g, 3] float32.
    faces: [f, 3] int32.
    reflectance: [g, 3] float32 linear RGB.
    gloss: strength of the highlights.
  """

  vertices: Float[np.ndarray, 'g 3']
  normals: Float[np.ndarray, 'g 3']
  faces: Int[np.ndarray, 'f 3']
  reflectance: Float[np.ndarray, 'g 3']
  gloss: float


def make_glasses(
  labels: ProceduralSemantics, shaped: Float[np.ndarray, 'v 3'], look: GlassesLook | None
) -> Glasses | None:
  """Fits spectacles to a head; None for those who wear none.

  Args:
    labels: semantics of the procedural head.
    shaped: [v, 3] the shaped, neutral head, authored mm.
    look: which.
  """
  if look is None:
    return None
  shape = SHAPES[look.style]
  eyes = [shaped[labels.component == part] for part in (1, 2)]
  height = float(np.mean([eye[:, 1].mean() for eye in eyes])) - 2.0
  front = float(max(eye[:, 2].max() for eye in eyes)) + _VERTEX_DISTANCE
  parts = []
  for side, eye in ((1.0, eyes[0]), (-1.0, eyes[1])):
    middle = np.array([eye[:, 0].mean() - side * 0.5, height, front])
    rim = _outline(shape, look.size, side) + middle
    rim = _wrapped(rim, height, front)
    # Where the lens ends towards the temple, near its upper edge.
    corner = rim[np.argmax(side * rim[:, 0] + 0.5 * rim[:, 1])]
    thick = np.where(rim[:, 1] < height + 2, shape.lower_rim, 1.0)
    # Thickness changes over a few points of the outline, not from one to the next.
    thick = np.convolve(np.concatenate([thick[-3:], thick, thick[:3]]), np.full(7, 1 / 7), 'valid')
    radii = np.stack([0.5 * look.rim * thick, np.full(len(rim), 0.5 * look.rim + 0.5)], axis=1)
    parts.append(_tube(rim, radii, np.array([0.0, 0.0, 1.0]), closed=True))
    parts.append(_temple(labels, shaped, corner, side, look.rim))
  gap = max(abs(float(np.mean(eyes[0][:, 0]))) - look.size * shape.half_width, 6.0)
  parts.append(_bridge(gap, height, front, look.rim))
  vertices = np.concatenate([points for points, _ in parts])
  starts = np.cumsum([0, *(len(points) for points, _ in parts[:-1])])
  faces = np.concatenate([f + start for (_, f), start in zip(parts, starts, strict=True)])
  metres = to_metres(vertices).astype(np.float32)
  faces = faces.astype(np.int32)
  color = np.tile(np.asarray(look.color, np.float32), (len(metres), 1))
  return Glasses(metres, vertex_normals(metres, faces), faces, color, look.gloss)


def pose_glasses(glasses: Glasses, transform: Float[np.ndarray, '3 4']) -> Float[np.ndarray, 'g 3']:
  """World positions of the vertices, metres.

  Args:
    glasses: from `make_glasses`.
    transform: of the neck joint, rest to world: what the skull follows.
  """
  return glasses.vertices.astype(np.float64) @ transform[:, :3].T + transform[:, 3]


def _outline(shape: LensShape, size: float, side: float) -> Points:
  """The rim around its middle, in a plane; starts at the temple."""
  angle = np.arange(_OUTLINE) / _OUTLINE * 2 * np.pi
  c, s = np.cos(angle), np.sin(angle)
  x = shape.half_width * np.sign(c) * np.abs(c) ** (2 / shape.power)
  y = shape.half_height * np.sign(s) * np.abs(s) ** (2 / shape.power)
  low = np.clip(-y / shape.half_height, 0, 1)
  x = x + shape.drop * shape.half_width * low - 0.5 * shape.drop * shape.half_width
  y = y - 0.4 * shape.drop * shape.half_width * low
  return size * np.stack([side * x, y, np.zeros_like(x)], axis=1)


def _wrapped(points: Points, height: float, front: float) -> Points:
  """Tilts the plane of the lenses, top forward, and bends it a little around the face."""
  x, y = points[:, 0], points[:, 1] - height
  z = front + 0.13 * y - 0.0016 * x * x
  return np.column_stack([x, points[:, 1], z])


def _temple(
  labels: ProceduralSemantics,
  shaped: Float[np.ndarray, 'v 3'],
  corner: Float[np.ndarray, '3'],
  side: float,
  rim: float,
) -> tuple[Points, Int[np.ndarray, 'f 3']]:
  """From the lens over the top of the ear and down behind it, outside the skin."""
  ear = shaped[labels.ear_loops[0 if side > 0 else 1].ravel()]
  order = np.argsort(ear[:, 1])
  top = ear[order[-8:]].mean(axis=0)
  skin = shaped[(labels.component == 0) & (labels.ear_ring < 1)]
  skin = skin[side * skin[:, 0] > 20]
  start = float(corner[2]) - 3.0
  z = np.concatenate([np.linspace(start, float(top[2]), 18), top[2] - np.array([9.0, 18.0, 26.0])])
  along = np.clip((start - z) / (start - top[2]), 0, 1)
  y = corner[1] + (top[1] + 1.0 - corner[1]) * along
  y[-3:] -= _HOOK * np.array([0.18, 0.55, 1.0])
  width = np.empty(len(z))
  for k in range(len(z)):
    near = skin[(np.abs(skin[:, 1] - y[k]) < 6) & (np.abs(skin[:, 2] - z[k]) < 9)]
    width[k] = np.abs(near[:, 0]).max() if len(near) else 0.0
  # A temple is straight or bends outwards, and squeezes no head.
  lens = abs(float(corner[0])) + 2.5
  x = np.maximum(np.maximum(width + _CLEARANCE, lens), 0.0)
  straight = lens + (x[17] - lens) * along
  x[:18] = np.maximum(x[:18], straight[:18])
  x[1:-1] = 0.25 * x[:-2] + 0.5 * x[1:-1] + 0.25 * x[2:]
  x[-3:] = x[17] - np.array([0.5, 2.0, 4.0])
  path = np.column_stack([side * x, y, z])
  path = np.concatenate([[corner], [[side * lens, corner[1], corner[2] - 1.5]], path])
  tall = 0.5 * max(rim, 1.4) * np.linspace(1.3, 0.9, len(path))
  radii = np.stack([tall, np.full(len(path), 0.5 * min(rim, 2.0))], axis=1)
  return _tube(path, radii, np.array([0.0, 1.0, 0.0]), closed=False)


def _bridge(
  gap: float, height: float, front: float, rim: float
) -> tuple[Points, Int[np.ndarray, 'f 3']]:
  """An arch over the nose between the rims."""
  t = np.linspace(-1, 1, 13)
  flat = np.column_stack([(gap + 1.0) * t, height + 5.0 + 3.0 * (1 - t * t), np.zeros(13)])
  path = _wrapped(flat, height, front)
  path[:, 2] += 2.5 * (1 - t * t)
  radii = np.tile([0.5 * max(rim, 1.4), 0.5 * max(rim, 1.4)], (13, 1))
  return _tube(path, radii, np.array([0.0, 1.0, 0.0]), closed=False)


def _tube(
  path: Points, radii: Float[np.ndarray, 'n 2'], axis: Float[np.ndarray, '3'], *, closed: bool
) -> tuple[Float[np.ndarray, 'm 3'], Int[np.ndarray, 'f 3']]:
  """An elliptic tube along a path.

  Args:
    path: [n, 3].
    radii: [n, 2] across the path: of a closed path in its plane and along the axis; of an open one
      along the axis and across it.
    axis: reference direction of the cross-section.
    closed: whether the last point is joined to the first; else the ends are closed by points.
  """
  if closed:
    tangent = np.roll(path, -1, axis=0) - np.roll(path, 1, axis=0)
  else:
    tangent = np.gradient(path, axis=0)
  tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
  first = axis - (tangent @ axis)[:, None] * tangent
  first /= np.linalg.norm(first, axis=1, keepdims=True)
  second = np.cross(tangent, first)
  if closed:
    first, second = second, -first
  angle = np.arange(_AROUND) / _AROUND * 2 * np.pi
  ring = (
    radii[:, 0, None, None] * np.cos(angle)[None, :, None] * first[:, None]
    + radii[:, 1, None, None] * np.sin(angle)[None, :, None] * second[:, None]
  )
  points = (path[:, None] + ring).reshape(-1, 3)
  count = len(path) if closed else len(path) - 1
  rows = np.arange(count)[:, None] * _AROUND
  after = (rows + _AROUND) % (len(path) * _AROUND)
  here, beside = np.arange(_AROUND), (np.arange(_AROUND) + 1) % _AROUND
  a, b, c, d = rows + here, rows + beside, after + here, after + beside
  faces = np.stack([a, b, d, a, d, c], axis=-1).reshape(-1, 3)
  if not closed:
    last = len(path) * _AROUND
    points = np.concatenate([points, path[:1], path[-1:]])
    ends = last - _AROUND
    caps = [
      np.stack([beside, here, np.full(_AROUND, last)], axis=1),
      np.stack([ends + here, ends + beside, np.full(_AROUND, last + 1)], axis=1),
    ]
    faces = np.concatenate([faces, *caps])
  # Corners run counter-clockwise seen from outside: then the volume they enclose is positive.
  a, b, c = (points[faces[:, k]] - points.mean(axis=0) for k in range(3))
  outward = float((np.cross(a, b) * c).sum()) > 0
  return points, faces if outward else faces[:, ::-1]
