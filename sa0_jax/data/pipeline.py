"""Batches of a training run, in order, from any step on.

    dataset = make_batches(DataConfig(('data/sa0_monocular',)), Run(batch_size=48, …))
    iterator = iter(dataset)
    batch = next(iterator)                  # FrameBatch
    state = iterator.get_state()            # into the checkpoint; set_state(state) goes on

Host memory is bounded: `host_bytes` says by how much.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import cv2
import grain

from sa0_jax.data.batches import FrameBatch, Loader, batch_bytes, default_threads
from sa0_jax.data.config import DataConfig, SamplerConfig
from sa0_jax.data.prepared import PreparedData, check_heads, open_prepared
from sa0_jax.data.sampling import Draw, DrawKey, check_drawable, draw

_ENDLESS = 1 << 40  # draws of one data set


@dataclasses.dataclass(frozen=True)
class Run:
  """What batches depend on besides the data.

  Attributes:
    batch_size: targets a step, over all processes.
    image_size: side of the images, px.
    steps: of the phase.
    phase: of training, 1 or 2.
    seed: of the draws.
  """

  batch_size: int
  image_size: int
  steps: int
  phase: Literal[1, 2] = 1
  seed: int = 0


@dataclasses.dataclass(frozen=True)
class Process:
  """Which part of each batch is made here.

  Attributes:
    index: of this process.
    count: of all.
  """

  index: int = 0
  count: int = 1


def make_batches(data: DataConfig, run: Run, process: Process | None = None) -> grain.IterDataset:
  """The batches of a run, `run.steps` of them.

  Draws are numbered through the run; which data set a number takes is fixed by the weights, and
  what it takes there by seed and number. The parts of all processes, one after the other, are the
  batch that a single process would make.

  Args:
    data: data sets, weights, threads.
    run: what is drawn.
    process: which part; None makes all.

  Returns:
    A dataset of `FrameBatch`; its iterators have `get_state` and `set_state`.

  Raises:
    FileNotFoundError: a data set is missing.
    ValueError: data sets are damaged or do not fit together, or the batch cannot be divided.
  """
  process = process or Process()
  if run.batch_size % process.count:
    raise ValueError(
      f'batch_size={run.batch_size} cannot be divided among {process.count} processes'
    )
  if not data.datasets:
    raise ValueError(
      'no data sets are named: --config.data.datasets=DATA_DIR/sa0_monocular '
      '(made by `sa0 prepare`)'
    )
  datasets = [open_prepared(folder, data.split) for folder in data.datasets]
  check_heads(datasets)
  for one in datasets:
    check_drawable(one.index, str(one.path))
    if one.size[0] != one.size[1]:
      raise ValueError(
        f'{one.path}: its images are {one.size[0]} x {one.size[1]} px; networks take square ones: '
        'crop the captures'
      )
  draws = mixed_draws(datasets, data, run)
  share = run.batch_size // process.count
  threads = default_threads() if data.threads is None else data.threads
  loader = Loader(datasets, run.image_size, threads)
  batches = (
    grain.MapDataset.range(run.steps)
    .map(_Rows(draws, run.batch_size, process.index * share, share))
    .map(_Load(loader))
  )
  # Reading threads wait for the decoding ones; there are as many as batches in flight.
  options = grain.ReadOptions(num_threads=data.prefetch, prefetch_buffer_size=data.prefetch)
  return batches.to_iter_dataset(options)


def mixed_draws(datasets: list[PreparedData], data: DataConfig, run: Run) -> grain.MapDataset:
  """Every draw of a run by its number: (data set, draw). Reads no images."""
  sources = [grain.MapDataset.source(_Constant(number)) for number in range(len(datasets))]
  mixed = grain.MapDataset.mix(sources, weights=list(data.weights or [1.0] * len(sources)))
  return mixed.map_with_index(_Sampler(datasets, data.sampler, run))


def host_bytes(data: DataConfig, run: Run, process: Process | None = None) -> int:
  """Host memory that batches take at most: those in flight, the next one and the one in use.

  The records being decoded add a megabyte for each thread; the index is mapped, not read.
  """
  share = run.batch_size // (process or Process()).count
  return (data.prefetch + 2) * batch_bytes(share, run.image_size)


def on_devices(
  dataset: grain.IterDataset, put: Callable[[FrameBatch], Any], depth: int = 2
) -> grain.IterDataset:
  """Sends batches to the devices ahead of time; the state stays that of what was taken.

  Args:
    dataset: from `make_batches`.
    put: what sends one; `train.feed.make_put` for a mesh.
    depth: batches that wait on the devices.
  """
  return grain.experimental.ThreadPrefetchIterDataset(dataset.map(put), prefetch_buffer_size=depth)


@dataclasses.dataclass(frozen=True)
class _Constant:
  """A source that tells which data set it stands for."""

  number: int

  def __len__(self) -> int:
    return _ENDLESS

  def __getitem__(self, _: Any) -> int:
    return self.number


@dataclasses.dataclass(frozen=True, eq=False)
class _Sampler:
  """(number of the draw, data set) → (data set, draw)."""

  datasets: list[PreparedData]
  config: SamplerConfig
  run: Run

  def __call__(self, number: int, dataset: int) -> tuple[int, Draw]:
    progress = number // self.run.batch_size / self.run.steps
    key = DrawKey(self.run.seed, number, progress)
    return dataset, draw(self.datasets[dataset].index, self.config, self.run.phase, key)


@dataclasses.dataclass(frozen=True, eq=False)
class _Rows:
  """Step → the draws of this process."""

  draws: grain.MapDataset
  batch_size: int
  start: int
  count: int

  def __call__(self, step: int) -> list[tuple[int, Draw]]:
    first = step * self.batch_size + self.start
    return [self.draws[number] for number in range(first, first + self.count)]


@dataclasses.dataclass(frozen=True, eq=False)
class _Load:
  """Draws → batch."""

  loader: Loader

  def __call__(self, draws: list[tuple[int, Draw]]) -> FrameBatch:
    # A core for each decoding thread already: OpenCV's own would only wait for each other.
    cv2.setNumThreads(1)
    return self.loader(draws)
