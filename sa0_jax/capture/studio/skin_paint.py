"""Painting a subject: skin by its pigments, brows, lips, teeth, eyes.

Colours are linear RGB reflectance. Skin is described by its two pigments, melanin and haemoglobin:
reflectance falls exponentially with each (Beer–Lambert), so that freckles, blushes, lips and tired
eyes are changes of a pigment and look right on any tone. Absorption per unit is fitted by eye to
the range of human skin, not measured.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from sa0_jax.capture.studio import noise
from sa0_jax.capture.studio.eye_paint import paint_eyes
from sa0_jax.capture.studio.subject import BrowLook, Look, SkinLook
from sa0_jax.head.procedural.anatomy import EYE_CENTER, Vector, smoothstep
from sa0_jax.head.procedural.hairline import hairline_distance
from sa0_jax.head.procedural.paint import (
  BROW_HALF_WIDTH,
  BROW_X,
  BROW_Y,
  PaintFields,
)

Mask = Float[np.ndarray, ' n']
Colors = Float[np.ndarray, 'n 3']

# −log reflectance (R, G, B) of skin without pigment, and what a unit of each pigment adds.
_BARE = np.array([0.18, 0.30, 0.46])
_MELANIN = np.array([1.54, 2.10, 2.55])
_BLOOD = np.array([0.10, 0.36, 0.38])
# Melanin of the palest and darkest skin in units of `_MELANIN`.
_MELANIN_RANGE = (0.05, 1.0)

_ENAMEL = np.array([0.66, 0.60, 0.49])
_GUM = np.array([0.36, 0.11, 0.10])
_TONGUE = np.array([0.40, 0.13, 0.12])
_CAVITY = np.array([0.090, 0.018, 0.016])


def paint(fields: PaintFields, look: Look) -> Float[np.ndarray, 'n 4']:
  """Reflectance and gloss of points of the surface."""
  points = fields.template.astype(np.float32)
  folded = points.copy()
  folded[:, 0] = np.abs(folded[:, 0])
  soft = 1 - np.clip(fields.eye + fields.teeth + fields.tongue, 0, 1)
  melanin, blood = _pigments(fields, points, folded, look)
  color = _skin_color(melanin, blood)
  color = _mixed(color, _CAVITY, fields.mouth**1.5 * (1 - fields.lips) * soft)
  color = _mixed(color, color * 0.10, np.clip(1.25 * fields.nostril, 0, 1))
  color = _mixed(color, _skin_color(0.5 * melanin, blood + 1.1), 0.8 * fields.lining * soft)
  hair = np.asarray(look.hair.color)
  color = _mixed(color, hair * 0.3 + 0.002, _lashes(fields, folded))
  color = _mixed(color, hair * 0.55 + 0.004, _brows(points, folded, look) * soft)
  color = _mixed(color, hair * 0.5 + 0.02, _stubble(fields, points, folded, look) * soft)
  color = _mixed(color, hair * 0.7 + 0.002, _scalp(fields, points, folded, look) * soft)
  inside = np.flatnonzero((fields.tongue > 0) | (fields.teeth > 0))
  color[inside] = _inside_mouth(color[inside], _rows(fields, inside), points[inside], look.seed)
  gloss = _gloss(fields, points, folded, look.skin)
  on_eye = fields.eye > 0.5
  if on_eye.any():
    color[on_eye] = paint_eyes(points[on_eye], look.eyes, look.seed)
  gloss = np.where(on_eye, 1.0, gloss)
  return np.column_stack([np.clip(color, 0.002, 0.95), np.clip(gloss, 0, 1)]).astype(np.float32)


def skin_base(skin: SkinLook) -> Float[np.ndarray, '3']:
  """Reflectance of even skin of a tone."""
  return _skin_color(np.array([_melanin_of(skin)]), np.array([skin.blood]))[0]


def _melanin_of(skin: SkinLook) -> float:
  low, high = _MELANIN_RANGE
  return low + (high - low) * skin.melanin


def _skin_color(melanin: Mask, blood: Mask) -> Colors:
  # Melanin lies over the blood and hides it: redness fades in dark skin.
  seen = blood * (1.05 - 0.45 * np.clip(melanin, 0, 1))
  return np.exp(-(_BARE + melanin[:, None] * _MELANIN + seen[:, None] * _BLOOD))


def _mixed(color: Colors, other: np.ndarray, amount: Mask) -> Colors:
  return color + np.clip(amount, 0, 1)[:, None] * (other - color)


def _rows(fields: PaintFields, rows: np.ndarray) -> PaintFields:
  """Some of the points."""
  parts = dataclasses.fields(fields)
  return PaintFields(**{part.name: getattr(fields, part.name)[rows] for part in parts})


def _bell(points: Colors, center: Vector, radii: Vector) -> Mask:
  offset = (points - np.asarray(center, np.float32)) / np.asarray(radii, np.float32)
  return np.exp(-(offset * offset).sum(axis=1))


def _pigments(fields: PaintFields, points: Colors, folded: Colors, look: Look) -> tuple[Mask, Mask]:
  """Melanin and haemoglobin of every point."""
  skin, seed = look.skin, look.seed
  blush = (
    0.42 * _bell(folded, (42, -33, 68), (21, 17, 34))
    + 0.45 * _bell(folded, (0, -36, 108), (15, 12, 18))
    + 0.24 * _bell(folded, (0, -103, 92), (18, 12, 16))
    + 0.12 * _bell(folded, (0, 25, 96), (30, 20, 20))
    + 0.16 * _bell(folded, (30, 8, 78), (18, 9, 16))
    + 0.50 * fields.ear
  )
  # Patches of better and worse supply, some millimetres wide.
  patches = noise.fractal(points, 22.0, seed + 1, octaves=3, gain=0.6)
  blood = skin.blood + skin.ruddiness * blush * (1 + 0.55 * patches)
  blood = blood + 0.16 * skin.mottling * patches
  blood = blood + 0.10 * noise.fractal(points, 3.2, seed + 2, octaves=2, gain=0.7)
  under = _bell(folded, (29, -12.5, 78), (15, 6.0, 16)) + 0.6 * _bell(
    folded, (19, -8, 78), (8, 7, 14)
  )
  blood = blood + 0.30 * skin.tired * under
  # The vermilion: a thin epithelium without much pigment over dense vessels.
  lips = smoothstep(fields.lips, 0.1, 1.0)
  creases, red = np.zeros(len(points), np.float32), np.flatnonzero(lips)
  creases[red] = noise.fractal(points[red], (1.1, 9.0, 9.0), seed + 3, octaves=2)
  rim = lips * (1 - lips) * 4
  blood = blood + lips * skin.lips * (1.55 + 0.45 * creases) + 0.12 * rim
  base = _melanin_of(skin)
  sun = 0.10 * _bell(folded, (0, -10, 100), (60, 60, 50)) - 0.05 * smoothstep(
    -folded[:, 1], 120, 160
  )
  melanin = base * (
    1 + sun + 0.10 * skin.mottling * noise.fractal(points, 30.0, seed + 4, octaves=4)
  )
  shade = under + 0.7 * _bell(folded, (31, 9.5, 80), (17, 6, 14))
  melanin = melanin + (0.035 + 0.10 * base) * skin.tired * shade
  melanin = melanin + base * (0.10 * lips + 0.25 * rim * base)
  middle = _bell(folded, (10, -26, 88), (46, 24, 44)) + 0.35
  if skin.freckles > 0:
    chance = np.clip(1.1 * skin.freckles * middle, 0, 0.75)
    freckle = noise.spots(points, 3.4, chance, 0.85, seed + 5)
    melanin = melanin + 0.22 * freckle * (1 - lips) * (0.4 + 0.6 * skin.freckles)
  mole = noise.spots(
    points, 34.0, np.full(len(points), 0.35 * skin.moles, np.float32), 0.9, seed + 6
  )
  melanin = melanin + 0.55 * np.clip(1.5 * mole, 0, 1) * (1 - lips)
  fine = noise.fractal(points, 1.5, seed + 7, octaves=2)
  return np.maximum(melanin * (1 + 0.06 * fine), 0.01), np.maximum(blood, 0.05)


def _lashes(fields: PaintFields, folded: Colors) -> Mask:
  """The dark line where the lashes grow."""
  upper = smoothstep(folded[:, 1] - EYE_CENTER[1], -0.8, 0.8)
  return smoothstep(fields.lid_edge, 0.45, 0.95) * (0.35 + 0.60 * upper)


def _brows(points: Colors, folded: Colors, look: Look) -> Mask:
  """Short hairs that rise at the inner end and lie flat at the outer one."""
  amount = np.zeros(len(points), np.float64)
  x, y, z = folded.T
  rows = np.flatnonzero((z > 40) & (y > -10) & (y < 50) & (x < BROW_X[-1]))
  amount[rows] = _brow_hairs(points[rows], folded[rows], look.brows, look.seed)
  return amount


def _brow_hairs(points: Colors, folded: Colors, brows: BrowLook, seed: int) -> Mask:
  x, y, z = folded.T
  along = np.clip((x - BROW_X[0]) / (BROW_X[-1] - BROW_X[0]), 0, 1)
  line = np.interp(x, BROW_X, BROW_Y) + brows.raised + brows.arch * smoothstep(along, 0.35, 0.7)
  width = np.interp(x, BROW_X, BROW_HALF_WIDTH) * brows.thickness
  across = (y - line) / width
  angle = np.interp(along, (0.0, 0.25, 0.6, 1.0), (1.35, 0.85, 0.35, 0.05))
  c, s = np.cos(angle), np.sin(angle)
  lying = np.column_stack([x * c + y * s, (y * c - x * s) * 11.0, np.sign(points[:, 0]) * 50])
  hairs = 0.5 + 0.9 * noise.fractal(lying.astype(np.float32), 7.0, seed + 11, octaves=2, gain=0.7)
  ragged = noise.fractal(points, 2.6, seed + 12, octaves=2)
  body = 1 - smoothstep(np.abs(across) + 0.35 * ragged, 0.45, 1.5)
  # Dense under the middle, loose at the upper inner corner.
  body = body * (1 - 0.35 * smoothstep(across, 0.0, 1.0) * (1 - along))
  ends = smoothstep(x, BROW_X[0] - 2, BROW_X[0] + 7) * (
    1 - smoothstep(x, BROW_X[-1] - 9, BROW_X[-1])
  )
  inside = np.clip(0.75 + 0.9 * (hairs - 0.5), 0.35, 1.0)
  return brows.density * body * ends * inside * (z > 40)


def _stubble(fields: PaintFields, points: Colors, folded: Colors, look: Look) -> Mask:
  """The shadow of a shaved or short beard."""
  amount = np.zeros(len(points), np.float64)
  if look.skin.stubble > 0:
    rows = np.flatnonzero((folded[:, 1] < -30) & (folded[:, 1] > -151) & (folded[:, 2] > -10))
    there = beard_density(_rows(fields, rows), points[rows], look.seed)
    speck = 0.62 + 0.75 * noise.fractal(points[rows], 1.7, look.seed + 22, octaves=2, gain=0.8)
    amount[rows] = look.skin.stubble * there * np.clip(speck, 0.1, 1)
  return amount


def beard_density(fields: PaintFields, points: Colors, seed: int) -> Mask:
  """Where a beard grows, 0 to 1.

  Args:
    fields: what the points are.
    points: [n, 3] float32 template positions, mm.
    seed: of its ragged border.
  """
  folded = np.column_stack([np.abs(points[:, 0]), points[:, 1:]])
  x, y, z = folded.T
  wobble = 4.0 * noise.fractal(points, 14.0, seed + 21, octaves=2)
  area = (
    smoothstep(-y + wobble, 46, 58) * smoothstep(y, -150, -122) * smoothstep(z - 0.2 * x, -8, 20)
  )
  cheek = 1 - smoothstep(y + 0.62 * x - 0.14 * z + wobble, -44, -24)
  # Under the lower lip and beside the chin hair is sparse.
  bare = (
    _bell(folded, (13, -84, 92), (7, 8, 14)) * 0.6
    + _bell(folded, (0, -53, 100), (2.5, 6, 12)) * 0.6
  )
  skin = 1 - np.clip(fields.mouth + 1.3 * fields.lips + fields.ear, 0, 1)
  return area * cheek * skin * np.clip(1 - bare, 0, 1)


def scalp_distance(folded: Float[np.ndarray, 'n 3'], recede: float) -> Mask:
  """Signed distance to this subject's hairline in mm: receding moves the temples most."""
  distance = hairline_distance(folded.astype(np.float64))
  temple = np.exp(-(((folded[:, 0] - 42) / 16) ** 2)) * smoothstep(folded[:, 2], 20, 50)
  return distance - recede * (0.4 + 1.3 * temple) * smoothstep(folded[:, 1], 10, 45)


def _scalp(fields: PaintFields, points: Colors, folded: Colors, look: Look) -> Mask:
  """Hair roots seen between the strands; a shaved scalp keeps a shadow."""
  amount = np.zeros(len(points), np.float64)
  distance = scalp_distance(folded, look.hair.recede)
  rows = np.flatnonzero(distance > -16)
  ragged = 5.0 * noise.fractal(points[rows], 12.0, look.seed + 31, octaves=3, gain=0.6)
  edge = distance[rows] + ragged
  share = {'bald': 0.22, 'crop': 0.80, 'curly': 0.93}.get(look.hair.style, 0.86)
  fine = 1 + 0.25 * noise.fractal(points[rows], 2.0, look.seed + 32, octaves=2)
  bare = 1 - np.clip(2.0 * fields.ear[rows], 0, 1)
  amount[rows] = share * smoothstep(edge, -2.0, 10.0) * bare * fine
  return amount


def _inside_mouth(color: Colors, fields: PaintFields, points: Colors, seed: int) -> Colors:
  papillae = noise.fractal(points, 1.6, seed + 41, octaves=2)
  tongue = _TONGUE * (1 + 0.22 * papillae[:, None])
  color = _mixed(color, tongue, fields.tongue)
  # Molars sit in the cheek's shade and are yellower; every tooth has its own tint.
  back = np.clip(np.abs(points[:, 0]) / 26, 0, 1)[:, None]
  tint = noise.fractal(points * np.array([1.0, 0.2, 0.2], np.float32), 8.0, seed + 42)[:, None]
  enamel = _ENAMEL * (1 - 0.35 * back**2 * [0.8, 1.0, 1.25]) * (1 + 0.06 * tint)
  gum = _GUM * (1 + 0.2 * papillae[:, None])
  return _mixed(color, gum + np.clip(fields.enamel, 0, 1)[:, None] * (enamel - gum), fields.teeth)


def _gloss(fields: PaintFields, points: Colors, folded: Colors, skin: SkinLook) -> Mask:
  oily = (
    0.14 * _bell(folded, (0, -30, 105), (14, 18, 30))
    + 0.10 * _bell(folded, (0, 40, 92), (44, 24, 40))
    + 0.06 * _bell(folded, (40, -22, 72), (18, 14, 30))
    + 0.06 * _bell(folded, (0, -103, 92), (16, 12, 20))
  )
  # Pores break highlights up.
  pores = noise.fractal(points, 1.4, 43, octaves=2, gain=0.8)
  base = skin.gloss * (0.24 + oily) * (1 + 0.45 * pores)
  base = base + 0.26 * fields.lips + 0.45 * fields.lining + 0.35 * fields.lid_edge
  base = base + fields.teeth * (0.30 + 0.25 * fields.enamel) + 0.30 * fields.tongue
  return base + 0.25 * fields.mouth - 0.6 * fields.nostril
