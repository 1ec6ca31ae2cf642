"""What stands behind a subject: walls, rooms and lights out of focus, painted for each camera.

Backgrounds are pictures without depth: they do not move with a camera, and every camera of a
multi-view session sees another side of the same place.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from sa0_jax.capture.studio import noise

BACKGROUNDS = ('gradient', 'wall', 'room', 'lights', 'foliage')

Image = Float[np.ndarray, 'h w 3']


@dataclasses.dataclass(frozen=True)
class Background:
  """A place.

  Attributes:
    kind: one of `BACKGROUNDS`.
    level: linear grey of its surfaces in the mean.
    seed: of everything in it.
  """

  kind: str
  level: float
  seed: int


def sample_background(stream: np.random.SeedSequence, kind: str | None = None) -> Background:
  """Draws a place.

  Args:
    stream: where the randomness comes from.
    kind: one of `BACKGROUNDS` instead of what the stream says.
  """
  rng = np.random.default_rng(stream)
  drawn = str(rng.choice(BACKGROUNDS, p=(0.15, 0.25, 0.3, 0.15, 0.15)))
  level = float(np.exp(rng.normal(np.log(0.18), 0.7)))
  return Background(kind or drawn, min(max(level, 0.02), 0.8), int(rng.integers(2**31)))


def paint_background(place: Background, view: int, size: int) -> Image:
  """What one camera sees of it.

  Args:
    place: from `sample_background`.
    view: number of the camera.
    size: side of the picture, px.

  Returns:
    [size, size, 3] float32 linear RGB in [0, 1].
  """
  # Colours belong to the place, where things stand to the view.
  style, rng = np.random.default_rng([place.seed, 0]), np.random.default_rng([place.seed, 1, view])
  painter = {
    'gradient': _gradient,
    'wall': _wall,
    'room': _room,
    'lights': _lights,
    'foliage': _foliage,
  }[place.kind]
  return np.clip(painter(style, rng, place.level, size), 0.001, 1.0).astype(np.float32)


def _color(rng: np.random.Generator, level: float, saturation: float) -> Float[np.ndarray, '3']:
  hue = rng.uniform(0, 2 * np.pi)
  return level * (1 + saturation * np.cos(hue + np.array([0.0, 2.1, 4.2])))


def _axes(size: int) -> tuple[np.ndarray, np.ndarray]:
  """x to the right and y down, 0 to 1, as a row and a column."""
  at = (np.arange(size) + 0.5) / size
  return at[None, :], at[:, None]


def _blurred(image: Image, radius: float) -> Image:
  """Out of focus: a Gaussian of `radius` image sides."""
  import cv2  # here: it takes longer to import than the rest of the package

  sigma = max(radius * len(image), 0.3)
  return cv2.GaussianBlur(image.astype(np.float32), (0, 0), sigma, borderType=cv2.BORDER_REFLECT)


def _cloud(size: int, wavelength: float, seed: int, octaves: int = 4) -> np.ndarray:
  """[size, size] noise about 0, features in image sides."""
  x, y = _axes(size)
  grid = np.stack(np.broadcast_arrays(x, y, np.zeros((size, size))), axis=-1)
  values = noise.fractal(
    grid.reshape(-1, 3).astype(np.float32), wavelength, seed, octaves=octaves, gain=0.6
  )
  return values.reshape(size, size)


def _falloff(rng: np.random.Generator, size: int) -> np.ndarray:
  """Light that comes from one side: [size, size] factor about 1."""
  x, y = _axes(size)
  angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.6)
  return 1 + strength * (np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5))


def _gradient(
  style: np.random.Generator, rng: np.random.Generator, level: float, size: int
) -> Image:
  """A paper roll."""
  near, far = _color(style, level, 0.25), _color(style, level * style.uniform(0.2, 0.9), 0.25)
  x, y = _axes(size)
  angle = rng.uniform(0, 2 * np.pi)
  share = 0.5 + 0.7 * (np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5))
  return near + np.clip(share, 0, 1)[..., None] * (far - near)


def _wall(style: np.random.Generator, rng: np.random.Generator, level: float, size: int) -> Image:
  """Plaster, brick or panels behind."""
  color = _color(style, level, 0.2)
  x, y = _axes(size)
  rough = 1 + style.uniform(0.03, 0.2) * _cloud(size, 0.25, int(rng.integers(2**31)), 6)
  joints = np.ones((size, size))
  pattern = style.random()
  if pattern < 0.35:  # bricks
    height = style.uniform(0.05, 0.1)
    row = (y + rng.uniform(0, 1)) / height
    column = x / (2.6 * height) + 0.5 * (np.floor(row) % 2) + rng.uniform(0, 1)
    edge = np.minimum(row % 1 / 0.12, column % 1 / 0.05)
    tint = np.sin(12.9 * np.floor(row) + 78.2 * np.floor(column)) * 0.18
    joints = np.where(edge < 1, style.uniform(0.5, 1.7), 1 + tint)
  elif pattern < 0.6:  # boards or panels
    width = style.uniform(0.08, 0.4)
    joints = np.where((x + rng.uniform(0, 1)) % width < 0.012, 0.55, 1.0) * np.ones((size, 1))
  image = color * (rough * joints * _falloff(rng, size))[..., None]
  return _blurred(image, style.uniform(0.001, 0.012))


def _room(style: np.random.Generator, rng: np.random.Generator, level: float, size: int) -> Image:
  """Furniture, pictures, a window: rectangles far out of focus."""
  x, y = _axes(size)
  image = np.tile(_color(style, level, 0.15), (size, size, 1))
  floor = rng.uniform(0.65, 1.1)
  image = np.where((y > floor)[..., None], _color(style, 0.6 * level, 0.25), image)
  tints = [_color(style, level * style.uniform(0.2, 2.2), 0.35) for _ in range(6)]
  for _ in range(int(rng.integers(5, 14))):
    width, height = rng.uniform(0.05, 0.45), rng.uniform(0.05, 0.6)
    left, top = rng.uniform(-0.2, 1.0), rng.uniform(-0.2, 0.9)
    inside = (x > left) & (x < left + width) & (y > top) & (y < top + height)
    image = np.where(inside[..., None], tints[int(rng.integers(len(tints)))], image)
  if style.random() < 0.6:
    left, top, width, height = rng.uniform(-0.1, 0.9), -0.05, rng.uniform(0.15, 0.5), 0.7
    inside = (x > left) & (x < left + width) & (y > top) & (y < top + height)
    sky = np.array([0.80, 0.90, 1.0]) * style.uniform(0.5, 1.3)
    bars = ((x - left) % (width / 2) < 0.02) | ((y - top) % 0.25 < 0.02)
    image = np.where((inside & ~bars)[..., None], sky, image)
  return _blurred(image, style.uniform(0.006, 0.035)) * _falloff(rng, size)[..., None]


def _lights(style: np.random.Generator, rng: np.random.Generator, level: float, size: int) -> Image:
  """Lamps far behind, each a disc of the aperture."""
  x, y = _axes(size)
  image = np.tile(_color(style, 0.35 * level, 0.5), (size, size, 1))
  image = image * (1 + 0.6 * _cloud(size, 0.6, int(rng.integers(2**31))))[..., None]
  warm, radius = style.uniform(-0.2, 0.8), style.uniform(0.02, 0.07)
  for _ in range(int(rng.integers(8, 40))):
    cx, cy, r = rng.uniform(0, 1), rng.uniform(0, 1), radius * rng.uniform(0.7, 1.2)
    distance = np.sqrt((x - cx) ** 2 + (y - cy) ** 2)
    disc = np.clip((r - distance) * size / 2, 0, 1) * (0.8 + 0.2 * distance / r)
    tint = np.array([1.0, 1 - 0.35 * warm, 1 - 0.7 * warm]) * _color(rng, 1.0, 0.2)
    image = image + disc[..., None] * tint * rng.uniform(0.1, 0.6) * (0.3 + level)
  return _blurred(image, 0.003)


def _foliage(
  style: np.random.Generator, rng: np.random.Generator, level: float, size: int
) -> Image:
  """Leaves and sky outdoors, out of focus."""
  _, y = _axes(size)
  leaves = np.array([0.35, 0.55, 0.16]) * style.uniform(0.7, 1.3, 3)
  cloud = _cloud(size, style.uniform(0.15, 0.4), int(rng.integers(2**31)), 5)
  shade = np.exp(1.6 * _cloud(size, 0.12, int(rng.integers(2**31)), 4))
  image = 2.0 * level * leaves * shade[..., None]
  sky = np.array([0.75, 0.88, 1.0]) * min(3.0 * level + 0.2, 1.0)
  horizon = style.uniform(0.0, 0.6)
  gaps = np.clip((cloud + horizon - y) * 6, 0, 1)
  return _blurred(image + gaps[..., None] * (sky - image), style.uniform(0.004, 0.02))
