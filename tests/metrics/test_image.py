"""Image metrics against independent implementations."""

import cv2
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import correlate1d

from sa0_jax.metrics.image import psnr, ssim_gray, ssim_padded, ssim_rgb


def pair(seed=0, noise=0.1, shape=(40, 33, 3)):
  rng = np.random.default_rng(seed)
  smooth = cv2.GaussianBlur(rng.random(shape), (0, 0), 2.0)
  image = np.clip(smooth + noise * rng.normal(size=shape), 0, 1)
  return jnp.asarray(image, jnp.float32), jnp.asarray(smooth, jnp.float32)


def ssim_by_scipy(image, target):
  """Wang et al. 2004 with its Gaussian window, one channel, averaged inside the border."""
  x = np.arange(-5, 6)
  window = np.exp(-0.5 * (x / 1.5) ** 2)
  window /= window.sum()

  def blur(a):
    return correlate1d(correlate1d(a, window, axis=0), window, axis=1)[5:-5, 5:-5]

  a, b = np.asarray(image, np.float64), np.asarray(target, np.float64)
  mean_a, mean_b = blur(a), blur(b)
  var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
  covariance = blur(a * b) - mean_a * mean_b
  index = (2 * mean_a * mean_b + 0.01**2) * (2 * covariance + 0.03**2)
  return (index / ((mean_a**2 + mean_b**2 + 0.01**2) * (var_a + var_b + 0.03**2))).mean()


def test_psnr_of_a_constant_error():
  target = jnp.full((8, 9, 3), 0.5)
  assert float(psnr(target + 0.1, target)) == pytest.approx(20.0, abs=1e-4)
  assert float(psnr(target + 0.01, target)) == pytest.approx(40.0, abs=1e-2)


def test_psnr_is_that_of_the_mean_squared_error_over_all_channels():
  image, target = pair()
  mse = np.mean((np.asarray(image, np.float64) - target) ** 2)
  assert float(psnr(image, target)) == pytest.approx(-10 * np.log10(mse), abs=1e-3)


def test_psnr_clips_what_a_screen_would():
  target = jnp.ones((8, 8, 3))
  assert float(psnr(target * 7, target)) == float(psnr(target, target)) == pytest.approx(120.0)


def test_psnr_inside_a_mask_ignores_the_rest():
  image, target = pair()
  mask = jnp.zeros(image.shape[:2]).at[5:20, 3:30].set(1.0)
  spoiled = jnp.where(mask[..., None] > 0, image, 1 - target)
  expected = float(psnr(image[5:20, 3:30], target[5:20, 3:30]))
  assert float(psnr(spoiled, target, mask)) == pytest.approx(expected, abs=1e-4)
  assert np.isfinite(float(psnr(image, target, jnp.zeros_like(mask))))


def test_ssim_rgb_equals_scipy_channel_by_channel():
  image, target = pair()
  expected = np.mean([ssim_by_scipy(image[..., c], target[..., c]) for c in range(3)])
  assert 0.1 < expected < 0.9
  assert float(ssim_rgb(image, target)) == pytest.approx(expected, abs=2e-5)


def test_ssim_gray_equals_scipy_on_opencvs_luminance():
  image, target = pair(seed=1)
  expected = ssim_by_scipy(
    *(cv2.cvtColor(np.asarray(a), cv2.COLOR_RGB2GRAY) for a in (image, target))
  )
  got = float(ssim_gray(image, target))
  assert got == pytest.approx(expected, abs=2e-5)


def test_ssim_padded_counts_every_pixel_of_an_image_with_zeros_around():
  """Zeros around both images and the windows that are then inside: what zero padding means."""
  image, target = pair(seed=2)
  around = [(5, 5), (5, 5), (0, 0)]
  expected = float(ssim_rgb(*(jnp.pad(a, around) for a in (image, target))))
  assert float(ssim_padded(image, target)) == pytest.approx(expected, abs=1e-6)
  assert abs(expected - float(ssim_rgb(image, target))) > 1e-4


@pytest.mark.parametrize('metric', [psnr, ssim_rgb, ssim_padded, ssim_gray])
def test_less_noise_scores_higher(metric):
  scores = [float(metric(*pair(noise=n))) for n in (0.2, 0.1, 0.05, 0.0)]
  assert scores == sorted(scores)
  assert len(set(scores)) == 4
