"""Which frames are looked at together: pure functions of a seed and a number (METHOD §6).

A draw depends on nothing else, so a step has the same batch however many threads, processes or
hosts make it, and a run that is resumed goes on as if nothing had happened.
"""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from sa0_jax.data.config import MAX_SOURCES, SamplerConfig
from sa0_jax.data.index import FrameIndex


class Draw(NamedTuple):
  """Frames of one person.

  Attributes:
    target: row of the frame to be reproduced.
    sources: 1 to 4 rows of frames to do it from, none of them the target.
  """

  target: int
  sources: tuple[int, ...]


class DrawKey(NamedTuple):
  """What a draw is a function of, besides the data.

  Attributes:
    seed: of the run, 0 to 2⁶⁴ − 1.
    number: of the draw in the run.
    progress: done part of the training steps, 0 to 1.
  """

  seed: int
  number: int
  progress: float


def temperature(progress: float, config: SamplerConfig) -> float:
  """Of the softmax that draws the first source, at a part of training."""
  done = min(progress / config.anneal_share, 1.0) if config.anneal_share else 1.0
  return config.temperature_start + done * (config.temperature_end - config.temperature_start)


def draw(index: FrameIndex, config: SamplerConfig, phase: Literal[1, 2], key: DrawKey) -> Draw:
  """Draws a target and its sources.

  Phase 1 takes both from one clip. Phase 2 takes sources of the target's instant from other
  cameras, or, with probability `cross_time`, of other times of the same person (for a single
  source, from the same camera). Clips of one camera have other times only.

  Where fewer frames than the drawn number of sources are there, all are taken.

  Args:
    index: frames of a split.
    config: how.
    phase: of training.
    key: seed, number and progress.
  """
  # Philox is a function of its key: nothing to advance or to share.
  rng = np.random.Generator(np.random.Philox(key=np.array([key.seed, key.number], np.uint64)))
  clip = index.clip_rows(int(rng.integers(index.num_clips)))
  target = int(rng.integers(clip.start, clip.stop))
  count = int(rng.integers(1, MAX_SOURCES + 1))
  candidates, distinct = _candidates(index, config, phase, rng, (clip, target, count))
  if len(candidates) > config.candidates:
    candidates = candidates[np.sort(rng.permutation(len(candidates))[: config.candidates])]
  scores = dissimilarity(index, target, candidates, config)
  chances = np.cumsum(softmax(scores / temperature(key.progress, config)))
  first = np.searchsorted(chances, rng.random() * chances[-1], 'right')
  sources = [int(candidates[min(first, len(candidates) - 1)])]
  while len(sources) < count:
    # Nothing twice: no frame, and across time no instant.
    candidates = candidates[_others(index, candidates, sources[-1], distinct)]
    if not len(candidates):
      break
    sources.append(int(candidates[rng.integers(len(candidates))]))
  return Draw(target, tuple(sources))


def _candidates(
  index: FrameIndex,
  config: SamplerConfig,
  phase: int,
  rng: np.random.Generator,
  chosen: tuple[range, int, int],
) -> tuple[Int[np.ndarray, ' m'], bool]:
  """Frames that may be sources, and whether each must be of another instant.

  Args:
    index: all frames.
    config: how often Phase 2 looks across time.
    phase: of training.
    rng: of the draw.
    chosen: rows of the clip, the target's row, and the number of sources.
  """
  clip, target, count = chosen
  if phase == 1:
    return _without(clip, target), False
  rows = np.arange(clip.start, clip.stop)
  across = rng.random() < config.cross_time
  same = index.instant[clip.start : clip.stop] == index.instant[target]
  if not across and np.count_nonzero(same) > 1:
    return rows[same & (rows != target)], False
  person = index.subject_rows(target)
  rows = np.arange(person.start, person.stop)
  times = rows[_others(index, rows, target, True)]
  if count == 1:
    seen_alike = times[index.view[times] == index.view[target]]
    times = seen_alike if len(seen_alike) else times
  # A single instant of a person has other cameras only.
  return (times, True) if len(times) else (_without(clip, target), False)


def _without(rows: range, row: int) -> Int[np.ndarray, ' m']:
  return np.concatenate([np.arange(rows.start, row), np.arange(row + 1, rows.stop)])


def _others(index: FrameIndex, rows: Int[np.ndarray, ' m'], row: int, instants: bool) -> np.ndarray:
  """Which rows are other frames than one, or frames of other instants."""
  if not instants:
    return rows != row
  return (index.clip[rows] != index.clip[row]) | (index.instant[rows] != index.instant[row])


def dissimilarity(
  index: FrameIndex, target: int, candidates: Int[np.ndarray, ' m'], config: SamplerConfig
) -> Float[np.ndarray, ' m']:
  """How different frames are from the target.

  The angle's 1 − cos between the directions the cameras look at the head from, and the distance of
  the expression codes; each in units of its mean over the candidates, for bases differ.

  Args:
    index: all frames.
    target: row of the target.
    candidates: rows to compare with it.
    config: weights.
  """
  towards = index.direction[candidates].astype(np.float64)
  turned = np.maximum(1.0 - towards @ index.direction[target].astype(np.float64), 0.0)
  change = index.expression[candidates] - index.expression[target]
  moved = np.sqrt(np.einsum('me,me->m', change, change, dtype=np.float64))
  return config.direction_weight * _relative(turned) + config.expression_weight * _relative(moved)


def _relative(values: Float[np.ndarray, ' m']) -> Float[np.ndarray, ' m']:
  mean = values.mean()
  return values / mean if mean > 1e-9 else np.zeros_like(values)


def softmax(values: Float[np.ndarray, ' m']) -> Float[np.ndarray, ' m']:
  """Probabilities in proportion to exp(value)."""
  powers = np.exp(values - values.max())
  return powers / powers.sum()


def check_drawable(index: FrameIndex, name: str) -> None:
  """Raises ValueError unless every clip has a frame besides the target."""
  lengths = np.diff(index.clip_start)
  lonely = np.flatnonzero(lengths < 2)
  if len(lonely):
    raise ValueError(
      f'{name}: {len(lonely)} of {len(lengths)} clips have a single frame, which leaves no source '
      'for it; take their subjects out of the split file and prepare the data set again'
    )
