"""Painting eyeballs: whites with veins, iris with fibres, limbus and pupil. Linear RGB."""

import numpy as np
from jaxtyping import Float

from sa0_jax.capture.studio import noise
from sa0_jax.capture.studio.subject import EyeLook
from sa0_jax.head.procedural.anatomy import EYE_CENTER, smoothstep

# Radius of the iris in mm, seen from the front.
IRIS_RADIUS = 5.9

_WHITE = np.array([0.64, 0.605, 0.575])
_FLESH = np.array([0.50, 0.20, 0.17])
_AMBER = np.array([0.20, 0.105, 0.035])
_LIMBUS = np.array([0.030, 0.030, 0.036])


def paint_eyes(
  points: Float[np.ndarray, 'n 3'], eyes: EyeLook, seed: int
) -> Float[np.ndarray, 'n 3']:
  """Reflectance of points of the eyeballs.

  Args:
    points: [n, 3] template coordinates in mm, either eye.
    eyes: what the eyes look like.
    seed: of fibres and veins.
  """
  side = np.sign(points[:, :1])
  offset = points - np.float32(EYE_CENTER) * np.concatenate([side, side**2, side**2], axis=1)
  outwards = offset[:, 0] * side[:, 0]
  radius = np.hypot(offset[:, 0], offset[:, 1]) + 50.0 * (offset[:, 2] < 0)
  color = _white(points, offset, outwards, eyes, seed)
  iris = _iris(offset, radius, side[:, 0], eyes, seed)
  # The white runs into the iris over most of a millimetre.
  border = smoothstep(radius, IRIS_RADIUS - 0.45, IRIS_RADIUS + 0.45)
  color = iris + border[:, None] * (color - iris)
  ring = np.exp(-(((radius - IRIS_RADIUS + 0.25) / 0.75) ** 2)) * eyes.limbus
  color = color + ring[:, None] * (_LIMBUS * 0.6 + 0.25 * iris - color)
  pupil = 1 - smoothstep(radius, eyes.pupil - 0.2, eyes.pupil + 0.25)
  return color + pupil[:, None] * (0.002 - color)


def _white(
  points: Float[np.ndarray, 'n 3'],
  offset: Float[np.ndarray, 'n 3'],
  outwards: Float[np.ndarray, ' n'],
  eyes: EyeLook,
  seed: int,
) -> Float[np.ndarray, 'n 3']:
  color = np.tile(_WHITE, (len(points), 1))
  # Towards the corners vessels gather; the inner one ends in flesh.
  corner = np.clip(np.abs(outwards) / 12.0, 0, 1) ** 2
  yellow = 0.10 * noise.fractal(points, 5.0, seed + 51, octaves=2)[:, None]
  color = color * (1 - (0.10 * corner[:, None] + np.clip(yellow, 0, 1)) * [0.2, 0.5, 1.0])
  winding = points + 1.5 * noise.fractal(points, 3.0, seed + 52, octaves=2)[:, None]
  ridge = 1 - np.abs(noise.fractal(winding, (7.0, 3.2, 7.0), seed + 53, octaves=2))
  veins = smoothstep(ridge, 0.90, 0.99) * eyes.veins * (0.10 + 0.75 * corner)
  redness = np.clip(0.55 * veins + 0.18 * eyes.veins * corner, 0, 1)
  color = color + redness[:, None] * (color * [0.95, 0.50, 0.46] - color)
  inner = smoothstep(-outwards, 9.3, 11.6)
  behind = smoothstep(-offset[:, 2], -5.0, 0.0)
  flesh = np.clip(0.7 * inner + behind, 0, 1)
  return color + flesh[:, None] * (_FLESH - color)


def _iris(
  offset: Float[np.ndarray, 'n 3'],
  radius: Float[np.ndarray, ' n'],
  side: Float[np.ndarray, ' n'],
  eyes: EyeLook,
  seed: int,
) -> Float[np.ndarray, 'n 3']:
  around = offset / np.maximum(radius, 0.3)[:, None]
  # Fibres: noise that varies quickly around the pupil and slowly away from it.
  polar = np.column_stack([6.0 * around[:, 0], 6.0 * around[:, 1], 0.35 * radius + 40 * side])
  fibre = noise.fractal(polar.astype(np.float32), 0.8, seed + 61, octaves=3, gain=0.7)
  collar = np.exp(-(((radius - eyes.pupil - 1.0 - 0.5 * fibre) / 0.9) ** 2))
  tint = np.asarray(eyes.iris)
  color = tint * (1.0 + 0.75 * fibre + 0.35 * collar)[:, None]
  color = color + (0.6 * eyes.ring * collar)[:, None] * (_AMBER - color)
  return np.maximum(color * (1.1 - 0.35 * smoothstep(radius, 3.8, 5.6))[:, None], 0.003)
