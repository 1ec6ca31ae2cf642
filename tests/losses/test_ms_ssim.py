"""MS-SSIM against its definition, written out pixel by pixel in float64."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sa0_jax.losses.ms_ssim import DEFAULT, MsSsimConfig, ms_ssim, ms_ssim_loss
from tests.precision import rounded_products

SMALL = MsSsimConfig(sigmas=(0.5, 1.5))
INDEX = jax.jit(ms_ssim, static_argnames='config')
GRADIENT = jax.jit(jax.grad(ms_ssim_loss))


def images(shape=(10, 13, 2), seed=0, noise=0.2):
  rng = np.random.default_rng(seed)
  image = rng.random(shape)
  target = np.clip(image + noise * rng.standard_normal(shape), 0, 1)
  return tuple(jnp.asarray(x, jnp.float32) for x in (image, target))


def by_definition(image, target, config):
  """Zhao et al. 2017, equation 8, with the textbook's moments; one channel, mean over pixels."""
  image, target = (np.asarray(x, np.float64) for x in (image, target))
  c1, c2 = 0.01**2, 0.03**2
  height, width = image.shape
  product = np.ones_like(image)
  for sigma in config.sigmas:
    radius = math.ceil(3 * sigma)
    for i in range(height):
      for j in range(width):
        rows = np.arange(max(i - radius, 0), min(i + radius + 1, height))
        columns = np.arange(max(j - radius, 0), min(j + radius + 1, width))
        squares = (rows[:, None] - i) ** 2 + (columns[None, :] - j) ** 2
        weights = np.exp(-squares / (2 * sigma**2))
        weights /= weights.sum()
        a, b = image[np.ix_(rows, columns)], target[np.ix_(rows, columns)]
        mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
        var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
        covariance = (weights * (a - mean_a) * (b - mean_b)).sum()
        product[i, j] *= (2 * covariance + c2) / (var_a + var_b + c2)
        if sigma == config.sigmas[-1]:
          product[i, j] *= (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
  return product.mean()


@pytest.mark.parametrize('config', [DEFAULT, SMALL])
def test_is_the_definition(config):
  # 10 × 13 is smaller than the widest window, of 49 px, which the border cuts on all sides.
  image, target = images()
  expected = np.mean([by_definition(image[..., k], target[..., k], config) for k in range(2)])
  assert 0.1 < expected < 0.9
  assert float(INDEX(image, target, config=config)) == pytest.approx(expected, abs=2e-6)


def test_equal_images_give_exactly_one():
  image, _ = images()
  assert float(INDEX(image, image)) == 1.0
  gradient = GRADIENT(image, image)
  np.testing.assert_array_equal(gradient, np.zeros_like(image))


def test_near_images_lose_no_digits():
  """As training ends: E[ab] − E[a] E[b] in float32 would leave nothing of this gradient."""
  image, target = images(noise=1e-5)
  image, target = 0.9 + 0.01 * image, 0.9 + 0.01 * target
  got = np.asarray(GRADIENT(image, target))
  with jax.enable_x64(True):
    doubles = (jnp.asarray(np.asarray(x), jnp.float64) for x in (image, target))
    expected = np.asarray(jax.jit(jax.grad(ms_ssim_loss))(*doubles))
  np.testing.assert_allclose(got, expected, atol=2e-3 * np.abs(expected).max())


def test_is_symmetric_bounded_and_falls_with_noise():
  values = [INDEX(*images(noise=noise)) for noise in (0.01, 0.05, 0.2, 0.6)]
  assert all(a > b for a, b in itertools.pairwise(values))
  image, target = images()
  assert float(INDEX(image, target)) == float(INDEX(target, image))
  for a, b in ((image, 1 - image), (jnp.zeros_like(image), jnp.ones_like(image))):
    assert -1 <= float(INDEX(a, b)) < 0.1


def test_the_loss_averages_the_batch():
  image, target = images((3, 10, 13, 2))
  singles = [float(INDEX(image[k], target[k])) for k in range(3)]
  np.testing.assert_allclose(INDEX(image, target), singles, atol=1e-6)
  loss = jax.jit(ms_ssim_loss)(image, target)
  assert float(loss) == pytest.approx(1 - np.mean(singles), abs=1e-6)


def test_gradient_is_that_of_finite_differences():
  with jax.enable_x64(True):
    image, target = (jnp.asarray(np.asarray(x), jnp.float64) for x in images((8, 7, 1)))
    direction = np.random.default_rng(5).standard_normal(image.shape)
    loss = jax.jit(jax.value_and_grad(lambda x: ms_ssim_loss(x, target)))
    step = 1e-5
    up, down = (loss(image + sign * step * direction)[0] for sign in (1, -1))
    numeric = (up - down) / (2 * step)
    analytic = np.sum(np.asarray(loss(image)[1]) * direction)
    assert float(analytic) == pytest.approx(float(numeric), rel=1e-7)


def test_bfloat16_images_are_compared_in_float32():
  image, target = images()
  halves = [x.astype(jnp.bfloat16) for x in (image, target)]
  value = INDEX(*halves, SMALL)
  assert value.dtype == jnp.float32
  assert float(value) == float(INDEX(*(x.astype(jnp.float32) for x in halves), SMALL))


def test_products_keep_their_digits():
  jaxpr = jax.make_jaxpr(jax.grad(ms_ssim_loss))(*images())
  assert rounded_products(jaxpr.jaxpr) == []


@pytest.mark.parametrize(
  'wrong', [{'sigmas': ()}, {'sigmas': (2.0, 1.0)}, {'sigmas': (0.0,)}, {'truncate': -1.0}]
)
def test_config_refuses(wrong):
  with pytest.raises(ValueError, match='MsSsimConfig'):
    MsSsimConfig(**wrong)
