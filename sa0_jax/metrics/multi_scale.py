"""MS-SSIM as a number to report: Wang, Simoncelli and Bovik 2003, five scales, images halved.

Not the loss of `sa0_jax.losses.ms_ssim`, which keeps full resolution and widens the window instead:
the two give different numbers for the same images.
"""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# Exponents of the scales, from fine to coarse: section 3.2 of the paper.
EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_RADIUS, _SIGMA = 5, 1.5
_C1, _C2 = 0.01**2, 0.03**2
# The window must fit into the coarsest scale.
MIN_SIZE = (2 * _RADIUS + 1) << (len(EXPONENTS) - 1)


def _window() -> np.ndarray:
  weights = np.exp(-0.5 * (np.arange(-_RADIUS, _RADIUS + 1) / _SIGMA) ** 2)
  return weights / weights.sum()


def _blur(x: Float[Array, 'h w c']) -> Float[Array, 'i j c']:
  """Means under the window where it is inside the image."""
  # Weighted sums of shifted images: eleven taps each way, exact in float32 on every device, where
  # a convolution might be rounded to TF32.
  for axis in (0, 1):
    count = x.shape[axis] - 2 * _RADIUS
    parts = [
      float(weight) * jax.lax.slice_in_dim(x, start, start + count, axis=axis)
      for start, weight in enumerate(_window())
    ]
    x = functools.reduce(jnp.add, parts)
  return x


def _halve(x: Float[Array, 'h w c']) -> Float[Array, 'i j c']:
  """Means of 2 × 2 pixels; an odd last row or column is left out."""
  height, width = (n - n % 2 for n in x.shape[:2])
  x = x[:height, :width].reshape(height // 2, 2, width // 2, 2, -1)
  return x.mean(axis=(1, 3))


def _index(
  image: Float[Array, 'h w c'], target: Float[Array, 'h w c']
) -> tuple[Float[Array, ''], Float[Array, '']]:
  """SSIM, and its contrast-structure term alone, averaged over pixels and channels."""
  mean_a, mean_b = _blur(image), _blur(target)
  var_a = jnp.maximum(_blur(image * image) - mean_a * mean_a, 0.0)
  var_b = jnp.maximum(_blur(target * target) - mean_b * mean_b, 0.0)
  covariance = _blur(image * target) - mean_a * mean_b
  structure = (2 * covariance + _C2) / (var_a + var_b + _C2)
  luminance = (2 * mean_a * mean_b + _C1) / (mean_a * mean_a + mean_b * mean_b + _C1)
  return jnp.mean(luminance * structure), jnp.mean(structure)


def ms_ssim_five_scales(
  image: Float[Array, 'h w c'],
  target: Float[Array, 'h w c'],
  last_border: Literal['valid', 'reflect'] = 'valid',
) -> Float[Array, '']:
  """MS-SSIM of values in [0, 1], in [0, 1]; 1 for equal images.

  11 × 11 window with σ = 1.5 inside the border; between scales the mean of 2 × 2 pixels; terms are
  averaged over pixels and channels before the exponents, negative ones count as zero. torchmetrics
  1.9 (`multiscale_structural_similarity_index_measure`) does the same but in the coarsest scale,
  where it averages over an image that goes on as its mirror image: ask for 'reflect' to get its
  number.

  Args:
    image: [h, w, c]; values outside [0, 1] are clipped.
    target: the same shape.
    last_border: of the coarsest scale.

  Raises:
    ValueError: an image is smaller than 176 pixels: the window would not fit into the last scale.
  """
  if min(image.shape[:2]) < MIN_SIZE:
    raise ValueError(
      f'ms_ssim_five_scales: images of {MIN_SIZE} px and more are needed, got {image.shape[:2]}'
    )
  image = jnp.clip(image, 0.0, 1.0)
  product = jnp.ones((), image.dtype)
  for scale, exponent in enumerate(EXPONENTS):
    last = scale == len(EXPONENTS) - 1
    if last and last_border == 'reflect':
      around = [(_RADIUS, _RADIUS), (_RADIUS, _RADIUS), (0, 0)]
      image, target = (jnp.pad(x, around, mode='reflect') for x in (image, target))
    whole, structure = _index(image, target)
    term = whole if last else structure
    product = product * jnp.maximum(term, 0.0) ** exponent
    image, target = _halve(image), _halve(target)
  return product
