"""The Stage-1 loss: every part counts as it should, and training on it learns."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from sa0_kernels import Camera

from sa0_jax.generator.generator import Generator
from sa0_jax.generator.sources import pack_sources
from sa0_jax.losses.stage1 import LossWeights
from sa0_jax.train.objective import Batch, ObjectiveConfig, Targets, objective
from tests.generator.tiny import TINY, codes, frames, rig

CONFIG = ObjectiveConfig(weights=LossWeights(lpips=0.0), phase=2)
KEYS = jax.random.split(jax.random.key(0), 1)


@functools.cache
def batch() -> Batch:
  """One person: two sources, a third frame as target."""
  at, height = 2, frames().images.shape[1]
  targets = Targets(
    image=(frames().image(at) * frames().matte(at)[..., None])[None],
    vertices=frames().vertices[at][None],
    camera=Camera(
      frames().world_to_camera[at][None], frames().intrinsics[at][None], height, height
    ),
    codes=codes(at),
    box=jnp.asarray([[16.0, 16.0, 48.0, 48.0]]),
  )
  return Batch(pack_sources(frames(), [0, 1]), targets)


@functools.partial(jax.jit, static_argnames='config')
def _value_and_gradient(model, arrays, key, config):
  return jax.value_and_grad(objective, has_aux=True)(model, *arrays, key, config)


def value_and_gradient(model, key, config):
  return _value_and_gradient(model, (batch(), rig().arrays), key, config)


def test_a_few_steps_learn_and_are_deterministic():
  def train():
    model = Generator(dataclasses.replace(TINY, train_encoder=True), rngs=nnx.Rngs(0))
    optimizer = optax.adam(3e-3)

    @jax.jit
    def update(model, state, gradient):
      updates, state = optimizer.update(gradient, state)
      return optax.apply_updates(model, updates), state

    state, seen = optimizer.init(model), []
    for keys in jax.vmap(lambda k: jax.random.split(k, 25), out_axes=1)(KEYS):
      (_, metrics), gradient = value_and_gradient(model, keys, CONFIG)
      assert not bool(metrics.overflowed)
      seen.append(float(metrics.psnr))
      model, state = update(model, state, gradient)
    return model, seen

  (first, psnr), (second, _) = train(), train()
  assert psnr[-1] > psnr[0] + 2
  for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
    np.testing.assert_array_equal(a, b)


def test_terms_add_up_with_their_weights():
  model = Generator(TINY, rngs=nnx.Rngs(0))
  (loss, metrics), _ = value_and_gradient(model, KEYS, CONFIG)
  weights = dataclasses.asdict(CONFIG.weights)
  assert set(metrics.terms) == set(weights) - {'lpips'}
  expected = sum(weights[name] * float(value) for name, value in metrics.terms.items())
  assert float(loss) == pytest.approx(expected, rel=1e-5)
  assert float(metrics.terms['residual']) == 0.0
  assert float(metrics.terms['jacobian']) > 0.0


def test_lpips_without_weights_is_refused():
  model = Generator(TINY, rngs=nnx.Rngs(0))
  with pytest.raises(ValueError, match='LPIPS term needs weights'):
    objective(model, batch(), rig().arrays, KEYS, ObjectiveConfig())
