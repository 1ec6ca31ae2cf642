"""Attributes from parameters: ranges, inverses and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sa0_jax.avatar import activations

EXTREMES = jnp.asarray([-1e4, -40.0, -1.0, 0.0, 1.0, 40.0, 1e4], jnp.float32)


def gradient(function, x):
  return np.asarray(jax.grad(lambda x: jnp.sum(function(x)))(x))


@pytest.mark.parametrize('activate', [activations.activate_opacity, activations.activate_color])
def test_probabilities_stay_in_range_with_finite_slopes(activate):
  x = EXTREMES[:, None] if activate is activations.activate_color else EXTREMES
  value = np.asarray(activate(x))
  assert (value >= 0).all()
  assert (value <= 1).all()
  assert float(activate(jnp.zeros_like(x))[0].ravel()[0]) == 0.5
  assert np.isfinite(gradient(activate, x)).all()


def test_logit_is_the_inverse_of_the_sigmoid():
  probability = jnp.linspace(0.01, 0.99, 21)
  np.testing.assert_allclose(
    activations.activate_opacity(activations.logit(probability)), probability, atol=1e-6
  )
  ends = activations.activate_opacity(activations.logit(jnp.asarray([0.0, 1.0]), margin=0.02))
  np.testing.assert_allclose(ends, [0.02, 0.98], atol=1e-6)


def test_scales_are_exponentials_inside_their_limits():
  low, high = activations.LOG_SCALE_LIMITS
  log_scale = jnp.asarray([[low - 5, 0.0, high + 5], [-1.0, 1.0, 2.0]])
  scale = np.asarray(activations.activate_scale(log_scale))
  np.testing.assert_allclose(
    scale, np.exp([[low, 0.0, high], [-1.0, 1.0, 2.0]]).astype(np.float32), rtol=1e-6
  )
  slope = gradient(activations.activate_scale, log_scale)
  np.testing.assert_allclose(slope[1], scale[1], rtol=1e-6)
  assert not slope[0, [0, 2]].any()


def test_rotations_are_of_unit_length_whatever_comes():
  rotation = jnp.asarray([[2.0, 0, 0, 0], [1, -2, 3, -4], [1e-8, 0, 0, 0], [0, 0, 0, 0]])
  unit = np.asarray(activations.activate_rotation(rotation))
  np.testing.assert_allclose(np.linalg.norm(unit[:2], axis=1), 1.0, atol=1e-6)
  np.testing.assert_allclose(unit[1], np.float32([1, -2, 3, -4]) / np.sqrt(30), atol=1e-6)
  assert np.isfinite(unit).all()
  assert np.isfinite(gradient(activations.activate_rotation, rotation)).all()


def test_soft_bound_has_slope_one_at_the_surface():
  position = jnp.asarray([[0.0, 1e3, -1e3]])
  bounded = np.asarray(activations.soft_bound(position, 30.0))
  np.testing.assert_allclose(bounded, [[0.0, 30.0, -30.0]])
  slope = gradient(lambda x: activations.soft_bound(x, 30.0), position)
  np.testing.assert_allclose(slope, [[1.0, 0.0, 0.0]], atol=1e-6)
