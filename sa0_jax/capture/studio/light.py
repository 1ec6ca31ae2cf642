"""Studio light: a few large soft sources and a dome, all at infinity.

Intensities are in units of the picture: a white matte surface facing a source of intensity 1 shows
the value 1. Each source is a spherical Gaussian of radiance, exp(sharpness · (cos − 1)); that keeps
shadows soft and makes the light on a turning head change smoothly.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

Color = tuple[float, float, float]

# Half size of the largest softbox seen mirrored on an eye, as a tangent: a wall of light is dimmer
# than a lamp, and eyes look dead under it.
_LARGEST_BOX = 0.16


@dataclasses.dataclass(frozen=True)
class SoftLight:
  """One soft source.

  Attributes:
    direction: unit vector from the subject to the source, world axes.
    color: linear RGB intensity.
    sharpness: of its spherical Gaussian: 4 is a wall, 60 a small softbox.
  """

  direction: tuple[float, float, float]
  color: Color
  sharpness: float


@dataclasses.dataclass(frozen=True)
class LightRig:
  """All the light on a set.

  Attributes:
    lights: key, fill and rim.
    sky: linear RGB from straight above.
    ground: linear RGB from straight below.
    backdrop: linear RGB of the background's bright spot and of its corners.
  """

  lights: tuple[SoftLight, SoftLight, SoftLight]
  sky: Color
  ground: Color
  backdrop: tuple[Color, Color]


def sample_light(rng: np.random.Generator) -> LightRig:
  """Draws a portrait light: a key from one side, a weaker fill, a rim from behind."""
  side = rng.choice([-1.0, 1.0])
  warmth = rng.normal(0.0, 0.05)
  key = SoftLight(
    _direction(side * rng.uniform(0.25, 0.95), rng.uniform(0.35, 0.8)),
    _tinted(rng.uniform(0.80, 1.05), warmth),
    float(np.exp(rng.uniform(np.log(7.0), np.log(40.0)))),
  )
  fill = SoftLight(
    _direction(-side * rng.uniform(0.5, 1.1), rng.uniform(0.0, 0.35)),
    _tinted(rng.uniform(0.10, 0.32), rng.normal(0.0, 0.07)),
    float(rng.uniform(4.0, 9.0)),
  )
  rim = SoftLight(
    _direction(-side * rng.uniform(2.0, 2.6), rng.uniform(0.2, 0.7)),
    _tinted(rng.uniform(0.15, 0.6), rng.normal(0.0, 0.07)),
    float(rng.uniform(8.0, 20.0)),
  )
  ambient = rng.uniform(0.11, 0.21)
  sky = _tinted(ambient * rng.uniform(1.0, 1.3), rng.normal(-0.03, 0.04))
  ground = _tinted(ambient * rng.uniform(0.4, 0.9), rng.normal(0.05, 0.04))
  level, tint = rng.uniform(0.10, 0.42), rng.normal(0.0, 0.10)
  backdrop = (_tinted(level, tint), _tinted(level * rng.uniform(0.35, 0.65), tint))
  return LightRig((key, fill, rim), sky, ground, backdrop)


def light_directions(count: int = 64) -> Float[np.ndarray, 'd 3']:
  """Evenly spread unit vectors (a Fibonacci sphere) at which visibility is baked."""
  index = np.arange(count) + 0.5
  y = 1 - 2 * index / count
  angle = np.pi * (1 + 5**0.5) * index
  radius = np.sqrt(1 - y * y)
  return np.stack([radius * np.cos(angle), y, radius * np.sin(angle)], axis=-1)


def incident(
  rig: LightRig, directions: Float[np.ndarray, 'd 3']
) -> tuple[Float[np.ndarray, 'd 3'], Float[np.ndarray, 'd l']]:
  """What arrives from each direction.

  Args:
    rig: the light.
    directions: evenly spread unit vectors, world axes.

  Returns:
    ([d, 3] colour for a matte surface that faces the direction, [d, l] the share of each source
    that comes from it). However the directions are turned, a surface that faces a source gets its
    full intensity, so that nothing flickers.
  """
  up = directions[:, 1:2]
  dome = 0.5 * ((1 + up) * np.asarray(rig.sky) + (1 - up) * np.asarray(rig.ground))
  total = dome * (4.0 / len(directions))
  shares = np.empty((len(directions), len(rig.lights)))
  for number, light in enumerate(rig.lights):
    cosine = directions @ np.asarray(light.direction)
    lobe = np.exp(light.sharpness * (cosine - 1))
    received = (lobe * np.maximum(cosine, 0)).sum()
    total = total + (lobe / received)[:, None] * np.asarray(light.color)
    shares[:, number] = lobe / lobe.sum()
  return total, shares


def source_table(rig: LightRig, exposure: float) -> Float[np.ndarray, '3 17']:
  """The sources as rows for the shading loop.

  Columns: direction (3), peak radiance (3), sharpness, half size, the right and up axes of a square
  softbox of about the source's size (6) for mirror images on eyes, colour (3).
  """
  rows = []
  for light in rig.lights:
    direction = np.asarray(light.direction)
    right = np.cross([0.0, 1.0, 0.0], direction)
    right /= np.linalg.norm(right)
    # ∫ exp(s (cos − 1)) dω = 2π/s, and a matte white surface shows irradiance / π.
    radiance = np.asarray(light.color) * exposure * light.sharpness / 2
    half = min(0.75 / np.sqrt(light.sharpness), _LARGEST_BOX)
    up = np.cross(direction, right)
    color = np.asarray(light.color) * exposure
    rows.append([*direction, *radiance, light.sharpness, half, *right, *up, *color])
  return np.array(rows)


def _direction(azimuth: float, elevation: float) -> tuple[float, float, float]:
  return (
    float(np.sin(azimuth) * np.cos(elevation)),
    float(np.sin(elevation)),
    float(np.cos(azimuth) * np.cos(elevation)),
  )


def _tinted(level: float, warmth: float) -> Color:
  return (float(level * (1 + warmth)), float(level), float(level * (1 - 1.2 * warmth)))
