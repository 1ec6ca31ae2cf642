"""Scores on people held out of the training: the same draws every time."""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from sa0_jax.data.config import DataConfig
from sa0_jax.data.pipeline import Process, Run, make_batches
from sa0_jax.data.prepared import open_prepared
from sa0_jax.generator.generator import MAX_SOURCES, Generator, RigArrays
from sa0_jax.metrics.image import psnr
from sa0_jax.train import parallel
from sa0_jax.train.config import TrainConfig
from sa0_jax.train.objective import Batch, ObjectiveConfig, predict
from sa0_jax.train.phases import Phase

_SEED = 0x5A0  # of the draws; not the run's, so that runs compare


class Scores(NamedTuple):
  """Of one data set.

  Attributes:
    psnr: mean over the targets, dB, over black.
    by_sources: the same of those with 1, 2, 3 and 4 sources; NaN where there were none.
    targets: how many.
  """

  psnr: float
  by_sources: tuple[float, ...]
  targets: int


class HeldOut(NamedTuple):
  """Where scores come from.

  Attributes:
    name: of the data set: 'sa0_monocular', or with a number where several have that name.
    batches: () → its batches, always the same.
  """

  name: str
  batches: Callable[[], Any]


def held_out(
  config: TrainConfig, phase: Phase, process: Process
) -> tuple[list[HeldOut], list[str]]:
  """The data sets that are scored.

  Args:
    config: the run; `watch.datasets`, or else all that its phases learn from.
    phase: its batch size is taken.
    process: part of each batch that is read here.

  Returns:
    Those that have the split, and a line about each that has not.
  """
  phases = (config.phase1, config.phase2)
  learned = [folder for one in phases if one.steps for folder in one.data.datasets]
  found: list[HeldOut] = []
  notes = []
  for folder in dict.fromkeys(config.watch.datasets or learned):
    data = DataConfig((folder,), split=config.watch.split, sampler=phase.config.data.sampler)
    try:
      multiview = open_prepared(folder, config.watch.split).index.is_multiview
      run = Run(
        phase.config.batch_size,
        config.generator.image_size,
        config.watch.validation_batches,
        phase=2 if multiview else 1,  # how frames are drawn
        seed=_SEED,
      )
      dataset = make_batches(data, run, process)
    except ValueError as error:
      notes.append(f'not scored: {error}')
      continue
    base = 'sa0_multiview' if multiview else 'sa0_monocular'
    same = sum(item.name.startswith(base) for item in found)
    name = f'{base}_{same + 1}' if same else base
    found.append(HeldOut(name, functools.partial(iter, dataset)))
  return found, notes


def make_scorer(
  mesh: Mesh, rig: RigArrays, goal: ObjectiveConfig
) -> Callable[[Generator, Iterable[Batch]], Scores]:
  """Compiles the scoring of batches.

  Args:
    mesh: the devices.
    rig: the head.
    goal: the rasterizer's part of it.
  """

  def local(generator: Generator, batch: Batch, rig: RigArrays) -> Float[Array, 'two k']:
    """PSNR summed by the number of sources, and how many there were."""
    images = predict(generator, batch, rig, goal).output.features
    scores = jax.vmap(psnr)(images, batch.targets.image)
    number = jax.nn.one_hot(jnp.sum(batch.sources.mask, axis=1) - 1, MAX_SOURCES)
    return jax.lax.psum(jnp.stack([scores @ number, jnp.sum(number, axis=0)]), parallel.AXES)

  spread = parallel.over_batch(mesh, local, (False, True, False))
  compiled = jax.jit(spread)

  def score(generator: Generator, batches: Any) -> Scores:
    total = np.zeros((2, MAX_SOURCES))
    for batch in batches:
      total += jax.device_get(compiled(generator, batch, rig))
    with np.errstate(invalid='ignore'):
      by_sources = tuple(float(value) for value in total[0] / total[1])
    return Scores(float(total[0].sum() / max(total[1].sum(), 1)), by_sources, int(total[1].sum()))

  return score
