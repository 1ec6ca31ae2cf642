"""One step of training: state and batch in, state and metrics out, nothing else."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh
from jaxtyping import Array, Int

from sa0_jax.generator.generator import Generator, GeneratorConfig, RigArrays
from sa0_jax.losses.lpips import Lpips
from sa0_jax.train import parallel
from sa0_jax.train.config import TrainConfig
from sa0_jax.train.objective import Batch, Metrics, objective
from sa0_jax.train.optimizer import make_optimizer

_WEIGHTS_STREAM, _DRAWS_STREAM = 0, 1  # of the run's seed


class TrainState(NamedTuple):
  """Everything that changes while training, and the weights that do not.

  Attributes:
    step: number of steps done.
    trainable: parameters that are trained.
    frozen: those that are not; an encoder taken as it was published.
    optimizer: moments of the trained ones, all in one vector: hundreds of small arrays, each with
      its own operations, took most of the time of compiling a step.
  """

  step: Int[Array, '']
  trainable: Any
  frozen: Any
  optimizer: optax.OptState


class Trainer(NamedTuple):
  """A compiled step and what it starts from.

  Attributes:
    init: () → TrainState with random weights; `jax.eval_shape` it for shapes alone.
    step: (state, batch, rig arrays, LPIPS weights or None) → (state, metrics). The state given is
      used up. Where the rasterizer's buffer overflowed the state comes back as it was: make the
      step again with more `objective.capacity`.
    generator: state → Generator with its weights.
  """

  init: Callable[[], TrainState]
  step: jax.stages.Wrapped
  generator: Callable[[TrainState], Generator]


def frozen_parameters(config: GeneratorConfig) -> Any:
  """Which parameters are not trained, as `nnx.split` takes it."""
  return nnx.Nothing() if config.train_encoder else nnx.PathContains('encoder')


def make_trainer(config: TrainConfig, mesh: Mesh, start: Generator | None = None) -> Trainer:
  """Prepares training over the devices of a mesh.

  The bits of a step depend on the state, the batch, the seed, the number of devices and their kind.

  Args:
    config: network, loss and optimiser.
    mesh: from `parallel.make_mesh`.
    start: weights to start from instead of random ones; of the same configuration.

  Raises:
    ValueError: the batch cannot be spread over the devices, or `start` is another network.
  """
  parallel.check_batch_size(mesh.size, config.batch_size)
  if start is not None and start.config != config.generator:
    raise ValueError(
      'make_trainer: the generator to start from has another configuration than the one to train: '
      'give its own as config.generator'
    )
  optimizer = make_optimizer(config.optimizer)
  root = jax.random.key(config.seed)

  def fresh() -> Generator:
    return Generator(config.generator, rngs=nnx.Rngs(jax.random.fold_in(root, _WEIGHTS_STREAM)))

  kept = frozen_parameters(config.generator)
  definition = nnx.split(nnx.eval_shape(fresh), kept, ...)[0]

  def init() -> TrainState:
    # Copied: a step uses its state up, and the caller's weights are the caller's.
    begin = fresh() if start is None else jax.tree.map(jnp.copy, start)
    _, frozen, trainable = nnx.split(begin, kept, ...)
    moments = optimizer.init(ravel_pytree(trainable)[0])
    return TrainState(jnp.zeros((), jnp.int32), trainable, frozen, moments)

  def local(
    trainable: Any, frozen: Any, batch: Batch, key: Array, rig: RigArrays, perceptual: Lpips | None
  ) -> tuple[Any, Metrics]:
    def loss(trainable: Any) -> tuple[Array, Metrics]:
      generator = nnx.merge(definition, frozen, trainable)
      return objective(generator, batch, rig, key, config.objective, perceptual)

    gradient, metrics = jax.grad(loss, has_aux=True)(trainable)
    return jax.lax.pmean(gradient, parallel.AXIS), _combine(metrics)

  spread = parallel.over_batch(mesh, local, (False, False, True, True, False, False))

  def step(
    state: TrainState, batch: Batch, rig: RigArrays, perceptual: Lpips | None
  ) -> tuple[TrainState, Metrics]:
    key = jax.random.fold_in(jax.random.fold_in(root, _DRAWS_STREAM), state.step)
    keys = jax.random.split(key, config.batch_size)
    gradient, metrics = spread(state.trainable, state.frozen, batch, keys, rig, perceptual)
    flat, unravel = ravel_pytree(gradient)
    updates, moments = optimizer.update(flat, state.optimizer, ravel_pytree(state.trainable)[0])
    # Where Gaussians are missing from an image, its gradient is that of another one.
    count, updates, moments = jax.tree.map(
      functools.partial(jnp.where, metrics.overflowed),
      (state.step, jnp.zeros_like(updates), state.optimizer),
      (state.step + 1, updates, moments),
    )
    trainable = optax.apply_updates(state.trainable, unravel(updates))
    return TrainState(count, trainable, state.frozen, moments), metrics

  def generator(state: TrainState) -> Generator:
    return nnx.merge(definition, state.frozen, state.trainable)

  whole, parts = parallel.replicated(mesh), parallel.spread(mesh)
  compiled = jax.jit(
    step,
    in_shardings=(whole, parts, whole, whole),
    out_shardings=(whole, whole),
    donate_argnums=0,
  )
  return Trainer(lambda: jax.device_put(init(), whole), compiled, generator)


def _combine(metrics: Metrics) -> Metrics:
  """Metrics of all devices."""
  loss, terms, psnr = jax.lax.pmean((metrics.loss, metrics.terms, metrics.psnr), parallel.AXIS)
  most = jax.lax.pmax(metrics.num_instances, parallel.AXIS)
  overflowed = jax.lax.pmax(metrics.overflowed.astype(jnp.int32), parallel.AXIS) > 0
  return Metrics(loss, terms, psnr, most, overflowed)
