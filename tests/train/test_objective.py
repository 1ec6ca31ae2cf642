"""The Stage-1 loss: every part counts as it should. Training on it: test_step."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from sa0_kernels import RasterOutput

from sa0_jax.generator.generator import Generator
from sa0_jax.generator.sources import pack_sources
from sa0_jax.losses.stage1 import LossWeights
from sa0_jax.train.objective import Batch, ObjectiveConfig, _over_colors, objective
from tests.generator.tiny import TINY, frames, rig
from tests.refine.scenes import small_capture
from tests.train.studio_data import pack_target

CONFIG = ObjectiveConfig(weights=LossWeights(lpips=0.0), phase=2)
KEYS = jax.random.split(jax.random.key(0), 1)


@functools.cache
def batch() -> Batch:
  """One person: two sources, a third frame as target."""
  codes = small_capture().frame_codes(2)
  target = pack_target(frames(), 2, codes, [16.0, 16.0, 48.0, 48.0])
  return Batch(pack_sources(frames(), [0, 1]), target)


def test_terms_add_up_with_their_weights():
  model = Generator(TINY, rngs=nnx.Rngs(0))
  loss, metrics = jax.jit(objective, static_argnames='config')(
    model, batch(), rig().arrays, KEYS, config=CONFIG
  )
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


def test_over_random_colours_only_the_matte_is_right():
  targets = batch().targets
  matte = targets.matte.astype(jnp.float32) / 255.0
  none = jnp.zeros(1, jnp.int32)
  output = RasterOutput(targets.image, matte, none, none > 0, none)
  image, wanted = _over_colors(output, targets, KEYS)
  np.testing.assert_allclose(image, wanted.image, atol=1e-6)
  hollow = dataclasses.replace(output, alpha=0.5 * matte)
  image, _ = _over_colors(hollow, targets, KEYS)
  off = np.abs(image - wanted.image).max(axis=-1)
  assert off[np.asarray(matte) > 0.99].min() > 0.05
  assert off[np.asarray(matte) == 0.0].max() < 1e-6
  other, _ = _over_colors(output, targets, jax.random.split(jax.random.key(1), 1))
  assert np.abs(other - wanted.image).max() > 0.05
  with pytest.raises(ValueError, match='need the mattes of the targets'):
    _over_colors(output, targets._replace(matte=None), KEYS)
