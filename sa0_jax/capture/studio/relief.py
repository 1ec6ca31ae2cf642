"""Fine relief of the skin, too small for the mesh: pores, creases of the lips, lines."""

import numpy as np
from jaxtyping import Float

from sa0_jax.capture.studio import noise
from sa0_jax.head.procedural.anatomy import smoothstep
from sa0_jax.head.procedural.paint import PaintFields


def relief_slope(fields: PaintFields, lines: float, seed: int) -> Float[np.ndarray, 'n 3']:
  """How the height of the skin changes from point to point.

  Args:
    fields: what the points are.
    lines: depth of the forehead's lines and of crow's feet; 0 none, 1 old.
    seed: which relief.

  Returns:
    [n, 3] gradient of the height in template axes, mm per mm.
  """
  points = fields.template.astype(np.float32)
  x, y, z = np.abs(points[:, 0]), points[:, 1], points[:, 2]
  lips = np.clip(fields.lips, 0, 1)
  dry = np.clip(1 - fields.eye - fields.teeth - fields.tongue - fields.mouth, 0, 1)
  # Largest on nose and cheeks.
  middle = 0.5 + 0.8 * np.exp(-((x / 42) ** 2) - (((y + 25) / 40) ** 2)) * (z > 30)
  skin = dry * (1 - lips)
  slope = _slopes(points, 0.055 * middle * skin, 1.3, seed + 101, octaves=2)
  slope += _slopes(points, 0.22 * skin, 7.0, seed + 102, octaves=2)
  slope += _slopes(points, 0.16 * lips * dry, (1.3, 9.0, 9.0), seed + 103, octaves=2)
  if lines > 0:
    forehead = np.exp(-(((y - 45) / 17) ** 2) - ((x / 44) ** 2)) * smoothstep(z, 50, 70)
    wavy = points.copy()
    wavy[:, 1] += 2.5 * noise.fractal(points, 30.0, seed + 104)
    slope += _slopes(wavy, 1.5 * lines * forehead * skin, (70.0, 7.5, 70.0), seed + 105)
    corner = np.exp(-(((x - 53) / 9) ** 2) - (((y + 1) / 11) ** 2)) * (z > 40)
    slope += _slopes(points, 0.9 * lines * corner * skin, (22.0, 3.6, 22.0), seed + 106)
  return slope


def _slopes(
  points: Float[np.ndarray, 'n 3'],
  height: Float[np.ndarray, ' n'],
  wavelength: float | tuple[float, float, float],
  seed: int,
  octaves: int = 1,
) -> Float[np.ndarray, 'n 3']:
  """Slope of noise of some height in mm, computed only where it is not flat."""
  slope = np.zeros((len(points), 3), np.float32)
  rows = np.flatnonzero(height > 0.01 * height.max())
  slope[rows] = height[rows, None] * noise.fractal_slope(
    points[rows], wavelength, seed, octaves=octaves, gain=0.58
  )
  return slope
