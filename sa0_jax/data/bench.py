"""How many images a second this machine reads, decodes and batches."""

import dataclasses
import itertools
import math
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from sa0_kernels import Camera

from sa0_jax.capture.capture import Capture, MemoryImages
from sa0_jax.data.batches import FRAMES, default_threads
from sa0_jax.data.build import build
from sa0_jax.data.config import MAX_SOURCES, BuildConfig, DataConfig
from sa0_jax.data.pipeline import Run, host_bytes, make_batches
from sa0_jax.data.plan import make_plan
from sa0_jax.data.prepared import open_prepared
from sa0_jax.head.model import HeadCodes
from sa0_jax.head.registry import load_head

_STORED = 48  # frames that are made up
_GRAIN = 3.5  # sensor noise, of 255: makes files of about the size of photographs
_MEAN_FRAMES = 1 + (1 + MAX_SOURCES) / 2  # target and, on average, 2.5 sources


@dataclasses.dataclass(frozen=True)
class DataBench:
  """What is measured.

  Attributes:
    image_size: side of the images, px.
    batch_size: people a batch.
    batches: that are timed, after two that are not.
    threads: that decode; None takes one for each core.
    datasets: prepared data sets to read instead of made-up ones.
    step_seconds: time of a training step the cores must keep up with.
    step_batch: people a step, over all devices.
  """

  image_size: int = 512
  batch_size: int = 8
  batches: int = 24
  threads: int | None = None
  datasets: tuple[str, ...] = ()
  step_seconds: float = 0.5
  step_batch: int = 48

  def __post_init__(self) -> None:
    if not 0 < self.step_seconds < math.inf:
      raise ValueError(f'DataBench: step_seconds must be positive, got {self.step_seconds}')
    if min(self.image_size, self.batch_size, self.batches, self.step_batch) < 1:
      raise ValueError('DataBench: sizes and numbers must be positive')


def measure(bench: DataBench) -> dict[str, Any]:
  """Reads batches as training does, and says how many cores a training step needs.

  Files are in the system's cache: a disk slower than the decoder is not seen.

  Returns:
    images_per_second, the processor time of an image and what it is spent on, and the cores that
    keep devices busy, for steps of 1 + 2.5 (the mean) and of 1 + 4 (the most) images a person.
  """
  with tempfile.TemporaryDirectory() as folder:
    datasets = bench.datasets or (_made_up(Path(folder), bench.image_size),)
    data = DataConfig(datasets, threads=bench.threads)
    run = Run(bench.batch_size, bench.image_size, bench.batches + 2)
    iterator = iter(make_batches(data, run))
    for _ in range(2):  # threads start, files are opened
      next(iterator)
    images, begin, spent = 0, time.perf_counter(), time.process_time()
    for batch in iterator:
      images += len(batch.mask) + int(batch.mask.sum())
    seconds, spent = time.perf_counter() - begin, time.process_time() - spent
    stages = _stages(datasets[0])
  each = spent / images
  return {
    'images_per_second': images / seconds,
    'cpu_milliseconds_per_image': 1e3 * each,
    'stages': stages,
    'images': images,
    'image_size': bench.image_size,
    'batch_size': bench.batch_size,
    'threads': default_threads() if bench.threads is None else bench.threads,
    'host_bytes': host_bytes(data, run),
    'step_seconds': bench.step_seconds,
    'step_batch': bench.step_batch,
    'cores_needed_mean': bench.step_batch * _MEAN_FRAMES * each / bench.step_seconds,
    'cores_needed_most': bench.step_batch * FRAMES * each / bench.step_seconds,
    'cpu': platform.processor() or platform.machine(),
    'cpu_count': os.cpu_count(),
  }


def _stages(folder: str) -> dict[str, float]:
  """Milliseconds of each part of a frame, one after the other on one core."""
  data = open_prepared(folder, 'train')
  rows = list(itertools.islice(itertools.cycle(range(len(data))), 48))

  def timed(function: Any) -> float:
    begin = time.perf_counter()
    for row in rows:
      function(row)
    return 1e3 * (time.perf_counter() - begin) / len(rows)

  records = [data.encoded(row) for row in range(min(len(data), 48))]
  images = [np.frombuffer(record['image'], np.uint8) for record in records]
  mattes = [np.frombuffer(record['matte'], np.uint8) for record in records]
  count = len(records)
  return {
    'read_milliseconds': timed(data.encoded),
    'jpeg_milliseconds': timed(lambda n: cv2.imdecode(images[n % count], cv2.IMREAD_COLOR_RGB)),
    'matte_milliseconds': timed(lambda n: cv2.imdecode(mattes[n % count], cv2.IMREAD_GRAYSCALE)),
    'jpeg_bytes': float(np.mean([len(image) for image in images])),
    'matte_bytes': float(np.mean([len(matte) for matte in mattes])),
  }


def _made_up(folder: Path, size: int) -> str:
  """A data set of noisy coloured heads before a textured wall; its files are like photographs'."""
  head, rng = load_head(), np.random.default_rng(0)
  row, column = np.mgrid[:size, :size] / size - 0.5
  images = np.empty((_STORED, size, size, 3), np.uint8)
  mattes = np.empty((_STORED, size, size), np.uint8)
  for number in range(_STORED):
    coarse = rng.uniform(20, 235, (24, 24, 3)).astype(np.float32)
    smooth = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    noisy = smooth + _GRAIN * rng.standard_normal((size, size, 3), np.float32)
    images[number] = np.clip(noisy, 0, 255)
    angle = np.arctan2(row, column)
    edge = 0.36 + 0.01 * np.sin(23 * angle + number) + 0.006 * np.sin(61 * angle)
    mattes[number] = np.clip((edge - np.hypot(row, 1.2 * column)) * size * 40 + 128, 0, 255)
  zeros: dict[str, np.ndarray] = {
    field.name: np.zeros((_STORED, n), np.float32)
    for field, n in zip(
      dataclasses.fields(HeadCodes), (1, head.num_expression, 3, 3, 3, 6, 3), strict=True
    )
  }
  zeros['shape'] = np.zeros(head.num_shape, np.float32)
  zeros['expression'] = rng.standard_normal(zeros['expression'].shape, np.float32)
  view = np.diag([1.0, -1.0, -1.0, 1.0]).astype(np.float32)
  view[2, 3] = 1.0
  capture = Capture(
    name='made-up',
    head_name=head.name,
    head_fingerprint=head.fingerprint,
    codes=HeadCodes(**zeros),
    camera=Camera(
      np.stack([view] * _STORED),
      np.tile(np.array([2 * size, 2 * size, size / 2, size / 2], np.float32), (_STORED, 1)),
      size,
      size,
    ),
    source=MemoryImages(images, mattes),
    ids=np.arange(_STORED),
    times=np.arange(_STORED) / 25.0,
    view_ids=np.zeros(_STORED, np.int64),
  )
  capture.save(folder / 'captures' / 'made-up', image_format='jpg')
  plan = make_plan(folder / 'captures', {'train': ['made-up']}, BuildConfig())
  return build(plan, folder / 'data').path
