"""One training step: deterministic, frozen where it should be, the same on one device or two."""

import dataclasses
import json
import os
import subprocess
import sys

import jax
import numpy as np
import optax
import pytest
from flax import nnx

from sa0_jax.generator.vit import VIT_PRESETS
from sa0_jax.train import parallel
from sa0_jax.train.config import OptimizerConfig
from sa0_jax.train.optimizer import layer_rates, learning_rate, make_optimizer
from sa0_jax.train.step import fresh_generator, make_trainer
from tests import machine_code
from tests.structure.sources import ROOT
from tests.train.runs import first, inputs, one_device, run, second, settings, trainer


def same_bits(first, second):
  for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
    np.testing.assert_array_equal(a, b)


def test_steps_learn_change_every_parameter_and_repeat_bit_by_bit():
  same_bits(run(trainer(), 5), run(trainer(), 5))
  state, metrics = run(trainer(), 25)
  assert int(state.step) == 25
  assert float(metrics.psnr) > float(run(trainer(), 1)[1].psnr) + 2
  before = jax.tree.leaves(trainer().init().trainable)
  for a, b in zip(before, jax.tree.leaves(state.trainable), strict=True):
    assert not np.array_equal(a, b)


def test_untrained_features_survive_the_first_steps_of_adam():
  """They grew a thousandfold, and Gaussians with them, before the dense features had a norm."""
  made = trainer()
  _, begin = run(made, 1)
  for steps in (2, 3):
    _, metrics = run(made, steps)
    assert int(metrics.num_instances) < 2 * int(begin.num_instances)


def test_a_frozen_encoder_is_no_parameter_and_has_no_moments():
  made = make_trainer(settings(), first(train_encoder=False), one_device())
  # A step hands `frozen` on as it is, and differentiates by `trainable` alone.
  state = made.init()
  sizes = [sum(leaf.size for leaf in jax.tree.leaves(t)) for t in (state.frozen, state.trainable)]
  assert sizes[0] > 500_000  # the encoder
  moments = [leaf.size for leaf in jax.tree.leaves(state.optimizer) if leaf.size > 1]
  assert moments == [sizes[1] + -sizes[1] % 4096] * 2
  # What comes back is the whole network.
  assert sum(leaf.size for leaf in jax.tree.leaves(made.generator(state))) == sum(sizes)


@pytest.mark.slow
def test_a_step_short_of_gaussians_is_not_made():
  goal = dataclasses.replace(settings().phase1.objective, implementation='xla')
  phase = first(train_encoder=False, objective=goal)
  made = make_trainer(settings(), phase, one_device(), capacity=64)
  before = jax.tree.map(np.asarray, made.init())
  state, report = run(made, 2)
  assert bool(report.overflowed)
  assert int(report.num_instances) > 64
  assert bool(state.halted)
  same_bits(before, state._replace(halted=before.halted))


def test_a_step_that_is_not_finite_changes_nothing_and_neither_do_those_after_it():
  batch, rig = inputs()
  state, _ = run(trainer(), 1)
  before = jax.tree.map(np.asarray, state)
  broken = batch._replace(targets=batch.targets._replace(image=batch.targets.image * np.nan))
  state, report = trainer().step(state, broken, rig, None)
  assert not bool(report.finite)
  state, report = trainer().step(state, batch, rig, None)
  assert bool(report.finite)
  assert bool(state.halted)
  same_bits(before, state._replace(halted=before.halted))
  # And goes on from there as if nothing had been.
  state = state._replace(halted=jax.device_put(before.halted, state.halted.sharding))
  same_bits(run(trainer(), 1, state), run(trainer(), 2))


def test_a_batch_must_be_equal_parts():
  parallel.check_batch_size(2, 4)
  with pytest.raises(ValueError, match='batch_size=3 cannot be spread over 2 devices'):
    parallel.check_batch_size(2, 3)


_OVER_DEVICES = """
import hashlib, json, sys
import jax, numpy as np
from tests.train import runs
from sa0_jax.train import parallel
from sa0_jax.train.step import make_trainer

made = make_trainer(runs.settings(), runs.first(), parallel.make_mesh(fsdp=int(sys.argv[2])))
state, metrics = runs.run(made, 2)
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
        'XLA_FLAGS': machine_code.devices(count),
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


def test_weights_to_start_from_stay_the_callers():
  """A step uses its state up; what was given must not be part of it."""
  given = trainer().generator(trainer().init())
  begun = trainer().generator(trainer().init(given))
  same_bits(given, begun)
  for a, b in zip(jax.tree.leaves(given), jax.tree.leaves(begun), strict=True):
    assert a.unsafe_buffer_pointer() != b.unsafe_buffer_pointer()


@pytest.mark.slow
def test_parts_of_a_batch_add_up_to_it():
  """Draws are each person's own, so the parts of a batch have the gradient of the whole."""
  made = make_trainer(settings(), first(accumulate=2), one_device())
  (state, report), (whole, expected) = run(made, 1), run(trainer(), 1)
  np.testing.assert_allclose(report.loss, expected.loss, rtol=1e-6)
  np.testing.assert_allclose(report.gradient_norm, expected.gradient_norm, rtol=1e-4)
  moments = [optax.tree_utils.tree_get(s.optimizer, 'mu') for s in (state, whole)]
  assert np.linalg.norm(moments[0] - moments[1]) < 1e-4 * np.linalg.norm(moments[1])


@pytest.mark.slow
def test_the_anchor_draws_back_and_is_never_changed():
  """λ/2 ‖θ − θ₀‖², and its gradient."""
  config = settings()
  start = fresh_generator(config)
  weak, strong = (make_trainer(config, second(anchor=a), one_device()) for a in (1e-9, 10.0))
  begun = weak.init(start)
  anchor = jax.tree.map(np.asarray, begun.anchor)
  same_bits(anchor, begun.trainable)
  (free, _), (held, report) = run(weak, 4, begun), run(strong, 4, strong.init(start))

  def away(state):
    pairs = zip(jax.tree.leaves(state.trainable), jax.tree.leaves(anchor), strict=True)
    return sum(float(np.sum((np.asarray(a) - b) ** 2)) for a, b in pairs)

  assert away(held) < 0.9 * away(free)
  assert float(report.terms['anchor']) > 0
  same_bits(anchor, held.anchor)


def test_layers_of_the_encoder_learn_at_falling_rates():
  config = settings('paper')
  shapes = jax.eval_shape(lambda: nnx.state(fresh_generator(config)))
  rates = layer_rates(shapes, VIT_PRESETS['dinov3_vitb16'], 0.65)
  of = {
    parallel.path_name(path): rate for path, rate in jax.tree_util.tree_flatten_with_path(rates)[0]
  }
  assert len(set(of.values())) == 14  # twelve blocks, what comes before them, and the rest
  assert of['encoder/blocks/0/attention/out/kernel'] == pytest.approx(0.65**12)
  assert of['encoder/cls_token'] == pytest.approx(0.65**13)
  assert of['encoder/norm/scale'] == 1.0
  assert {rate for name, rate in of.items() if not name.startswith('encoder/')} == {1.0}


def test_the_rate_warms_up_and_weights_decay_as_in_adamw():
  rate = learning_rate(
    OptimizerConfig(1e-4, 'cosine', warmup_steps=10, decay_steps=90, final_fraction=0.0)
  )
  np.testing.assert_allclose([rate(0), rate(5), rate(10)], [0, 5e-5, 1e-4], rtol=1e-6, atol=1e-12)
  np.testing.assert_allclose([rate(55), rate(100)], [5e-5, 0], rtol=1e-6, atol=1e-10)
  config = OptimizerConfig(schedule='constant', weight_decay=0.1, clip_norm=1e9)
  ours, theirs = make_optimizer(config), optax.adamw(2.5e-4, weight_decay=0.1)
  at, slope = np.linspace(-1, 1, 7, dtype=np.float32), np.linspace(2, 3, 7, dtype=np.float32)
  a, b = ours.init(at), theirs.init(at)
  for _ in range(3):
    one, a = ours.update(slope, a, at)
    two, b = theirs.update(slope, b, at)
    np.testing.assert_allclose(one, two, rtol=1e-6)


def test_rules_say_what_lies_where():
  mesh = jax.sharding.AbstractMesh((2, 4), parallel.AXES)
  tree = {
    'trainable': {'a': {'kernel': np.zeros((3, 3, 8, 16)), 'bias': np.zeros(16)}},
    'optimizer': {'mu': np.zeros(4096), 'count': np.zeros(())},
    'frozen': {'odd': {'kernel': np.zeros((8, 6))}},
  }
  specs = jax.tree.map(lambda sharding: tuple(sharding.spec), parallel.shardings(mesh, tree))
  assert specs['trainable']['a'] == {'kernel': (None, None, None, 'fsdp'), 'bias': ()}
  assert specs['optimizer'] == {'mu': ('fsdp',), 'count': ()}
  assert specs['frozen']['odd']['kernel'] == ()  # 6 columns on 4 devices
  with pytest.raises(ValueError, match='no rule for optimizer/mu'):
    parallel.shardings(mesh, tree, ((r'kernel|bias|count', ()),))


def test_devices_must_be_whole_groups():
  with pytest.raises(ValueError, match='fsdp=3: 1 devices cannot be divided'):
    parallel.make_mesh(jax.devices()[:1], 3)
