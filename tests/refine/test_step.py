"""One optimisation step: every switch does what it says, and the gradient is the loss's."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sa0_jax.capture.frames import load_frames
from sa0_jax.head.registry import load_head
from sa0_jax.losses.photometric import composite
from sa0_jax.refine import step as step_lib
from sa0_jax.refine.config import AntiSpike, LearningRates
from sa0_jax.refine.step import Binding, Subject, clamp_log_scales, initial_state, run_steps
from tests.precision import rounded_products
from tests.refine.scenes import CONFIG, small_capture, start_avatar

SPIKE = CONFIG.anti_spike


def subject():
  """The small capture as the step takes it, with an axis of one subject."""
  frames = load_frames(small_capture(), load_head(), 0)
  return Subject(
    frames=jax.tree.map(lambda a: a[None], frames),
    num_frames=jnp.asarray([len(frames)], jnp.int32),
    key=jax.random.key(0)[None],
    color_logit=start_avatar().gaussians.color_logit[None],
  )


def binding():
  avatar = start_avatar()
  return Binding(jnp.asarray(avatar.head.faces), avatar.layout.face)


def needles():
  """The starting avatar, with Gaussians far beyond every bound of the clamp."""
  rng = np.random.default_rng(0)
  gaussians = start_avatar().gaussians
  spread = jnp.asarray(rng.normal(0.0, 2.5, size=gaussians.log_scale.shape), jnp.float32)
  return dataclasses.replace(gaussians, log_scale=gaussians.log_scale + spread)


def states(config, gaussians, count):
  """The states after 0, 1, …, count steps, and the metrics of each step."""
  fixed, bound = subject(), binding()
  state = initial_state(config, jax.tree.map(lambda a: a[None], gaussians))
  history, metrics = [state], []
  for _ in range(count):
    state, one = run_steps(
      state, fixed, bound, jnp.asarray(1, jnp.int32), config=config, capacity=None
    )
    history.append(state)
    metrics.append(one)
  return history, metrics


def test_no_product_is_left_to_the_precision_of_a_device():
  config = dataclasses.replace(CONFIG, implementation='xla')
  state = initial_state(config, jax.tree.map(lambda a: a[None], start_avatar().gaussians))
  one = jnp.asarray(1, jnp.int32)
  step = functools.partial(run_steps, config=config, capacity=None)
  traced = jax.make_jaxpr(step)(state, subject(), binding(), one)
  assert rounded_products(traced.jaxpr) == []


def with_spike(**changes):
  return dataclasses.replace(CONFIG, anti_spike=dataclasses.replace(SPIKE, **changes))


def log_scales(history):
  return [np.asarray(s.gaussians.log_scale[0]) for s in history]


def test_frozen_scales_keep_their_bits_until_the_start():
  history, _ = states(CONFIG, start_avatar().gaussians, SPIKE.start + 2)
  scales = log_scales(history)
  for step in range(SPIKE.start + 1):
    np.testing.assert_array_equal(scales[step], scales[0], err_msg=f'after {step} steps')
  assert not np.array_equal(scales[SPIKE.start + 1], scales[0])
  for name in ('position', 'rotation', 'opacity_logit', 'color_logit'):
    first, second = (np.asarray(getattr(s.gaussians, name)) for s in history[:2])
    assert not np.array_equal(first, second), name


def test_without_the_freeze_scales_move_at_once():
  history, _ = states(with_spike(freeze=False), start_avatar().gaussians, 1)
  before, after = log_scales(history)
  assert not np.array_equal(before, after)


def bounds_hold(log_scale):
  spread = log_scale.max(axis=1) - log_scale.min(axis=1)
  inside = (log_scale >= SPIKE.log_scale_min) & (log_scale <= SPIKE.log_scale_max)
  return inside.all() and spread.max() <= SPIKE.spread + 1e-5


def test_the_clamp_holds_after_every_step_from_the_start():
  history, _ = states(CONFIG, needles(), SPIKE.start + 3)
  held = [bounds_hold(s) for s in log_scales(history)]
  assert held == [False] * (SPIKE.start + 1) + [True] * 3


def test_without_the_clamp_nothing_bounds_the_scales():
  history, _ = states(with_spike(clamp=False), needles(), SPIKE.start + 3)
  assert not any(bounds_hold(s) for s in log_scales(history))


def test_the_clamp_alone():
  log_scale = jnp.asarray([[-9.0, 0.0, 9.0], [-1.0, 0.0, 1.0], [1.0, 1.0, 3.0]])
  limits = AntiSpike(log_scale_min=-6.0, log_scale_max=2.0, spread=3.0)
  clamped = np.asarray(clamp_log_scales(log_scale, limits))
  mean = -4 / 3
  np.testing.assert_allclose(clamped[0], [mean - 1.5, 0.0, mean + 1.5], atol=1e-6)
  np.testing.assert_allclose(clamped[1], log_scale[1], atol=1e-6)
  np.testing.assert_allclose(clamped[2], [1.0, 1.0, 2.0], atol=1e-6)


def test_the_penalty_acts_from_the_start_and_only_when_on():
  config = dataclasses.replace(CONFIG, color_prior=0.0)
  _, metrics = states(config, needles(), SPIKE.start + 2)
  aspects = [float(m.aspect[0]) for m in metrics]
  assert aspects[: SPIKE.start] == [0.0] * SPIKE.start
  assert min(aspects[SPIKE.start :]) > 0.1
  weighted = CONFIG.l1_weight * metrics[-1].l1 + CONFIG.ssim_weight * metrics[-1].ssim_loss
  weighted += SPIKE.weight * metrics[-1].aspect
  np.testing.assert_allclose(metrics[-1].loss, weighted, rtol=1e-6)
  _, metrics = states(with_spike(penalty=False), needles(), SPIKE.start + 2)
  assert [float(m.aspect[0]) for m in metrics] == [0.0] * (SPIKE.start + 2)


def test_a_rate_of_zero_holds_its_family_still():
  config = dataclasses.replace(CONFIG, rates=LearningRates(position=0.0))
  history, _ = states(config, start_avatar().gaussians, 2)
  before, after = history[0].gaussians, history[-1].gaussians
  np.testing.assert_array_equal(after.position, before.position)
  assert not np.array_equal(after.color_logit, before.color_logit)


def test_backgrounds_are_drawn_anew_each_step_or_held():
  """A transparent avatar shows the drawn colour and nothing else."""
  gaussians = start_avatar().gaussians
  unseen = dataclasses.replace(gaussians, opacity_logit=jnp.full_like(gaussians.opacity_logit, -20))
  still = LearningRates(*[0.0] * 5)
  drawn = dataclasses.replace(CONFIG, rates=still, steps=6)
  held = dataclasses.replace(drawn, random_background=False, background=(1.0, 0.0, 0.5))
  _, metrics = states(drawn, unseen, 6)
  assert len({float(m.l1[0]) for m in metrics}) == 6
  frames = load_frames(small_capture(), load_head(), 0)
  color = jnp.asarray(held.background)
  possible = [
    float(jnp.mean(jnp.abs(composite(frames.image(i), frames.matte(i), color) - color)))
    for i in range(len(frames))
  ]
  for metric in states(held, unseen, 6)[1]:
    assert min(abs(p - float(metric.l1[0])) for p in possible) < 1e-6


@functools.partial(jax.jit, static_argnums=4)
def _loss_and_gradient(gaussians, frames, bound, background, config):
  def loss(gaussians):
    sample = (frames, jnp.asarray(2), background)
    return step_lib._loss(gaussians, bound, sample, jnp.asarray(True), config, None)[0]

  return jax.value_and_grad(loss)(gaussians)


FIELDS = ['position', 'rotation', 'log_scale', 'opacity_logit', 'color_logit']


@pytest.mark.parametrize('field', FIELDS)
def test_the_gradient_of_the_whole_loss_equals_finite_differences(field):
  """Pose, bind, render, compare and the penalty in one; float64, steps too small to meet a cut."""
  with jax.enable_x64(True):
    gaussians, frames = jax.tree.map(
      lambda a: jnp.asarray(a, jnp.float64 if a.dtype == np.float32 else a.dtype),
      (needles(), load_frames(small_capture(), load_head(), 0)),
    )
    config = dataclasses.replace(CONFIG, implementation='xla')
    fixed = (frames, binding(), jnp.asarray([0.3, 0.9, 0.1]))
    value, gradient = _loss_and_gradient(gaussians, *fixed, config)
    # Mostly along the gradient: in a random direction the terms cancel to nearly nothing.
    slope = np.asarray(getattr(gradient, field))
    weight = np.random.default_rng(1).uniform(0.2, 1.0, size=slope.shape)
    direction = weight * slope / np.abs(slope).max()
    analytic = float(np.sum(slope * direction))
    step = 1e-6

    def moved(by):
      changed = dataclasses.replace(
        gaussians, **{field: getattr(gaussians, field) + by * direction}
      )
      return float(_loss_and_gradient(changed, *fixed, config)[0])

    assert value > 0
    assert (moved(step) - moved(-step)) / (2 * step) == pytest.approx(analytic, rel=1e-3)


def test_the_color_prior_holds_what_no_frame_shows():
  """A colour without any gradient but the prior's goes back to where it started."""
  start = start_avatar().gaussians
  hidden = jnp.full_like(start.opacity_logit, -30.0)
  moved = dataclasses.replace(start, opacity_logit=hidden, color_logit=start.color_logit + 1.0)
  config = dataclasses.replace(CONFIG, color_prior=1e-3)
  history, metrics = states(config, moved, 2)
  assert float(metrics[0].loss[0]) > CONFIG.l1_weight * float(metrics[0].l1[0])
  after = history[-1].gaussians.color_logit[0] - start.color_logit
  assert float(jnp.max(after)) < 1.0
