"""Settings of preparing data sets and of drawing batches from them."""

import dataclasses
import math
import re
from typing import Literal

# Sources a batch has room for; the generator's own limit.
MAX_SOURCES = 4
MAX_PREFETCH = 16
BUILDERS = {'sa0_monocular': 'monocular', 'sa0_multiview': 'multiview'}
VERSION = '1.0.0'  # of the record layout


@dataclasses.dataclass(frozen=True)
class BuildConfig:
  """How captures become a data set.

  Attributes:
    name: 'sa0_monocular', clips of one camera, or 'sa0_multiview', several cameras at once.
    resolution: side of the stored images, px; 0 keeps the captures' own, which must then be equal.
    frames_per_shard: frames a file holds, about; 1024 of 512² are about 100 MB.
    jpeg_quality: of images that are not stored as JPEG of this size already.
    max_bad_share: unreadable frames are left out; more of them than this share is an error.
  """

  name: Literal['sa0_monocular', 'sa0_multiview'] = 'sa0_monocular'
  resolution: int = 0
  frames_per_shard: int = 1024
  jpeg_quality: int = 95
  max_bad_share: float = 0.01

  def __post_init__(self) -> None:
    if self.name not in BUILDERS:
      raise ValueError(f'no data set {self.name!r}: it is one of {", ".join(BUILDERS)}')
    if not 0 <= self.resolution < 1 << 15 or self.frames_per_shard < 1:
      raise ValueError(
        f'BuildConfig: resolution is 0 to 32767 px and frames_per_shard at least 1, got '
        f'{self.resolution} and {self.frames_per_shard}'
      )
    if not 1 <= self.jpeg_quality <= 100:
      raise ValueError(f'BuildConfig: jpeg_quality is 1 to 100, got {self.jpeg_quality}')
    if not 0 <= self.max_bad_share <= 1:
      raise ValueError(f'BuildConfig: max_bad_share is 0 to 1, got {self.max_bad_share}')


@dataclasses.dataclass(frozen=True)
class SamplerConfig:
  """Which frames are sources and which is the target (METHOD §6).

  Attributes:
    temperature_start: of the softmax that draws the first source, at first.
    temperature_end: after the first `anneal_share` of training; between them it falls in a line.
    anneal_share: part of the training steps.
    direction_weight: of how differently the two cameras look at the head.
    expression_weight: of how different the two expressions are. Both are measured in units of
      their mean over the candidates.
    cross_time: Phase 2's share of draws with sources of other times; the rest are of one instant.
    candidates: at most so many frames, drawn uniformly, are compared with the target.
  """

  temperature_start: float = 2.0
  temperature_end: float = 0.5
  anneal_share: float = 0.25
  direction_weight: float = 1.0
  expression_weight: float = 1.0
  cross_time: float = 0.25
  candidates: int = 256

  def __post_init__(self) -> None:
    for name in ('temperature_start', 'temperature_end'):
      if not 0 < getattr(self, name) < math.inf:
        raise ValueError(f'SamplerConfig: {name} must be positive, got {getattr(self, name)}')
    for name in ('anneal_share', 'cross_time'):
      if not 0 <= getattr(self, name) <= 1:
        raise ValueError(f'SamplerConfig: {name} must be 0 to 1, got {getattr(self, name)}')
    for name in ('direction_weight', 'expression_weight'):
      if not 0 <= getattr(self, name) < math.inf:
        raise ValueError(f'SamplerConfig: {name} must not be negative, got {getattr(self, name)}')
    if self.candidates < MAX_SOURCES:
      raise ValueError(
        f'SamplerConfig: candidates must be at least {MAX_SOURCES}, got {self.candidates}'
      )


@dataclasses.dataclass(frozen=True)
class DataConfig:
  """What a training run reads, and how.

  Attributes:
    datasets: folders made by `sa0 prepare`: DATA_DIR/sa0_monocular, or one of its versions.
    weights: how often each is drawn from, in proportion; empty for equally.
    split: of each data set.
    sampler: which frames make a draw.
    threads: that decode; 0 decodes in the thread that reads, None takes one for each core.
    prefetch: batches in flight, 0 to 16: host memory is bounded by them.
  """

  datasets: tuple[str, ...] = ()
  weights: tuple[float, ...] = ()
  split: str = 'train'
  sampler: SamplerConfig = dataclasses.field(default_factory=SamplerConfig)
  threads: int | None = None
  prefetch: int = 2

  def __post_init__(self) -> None:
    if self.weights and len(self.weights) != len(self.datasets):
      raise ValueError(
        f'DataConfig: {len(self.datasets)} datasets and {len(self.weights)} weights; give one '
        'weight each, or none'
      )
    if any(not 0 < weight < math.inf for weight in self.weights):
      raise ValueError(f'DataConfig: weights must be positive, got {self.weights}')
    if not re.fullmatch(r'\w+', self.split):
      raise ValueError(f"DataConfig: split is a name such as 'train', got {self.split!r}")
    if not 0 <= self.prefetch <= MAX_PREFETCH:
      raise ValueError(f'DataConfig: prefetch is 0 to {MAX_PREFETCH} batches, got {self.prefetch}')
    if self.threads is not None and self.threads < 0:
      raise ValueError(f'DataConfig: threads must not be negative, got {self.threads}')
