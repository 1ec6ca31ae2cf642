"""Small runs: the `debug` configuration, one phase of it, and a batch."""

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import jax

from sa0_jax.config import from_config_dict, load_config
from sa0_jax.generator.generator import Rig
from sa0_jax.head.registry import load_head
from sa0_jax.train import parallel
from sa0_jax.train.config import PhaseConfig, TrainConfig
from sa0_jax.train.example import example_batch
from sa0_jax.train.phases import Phase
from sa0_jax.train.step import Trainer, make_trainer


def settings(name: str = 'debug', **changed: Any) -> TrainConfig:
  """A configuration by name, some fields of it otherwise."""
  return dataclasses.replace(from_config_dict(TrainConfig, load_config(name)), **changed)


def config_file(config: TrainConfig, folder: Path) -> Path:
  """A configuration as a file that `sa0 train --config` takes; its table lies beside it."""
  table, file = folder / 'mine.json', folder / 'mine.py'
  table.write_text(json.dumps(dataclasses.asdict(config)))
  file.write_text(
    'import json, pathlib, ml_collections\n'
    'def get_config():\n'
    f'  table = json.loads(pathlib.Path({str(table)!r}).read_text())\n'
    '  return ml_collections.ConfigDict(table)\n'
  )
  return file


def first(config: TrainConfig | None = None, **changed: Any) -> Phase:
  """Its first phase, some fields of it otherwise."""
  phase = (config or settings()).phase1
  return Phase(1, dataclasses.replace(phase, **changed), 0)


def second(config: TrainConfig | None = None, **changed: Any) -> Phase:
  """Its second phase as if it were the only one."""
  phase: PhaseConfig = (config or settings()).phase2
  return Phase(2, dataclasses.replace(phase, **changed), 0)


@functools.cache
def one_device():
  return parallel.make_mesh(jax.devices()[:1])


@functools.cache
def inputs():
  """A batch and the rig."""
  head, config = load_head(), settings()
  # Where batches of data are: in another place they would be another program.
  batch = example_batch(config.generator, head, config.phase1.batch_size)
  batch = jax.device_put(batch, parallel.spread(one_device()))
  return batch, Rig.from_head(head, config.generator).arrays


@functools.cache
def trainer() -> Trainer:
  """Of the first phase, compiled once for all tests."""
  return make_trainer(settings(), first(), one_device())


def run(made: Trainer, steps: int, state=None):
  """Some steps of one batch."""
  batch, rig = inputs()
  state = made.init() if state is None else state
  for _ in range(steps):
    state, report = made.step(state, batch, rig, None)
  return state, report
