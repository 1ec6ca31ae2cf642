"""The left ear as closed rings: attachment, back, rim and inner relief (builder only, mm)."""

import itertools

import numpy as np
from jaxtyping import Float

from sa0_jax.head.procedural.anatomy import EAR_CENTER, Number, smoothstep
from sa0_jax.head.procedural.sdf import project, skin_field

Ring = Float[np.ndarray, 'n 3']

EAR_POINTS = 40

# Outline around the attachment: angle in degrees (0 forward, 90 up), radius, height of the rim
# over the head.
EAR_OUTLINE = np.array(
  [
    [0, 12.5, 0.3],
    [30, 14.5, 1.0],
    [52, 20.5, 2.8],
    [72, 29.5, 6.0],
    [90, 33.5, 9.6],
    [110, 34.0, 12.8],
    [132, 31.5, 15.2],
    [155, 27.5, 16.4],
    [178, 25.5, 15.8],
    [200, 24.0, 13.4],
    [222, 23.5, 9.0],
    [245, 25.5, 5.0],
    [265, 28.0, 2.8],
    [282, 27.5, 1.8],
    [299, 23.0, 1.2],
    [318, 17.5, 0.6],
    [340, 13.5, 0.3],
    [360, 12.5, 0.3],
  ]
)

# Rings of the outer face, rim first: fraction of the outline, height over the rim's.
RIM_STEPS = ((1.0, -1.4), (1.025, 0.6), (0.99, 2.1), (0.925, 2.0), (0.875, 0.3))
INNER_STEPS = (0.82, 0.71, 0.60, 0.48, 0.36, 0.22)

# Ridges and hollows of the inner face in the ear's plane: path of (forward, up), radius, height.
# Antihelix, its upper and lower crus, crus of the helix, tragus, antitragus, lobe.
RIDGES = (
  (((-4, -17), (-11, -10), (-14, 0), (-13, 9)), 3.6, 4.2),
  (((-13, 9), (-9, 17), (-5, 22)), 3.6, 3.6),
  (((-13, 9), (-6, 12.5), (1, 13)), 3.2, 3.2),
  (((11, 6), (4, 2), (-2, 0)), 3.0, 3.6),
  (((9.0, 0), (8.0, -4), (8.0, -8)), 3.6, 5.0),
  (((-1, -16), (-4, -17.5)), 3.4, 3.2),
  (((-3, -25), (-4, -29)), 6.5, 2.6),
)
# Scapha, triangular fossa, cavity and cymba of the concha.
HOLLOWS = (
  (((-9, 25), (-19, 13), (-20, -2), (-15, -14)), 3.0, 1.2),
  (((-4, 16), (0, 18)), 3.6, 1.4),
  (((0, -6), (-4, -9)), 7.0, 5.5),
  (((-4, 5.5), (-8, 5)), 4.0, 3.0),
)


def _axes() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Axes of the ear: forward, up, out; it leans back by 14° and lies on the head below."""
  tilt = np.radians(14)
  forward = np.array([0.12, np.sin(tilt), np.cos(tilt)])
  forward /= np.linalg.norm(forward)
  up = np.array([0.19, np.cos(tilt), -np.sin(tilt)])
  up -= (up @ forward) * forward
  up /= np.linalg.norm(up)
  return forward, up, np.cross(up, forward)


def _distance_to_path(
  points: Float[np.ndarray, 'n 2'], path: tuple[tuple[Number, Number], ...]
) -> Float[np.ndarray, ' n']:
  best = np.full(len(points), np.inf)
  for start, end in itertools.pairwise(path):
    a, b = np.asarray(start, np.float64), np.asarray(end, np.float64)
    t = np.clip(((points - a) @ (b - a)) / ((b - a) @ (b - a)), 0, 1)
    best = np.minimum(best, np.linalg.norm(points - a - t[:, None] * (b - a), axis=1))
  return best


def _relief(plane: Float[np.ndarray, 'n 2']) -> Float[np.ndarray, ' n']:
  """Height of ridges and hollows at points of the ear's plane."""

  def bell(path: tuple[tuple[Number, Number], ...], radius: Number) -> Float[np.ndarray, ' n']:
    return np.exp(-((_distance_to_path(plane, path) / radius) ** 2))

  ridges = np.maximum.reduce([height * bell(path, radius) for path, radius, height in RIDGES])
  hollows = np.maximum.reduce([depth * bell(path, radius) for path, radius, depth in HOLLOWS])
  return ridges - hollows


def _head_height(points: Ring, out: Float[np.ndarray, '3']) -> Float[np.ndarray, ' n']:
  """How far the head's surface lies from points, along an axis, within 15 mm."""
  low, high = np.full(len(points), -15.0), np.full(len(points), 15.0)
  for _ in range(20):
    middle = 0.5 * (low + high)
    inside = skin_field(points + middle[:, None] * out) < 0
    low, high = np.where(inside, middle, low), np.where(inside, high, middle)
  return low


def ear_rings() -> list[Ring]:
  """Fourteen closed rings: attachment, back of the ear, rim, inner face, concha."""
  from scipy.interpolate import CubicSpline

  degrees = np.arange(EAR_POINTS) / EAR_POINTS * 360.0
  outline, height = (
    CubicSpline(EAR_OUTLINE[:, 0], EAR_OUTLINE[:, k], bc_type='periodic')(degrees) for k in (1, 2)
  )
  height = np.maximum(height, 0.3)
  angle = np.radians(degrees)
  direction = np.stack([np.cos(angle), np.sin(angle)], axis=1)
  forward, up, out = _axes()
  free = smoothstep(-np.cos(angle - np.radians(12)), -0.55, 0.35)

  def place(plane: Float[np.ndarray, 'n 2'], n: Float[np.ndarray, ' n']) -> Ring:
    return EAR_CENTER + plane[:, :1] * forward + plane[:, 1:] * up + n[:, None] * out

  base = np.stack(
    [np.where(direction[:, 0] > 0, 13.5, 13.0) * direction[:, 0] - 1.0, 25.5 * direction[:, 1] - 1],
    axis=1,
  )
  # In front the rim lies flat on the cheek, inside the attachment.
  fixed = (1 - smoothstep(free, 0.0, 0.3))[:, None]
  base = base + fixed * (direction * (outline + 3.0)[:, None] - base)
  attachment = project(place(base, np.zeros(EAR_POINTS)), 20)
  # The rim curls only where the ear is free; in front it runs into the cheek, below into the lobe.
  lobe = np.exp(-((((degrees - 275 + 180) % 360 - 180) / 34.0) ** 2))
  held = np.clip(1 - free + 0.5 * lobe, 0, 1)
  skin = _head_height(place(direction * outline[:, None], np.zeros(EAR_POINTS)), out)
  height = height + held * skin
  back = place(direction * (outline * 0.94)[:, None], height * 0.86 - 1.6 * free)
  rings = [
    attachment,
    attachment + 0.25 * (back - attachment) + 0.4 * free[:, None] * out,
    0.4 * attachment + 0.6 * back,
  ]
  for fraction, rise in RIM_STEPS:
    curl = rise * (0.12 + 0.88 * free) * (1 - 0.6 * lobe)
    rings.append(place(direction * (outline * fraction)[:, None], height + curl))
  for fraction in INNER_STEPS:
    plane = direction * (outline * fraction)[:, None]
    bowl = height * (0.18 + 0.76 * fraction**1.3) - 1.2 * (1 - fraction)
    fade = smoothstep(np.full(EAR_POINTS, fraction), 0.95, 0.72)
    rings.append(place(plane, bowl + _relief(plane) * fade))
  return rings
