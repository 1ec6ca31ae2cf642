"""Multi-scale structural similarity at full resolution (Zhao, Gallo, Frosio and Kautz 2017).

"Loss Functions for Image Restoration with Neural Networks", equations 8 and 9: instead of shrinking
the images as Wang et al. 2003 do, every scale is a Gaussian window of its own width at full
resolution. Per pixel, the luminance term of the widest window times the contrast-structure terms of
all of them, every exponent 1.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


@dataclasses.dataclass(frozen=True)
class MsSsimConfig:
  """Which windows, and how they are cut off.

  Attributes:
    sigmas: standard deviation of each Gaussian window, px, from narrow to wide; the luminance term
      is that of the last. The default is the paper's.
    truncate: windows end at this many standard deviations, rounded up to whole pixels.
    data_range: difference between the largest and the smallest possible value.
  """

  sigmas: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 8.0)
  truncate: float = 3.0
  data_range: float = 1.0

  def __post_init__(self) -> None:
    usable = bool(self.sigmas) and all(0 < sigma < math.inf for sigma in self.sigmas)
    if not usable or tuple(sorted(self.sigmas)) != tuple(self.sigmas):
      raise ValueError(f'MsSsimConfig: sigmas must be positive and rise, got {self.sigmas}')
    for name in ('truncate', 'data_range'):
      if not 0 < getattr(self, name) < math.inf:
        raise ValueError(f'MsSsimConfig: {name} must be positive, got {getattr(self, name)}')

  @property
  def stabilizers(self) -> tuple[float, float]:
    """C1 and C2 of Wang et al. 2004."""
    return (0.01 * self.data_range) ** 2, (0.03 * self.data_range) ** 2


DEFAULT = MsSsimConfig()


def _window_matrix(size: int, sigma: float, truncate: float, dtype: np.dtype) -> np.ndarray:
  """[size, size] banded matrix that blurs a line of pixels; every row sums to one."""
  offset = np.arange(size)[:, None] - np.arange(size)[None, :]
  weights = np.exp(-0.5 * (offset / sigma) ** 2) * (np.abs(offset) <= math.ceil(truncate * sigma))
  return (weights / weights.sum(1, keepdims=True)).astype(dtype)


def _blur(x: Float[Array, '*lead h w'], sigma: float, truncate: float) -> Float[Array, '*lead h w']:
  # As two matrix products: the windows of up to 49 taps and their renormalisation at the border
  # cost nothing extra, and the gradient is two products again.
  rows, columns = (_window_matrix(n, sigma, truncate, x.dtype) for n in x.shape[-2:])
  highest = jax.lax.Precision.HIGHEST
  x = jnp.einsum('ij,...jk->...ik', rows, x, precision=highest)
  return jnp.einsum('...jk,lk->...jl', x, columns, precision=highest)


def _terms(
  moments: Float[Array, '4 *lead h w'], sigma: float, config: MsSsimConfig
) -> tuple[Float[Array, '*lead h w'], Float[Array, '*lead h w']]:
  """Luminance and contrast-structure of one window.

  Args:
    moments: a + b − range, a − b and their squares. With s and d the first two, the textbook's
      2 σ_ab = σ_a² + σ_b² − σ_d² and σ_a² + σ_b² = (σ_s² + σ_d²) / 2, likewise for means: equal
      images give exactly 1 and near ones lose no digits, as E[ab] − E[a] E[b] would in float32.
    sigma: the window.
    config: the constants.
  """
  c1, c2 = config.stabilizers
  mean_s, mean_d, square_s, square_d = _blur(moments, sigma, config.truncate)
  var_d = square_d - mean_d * mean_d
  variances = 0.5 * (square_s - mean_s * mean_s + var_d)
  mean_s = mean_s + config.data_range
  luminance = 1.0 - mean_d**2 / (0.5 * (mean_s**2 + mean_d**2) + c1)
  return luminance, 1.0 - var_d / (variances + c2)


def ms_ssim(
  image: Float[Array, '*batch h w c'],
  target: Float[Array, '*batch h w c'],
  config: MsSsimConfig = DEFAULT,
) -> Float[Array, '*batch']:
  """Mean over pixels and channels of l_M · Π_j cs_j, in [−1, 1]; 1 only for equal images.

  The authors' code trains on patches and evaluates the centre alone, with a window that fills the
  patch and sums to one. Over whole images that rule reads: windows that reach over the border lose
  what lies outside and are normalised again, so no pixel sees invented ones and images may be
  smaller than the window. Differentiable in both images; computed in float32 or finer.

  Args:
    image: [*batch, h, w, c] in [0, data_range].
    target: the same shape.
    config: the windows.
  """
  dtype = jnp.promote_types(image.dtype, jnp.float32)
  image, target = (jnp.moveaxis(x.astype(dtype), -1, -3) for x in (image, target))
  plus, minus = image + target - config.data_range, image - target
  moments = jnp.stack([plus, minus, plus * plus, minus * minus])
  product = jnp.ones_like(image)
  for sigma in config.sigmas:
    # Recomputed for the gradient: the blurred moments of all windows would fill the memory.
    terms = jax.checkpoint(_terms, static_argnums=(1, 2))
    luminance, contrast_structure = terms(moments, sigma, config)
    product = product * contrast_structure
  return jnp.mean(luminance * product, axis=(-3, -2, -1))


def ms_ssim_loss(
  image: Float[Array, '*batch h w c'],
  target: Float[Array, '*batch h w c'],
  config: MsSsimConfig = DEFAULT,
) -> Float[Array, '']:
  """1 − MS-SSIM, averaged over the batch; arguments as `ms_ssim`."""
  return 1.0 - jnp.mean(ms_ssim(image, target, config))
