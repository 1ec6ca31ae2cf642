"""One training step: deterministic, frozen where it should be, the same on one device or two."""

import dataclasses
import functools
import json
import os
import subprocess
import sys

import jax
import numpy as np
import optax
import pytest

from sa0_jax.config import from_config_dict, load_config
from sa0_jax.data.config import BuildConfig, DataConfig
from sa0_jax.data.pipeline import Run, make_batches, on_devices
from sa0_jax.generator.generator import Rig
from sa0_jax.head.registry import load_head
from sa0_jax.train import parallel
from sa0_jax.train.config import OptimizerConfig, TrainConfig
from sa0_jax.train.example import example_batch
from sa0_jax.train.feed import make_feed, make_put
from sa0_jax.train.optimizer import learning_rate, make_optimizer
from sa0_jax.train.step import make_trainer
from tests.data.scenes import prepare, save_captures
from tests.structure.sources import ROOT


def settings(**changed) -> TrainConfig:
  return dataclasses.replace(from_config_dict(TrainConfig, load_config('debug')), **changed)


@functools.cache
def inputs():
  head = load_head()
  config = settings()
  # Where batches of data are: in another place they would be another program.
  batch = jax.device_put(example_batch(config, head), parallel.spread(one_device()))
  return batch, Rig.from_head(head, config.generator.uv_size).arrays


@functools.cache
def one_device():
  return parallel.make_mesh(jax.devices()[:1])


@functools.cache
def trainer():
  return make_trainer(settings(), one_device())


def run(made, steps, batch=None):
  given, rig = inputs()
  state = made.init()
  for _ in range(steps):
    state, metrics = made.step(state, given if batch is None else batch, rig, None)
  return state, metrics


def same_bits(first, second):
  for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
    np.testing.assert_array_equal(a, b)


def test_steps_learn_change_every_parameter_and_repeat_bit_by_bit():
  (first, metrics), (second, again) = run(trainer(), 25), run(trainer(), 25)
  same_bits((first, metrics), (second, again))
  assert int(first.step) == 25
  assert float(metrics.psnr) > float(run(trainer(), 1)[1].psnr) + 2
  before = jax.tree.leaves(trainer().init().trainable)
  for a, b in zip(before, jax.tree.leaves(first.trainable), strict=True):
    assert not np.array_equal(a, b)


def test_untrained_features_survive_the_first_steps_of_adam():
  """They grew a thousandfold, and Gaussians with them, before the dense features had a norm."""
  made = trainer()
  _, first = run(made, 1)
  for steps in (2, 3):
    _, metrics = run(made, steps)
    assert int(metrics.num_instances) < 2 * int(first.num_instances)


def test_prepared_data_is_trained_on(tmp_path):
  """Captures, data set, batches on the devices, steps: the whole way, and again bit by bit."""
  config, made, rig = settings(), trainer(), inputs()[1]
  size, steps = config.generator.image_size, 4
  captures = save_captures(tmp_path / 'captures', 2, size=size)
  folder = prepare(captures, tmp_path, {'train': ['p0', 'p1']}, BuildConfig()).path
  feed, put = make_feed(one_device(), load_head()), make_put(one_device())

  def start():
    batches = make_batches(DataConfig((folder,)), Run(config.batch_size, size, steps))
    return iter(on_devices(batches, put))

  def train(state, batches, count):
    for _ in range(count):
      state, metrics = made.step(state, feed(next(batches)), rig, None)
      assert np.isfinite(float(metrics.loss))
    return state

  whole = train(made.init(), start(), steps)
  batches = start()
  half = train(made.init(), batches, 2)
  resumed = start()
  resumed.set_state(batches.get_state())
  same_bits(train(half, resumed, 2), whole)


def test_a_frozen_encoder_is_no_parameter_and_has_no_moments():
  config = settings()
  config = dataclasses.replace(
    config, generator=dataclasses.replace(config.generator, train_encoder=False)
  )
  made = make_trainer(config, parallel.make_mesh(jax.devices()[:1]))
  # A step hands `frozen` on as it is, and differentiates by `trainable` alone.
  state = made.init()
  sizes = [sum(leaf.size for leaf in jax.tree.leaves(t)) for t in (state.frozen, state.trainable)]
  assert sizes[0] > 500_000  # the encoder
  moments = [leaf.size for leaf in jax.tree.leaves(state.optimizer) if leaf.size > 1]
  assert moments == [sizes[1]] * 2
  # What comes back is the whole network.
  assert sum(leaf.size for leaf in jax.tree.leaves(made.generator(state))) == sum(sizes)


@pytest.mark.slow
def test_a_step_short_of_gaussians_is_not_made():
  config = settings()
  config = dataclasses.replace(
    config,
    generator=dataclasses.replace(config.generator, train_encoder=False),
    objective=dataclasses.replace(config.objective, capacity=64, implementation='xla'),
  )
  made = make_trainer(config, parallel.make_mesh(jax.devices()[:1]))
  before = jax.tree.map(np.asarray, made.init())
  state, metrics = run(made, 1)
  assert bool(metrics.overflowed)
  assert int(metrics.num_instances) > 64
  same_bits(before, state)


def test_a_batch_must_be_equal_parts():
  parallel.check_batch_size(2, 4)
  with pytest.raises(ValueError, match='batch_size=3 cannot be spread over 2 devices'):
    parallel.check_batch_size(2, 3)


_OVER_DEVICES = """
import hashlib, json, sys
import jax, numpy as np
from tests.train import test_step
from sa0_jax.train import parallel
from sa0_jax.train.step import make_trainer

made = make_trainer(test_step.settings(), parallel.make_mesh())
state, metrics = test_step.run(made, 2)
leaves = jax.tree.leaves(state.trainable)
np.savez(sys.argv[1], *[np.asarray(leaf) for leaf in leaves])
print(json.dumps({'devices': jax.device_count(), 'loss': float(metrics.loss)}))
"""


@pytest.mark.slow
def test_two_devices_do_what_one_does(tmp_path):
  """Two steps of one batch on one device, and spread over two."""
  results = {}
  for count in (1, 2):
    done = subprocess.run(
      [sys.executable, '-c', _OVER_DEVICES, str(tmp_path / f'{count}.npz')],
      cwd=ROOT,
      env={
        **os.environ,
        'JAX_PLATFORMS': 'cpu',
        'XLA_FLAGS': f'--xla_force_host_platform_device_count={count}',
      },
      capture_output=True,
      text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    results[count] = json.loads(done.stdout.splitlines()[-1])
    assert results[count]['devices'] == count
  assert results[2]['loss'] == pytest.approx(results[1]['loss'], rel=1e-4)
  with np.load(tmp_path / '1.npz') as one, np.load(tmp_path / '2.npz') as two:
    differences = [np.abs(one[name] - two[name]).ravel() for name in one.files]
  # Adam makes whole steps of gradients that are rounding alone: a few may go the other way.
  assert np.quantile(np.concatenate(differences), 0.99) < 1e-4


def test_the_learning_rate_falls_as_published():
  rate = learning_rate(OptimizerConfig())
  steps = (0, 80_000, 160_000, 200_000)
  np.testing.assert_allclose(
    [rate(s) for s in steps], [2.5e-4, 1.375e-4, 2.5e-5, 2.5e-5], rtol=1e-6
  )
  cosine = learning_rate(OptimizerConfig(schedule='cosine'))
  np.testing.assert_allclose([cosine(s) for s in steps[:3]], [2.5e-4, 1.375e-4, 2.5e-5], rtol=1e-6)
  constant = learning_rate(OptimizerConfig(schedule='constant'))
  assert float(constant(160_000)) == pytest.approx(2.5e-4)


def test_long_gradients_are_shortened():
  optimizer = make_optimizer(OptimizerConfig(clip_norm=1.0))
  at = np.zeros(4, np.float32)
  _, long = optimizer.update(np.full(4, 1e3, np.float32), optimizer.init(at), at)
  _, short = optimizer.update(np.full(4, 0.5, np.float32), optimizer.init(at), at)
  of = lambda state: optax.tree_utils.tree_get(state, 'mu')  # noqa: E731
  np.testing.assert_allclose(of(long), of(short), rtol=1e-5)


@pytest.mark.parametrize(
  ('changed', 'message'),
  [
    ({'schedule': 'stepwise'}, "'linear', 'cosine' or 'constant', got 'stepwise'"),
    ({'rate': 0.0}, 'rate must be positive'),
    ({'clip_norm': float('inf')}, 'clip_norm must be positive'),
    ({'beta2': 1.5}, 'beta2 must be 0 to 1'),
  ],
)
def test_settings_of_the_optimizer_are_checked(changed, message, unchecked_shapes):
  with pytest.raises(ValueError, match=message):
    OptimizerConfig(**changed)


def test_weights_to_start_from_must_be_of_this_network():
  other = dataclasses.replace(settings().generator, pool='attention')
  made = trainer().generator(trainer().init())
  with pytest.raises(ValueError, match='another configuration'):
    make_trainer(settings(generator=other), parallel.make_mesh(), made)


def test_weights_to_start_from_stay_the_callers():
  """A step uses its state up; what was given must not be part of it."""
  given = trainer().generator(trainer().init())
  state = make_trainer(settings(), parallel.make_mesh(jax.devices()[:1]), given).init()
  begun = trainer().generator(state)
  same_bits(given, begun)
  for a, b in zip(jax.tree.leaves(given), jax.tree.leaves(begun), strict=True):
    assert a.unsafe_buffer_pointer() != b.unsafe_buffer_pointer()
