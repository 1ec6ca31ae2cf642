"""Terms that compare images, against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sa0_kernels import ssim

from sa0_jax.losses.photometric import composite, l1, ssim_loss


def images(seed=0, shape=(2, 14, 17, 3)):
  rng = np.random.default_rng(seed)
  return tuple(jnp.asarray(rng.random(shape), jnp.float32) for _ in range(2))


def test_composite_is_the_matte_equation():
  image, _ = images()
  matte = jnp.asarray(np.random.default_rng(1).random((2, 14, 17)), jnp.float32)
  background = jnp.asarray([[0.1, 0.5, 0.9], [1.0, 0.0, 0.3]], jnp.float32)
  got = np.asarray(composite(image, matte, background))
  for b in range(2):
    weight = np.asarray(matte)[b, ..., None]
    expected = weight * np.asarray(image)[b] + (1 - weight) * np.asarray(background)[b]
    np.testing.assert_allclose(got[b], expected, atol=1e-6)


def test_composite_at_the_ends():
  image, _ = images()
  background = jnp.asarray([0.2, 0.4, 0.6])
  np.testing.assert_array_equal(composite(image[0], jnp.ones((14, 17)), background), image[0])
  flat = np.asarray(composite(image[0], jnp.zeros((14, 17)), background))
  np.testing.assert_array_equal(flat, np.broadcast_to(background, flat.shape))


def test_random_backgrounds_see_a_wrong_alpha():
  """METHOD §7: α̂·Î + (1−α̂)·b against m·I + (1−m)·b pulls α̂ towards m, whatever the colours."""
  color, background = jnp.full((4, 4, 3), 0.5), jnp.asarray([0.9, 0.1, 0.0])
  target = composite(color, jnp.full((4, 4), 0.8), background)

  def loss(alpha):
    return l1(composite(color, jnp.full((4, 4), alpha), background), target)

  assert jax.grad(loss)(0.5) < 0 < jax.grad(loss)(0.95)
  assert float(loss(0.8)) == pytest.approx(0.0, abs=1e-7)


def test_l1_is_the_mean_absolute_error():
  a, b = images()
  assert float(l1(a, b)) == pytest.approx(np.abs(np.asarray(a) - np.asarray(b)).mean(), rel=1e-5)


def test_ssim_loss_is_one_minus_the_mean_index():
  a, b = images()
  expected = 1 - np.mean([float(ssim(x, y)) for x, y in zip(a, b, strict=True)])
  assert float(ssim_loss(a, b)) == pytest.approx(expected, abs=1e-6)
  assert float(ssim_loss(a, a)) == pytest.approx(0.0, abs=1e-6)
