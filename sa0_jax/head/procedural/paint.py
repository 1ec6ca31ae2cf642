"""Colours of the procedural head from its anatomy: simple skin, lips, brows, hair cap, eyes, teeth.

Every function works on any points of the surface (vertices, texels, pixels) whose paint fields were
interpolated from the vertices, so that detail does not depend on the mesh. Colours are sRGB.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from sa0_jax.head.procedural.anatomy import (
  EYE_CENTER,
  IRIS_RADIUS,
  PUPIL_RADIUS,
  Number,
  smoothstep,
)
from sa0_jax.head.procedural.hairline import hairline_distance
from sa0_jax.head.procedural.semantics import ProceduralSemantics

Color = tuple[Number, Number, Number]
Points = Float[np.ndarray, 'n 3']
Mask = Float[np.ndarray, ' n']

SKIN_TONES: dict[str, Color] = {
  'porcelain': (0.91, 0.76, 0.68),
  'fair': (0.88, 0.70, 0.60),
  'medium': (0.80, 0.60, 0.48),
  'olive': (0.72, 0.53, 0.40),
  'brown': (0.55, 0.37, 0.27),
  'dark': (0.38, 0.25, 0.19),
}
HAIR_COLORS: dict[str, Color] = {
  'black': (0.07, 0.06, 0.06),
  'dark brown': (0.17, 0.11, 0.08),
  'brown': (0.30, 0.20, 0.12),
  'auburn': (0.38, 0.19, 0.11),
  'blond': (0.62, 0.48, 0.30),
  'grey': (0.55, 0.54, 0.53),
}
IRIS_COLORS: dict[str, Color] = {
  'dark brown': (0.19, 0.12, 0.08),
  'brown': (0.30, 0.19, 0.10),
  'hazel': (0.38, 0.31, 0.16),
  'green': (0.32, 0.39, 0.26),
  'blue': (0.32, 0.45, 0.56),
  'grey': (0.45, 0.50, 0.52),
}

# The middle line of the left eyebrow, its half width and where it thins out, by x in mm.
BROW_X = (9, 14, 22, 31, 40, 47, 53)
BROW_Y = (15.5, 17.6, 20.4, 22.8, 23.4, 21.2, 17.0)
BROW_HALF_WIDTH = (3.2, 3.9, 3.7, 3.2, 2.5, 1.7, 0.7)


# Upper border of the beard on the cheek, by z in mm: from the sideburn to the corner of the mouth.
BEARD_Z = (-10, 4, 14, 28, 46, 66, 86)
BEARD_TOP = (-14, -16, -30, -50, -61, -64, -62)


@dataclasses.dataclass(frozen=True)
class Look:
  """What a person is painted with.

  Attributes:
    skin: base colour of the skin.
    hair: colour of scalp hair, brows and beard.
    iris: colour of the eyes.
    scalp: density of the painted hair cap, 0 (bald) to 1.
    stubble: density of a shaved or short beard, 0 to 1.
    brows: density of the eyebrows, 0 to 1.
    ruddiness: how much cheeks, nose, lips and ears differ from the rest of the skin; 1 = average.
  """

  skin: Color = SKIN_TONES['fair']
  hair: Color = HAIR_COLORS['dark brown']
  iris: Color = IRIS_COLORS['brown']
  scalp: Number = 1.0
  stubble: Number = 0.0
  brows: Number = 0.75
  ruddiness: Number = 1.0


@dataclasses.dataclass(frozen=True, eq=False)
class PaintFields:
  """What `paint` needs to know about points of the surface; all but `template` are in [0, 1].

  Attributes:
    template: [n, 3] authored millimetres of the points on the neutral average head.
    eye: on an eyeball.
    teeth: on a dental arch, gums included.
    enamel: on a tooth.
    tongue: on the tongue.
    lips: on the red of the lips.
    mouth: inside the mouth.
    lid_edge: on the margin of a lid.
    lining: on the lids' inner side or in the corner of the eye.
    nostril: inside a nostril.
    ear: on the free part of an ear.
  """

  template: Points
  eye: Mask
  teeth: Mask
  enamel: Mask
  tongue: Mask
  lips: Mask
  mouth: Mask
  lid_edge: Mask
  lining: Mask
  nostril: Mask
  ear: Mask

  @classmethod
  def of_vertices(cls, labels: ProceduralSemantics) -> 'PaintFields':
    """The fields at the vertices."""
    mouth, lid = labels.mouth_ring.astype(np.int64), labels.lid_ring.astype(np.int64)
    component = labels.component

    def at(ring: np.ndarray, values: tuple[Number, ...]) -> Mask:
      padded = np.array([*values, *([0.0] * 16), 0.0], np.float32)
      return padded[np.where(ring >= 0, ring, -1)]

    return cls(
      template=labels.template,
      eye=((component == 1) | (component == 2)).astype(np.float32),
      teeth=((component == 3) | (component == 4)).astype(np.float32),
      enamel=labels.enamel.astype(np.float32),
      tongue=(component == 5).astype(np.float32),
      lips=at(mouth, (0, 0, 0, 0, 0.3, 0.7, 1, 1, 1, 1, 0.95, 0.5)),
      mouth=at(mouth, (1, 1, 1, 1, 1, 0.6, 0.2)),
      lid_edge=at(lid, (0, 0, 0.5, 1.0, 0.15)),
      lining=at(lid, (1, 1, 0.75)),
      nostril=at(labels.nostril_ring.astype(np.int64), (1, 1, 0.8, 0.35)),
      ear=np.clip(labels.ear_ring.astype(np.float32) / 3.0, 0, 1),
    )

  def stacked(self) -> Float[np.ndarray, 'n 13']:
    """All fields as columns, to be interpolated together."""
    columns = [getattr(self, field.name) for field in dataclasses.fields(self)[1:]]
    return np.column_stack([self.template, *columns]).astype(np.float32)

  @classmethod
  def from_stacked(cls, columns: Float[np.ndarray, 'n 13']) -> 'PaintFields':
    """The inverse of `stacked`."""
    return cls(columns[:, :3], *columns[:, 3:].T)


def paint(fields: PaintFields, look: Look) -> tuple[Points, Mask]:
  """Colours and gloss of points.

  Args:
    fields: what the points are.
    look: what the person is painted with.

  Returns:
    ([n, 3] sRGB in [0, 1], [n] gloss: about 0.2 on skin, 0.9 on eyes).
  """
  base = np.asarray(look.skin, np.float64)
  color = _skin(fields, base, float(look.ruddiness))
  color = _mixed(color, _lip_color(base), fields.lips * 0.85)
  color = _mixed(color, np.array([0.55, 0.24, 0.22]), fields.mouth * (1 - 0.4 * fields.lips))
  color = _mixed(color, base * [0.62, 0.40, 0.38], fields.nostril * 0.8)
  color = _mixed(color, base * [1.0, 0.78, 0.74], np.clip(fields.lid_edge * 0.6, 0, 1))
  color = _mixed(color, np.array([0.80, 0.52, 0.48]), fields.lining * 0.85)
  color = _hair(color, fields, look)
  color = _mixed(color, np.array([0.72, 0.40, 0.39]), fields.tongue)
  gums = _mixed(
    np.tile([0.76, 0.44, 0.42], (len(color), 1)), np.array([0.92, 0.89, 0.81]), fields.enamel
  )
  color = _mixed(color, gums, fields.teeth)
  color = np.where(fields.eye[:, None] > 0.5, _eye(fields.template, look), color)
  gloss = 0.20 + 0.16 * fields.lips + 0.3 * fields.lining + 0.35 * fields.teeth + 0.2 * fields.mouth
  return np.clip(color, 0, 1), np.where(fields.eye > 0.5, 0.95, np.clip(gloss, 0, 1))


def default_colors(labels: ProceduralSemantics) -> Float[np.ndarray, 'v 3']:
  """A neutral person's colour at every vertex, sRGB: a start for what no camera has seen."""
  color, _ = paint(PaintFields.of_vertices(labels), Look(scalp=0.9))
  return color.astype(np.float32)


def texel_colors(
  labels: ProceduralSemantics,
  corners: Int[np.ndarray, 'n 3'],
  barycentric: Float[np.ndarray, 'n 3'],
  look: Look | None = None,
) -> Float[np.ndarray, 'n 3']:
  """Colours of surface points, sRGB: a start for texels that no camera has seen.

  Args:
    labels: of the procedural head.
    corners: vertices of the triangle each point lies on, `head.faces[face]`.
    barycentric: weights of those vertices.
    look: what to paint with; a neutral person by default.
  """
  at_vertices = PaintFields.of_vertices(labels).stacked()
  at_points = (at_vertices[corners] * barycentric[:, :, None].astype(np.float32)).sum(1)
  color, _ = paint(PaintFields.from_stacked(at_points), look or Look(scalp=0.9))
  return color.astype(np.float32)


def _mixed(color: Points, other: np.ndarray, amount: Mask) -> Points:
  return color + amount[:, None] * (other - color)


def _bell(p: Points, center: Color, radii: Color) -> Mask:
  return np.exp(-(((p - np.asarray(center)) / np.asarray(radii)) ** 2).sum(1))


def _mottle(p: Points, wavelength: Number) -> Mask:
  """Smooth noise in [−1, 1] by interfering waves."""
  q = p * (2 * np.pi / wavelength)
  x, y, z = q.T
  warp = np.sin(0.37 * x + 0.71 * y) + np.sin(0.53 * y - 0.61 * z + 1.3)
  waves = np.sin(x + 0.6 * z + warp) + np.sin(0.8 * y - 0.55 * x + 1.7 * warp)
  return (waves + np.sin(0.9 * z + 0.45 * y - warp)) / 3


def _folded(p: Points) -> Points:
  return np.column_stack([np.abs(p[:, 0]), p[:, 1], p[:, 2]])


def _skin(fields: PaintFields, base: np.ndarray, ruddiness: float) -> Points:
  p = _folded(fields.template)
  red, dark = base * [1.03, 0.84, 0.83], base * [0.84, 0.76, 0.78]
  blush = (
    0.55 * _bell(p, (40, -30, 68), (20, 16, 32))
    + 0.50 * _bell(p, (0, -36, 110), (15, 11, 14))
    + 0.25 * _bell(p, (0, -100, 92), (17, 10, 14))
    + 0.20 * _bell(p, (0, 15, 96), (16, 10, 14))
    + 0.45 * fields.ear
  )
  shade = 0.40 * _bell(p, (28, -11, 78), (14, 6, 14)) + 0.35 * _bell(p, (20, 6, 78), (9, 8, 10))
  shade = (
    shade + 0.22 * _bell(p, (17, -41, 92), (4, 8, 9)) + 0.18 * _bell(p, (0, -86, 93), (14, 5, 9))
  )
  color = np.tile(base, (len(p), 1))
  color = _mixed(color, red, np.clip(blush * ruddiness, 0, 1))
  color = _mixed(color, dark, shade)
  grain = 0.018 * _mottle(fields.template, 21.0) + 0.016 * _mottle(fields.template, 6.5)
  grain = grain + 0.012 * _mottle(fields.template, 2.3)
  return color * (1 + grain[:, None] * [0.8, 1.1, 1.2])


def _lip_color(base: np.ndarray) -> np.ndarray:
  pale = base * [0.92, 0.70, 0.71]
  deep = base * [1.02, 0.78, 0.80]
  return pale if base.mean() > 0.42 else deep


def _hair(color: Points, fields: PaintFields, look: Look) -> Points:
  """Eyebrows, lash shadows, beard and the hair cap."""
  p = _folded(fields.template)
  x, y, z = p.T
  tint = np.asarray(look.hair, np.float64)
  skin = 1 - np.clip(fields.eye + fields.teeth + fields.tongue + fields.mouth + fields.lips, 0, 1)
  fur = 0.5 + 0.5 * np.sin(
    9.0 * x * np.clip(0.4 + x / 60, 0.4, 1.1) + 4.2 * y + 0.9 * np.sin(1.3 * y)
  )
  across = np.abs(y - np.interp(x, BROW_X, BROW_Y)) / np.interp(x, BROW_X, BROW_HALF_WIDTH)
  brow = (1 - smoothstep(across + 0.25 * fur, 0.35, 1.35)) * smoothstep(x, 7, 13)
  brow = brow * (1 - smoothstep(x, 47, 54)) * (z > 45) * skin * (0.72 + 0.28 * fur)
  color = _mixed(color, tint * 0.85 + 0.02, np.clip(brow * look.brows, 0, 1))
  upper = np.asarray(y > 0.5)
  lashes = smoothstep(fields.lid_edge, 0.55, 0.95) * np.where(upper, 0.85, 0.35)
  color = _mixed(color, tint * 0.4 + 0.02, lashes)
  if look.stubble:
    amount = _beard(fields.template, p) * skin * (1 - fields.ear) * look.stubble
    color = _mixed(color, tint * 0.7 + 0.12, np.clip(amount, 0, 1))
  edge = hairline_distance(fields.template.astype(np.float64))
  ragged = 1.6 * _mottle(fields.template, 17.0) + 1.2 * _mottle(fields.template, 4.5)
  cap = smoothstep(edge + ragged, -3.0, 7.0) * skin * (1 - np.clip(1.6 * fields.ear, 0, 1))
  return _mixed(color, tint * _strands(fields.template)[:, None], np.clip(cap * look.scalp, 0, 1))


def _strands(template: Points) -> Mask:
  """Brightness of short hair that falls from the crown."""
  x, y, z = template.T
  turn = np.arctan2(x, z + 25.0) + 0.05 * _mottle(template, 60.0) + 0.004 * y
  streaks = np.sin(61 * turn) + np.sin(113 * turn + 1.0) + np.sin(197 * turn + 2.0)
  return 1 + 0.045 * streaks + 0.10 * _mottle(template, 9.0) + 0.06 * _mottle(template, 3.0)


def _beard(template: Points, folded: Points) -> Mask:
  """Where a beard grows: moustache, chin, jaw up to the sideburns, down to the neck's bend."""
  x, y, z = folded.T
  upper = np.interp(z, BEARD_Z, BEARD_TOP)
  upper = np.maximum(upper, np.interp(x, (0, 18, 27), (-44, -50, -90)) - 40 * (z < 80))
  under = smoothstep(y, -136, -112 - 8 * smoothstep(z, 60, 30))
  behind = smoothstep(z + 0.1 * y, -22, 0)
  speck = 0.72 + 0.28 * _mottle(template, 1.7)
  return smoothstep(upper - y + 1.5 * _mottle(template, 11.0), -4, 9) * under * behind * speck


def _eye(template: Points, look: Look) -> Points:
  """Sclera with reddish corners, limbus, radial iris fibres and pupil."""
  offset = _folded(template) - EYE_CENTER
  radius = np.hypot(offset[:, 0], offset[:, 1]) + 50.0 * (offset[:, 2] < 0)
  turn = np.arctan2(offset[:, 1], offset[:, 0])
  side = np.clip(np.abs(offset[:, 0]) / 12.0, 0, 1)
  sclera = np.tile([0.90, 0.875, 0.85], (len(offset), 1))
  sclera = _mixed(sclera, np.array([0.83, 0.66, 0.60]), 0.75 * side**3)
  sclera = _mixed(sclera, np.array([0.80, 0.60, 0.56]), (offset[:, 2] < 3).astype(float))
  iris = np.asarray(look.iris, np.float64)
  fibre = 0.5 * np.sin(23 * turn + 1.5 * radius) + 0.5 * np.sin(41 * turn - 2.0 * radius)
  inner = smoothstep(radius, 2.0, 4.4)
  iris = iris * (1.22 - 0.32 * inner + 0.13 * fibre)[:, None]
  iris = _mixed(iris, np.asarray(look.iris) * 0.35, smoothstep(radius, 4.9, 5.8))
  color = _mixed(iris, sclera, smoothstep(radius, IRIS_RADIUS - 0.25, IRIS_RADIUS + 0.35))
  return _mixed(
    color,
    np.array([0.015, 0.015, 0.015]),
    1 - smoothstep(radius, PUPIL_RADIUS - 0.2, PUPIL_RADIUS + 0.2),
  )
