"""SSIM: the reference decides."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sa0_kernels import SsimConfig, dispatch, ssim

# Kernels for accelerators run in Pallas' interpreters here; see test_rasterize.py.
INTERPRETED = [pytest.param('mosaic_gpu', marks=pytest.mark.interpreter), 'triton', 'mosaic_tpu']


@pytest.fixture(autouse=True)
def other_platforms():
  with dispatch.allow_other_platforms():
    yield


def images(height=45, width=37, channels=3, seed=0, dtype=np.float32):
  rng = np.random.default_rng(seed)
  target = rng.random((height, width, channels))
  image = np.clip(target + 0.2 * rng.normal(size=target.shape), 0, 1)
  return jnp.asarray(image, dtype), jnp.asarray(target, dtype)


@pytest.mark.parametrize('implementation', ['numba', 'xla'])
@pytest.mark.parametrize('border', ['same', 'valid'])
@pytest.mark.parametrize('shape', [(45, 37, 3), (11, 11, 1), (70, 13, 4)])
def test_value_and_gradient_equal_reference(implementation, border, shape):
  _check_against_reference(implementation, border, shape)


@pytest.mark.parametrize('implementation', INTERPRETED)
@pytest.mark.parametrize(
  ('border', 'shape'),
  [
    ('same', (23, 50, 3)),
    *(
      pytest.param(*case, marks=pytest.mark.interpreter)
      for case in [('valid', (11, 11, 1)), ('valid', (140, 17, 4)), ('same', (150, 140, 2))]
    ),
  ],
)
def test_kernels_equal_reference(implementation, border, shape):
  _check_against_reference(implementation, border, shape)


def _check_against_reference(implementation, border, shape):
  image, target = images(*shape)
  config = SsimConfig(border)

  def value_and_grad(name):
    return jax.jit(jax.value_and_grad(lambda x: ssim(x, target, config, name)))(image)

  expected, expected_gradient = value_and_grad('reference')
  actual, gradient = value_and_grad(implementation)
  assert float(actual) == pytest.approx(float(expected), abs=2e-6)
  np.testing.assert_allclose(
    gradient, expected_gradient, atol=2e-5 * np.abs(expected_gradient).max()
  )


def test_finite_differences():
  with jax.enable_x64(True):
    image, target = images(dtype=np.float64)
    gradient = jax.grad(lambda x: ssim(x, target))(image)
    direction = np.random.default_rng(3).normal(size=image.shape)
    ahead, behind = (float(ssim(image + s * direction, target)) for s in (1e-6, -1e-6))
    assert (ahead - behind) / 2e-6 == pytest.approx(float(jnp.sum(gradient * direction)), rel=1e-6)


@pytest.mark.parametrize('implementation', ['numba', 'xla', 'reference'])
def test_equal_images_have_index_one_and_no_gradient(implementation):
  image, _ = images()
  value, gradient = jax.value_and_grad(lambda x: ssim(x, image, implementation=implementation))(
    image
  )
  assert float(value) == pytest.approx(1.0, abs=1e-6)
  assert float(jnp.abs(gradient).max()) < 1e-6


@pytest.mark.parametrize(
  'implementation',
  [
    *('numba', 'xla', 'mosaic_tpu'),
    *(pytest.param(name, marks=pytest.mark.interpreter) for name in ('triton', 'mosaic_gpu')),
  ],
)
def test_batch_equals_loop(implementation):
  """Two batch axes; and the gradient of each image is its own."""
  pairs = [images(12, 13, 1, seed=s) for s in range(4)]
  image, target = (jnp.stack(a).reshape(2, 2, 12, 13, 1) for a in zip(*pairs, strict=True))

  def index(image, target):
    return ssim(image, target, implementation=implementation)

  one = jax.jit(jax.value_and_grad(index))
  values, gradients = zip(*(one(a, b) for a, b in pairs), strict=True)
  np.testing.assert_allclose(index(image, target).reshape(-1), values, atol=1e-6)
  whole = jax.grad(lambda x: jnp.sum(index(x, target)))(image)
  np.testing.assert_allclose(whole.reshape(-1, 12, 13, 1), gradients, atol=1e-7)


def test_kernels_want_float32():
  image, target = images(dtype=np.float16)
  with pytest.raises(NotImplementedError, match='computes in float32'):
    ssim(image, target, implementation='triton')


def test_published_definition():
  """Equals the textbook formula on one window: an 11 × 11 image has a single valid pixel."""
  image, target = images(11, 11, 1)
  x = np.arange(-5, 6)
  weights = np.exp(-0.5 * (x / 1.5) ** 2)
  window = np.outer(weights, weights) / weights.sum() ** 2
  a, b = np.asarray(image)[..., 0], np.asarray(target)[..., 0]
  mean_a, mean_b = (window * a).sum(), (window * b).sum()
  var_a, var_b = (window * a * a).sum() - mean_a**2, (window * b * b).sum() - mean_b**2
  covariance = (window * a * b).sum() - mean_a * mean_b
  expected = (2 * mean_a * mean_b + 1e-4) * (2 * covariance + 9e-4)
  expected /= (mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4)
  assert float(ssim(image, target, SsimConfig('valid'))) == pytest.approx(expected, abs=1e-5)


def test_bad_arguments(unchecked_shapes):
  image, target = images()
  with pytest.raises(ValueError, match='must both be'):
    ssim(image, target[:-1])
  with pytest.raises(ValueError, match='smaller than the 11 px window'):
    ssim(image[:10], target[:10])
  with pytest.raises(ValueError, match="'same' or 'valid'"):
    SsimConfig('reflect')
