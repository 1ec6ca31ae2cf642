"""Eyeballs, teeth and tongue: separate open surfaces behind the skin (builder only, mm)."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from sa0_jax.head.procedural.anatomy import (
  CORNEA_BULGE,
  EYE_CENTER,
  EYE_RADIUS,
  MIRROR,
  smoothstep,
)
from sa0_jax.head.procedural.filler import strip

EYE_SEGMENTS = 24
# Polar angles of the eyeball's rings in degrees. The last leaves the hidden back open.
EYE_RINGS = np.array(
  [4, 9.6, 11, 15, 20, 24.5, 27.4, 29.4, 35, 44, 56, 70, 86, 104, 124, 150], np.float64
)
PUPIL_RING, LIMBUS_INNER_RING, LIMBUS_OUTER_RING = 2, 7, 8  # 0 is the pole

# Widths of the six teeth of each half arch from the midline backwards.
UPPER_TOOTH_WIDTHS = (8.5, 6.6, 7.7, 7.0, 6.8, 6.5)
LOWER_TOOTH_WIDTHS = (5.4, 6.0, 6.9, 7.0, 7.2, 8.4)
COLUMNS_PER_TOOTH = 4
# Rows of an arch, from the gum's root over the fronts and edges to the gum behind: outward offset,
# height, 1 on enamel, how much higher the row is in the middle of a tooth.
UPPER_PROFILE = (
  (-0.8, -55.6, 0.0, 0.0),
  (0.1, -58.6, 0.0, 0.0),
  (0.35, -60.6, 0.5, 0.5),
  (0.55, -62.2, 1.0, 0.9),
  (0.45, -65.6, 1.0, 0.4),
  (0.05, -69.2, 1.0, -0.5),
  (-1.6, -69.3, 1.0, -0.5),
  (-4.2, -61.5, 0.5, 0.5),
  (-5.5, -56.5, 0.0, 0.0),
)
LOWER_PROFILE = (
  (-2.8, -81.4, 0.0, 0.0),
  (-2.3, -78.6, 0.0, 0.0),
  (-2.1, -77.0, 0.5, -0.5),
  (-2.0, -75.8, 1.0, -0.9),
  (-2.2, -72.8, 1.0, -0.4),
  (-2.9, -68.8, 1.0, 0.4),
  (-4.1, -68.6, 1.0, 0.4),
  (-6.2, -75.4, 0.5, -0.5),
  (-7.4, -80.0, 0.0, 0.0),
)
ARCH_CENTER_Z, ARCH_WIDTH, ARCH_DEPTH = 57.5, 24.5, 31.2

TONGUE_CENTER = np.array([0.0, -76.0, 66.5])
TONGUE_RADII = np.array([15.0, 5.0, 14.5])
TONGUE_RINGS, TONGUE_SEGMENTS = 9, 12


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
  """A separate surface.

  Attributes:
    positions: [v, 3] mm.
    faces: [f, 3] counter-clockwise outside.
    ring: [v] ring number from the eyeball's pole, row of the arch, or 0.
    enamel: [v] 1 on teeth, 0 on gums and elsewhere.
    uv: [v, 2] planar coordinates in [0, 1] without overlaps.
  """

  positions: Float[np.ndarray, 'v 3']
  faces: Int[np.ndarray, 'f 3']
  ring: Int[np.ndarray, ' v']
  enamel: Float[np.ndarray, ' v']
  uv: Float[np.ndarray, 'v 2']


def squircle(disc: Float[np.ndarray, 'n 2'], power: float = 5.0) -> Float[np.ndarray, 'n 2']:
  """Stretches the unit disc over most of the square [−1, 1]², radially: fills an atlas better."""
  radius = np.hypot(*disc.T)
  direction = (
    np.where(radius[:, None] > 0, disc, [1.0, 0.0]) / np.where(radius > 0, radius, 1)[:, None]
  )
  reach = (np.abs(direction) ** power).sum(1) ** (-1 / power)
  # Grow with the radius, so that the middle (the iris) stays round.
  return disc * (1 + (reach - 1) * radius**2)[:, None]


def left_eyeball() -> Part:
  """Sphere with a slight cornea; ring numbers count from the pole at the pupil's middle."""
  turn = np.arange(EYE_SEGMENTS) / EYE_SEGMENTS * 2 * np.pi
  polar = np.radians(EYE_RINGS)
  bulge = CORNEA_BULGE * (1 - smoothstep(EYE_RINGS, 9.0, 27.0))
  radius = EYE_RADIUS + bulge
  circle = np.stack([np.cos(turn), np.sin(turn)], axis=1)
  rings = [
    np.column_stack([r * np.sin(a) * circle, np.full(EYE_SEGMENTS, r * np.cos(a))])
    for r, a in zip(radius, polar, strict=True)
  ]
  positions = np.concatenate([[[0, 0, EYE_RADIUS + CORNEA_BULGE]], *rings])
  ids = np.arange(len(EYE_RINGS) * EYE_SEGMENTS).reshape(len(EYE_RINGS), EYE_SEGMENTS) + 1
  faces = _pole_fan(ids)
  # The front 44 degrees, all that lids ever show, take three quarters of the radius.
  spread = np.interp(EYE_RINGS, [0, 44, 90, 150], [0, 0.74, 0.93, 1.0])
  disc = np.concatenate([[[0, 0]], *[s * circle for s in spread]])
  number = np.concatenate([[0], np.repeat(np.arange(1, len(EYE_RINGS) + 1), EYE_SEGMENTS)])
  return Part(
    positions + EYE_CENTER, faces, number, np.zeros(len(positions)), 0.5 + 0.5 * squircle(disc)
  )


def mirrored(part: Part) -> Part:
  """The part on the other side."""
  return dataclasses.replace(
    part,
    positions=part.positions * MIRROR,
    faces=part.faces[:, ::-1],
    uv=part.uv * [-1, 1] + [1, 0],
  )


def _pole_fan(ids: Int[np.ndarray, 'r n']) -> Int[np.ndarray, 'f 3']:
  """Triangles of a pole (vertex 0) and rings around it, seen from outside."""
  first = ids[0].tolist()
  fan = [(0, a, b) for a, b in zip(first, first[1:] + first[:1], strict=True)]
  rows = [(a, c, b) for a, b, c in strip(ids.tolist(), closed=True)]
  return np.array(fan + rows)


def teeth(upper: bool) -> Part:
  """One dental arch with its gum: an open sheet of columns along the arch."""
  widths = UPPER_TOOTH_WIDTHS if upper else LOWER_TOOTH_WIDTHS
  profile = np.array(UPPER_PROFILE if upper else LOWER_PROFILE)
  edges = np.concatenate([[0], np.cumsum(widths)])
  inner = np.linspace(0, 1, COLUMNS_PER_TOOTH, endpoint=False)
  half = np.concatenate([edges[i] + inner * widths[i] for i in range(len(widths))] + [edges[-1:]])
  along = np.concatenate([-half[:0:-1], half])
  within = np.concatenate([np.tile(inner, len(widths)), [0.0]])
  within = np.concatenate([within[:0:-1], within])
  crown = 1 - np.abs(2 * within - 1) ** 3  # 0 between teeth, 1 on most of one
  angle = _arch_angle(along)
  rows = []
  for offset, y, enamel, rise in profile:
    radial = offset - 0.5 * enamel * (1 - crown)
    height = y + rise * crown + (0.8 if upper else -1.2) * np.sin(angle) ** 2
    rows.append(
      np.stack(
        [
          (ARCH_WIDTH + radial) * np.sin(angle),
          height,
          ARCH_CENTER_Z + (ARCH_DEPTH + radial) * np.cos(angle),
        ],
        axis=1,
      )
    )
  positions = np.concatenate(rows)
  count, columns = len(profile), len(angle)
  ids = np.arange(count * columns).reshape(count, columns)
  faces = np.array(strip(ids.T.tolist(), closed=False))
  a, b, c = (positions[faces[:, k]] for k in range(3))
  front = np.argmax((a + b + c)[:, 2])
  if np.cross(b - a, c - a)[front, 2] < 0:
    faces = faces[:, ::-1]
  # Fronts get most of the height of the chart, gum roots and backs little.
  share = np.array([0.6, 0.8, 1.0, 2.2, 2.6, 0.9, 1.0, 0.5])
  v = np.concatenate([[0], np.cumsum(share)]) / share.sum()
  u = 0.5 + 0.5 * along / along[-1]
  uv = np.stack([np.tile(u, count), np.repeat(1 - v if upper else v, columns)], axis=1)
  enamel = np.repeat(profile[:, 2], columns) * (0.75 + 0.25 * np.tile(crown, count))
  return Part(positions, faces, np.repeat(np.arange(count), columns), enamel, uv)


def _arch_angle(along: Float[np.ndarray, ' n']) -> Float[np.ndarray, ' n']:
  """Angle on the elliptic arch at signed arc lengths from its front."""
  angle = np.linspace(-np.pi / 2, np.pi / 2, 2001)
  speed = np.hypot(ARCH_WIDTH * np.cos(angle), ARCH_DEPTH * np.sin(angle))
  length = np.concatenate([[0], np.cumsum(0.5 * (speed[1:] + speed[:-1]) * np.diff(angle))])
  length -= length[len(length) // 2]
  return np.interp(along, length, angle)


def tongue() -> Part:
  """Flattened ball with a groove along its back, open at the throat."""
  polar = np.linspace(0, np.pi, TONGUE_RINGS + 2)[1:-1]
  turn = np.arange(TONGUE_SEGMENTS) / TONGUE_SEGMENTS * 2 * np.pi
  circle = np.stack([np.cos(turn), np.sin(turn)], axis=1)
  rings = [
    np.column_stack([np.sin(a) * circle, np.full(TONGUE_SEGMENTS, np.cos(a))]) for a in polar
  ]
  unit = np.concatenate([[[0, 0, 1.0]], *rings])
  groove = 0.18 * np.exp(-((unit[:, 0] / 0.25) ** 2)) * (unit[:, 1] > 1e-9)
  positions = unit * TONGUE_RADII + TONGUE_CENTER
  positions[:, 1] -= groove * TONGUE_RADII[1]
  ids = np.arange(TONGUE_RINGS * TONGUE_SEGMENTS).reshape(TONGUE_RINGS, TONGUE_SEGMENTS) + 1
  disc = np.concatenate([[[0, 0]], *[a / polar[-1] * circle for a in polar]])
  number = np.concatenate([[0], np.repeat(np.arange(1, TONGUE_RINGS + 1), TONGUE_SEGMENTS)])
  return Part(
    positions, _pole_fan(ids), number, np.zeros(len(positions)), 0.5 + 0.5 * squircle(disc)
  )
