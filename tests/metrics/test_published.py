"""Every number against the code others report it with, on noise and on photographs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import correlate1d
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from sa0_jax.metrics.image import psnr, ssim_gray, ssim_padded, ssim_rgb
from sa0_jax.metrics.multi_scale import EXPONENTS, MIN_SIZE, ms_ssim_five_scales
from tests.metrics.pictures import PAIRS

WANG = {'gaussian_weights': True, 'sigma': 1.5, 'use_sample_covariance': False, 'data_range': 1.0}
LUMA = np.array([0.299, 0.587, 0.114])
names = pytest.mark.parametrize('name', PAIRS)


def by_skimage(a, b, **options):
  return structural_similarity(a.astype(np.float64), b.astype(np.float64), **WANG, **options)


@names
def test_psnr_is_scikit_images(name):
  image, target = PAIRS[name]
  expected = peak_signal_noise_ratio(
    target.astype(np.float64), image.astype(np.float64), data_range=1
  )
  assert 10 < expected < 40
  assert float(psnr(jnp.asarray(image), jnp.asarray(target))) == pytest.approx(expected, abs=1e-4)


@names
def test_ssim_of_colour_and_luminance_is_scikit_images(name):
  image, target = PAIRS[name]
  pair = jnp.asarray(image), jnp.asarray(target)
  expected = by_skimage(image, target, channel_axis=2)
  assert 0.1 < expected < 0.95
  assert float(ssim_rgb(*pair)) == pytest.approx(expected, abs=1e-4)
  assert float(ssim_gray(*pair)) == pytest.approx(by_skimage(image @ LUMA, target @ LUMA), abs=1e-4)


@names
def test_padded_ssim_is_that_of_images_with_zeros_around(name):
  image, target = PAIRS[name]
  around = [(5, 5), (5, 5), (0, 0)]
  expected = by_skimage(np.pad(image, around), np.pad(target, around), channel_axis=2)
  got = float(ssim_padded(jnp.asarray(image), jnp.asarray(target)))
  assert got == pytest.approx(expected, abs=1e-4)


def five_scales(image, target):
  """Wang et al. 2003 in float64 with SciPy."""
  x = np.arange(-5, 6)
  window = np.exp(-0.5 * (x / 1.5) ** 2)
  window /= window.sum()

  def blur(a):
    return correlate1d(correlate1d(a, window, axis=0), window, axis=1)[5:-5, 5:-5]

  a, b = image.astype(np.float64), target.astype(np.float64)
  product = 1.0
  for scale, exponent in enumerate(EXPONENTS):
    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    term = (2 * (blur(a * b) - mean_a * mean_b) + 0.03**2) / (var_a + var_b + 0.03**2)
    if scale == 4:
      term *= (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)
    product *= max(term.mean(), 0.0) ** exponent
    rows, columns = (n // 2 for n in a.shape[:2])
    a, b = (
      y[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2, 3).mean((1, 3)) for y in (a, b)
    )
  return product


@pytest.fixture(scope='module')
def multi_scale():
  return jax.jit(ms_ssim_five_scales)


@names
def test_ms_ssim_is_wangs(name, multi_scale):
  image, target = PAIRS[name]
  expected = five_scales(image, target)
  assert 0.4 < expected < 0.99
  assert float(multi_scale(image, target)) == pytest.approx(expected, abs=1e-4)


def test_ms_ssim_of_equal_images_is_one(multi_scale):
  image, _ = PAIRS['astronaut']
  assert float(multi_scale(image, image)) == pytest.approx(1.0, abs=1e-6)


def test_ms_ssim_of_a_negative_has_no_complex_root(multi_scale):
  """Structure is negative there, and exponents are fractions."""
  image, _ = PAIRS['astronaut']
  assert float(multi_scale(1 - image, image)) == 0.0


def test_ms_ssim_names_the_smallest_size():
  small = jnp.zeros((MIN_SIZE - 1, 200, 3))
  with pytest.raises(ValueError, match='176 px'):
    ms_ssim_five_scales(small, small)
