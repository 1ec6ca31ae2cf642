"""One optimisation step of many subjects: pose, bind, render, compare, update (METHOD §7)."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Key
from sa0_kernels import RasterConfig, pytree

from sa0_jax.avatar.gaussians import BoundGaussians
from sa0_jax.capture.frames import FrameArrays
from sa0_jax.losses import photometric
from sa0_jax.losses.aspect import aspect_loss
from sa0_jax.refine.config import AntiSpike, RefineConfig
from sa0_jax.render import pose_gaussians

_FAMILIES = ('position', 'rotation', 'scale', 'opacity', 'color')  # of BoundGaussians' fields


@pytree.register
@dataclasses.dataclass(frozen=True)
class RefineState:
  """All that changes: what a checkpoint holds.

  Attributes:
    step: steps done.
    gaussians: parameters, with a leading axis of subjects.
    optimizer: Adam's moments.
  """

  step: Int[Array, '']
  gaussians: BoundGaussians
  optimizer: Any


class StepMetrics(NamedTuple):
  """What one step says about itself, per subject.

  Attributes:
    loss: the weighted sum.
    l1, ssim_loss, aspect: the terms, unweighted.
    overflowed: the image was short of Gaussians and the step must be done again.
    num_instances: what the instance buffer has to hold.
  """

  loss: Float[Array, '*s']
  l1: Float[Array, '*s']
  ssim_loss: Float[Array, '*s']
  aspect: Float[Array, '*s']
  overflowed: Bool[Array, '*s']
  num_instances: Int[Array, '*s']


class Subject(NamedTuple):
  """What stays fixed for one subject.

  Attributes:
    frames: its training frames.
    num_frames: how many of them are real; subjects of a batch are padded to one length.
    key: randomness of this subject's run.
    color_logit: colours its Gaussians start with.
  """

  frames: FrameArrays
  num_frames: Int[Array, '*s']
  key: Key[Array, '*s']
  color_logit: Float[Array, '*s n c']


class Binding(NamedTuple):
  """Mesh and binding, shared by all subjects.

  Attributes:
    faces: [f, 3] triangles.
    face: [n] triangle of each Gaussian.
  """

  faces: Int[Array, 'f 3']
  face: Int[Array, ' n']


def make_optimizer(config: RefineConfig) -> optax.GradientTransformation:
  """Adam with one cosine-decayed rate per attribute family."""
  rates = dataclasses.asdict(config.rates)
  final = rates.pop('final_fraction')
  transforms = {
    family: optax.adam(optax.cosine_decay_schedule(rate, config.steps, alpha=final), eps=1e-15)
    for family, rate in rates.items()
  }
  return optax.multi_transform(
    transforms, lambda tree: jax.tree.unflatten(jax.tree.structure(tree), _FAMILIES)
  )


def initial_state(config: RefineConfig, gaussians: BoundGaussians) -> RefineState:
  """State before the first step; `gaussians` have a leading axis of subjects."""
  # A weakly typed leaf would come back strongly typed, and the second call compile anew.
  gaussians = jax.tree.map(lambda leaf: jnp.array(leaf, dtype=leaf.dtype), gaussians)
  optimizer = jax.vmap(make_optimizer(config).init)(gaussians)
  return RefineState(jnp.zeros((), jnp.int32), gaussians, optimizer)


def clamp_log_scales(log_scale: Float[Array, '*n 3'], limits: AntiSpike) -> Float[Array, '*n 3']:
  """The hard clamp: into [min, max], then the deviation from the mean so that max − min ≤ spread.

  Clipping both sides to ±spread/2 bounds the difference; where all three axes deviate to one side
  the bound is not tight, never violated.
  """
  log_scale = jnp.clip(log_scale, limits.log_scale_min, limits.log_scale_max)
  mean = jnp.mean(log_scale, axis=-1, keepdims=True)
  half = 0.5 * limits.spread
  return mean + jnp.clip(log_scale - mean, -half, half)


def _loss(
  gaussians: BoundGaussians,
  binding: Binding,
  sample: tuple[FrameArrays, Array, Array],
  active: Array,
  config: RefineConfig,
  capacity: int | None,
) -> tuple[Array, StepMetrics]:
  """Loss of one subject on one frame; `active` says whether the penalty acts."""
  frames, index, background = sample
  camera = frames.camera(index)
  world = pose_gaussians(gaussians, frames.vertices[index], binding.faces, binding.face)
  raster = RasterConfig(background=background, capacity=capacity)
  output = world.rasterize(camera, raster, config.implementation)
  target = photometric.composite(frames.image(index), frames.matte(index), background)
  l1 = photometric.l1(output.features, target)
  ssim_loss = photometric.ssim_loss(output.features, target)
  loss = config.l1_weight * l1 + config.ssim_weight * ssim_loss
  aspect = jnp.zeros(())
  if config.anti_spike.penalty:
    aspect = jax.lax.cond(
      active,
      lambda w: aspect_loss(w.means, w.quats, w.scales, camera, config.anti_spike.threshold),
      lambda w: jnp.zeros(()),
      world,
    )
    loss = loss + config.anti_spike.weight * aspect
  metrics = StepMetrics(loss, l1, ssim_loss, aspect, output.overflowed, output.num_instances)
  return loss, metrics


def _subject_step(
  gaussians: BoundGaussians,
  optimizer: Any,
  subject: Subject,
  *,
  step: Array,
  binding: Binding,
  config: RefineConfig,
  capacity: int | None,
) -> tuple[BoundGaussians, Any, StepMetrics]:
  """One step of one subject."""
  spike = config.anti_spike
  active = step >= spike.start
  frame_key, background_key = jax.random.split(jax.random.fold_in(subject.key, step))
  index = jax.random.randint(frame_key, (), 0, subject.num_frames)
  background = jnp.asarray(config.background, jnp.float32)
  if config.random_background:
    background = jax.random.uniform(background_key, (3,))
  sample = (subject.frames, index, background)

  def objective(gaussians: BoundGaussians) -> tuple[Array, StepMetrics]:
    loss, metrics = _loss(gaussians, binding, sample, active, config, capacity)
    # Adam makes full steps of the faintest gradient: without this, what lies hidden inside the
    # mouth takes on random colours long before any frame shows it.
    moved = jnp.mean(jnp.square(gaussians.color_logit - subject.color_logit))
    loss = loss + config.color_prior * moved
    return loss, metrics._replace(loss=loss)

  gradient, metrics = jax.grad(objective, has_aux=True)(gaussians)
  updates, optimizer = make_optimizer(config).update(gradient, optimizer, gaussians)
  if spike.freeze:
    # Moments keep warming up; only the step is withheld, so that scales start without a jump.
    moved = jnp.where(active, updates.log_scale, 0.0)
    updates = dataclasses.replace(updates, log_scale=moved)
  gaussians = optax.apply_updates(gaussians, updates)
  if spike.clamp:
    clamped = clamp_log_scales(gaussians.log_scale, spike)
    kept = jnp.where(active, clamped, gaussians.log_scale)
    gaussians = dataclasses.replace(gaussians, log_scale=kept)
  return gaussians, optimizer, metrics


@functools.partial(jax.jit, static_argnames=('config', 'capacity'))
def run_steps(
  state: RefineState,
  subjects: Subject,
  binding: Binding,
  count: Int[Array, ''],
  *,
  config: RefineConfig,
  capacity: int | None,
) -> tuple[RefineState, StepMetrics]:
  """Runs `count` steps of every subject in one device program.

  The count is a traced number: runs of any length share one program, and a resumed run computes the
  same bits as an uninterrupted one.

  Args:
    state: where to start.
    subjects: frames and keys, with a leading axis of subjects.
    binding: mesh and binding.
    count: number of steps, at least 1.
    config: settings.
    capacity: instance buffer of the rasterizer; None for its default.

  Returns:
    The state after the last step, and metrics per subject: terms of the last step, the largest
    number of instances and whether any step overflowed.
  """
  num_subjects = subjects.num_frames.shape[0]

  def body(_: Any, carry: tuple[RefineState, StepMetrics]) -> tuple[RefineState, StepMetrics]:
    state, before = carry
    one = functools.partial(
      _subject_step, step=state.step, binding=binding, config=config, capacity=capacity
    )
    gaussians, optimizer, metrics = jax.vmap(one)(state.gaussians, state.optimizer, subjects)
    metrics = metrics._replace(
      overflowed=before.overflowed | metrics.overflowed,
      num_instances=jnp.maximum(before.num_instances, metrics.num_instances),
    )
    return RefineState(state.step + 1, gaussians, optimizer), metrics

  zeros = jnp.zeros(num_subjects)
  none = StepMetrics(
    zeros, zeros, zeros, zeros, jnp.zeros(num_subjects, bool), jnp.zeros(num_subjects, jnp.int32)
  )
  return jax.lax.fori_loop(0, count, body, (state, none))
