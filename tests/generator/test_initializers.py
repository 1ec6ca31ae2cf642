"""First weights: their statistics, and the same bits eagerly, in jit and inside eval_shape."""

import jax
import numpy as np
import pytest
from flax import nnx

from sa0_jax.generator.initializers import lecun_normal, normal, truncated_normal

KEY = jax.random.key(3)
ALL = {'normal': normal(0.5), 'truncated': truncated_normal(0.02), 'lecun': lecun_normal()}


@pytest.mark.parametrize('name', ALL)
def test_the_bits_are_those_of_the_key_alone(name):
  eager = ALL[name](KEY, (5, 7))
  np.testing.assert_array_equal(eager, jax.jit(lambda key: ALL[name](key, (5, 7)))(KEY))
  np.testing.assert_array_equal(eager, ALL[name](KEY, (5, 7)))
  assert np.any(np.asarray(eager) != np.asarray(ALL[name](jax.random.key(4), (5, 7))))
  assert jax.eval_shape(lambda key: ALL[name](key, (5, 7)), KEY).shape == (5, 7)


def test_moments():
  shape = (3, 3, 100, 200)
  assert np.std(normal(0.5)(KEY, shape)) == pytest.approx(0.5, rel=5e-3)
  cut = np.asarray(truncated_normal(0.02)(KEY, shape))
  assert 0.0399 < np.abs(cut).max() <= np.float32(0.04)
  assert np.std(cut) == pytest.approx(0.02 * 0.8796, rel=5e-3)
  assert np.std(lecun_normal()(KEY, shape)) == pytest.approx(1 / 30, rel=5e-3)
  assert abs(np.mean(cut)) < 2e-4


def test_same_variance_as_flax():
  for ours, theirs, shape in (
    (truncated_normal(0.02), nnx.initializers.truncated_normal(0.02), (400, 300)),
    (lecun_normal(), nnx.initializers.lecun_normal(), (3, 3, 40, 300)),
  ):
    assert np.std(np.asarray(ours(KEY, shape))) == pytest.approx(
      np.std(np.asarray(theirs(KEY, shape))), rel=1e-2
    )
