"""Shoulders in a shirt: what a portrait shows under the neck. Seen in images, never in mattes."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int

from sa0_jax.capture.studio import noise
from sa0_jax.capture.studio.subject import Clothing
from sa0_jax.head.procedural.anatomy import to_metres
from sa0_jax.mesh_render import vertex_normals

# Rings from the inside of the collar to under the frame: half width and half depth beyond the neck
# in mm, height over the collar's edge, and depth of the ring's middle relative to the neck's.
_RINGS = np.array(
  [
    [-1.5, -1.5, -9.0, 0.0],
    [-0.5, -0.5, 0.0, 0.0],
    [1.5, 1.5, 1.6, 0.0],
    [4.0, 4.0, 0.0, 0.0],
    [10.0, 8.0, -4.0, 0.0],
    [28.0, 17.0, -14.0, -3.0],
    [58.0, 28.0, -28.0, -8.0],
    [92.0, 38.0, -42.0, -14.0],
    [120.0, 46.0, -58.0, -18.0],
    [140.0, 54.0, -82.0, -20.0],
    [150.0, 62.0, -126.0, -16.0],
    [156.0, 70.0, -195.0, -10.0],
    [160.0, 74.0, -285.0, -8.0],
  ]
)
_AROUND = 64
# The collar's edge lies this much lower in front than behind, mm.
COLLAR_DROP = 22.0


@dataclasses.dataclass(frozen=True, eq=False)
class Torso:
  """A mesh that follows the root joint.

  Attributes:
    vertices: [t, 3] float32 metres, at rest.
    normals: [t, 3] float32.
    faces: [f, 3] int32.
    reflectance: [t, 3] float32 linear RGB.
  """

  vertices: Float[np.ndarray, 't 3']
  normals: Float[np.ndarray, 't 3']
  faces: Int[np.ndarray, 'f 3']
  reflectance: Float[np.ndarray, 't 3']


def make_torso(
  neck: Float[np.ndarray, 'n 3'], collar_height: float, clothing: Clothing, seed: int
) -> Torso:
  """Builds shoulders around a neck.

  Args:
    neck: [n, 3] the neck's skin from above the collar down, authored mm.
    collar_height: authored height of the collar's edge at the sides, mm.
    clothing: its cloth.
    seed: of folds and weave.
  """
  band = neck[np.abs(neck[:, 1] - collar_height) < 12]
  low, high = band.min(axis=0), band.max(axis=0)
  half = 0.5 * (high - low)
  middle = 0.5 * (high[2] + low[2])
  fine = np.linspace(0, len(_RINGS) - 1, 40)
  rings = np.stack([np.interp(fine, np.arange(len(_RINGS)), column) for column in _RINGS.T], axis=1)
  angle = np.arange(_AROUND) / _AROUND * 2 * np.pi
  s, c = np.sin(angle)[None], np.cos(angle)[None]
  width, depth, height, back = (rings[:, i, None] for i in range(4))
  open_by = clothing.neckline * np.exp(-np.maximum(width, 0) / 30)
  x = (half[0] + width + open_by) * s
  z = middle + back + (half[2] + depth + open_by) * c
  y = collar_height + height - COLLAR_DROP * c * np.exp(-np.maximum(width, 0) / 60)
  points = np.stack(np.broadcast_arrays(x, y, z), axis=-1).reshape(-1, 3)
  folds = noise.fractal(points.astype(np.float32), (60.0, 34.0, 60.0), seed + 91, octaves=3)
  loose = np.clip(np.tile(width / 30, (1, _AROUND)).ravel(), 0, 1)
  points = points + (3.0 * folds * loose)[:, None] * np.array([0.5, 0.2, 1.0])
  points = _outside(
    points, neck, middle, np.tile(np.arange(len(rings))[:, None] < 9, (1, _AROUND)).ravel()
  )
  rows = np.arange(len(rings) - 1)[:, None] * _AROUND
  here, after = rows + np.arange(_AROUND), rows + (np.arange(_AROUND) + 1) % _AROUND
  quads = np.stack([here, here + _AROUND, after + _AROUND, here, after + _AROUND, after], axis=-1)
  faces = quads.reshape(-1, 3).astype(np.int32)
  vertices = to_metres(points).astype(np.float32)
  weave = noise.fractal(points.astype(np.float32), (3.0, 6.0, 3.0), seed + 92, octaves=2)
  color = np.asarray(clothing.color) * (1 + 0.10 * weave[:, None] + 0.15 * folds[:, None])
  return Torso(vertices, vertex_normals(vertices, faces), faces, color.astype(np.float32))


def _outside(
  points: Float[np.ndarray, 'n 3'],
  neck: Float[np.ndarray, 'm 3'],
  middle: float,
  outer: Bool[np.ndarray, ' n'],
) -> Float[np.ndarray, 'n 3']:
  """Pushes cloth outwards where the neck, which widens to the shoulders, would poke through."""
  center = np.array([0.0, middle])
  flat, skin = points[:, [0, 2]] - center, neck[:, [0, 2]] - center
  radius, skin_radius = np.linalg.norm(flat, axis=1), np.linalg.norm(skin, axis=1)
  along = (flat @ skin.T) / np.maximum(radius[:, None] * skin_radius[None], 1e-6)
  near = (along > 0.985) & (np.abs(points[:, 1:2] - neck[None, :, 1]) < 9.0)
  widest = np.where(near, skin_radius[None], 0.0).max(axis=1)
  scale = np.where(outer, 1.0, np.maximum((widest + 3.0) / np.maximum(radius, 1e-6), 1.0))
  return np.column_stack([flat[:, 0] * scale, points[:, 1], flat[:, 1] * scale + middle])
