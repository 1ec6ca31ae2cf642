"""The optimiser of Stage 1 (SpatialAvatar-0, METHOD §6)."""

import optax

from sa0_jax.train.config import OptimizerConfig


def make_optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
  """Gradients scaled to the largest norm allowed, then Adam."""
  return optax.chain(
    optax.clip_by_global_norm(config.clip_norm),
    optax.adam(learning_rate(config), config.beta1, config.beta2, config.epsilon),
  )


def learning_rate(config: OptimizerConfig) -> optax.Schedule:
  """Step → learning rate."""
  if config.schedule == 'constant':
    return optax.constant_schedule(config.rate)
  if config.schedule == 'cosine':
    return optax.cosine_decay_schedule(config.rate, config.decay_steps, config.final_fraction)
  return optax.linear_schedule(config.rate, config.rate * config.final_fraction, config.decay_steps)
