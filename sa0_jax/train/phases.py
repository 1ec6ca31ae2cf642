"""A run as a row of phases: which steps are whose, and what the network is in each."""

import dataclasses
from typing import NamedTuple

from sa0_jax.generator.generator import GeneratorConfig
from sa0_jax.train.config import PhaseConfig, TrainConfig


class Phase(NamedTuple):
  """One phase of a run.

  Attributes:
    number: 1 or 2.
    config: its settings.
    begin: steps of the run done before it.
  """

  number: int
  config: PhaseConfig
  begin: int

  @property
  def end(self) -> int:
    """Steps of the run done after it."""
    return self.begin + self.config.steps


def phases(config: TrainConfig) -> list[Phase]:
  """The phases that have steps, in order."""
  rows, begin = [], 0
  for number, phase in enumerate((config.phase1, config.phase2), 1):
    if phase.steps:
      rows.append(Phase(number, phase, begin))
      begin += phase.steps
  return rows


def training_config(config: TrainConfig, phase: Phase) -> GeneratorConfig:
  """The network as the phase computes it; its parameters are those of `config.generator`."""
  return dataclasses.replace(config.generator, dtype=phase.config.dtype)
