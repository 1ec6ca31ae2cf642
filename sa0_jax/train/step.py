"""One step of training: state and batch in, state and report out, nothing else."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int
from sa0_kernels.rasterize.types import next_power_of_two

from sa0_jax.generator.generator import (
  Generator,
  GeneratorConfig,
  RigArrays,
  abstract_generator,
)
from sa0_jax.losses.lpips import Lpips
from sa0_jax.train import parallel
from sa0_jax.train.config import TrainConfig
from sa0_jax.train.objective import Batch, Metrics, objective
from sa0_jax.train.optimizer import layer_rates, make_optimizer
from sa0_jax.train.phases import Phase, training_config

_WEIGHTS_STREAM, _DRAWS_STREAM = 0, 1  # of the run's seed
# The vectors of moments are filled up to a multiple, so that any usual number of devices divides
# them and a checkpoint fits every mesh.
_MULTIPLE = 4096
_GROWTH = 1.25  # of the rasterizer's buffer, over what was needed


class TrainState(NamedTuple):
  """Everything that changes while training, and the weights that do not.

  Attributes:
    step: number of steps done in the run.
    trainable: parameters that are trained.
    frozen: those that are not; an encoder taken as it was published.
    optimizer: moments of the trained ones, all in one vector: hundreds of small arrays, each with
      its own operations, took most of the time of compiling a step.
    anchor: the trained ones as the phase began with them, where they are drawn back to it.
    halted: a step could not be made (see `StepReport`); none after it is until this is cleared.
  """

  step: Int[Array, '']
  trainable: Any
  frozen: Any
  optimizer: optax.OptState
  anchor: Any
  halted: Bool[Array, '']


class StepReport(NamedTuple):
  """What a step says about itself.

  Attributes:
    loss: the weighted sum.
    terms: its terms, unweighted, by name.
    psnr: mean over the targets, over black.
    gradient_norm: before it was shortened.
    num_instances: what the rasterizer's buffer has to hold.
    overflowed: an image was short of Gaussians: the step is to be made again with more room.
    finite: loss and gradient were.
  """

  loss: Float[Array, '']
  terms: dict[str, Float[Array, '']]
  psnr: Float[Array, '']
  gradient_norm: Float[Array, '']
  num_instances: Int[Array, '']
  overflowed: Bool[Array, '']
  finite: Bool[Array, '']


class Trainer(NamedTuple):
  """A compiled step of a phase and what it starts from.

  Attributes:
    init: (generator or None for random weights) → TrainState at the phase's begin.
    shapes: of a TrainState, with the sharding of each leaf.
    step: (state, batch, rig arrays, LPIPS weights or None) → (state, report). The state given is
      used up. Where the report says `overflowed` or not `finite` the state comes back as it was,
      but halted, and later steps change nothing: what was in flight need not be taken back.
    generator: state → Generator with its weights, computing in the configuration's dtype.
  """

  init: Callable[..., TrainState]
  shapes: TrainState
  step: jax.stages.Wrapped
  generator: Callable[[TrainState], Generator]


def fresh_generator(config: TrainConfig) -> Generator:
  """The network with the random weights of the run's seed."""
  root = jax.random.key(config.seed)
  return Generator(config.generator, rngs=nnx.Rngs(jax.random.fold_in(root, _WEIGHTS_STREAM)))


def frozen_parameters(train_encoder: bool) -> Any:
  """Which parameters are not trained, as `nnx.split` takes it."""
  return nnx.Nothing() if train_encoder else nnx.PathContains('encoder')


def make_trainer(
  config: TrainConfig, phase: Phase, mesh: Mesh, capacity: int | None = None
) -> Trainer:
  """Prepares a phase over the devices of a mesh.

  The bits of a step depend on the state, the batch, the seed, the number of devices and their kind.

  Args:
    config: the run.
    phase: one of `phases(config)`.
    mesh: from `parallel.make_mesh`.
    capacity: of the rasterizer's buffer, instead of the configuration's.

  Raises:
    ValueError: the batch cannot be spread over the devices.
  """
  settings = phase.config
  parallel.check_batch_size(mesh.size, settings.batch_size, settings.accumulate)
  kept = frozen_parameters(settings.train_encoder)
  fresh = functools.partial(fresh_generator, config)
  definition = _definition(training_config(config, phase), kept)
  result = _definition(config.generator, kept)

  def init(start: Generator | None = None) -> TrainState:
    # Copied: a step uses its state up, and the caller's weights are the caller's.
    begin = fresh() if start is None else jax.tree.map(jnp.copy, start)
    _, frozen, trainable = nnx.split(begin, kept, ...)
    anchor = jax.tree.map(jnp.copy, trainable) if settings.anchor else None
    moments = make_optimizer(settings.optimizer).init(_vector(trainable))
    count = jnp.full((), phase.begin, jnp.int32)
    return TrainState(count, trainable, frozen, moments, anchor, jnp.zeros((), bool))

  shapes = jax.eval_shape(init, abstract_generator(config.generator))
  where = parallel.shardings(mesh, shapes)
  gradients = parallel.over_batch(
    mesh, _gradient(config, phase, definition, capacity), (False, False, True, True, False, False)
  )
  step = _step(config, phase, gradients, _place_vector(mesh, shapes))
  whole, parts = parallel.replicated(mesh), parallel.spread(mesh)
  compiled = jax.jit(
    step,
    in_shardings=(where, parts, whole, whole),
    out_shardings=(where, whole),
    donate_argnums=0,
  )
  placed = jax.tree.map(
    lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
    shapes,
    where,
  )
  return Trainer(
    lambda start=None: jax.device_put(init(start), where),
    placed,
    compiled,
    lambda state: nnx.merge(result, state.frozen, state.trainable),
  )


def room_for(num_instances: int) -> int:
  """Capacity to make a step again with: what it needed, and a margin for those that follow."""
  return next_power_of_two(int(_GROWTH * num_instances))


def _place_vector(mesh: Mesh, shapes: TrainState) -> Callable[[Array], Array]:
  """Divides a vector of all trained parameters as the moments are."""
  vector = {'optimizer': jax.eval_shape(_vector, shapes.trainable)}
  where = parallel.shardings(mesh, {'optimizer': vector})['optimizer']['optimizer']
  return functools.partial(jax.lax.with_sharding_constraint, shardings=where)


def _step(
  config: TrainConfig,
  phase: Phase,
  gradients: Callable[..., tuple[Any, Metrics]],
  place: Callable[[Array], Array],
) -> Callable[..., tuple[TrainState, StepReport]]:
  """A step, to be compiled."""
  settings = phase.config
  optimizer, decay = make_optimizer(settings.optimizer), settings.optimizer.layer_decay
  root = jax.random.fold_in(jax.random.key(config.seed), _DRAWS_STREAM)

  def step(
    state: TrainState, batch: Batch, rig: RigArrays, perceptual: Lpips | None
  ) -> tuple[TrainState, StepReport]:
    keys = jax.random.split(jax.random.fold_in(root, state.step), settings.batch_size)
    gradient, metrics = gradients(state.trainable, state.frozen, batch, keys, rig, perceptual)
    with jax.named_scope('optimizer'):
      vector, values = place(_vector(gradient)), place(_vector(state.trainable))
      if settings.anchor:
        away = values - place(_vector(state.anchor))
        vector = vector + settings.anchor * away
        metrics = _with_anchor(metrics, settings.anchor, 0.5 * jnp.vdot(away, away))
      norm = optax.tree.norm(vector)
      updates, moments = optimizer.update(vector, state.optimizer, values)
      changes = _tree(updates, state.trainable)
      if decay != 1.0:
        rates = layer_rates(state.trainable, config.generator.encoder, decay)
        changes = jax.tree.map(jnp.multiply, changes, rates)
      finite = jnp.isfinite(metrics.loss) & jnp.isfinite(norm)
      # Where Gaussians are missing from an image, its gradient is that of another one.
      good = finite & ~metrics.overflowed & ~state.halted
      choose = functools.partial(jnp.where, good)
      changed = (state.step + 1, optax.apply_updates(state.trainable, changes), moments)
      before = (state.step, state.trainable, state.optimizer)
      count, trainable, moments = jax.tree.map(choose, changed, before)
    report = StepReport(
      metrics.loss,
      metrics.terms,
      metrics.psnr,
      norm,
      metrics.num_instances,
      metrics.overflowed,
      finite,
    )
    return TrainState(count, trainable, state.frozen, moments, state.anchor, ~good), report

  return step


def _definition(config: GeneratorConfig, kept: Any) -> Any:
  """The network without its parameters."""
  return nnx.split(abstract_generator(config), kept, ...)[0]


def _gradient(
  config: TrainConfig, phase: Phase, definition: Any, capacity: int | None
) -> Callable[..., tuple[Any, Metrics]]:
  """What each device does with its part of the batch."""
  settings = phase.config
  goal = settings.objective
  if capacity is not None:
    goal = dataclasses.replace(goal, capacity=capacity)

  def local(
    trainable: Any, frozen: Any, batch: Batch, key: Array, rig: RigArrays, perceptual: Lpips | None
  ) -> tuple[Any, Metrics]:
    def part(batch: Batch, key: Array) -> tuple[Any, Metrics]:
      def loss(trainable: Any) -> tuple[Array, Metrics]:
        generator = nnx.merge(definition, frozen, trainable)
        return objective(generator, batch, rig, key, goal, perceptual)

      gradient, metrics = jax.grad(loss, has_aux=True)(trainable)
      return gradient, metrics

    if settings.accumulate == 1:
      gradient, metrics = part(batch, key)
    else:
      split = lambda leaf: leaf.reshape(settings.accumulate, -1, *leaf.shape[1:])  # noqa: E731

      def add(total: Any, one: tuple[Batch, Array]) -> tuple[Any, Metrics]:
        gradient, metrics = part(*one)
        return jax.tree.map(jnp.add, total, gradient), metrics

      zeros = jax.tree.map(jnp.zeros_like, trainable)
      total, each = jax.lax.scan(add, zeros, jax.tree.map(split, (batch, key)))
      gradient = jax.tree.map(lambda leaf: leaf / settings.accumulate, total)
      metrics = _reduce(
        each, functools.partial(jnp.mean, axis=0), functools.partial(jnp.max, axis=0)
      )
    mean = functools.partial(jax.lax.pmean, axis_name=parallel.AXES)
    most = functools.partial(jax.lax.pmax, axis_name=parallel.AXES)
    return jax.tree.map(mean, gradient), _reduce(metrics, mean, most)

  return local


def _reduce(metrics: Metrics, mean: Callable[..., Any], most: Callable[..., Any]) -> Metrics:
  """Metrics of all parts."""
  loss, terms, psnr = jax.tree.map(mean, (metrics.loss, metrics.terms, metrics.psnr))
  overflowed = most(metrics.overflowed.astype(jnp.int32)) > 0
  return Metrics(loss, terms, psnr, most(metrics.num_instances), overflowed)


def _with_anchor(metrics: Metrics, weight: float, distance: Float[Array, '']) -> Metrics:
  """With the term that draws back to the anchor."""
  terms = metrics.terms | {'anchor': distance}
  return metrics._replace(loss=metrics.loss + weight * distance, terms=terms)


def _vector(tree: Any) -> Float[Array, ' n']:
  """All numbers of a tree, and zeros."""
  flat = ravel_pytree(tree)[0]
  return jnp.pad(flat, (0, -flat.size % _MULTIPLE))


def _tree(vector: Float[Array, ' n'], like: Any) -> Any:
  """The tree that `_vector` was made of."""
  leaves, structure = jax.tree.flatten(like)
  parts, at = [], 0
  for leaf in leaves:
    parts.append(vector[at : at + leaf.size].reshape(leaf.shape))
    at += leaf.size
  return jax.tree.unflatten(structure, parts)
