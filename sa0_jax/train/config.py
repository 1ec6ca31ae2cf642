"""Settings of a training run of Stage 1."""

import dataclasses
import math
from typing import Literal

from sa0_jax.data.config import DataConfig
from sa0_jax.generator.generator import GeneratorConfig
from sa0_jax.train.objective import ObjectiveConfig


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
  """Adam with a learning rate that falls; the defaults are Phase 1's (METHOD §6).

  Attributes:
    rate: learning rate at first.
    schedule: 'linear' falls to `final_fraction` of it over `decay_steps` and stays there, 'cosine'
      falls along a cosine, 'constant' does not fall.
    decay_steps: how long it falls.
    final_fraction: where it ends, as a part of `rate`.
    clip_norm: gradients are scaled down to this global norm.
    beta1, beta2, epsilon: Adam's.
  """

  rate: float = 2.5e-4
  schedule: Literal['linear', 'cosine', 'constant'] = 'linear'
  decay_steps: int = 160_000
  final_fraction: float = 0.1
  clip_norm: float = 5.0
  beta1: float = 0.9
  beta2: float = 0.999
  epsilon: float = 1e-8

  def __post_init__(self) -> None:
    if self.schedule not in ('linear', 'cosine', 'constant'):
      raise ValueError(
        f"OptimizerConfig: schedule is 'linear', 'cosine' or 'constant', got {self.schedule!r}"
      )
    for name in ('rate', 'decay_steps', 'clip_norm', 'epsilon'):
      if not 0 < getattr(self, name) < math.inf:
        raise ValueError(f'OptimizerConfig: {name} must be positive, got {getattr(self, name)}')
    for name in ('final_fraction', 'beta1', 'beta2'):
      if not 0 <= getattr(self, name) <= 1:
        raise ValueError(f'OptimizerConfig: {name} must be 0 to 1, got {getattr(self, name)}')


@dataclasses.dataclass(frozen=True)
class TrainConfig:
  """Stage 1.

  Attributes:
    generator: the network.
    objective: what it minimises.
    optimizer: how.
    data: what it learns from.
    batch_size: targets a step, over all devices.
    steps: optimiser steps.
    seed: of weights and draws.
  """

  generator: GeneratorConfig = dataclasses.field(default_factory=GeneratorConfig)
  objective: ObjectiveConfig = dataclasses.field(default_factory=ObjectiveConfig)
  optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
  data: DataConfig = dataclasses.field(default_factory=DataConfig)
  batch_size: int = 48
  steps: int = 200_000
  seed: int = 0

  def __post_init__(self) -> None:
    for name in ('batch_size', 'steps'):
      if getattr(self, name) < 1:
        raise ValueError(f'TrainConfig: {name} must be positive, got {getattr(self, name)}')
