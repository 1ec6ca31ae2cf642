"""Settings of a training run of Stage 1: one network, two phases, and how it is watched."""

import dataclasses
import math
from typing import Literal

from sa0_jax.data.config import DataConfig
from sa0_jax.generator.generator import GeneratorConfig
from sa0_jax.train.checkpoint import CheckpointConfig
from sa0_jax.train.objective import ObjectiveConfig


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
  """Adam or AdamW with a learning rate that falls; the defaults are Phase 1's (METHOD §6).

  Attributes:
    rate: the highest learning rate.
    schedule: 'linear' falls to `final_fraction` of it over `decay_steps` and stays there, 'cosine'
      falls along a cosine, 'constant' does not fall.
    warmup_steps: the rate first rises from zero in a line; the fall begins after them.
    decay_steps: how long it falls.
    final_fraction: where it ends, as a part of `rate`.
    clip_norm: gradients are scaled down to this global norm.
    weight_decay: 0 is Adam; else AdamW's, of all trained parameters as torch does it.
    layer_decay: the rate of the encoder's last block is this part of `rate`, and each block before
      has this part of the next one's; the embedding is one more layer. 1 for none.
    beta1, beta2, epsilon: Adam's.
  """

  rate: float = 2.5e-4
  schedule: Literal['linear', 'cosine', 'constant'] = 'linear'
  warmup_steps: int = 0
  decay_steps: int = 160_000
  final_fraction: float = 0.1
  clip_norm: float = 5.0
  weight_decay: float = 0.0
  layer_decay: float = 1.0
  beta1: float = 0.9
  beta2: float = 0.999
  epsilon: float = 1e-8

  def __post_init__(self) -> None:
    if self.schedule not in ('linear', 'cosine', 'constant'):
      raise ValueError(
        f"OptimizerConfig: schedule is 'linear', 'cosine' or 'constant', got {self.schedule!r}"
      )
    for name in ('rate', 'decay_steps', 'clip_norm', 'epsilon', 'layer_decay'):
      if not 0 < getattr(self, name) < math.inf:
        raise ValueError(f'OptimizerConfig: {name} must be positive, got {getattr(self, name)}')
    for name in ('final_fraction', 'beta1', 'beta2', 'layer_decay', 'weight_decay'):
      if not 0 <= getattr(self, name) <= 1:
        raise ValueError(f'OptimizerConfig: {name} must be 0 to 1, got {getattr(self, name)}')
    if self.warmup_steps < 0:
      raise ValueError(
        f'OptimizerConfig: warmup_steps must not be negative, got {self.warmup_steps}'
      )


@dataclasses.dataclass(frozen=True)
class PhaseConfig:
  """One phase: what is learnt from, how, and for how long.

  Attributes:
    steps: optimiser steps; a run leaves out a phase of none.
    batch_size: targets a step, over all devices.
    accumulate: a batch is computed in so many equal parts, one after the other: memory for time.
    dtype: of products while training, 'float32' or 'bfloat16'; parameters are float32.
    train_encoder: gradients reach the vision transformer.
    anchor: weight λ of L2-SP, λ/2 ‖θ − θ₀‖² with θ₀ the weights the phase begins with; 0 for none.
    objective: what it minimises, and the kind of phase: 1 draws sources and target from one clip,
      2 from the cameras of one instant.
    optimizer: how.
    data: what it learns from.
  """

  steps: int = 200_000
  batch_size: int = 48
  accumulate: int = 1
  dtype: Literal['float32', 'bfloat16'] = 'float32'
  train_encoder: bool = False
  anchor: float = 0.0
  objective: ObjectiveConfig = dataclasses.field(default_factory=ObjectiveConfig)
  optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
  data: DataConfig = dataclasses.field(default_factory=DataConfig)

  def __post_init__(self) -> None:
    for name, least in (('steps', 0), ('batch_size', 1), ('accumulate', 1)):
      if getattr(self, name) < least:
        raise ValueError(f'PhaseConfig: {name} must be at least {least}, got {getattr(self, name)}')
    if self.dtype not in ('float32', 'bfloat16'):
      raise ValueError(f"PhaseConfig: dtype is 'float32' or 'bfloat16', got {self.dtype!r}")
    if not 0 <= self.anchor < math.inf:
      raise ValueError(f'PhaseConfig: anchor must not be negative, got {self.anchor}')


def second_phase() -> PhaseConfig:
  """Phase 2 as published; its length, warm-up and weight decay are ours, the paper has none."""
  return PhaseConfig(
    steps=40_000,
    batch_size=12,
    dtype='bfloat16',
    train_encoder=True,
    anchor=1e-3,
    objective=ObjectiveConfig(phase=2),
    optimizer=OptimizerConfig(
      rate=1e-4,
      schedule='cosine',
      warmup_steps=1000,
      decay_steps=39_000,
      final_fraction=0.0,
      weight_decay=0.01,
      layer_decay=0.65,
    ),
  )


@dataclasses.dataclass(frozen=True)
class WeightFiles:
  """Published weights, which are their authors' and do not come with this library.

  Attributes:
    generator: a generator file to start from: Phase 1 made elsewhere. Empty for random weights.
    encoder: the safetensors file or folder of the vision transformer. Empty keeps it as it is.
    lpips_backbone: torchvision's AlexNet.
    lpips_linear: channel weights of the `lpips` package.
  """

  generator: str = ''
  encoder: str = ''
  lpips_backbone: str = ''
  lpips_linear: str = ''


@dataclasses.dataclass(frozen=True)
class WatchConfig:
  """How a run is watched; none of it changes what is learnt.

  Attributes:
    log_every: steps between lines of metrics.jsonl.
    pictures_every: steps between pictures of held-out people; 0 for none.
    validate_every: steps between scores on the split `split`; 0 for none but at a phase's end.
    validation_batches: of the phase's batch size, for each data set.
    datasets: whose split is scored; empty for those the phases learn from.
    split: which is held out.
    tensorboard: write event files, too, where a writer of them is installed.
  """

  log_every: int = 50
  pictures_every: int = 2000
  validate_every: int = 2000
  validation_batches: int = 16
  datasets: tuple[str, ...] = ()
  split: str = 'val'
  tensorboard: bool = True

  def __post_init__(self) -> None:
    for name, least in (
      ('log_every', 1),
      ('pictures_every', 0),
      ('validate_every', 0),
      ('validation_batches', 1),
    ):
      if getattr(self, name) < least:
        raise ValueError(f'WatchConfig: {name} must be at least {least}, got {getattr(self, name)}')


@dataclasses.dataclass(frozen=True)
class TrainConfig:
  """Stage 1.

  Attributes:
    generator: the network.
    phase1: monocular-temporal.
    phase2: multi-view-spatial; goes on with Phase 1's weights.
    weights: files to start from.
    fsdp: devices that share one copy of the parameters and of the optimiser's state; 1 keeps a copy
      on each.
    checkpoints: when, and which are kept.
    watch: metrics, pictures, held-out scores.
    seed: of weights and draws.
  """

  generator: GeneratorConfig = dataclasses.field(default_factory=GeneratorConfig)
  phase1: PhaseConfig = dataclasses.field(default_factory=PhaseConfig)
  phase2: PhaseConfig = dataclasses.field(default_factory=second_phase)
  weights: WeightFiles = dataclasses.field(default_factory=WeightFiles)
  fsdp: int = 1
  checkpoints: CheckpointConfig = dataclasses.field(default_factory=CheckpointConfig)
  watch: WatchConfig = dataclasses.field(default_factory=WatchConfig)
  seed: int = 0

  def __post_init__(self) -> None:
    if self.fsdp < 1:
      raise ValueError(f'TrainConfig: fsdp must be at least 1, got {self.fsdp}')
    if not 0 <= self.seed < 1 << 31:
      raise ValueError(f'TrainConfig: seed must be 0 to 2147483647, got {self.seed}')
    if not self.phase1.steps + self.phase2.steps:
      raise ValueError('TrainConfig: both phases have no steps; set phase1.steps or phase2.steps')
