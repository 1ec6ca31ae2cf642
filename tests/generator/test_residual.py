"""The residual head: silent at first, trainable, and equal to its plain form."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sa0_jax.generator.decoder import DecodedMaps
from sa0_jax.generator.residual import (
  CONDITION_CHANNELS,
  ResidualConfig,
  ResidualHead,
  apply_residual,
  condition_from_codes,
)
from sa0_jax.head.model import HeadCodes
from tests.precision import rounded_products

NAMES = ('position', 'rotation', 'log_scale', 'color_logit')
SMALL = ResidualConfig(channels=6, hidden=10)


def values(*shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def codes(*batch, expressions=100, seed=0):
  sizes = (30, expressions, 3, 3, 3, 6, 3)
  return HeadCodes(*(values(*batch, size, seed=seed + i) for i, size in enumerate(sizes)))


@functools.cache
def silent():
  return jax.jit(lambda: ResidualHead(SMALL, rngs=nnx.Rngs(0)))()


correct = jax.jit(lambda network, *inputs: network(*inputs))


def randomised(seed=0):
  network = silent()
  leaves, structure = jax.tree.flatten(network)
  return jax.tree.unflatten(
    structure, [0.4 * values(*x.shape, seed=seed + i) for i, x in enumerate(leaves)]
  )


def test_condition_in_order():
  one = codes(2, 3, expressions=120)
  condition = condition_from_codes(one)
  assert condition.shape == (2, 3, CONDITION_CHANNELS) == (2, 3, 112)
  parts = {
    'expression': (0, 100),
    'rotation': (100, 103),
    'jaw': (103, 106),
    'eyes': (106, 112),
  }
  for name, (start, stop) in parts.items():
    expected = getattr(one, name)[..., : stop - start]
    np.testing.assert_array_equal(condition[..., start:stop], expected)


def test_condition_ignores_identity_and_place_and_broadcasts():
  one = codes(4)
  other = dataclasses.replace(one, shape=values(30), neck=one.neck + 1, translation=one.neck)
  np.testing.assert_array_equal(condition_from_codes(one), condition_from_codes(other))
  shared = dataclasses.replace(one, eyes=values(6))
  np.testing.assert_array_equal(
    condition_from_codes(shared)[:, 106:], np.broadcast_to(shared.eyes, (4, 6))
  )


def test_too_few_expressions_are_an_error():
  with pytest.raises(ValueError, match='50 expression coefficients, the residual head needs'):
    condition_from_codes(codes(expressions=50))


def test_a_new_head_corrects_nothing_at_all():
  residual = correct(silent(), 100 * values(2, 7, 6), values(2, 112))
  for field, width in zip(residual, (3, 4, 3, 3), strict=True):
    assert field.shape == (2, 7, width)
    assert field.dtype == jnp.float32
    assert (np.asarray(field) == 0).all()


def test_corrections_are_those_of_modulated_features():
  network, features, condition = randomised(), values(2, 7, 6), values(2, 112)
  residual = correct(network, features, condition)
  weights = {
    name: (np.asarray(layer.kernel[...], np.float64), np.asarray(layer.bias[...], np.float64))
    for name, layer in {'embed': network.embed, 'film': network.film, **network.out}.items()
  }
  for b in range(2):
    hidden = np.asarray(condition[b]) @ weights['embed'][0] + weights['embed'][1]
    film = np.where(hidden > 0, hidden, 0.2 * hidden) @ weights['film'][0] + weights['film'][1]
    film = film.reshape(4, 2, 6)
    for index, name in enumerate(NAMES):
      modulated = (1 + film[index, 0]) * np.asarray(features[b]) + film[index, 1]
      expected = modulated @ weights[name][0] + weights[name][1]
      np.testing.assert_allclose(getattr(residual, name)[b], expected, rtol=1e-4, atol=2e-4)


def test_training_moves_every_layer():
  """At zero only the output layers have gradients; once they move, so do the others."""
  features, condition, target = values(2, 7, 6), values(2, 112), values(2, 7, 3, seed=9)

  def loss(network):
    residual = network(features, condition)
    return sum(jnp.mean((field[..., :3] - target) ** 2) for field in residual)

  step = jax.jit(jax.value_and_grad(loss))
  network = silent()
  _, first = step(network)
  assert all(np.abs(first.out[name].kernel[...]).max() > 0 for name in NAMES)
  assert all(np.abs(first.out[name].bias[...]).max() > 0 for name in NAMES)
  assert np.abs(first.film.kernel[...]).max() == np.abs(first.embed.kernel[...]).max() == 0
  losses = []
  for _ in range(40):
    value, gradient = step(network)
    network = jax.tree.map(lambda x, g: x - 0.05 * g, network, gradient)
    losses.append(float(value))
  assert losses[-1] < 0.7 * losses[0]
  for leaf in jax.tree.leaves(gradient):
    assert np.abs(leaf).max() > 0
  assert np.abs(network.film.kernel[...]).max() > 1e-3
  assert rounded_products(jax.make_jaxpr(jax.grad(loss))(network).jaxpr) == []


def test_corrections_differ_from_frame_to_frame():
  network, features = randomised(), jnp.broadcast_to(values(7, 6), (2, 7, 6))
  for field in correct(network, features, values(2, 112)):
    assert np.abs(field[0] - field[1]).max() > 1e-2


def test_half_precision_features_are_taken():
  residual = correct(randomised(), values(2, 7, 6).astype(jnp.bfloat16), values(2, 112))
  assert all(field.dtype == jnp.float32 for field in residual)


def test_applied_to_all_but_opacity():
  decoded = DecodedMaps(
    values(2, 7, 3), values(2, 7, 4), values(2, 7, 3), values(2, 7), values(2, 7, 3)
  )
  residual = correct(randomised(), values(2, 7, 6), values(2, 112))
  corrected = apply_residual(decoded, residual)
  np.testing.assert_array_equal(corrected.opacity_logit, decoded.opacity_logit)
  for name in NAMES:
    np.testing.assert_array_equal(
      getattr(corrected, name), getattr(decoded, name) + getattr(residual, name)
    )
    assert np.abs(getattr(residual, name)).max() > 0.1


@pytest.mark.parametrize('wrong', [{'channels': 0}, {'hidden': -1}])
def test_config_is_checked(wrong):
  with pytest.raises(ValueError, match=next(iter(wrong))):
    ResidualConfig(**wrong)
