"""The optimiser of Stage 1 (SpatialAvatar-0, METHOD §6)."""

import re
from typing import Any

import jax
import optax

from sa0_jax.generator.vit import VitConfig
from sa0_jax.train.config import OptimizerConfig
from sa0_jax.train.parallel import path_name

_BLOCK = re.compile(r'encoder/blocks/(\d+)/')


def make_optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
  """Gradients scaled to the largest norm allowed, then Adam or AdamW."""
  return optax.chain(
    optax.clip_by_global_norm(config.clip_norm),
    optax.scale_by_adam(config.beta1, config.beta2, config.epsilon),
    optax.add_decayed_weights(config.weight_decay) if config.weight_decay else optax.identity(),
    optax.scale_by_learning_rate(learning_rate(config)),
  )


def learning_rate(config: OptimizerConfig) -> optax.Schedule:
  """Step of the phase → learning rate."""
  if config.schedule == 'constant':
    fall = optax.constant_schedule(config.rate)
  elif config.schedule == 'cosine':
    fall = optax.cosine_decay_schedule(config.rate, config.decay_steps, config.final_fraction)
  else:
    fall = optax.linear_schedule(
      config.rate, config.rate * config.final_fraction, config.decay_steps
    )
  if not config.warmup_steps:
    return fall
  rise = optax.linear_schedule(0.0, config.rate, config.warmup_steps)
  return optax.join_schedules([rise, fall], [config.warmup_steps])


def layer_rates(parameters: Any, encoder: VitConfig, decay: float) -> Any:
  """Factor of the learning rate for each parameter (layer-wise decay, BEiT's counting).

  Args:
    parameters: of the generator, or their shapes.
    encoder: its depth counts.
    decay: γ: the last block of the encoder has γ, the first γ^depth, what comes before the blocks
      γ^(depth + 1); everything after the blocks has 1.

  Returns:
    A tree of floats like `parameters`.
  """

  def factor(path: Any, _: Any) -> float:
    name = path_name(path)
    block = _BLOCK.match(name)
    if block:
      return float(decay ** (encoder.depth - int(block[1])))
    before = name.startswith('encoder/') and not name.startswith('encoder/norm')
    return float(decay ** (encoder.depth + 1)) if before else 1.0

  return jax.tree_util.tree_map_with_path(factor, parameters)
