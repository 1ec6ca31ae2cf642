"""Deterministic solid noise for painting skin, eyes and hair: the same bits for the same seed."""

import types
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float


def _kernels() -> types.ModuleType:
  try:
    from sa0_jax.capture.studio import noise_kernels
  except ImportError as error:
    raise ImportError(
      f'the studio needs numba ({error}): install the extra `sa0-jax[cpu]`'
    ) from error
  return noise_kernels


def fractal(
  points: Float[np.ndarray, 'n 3'],
  wavelength: float | Sequence[float],
  seed: int,
  *,
  octaves: int = 1,
  gain: float = 0.5,
) -> Float[np.ndarray, ' n']:
  """Perlin's gradient noise (2002), octave over octave.

  Args:
    points: [n, 3] where, in any unit of length.
    wavelength: size of the largest features in that unit, for all axes or one each.
    seed: which noise, 0 to 2³² − 1.
    octaves: how many, each of half the wavelength.
    gain: amplitude of an octave relative to the one before.

  Returns:
    [n] float32 values with zero mean, about [−1, 1].
  """
  frequency = 1.0 / np.broadcast_to(np.asarray(wavelength, np.float64), (3,))
  return _kernels().fractal_noise(
    np.ascontiguousarray(points, np.float32), frequency, octaves, float(gain), np.uint32(seed)
  )


def fractal_slope(
  points: Float[np.ndarray, 'n 3'],
  wavelength: float | Sequence[float],
  seed: int,
  *,
  octaves: int = 1,
  gain: float = 0.5,
) -> Float[np.ndarray, 'n 3']:
  """Gradient of `fractal` with respect to the points, per unit of length; the same arguments."""
  frequency = 1.0 / np.broadcast_to(np.asarray(wavelength, np.float64), (3,))
  return _kernels().fractal_slope(
    np.ascontiguousarray(points, np.float32), frequency, octaves, float(gain), np.uint32(seed)
  )


def spots(
  points: Float[np.ndarray, 'n 3'],
  cell: float,
  density: Float[np.ndarray, ' n'],
  radius: float,
  seed: int,
) -> Float[np.ndarray, ' n']:
  """Scattered round spots, such as freckles.

  Args:
    points: [n, 3] where, in any unit of length.
    cell: spacing of the lattice that holds at most one spot a cell.
    density: [n] share of the cells around each point that do.
    radius: mean radius; single spots have half to one and a half times it.
    seed: which scatter, 0 to 2³² − 1.

  Returns:
    [n] float32 in [0, 1]: 1 in the middle of a spot, 0 outside.
  """
  return _kernels().spots(
    np.ascontiguousarray(points, np.float32),
    float(cell),
    np.uint32(seed),
    np.ascontiguousarray(density, np.float32),
    float(radius),
  )
