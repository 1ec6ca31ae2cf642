"""Which frames a refinement learns from, and which it is only tested on."""

import dataclasses

import numpy as np
from jaxtyping import Int

from sa0_jax.capture.capture import Capture
from sa0_jax.capture.frames import split_held_out

_SHOWN = 6  # ranges in a line of progress


@dataclasses.dataclass(frozen=True, eq=False)
class Division:
  """The frames of a capture, by what they are for.

  Attributes:
    train: positions of the frames that are learnt from.
    test: positions of the frames that are only tested on.
    by: what holds them out: 'held_out', the setting, or 'split.json'; None where none are.
    text: the same in words, for progress.
  """

  train: Int[np.ndarray, ' a']
  test: Int[np.ndarray, ' b']
  by: str | None
  text: str

  @property
  def shown(self) -> Int[np.ndarray, ' c']:
    """Frames to show and score: the held-out ones, or where there are none the others."""
    return self.test if len(self.test) else self.train


def divide(capture: Capture, held_out: float | None) -> Division:
  """Divides the frames of a capture.

  Args:
    capture: with its split, if it has one.
    held_out: fraction of the frames, from the end, to hold out, whatever the split says; None goes
      by the split: its training frames are learnt from, its test frames held out, and all others,
      validation frames among them, are neither. Without a split None holds out nothing.

  Raises:
    ValueError: nothing would be left to train on.
  """
  if held_out is None and capture.split is not None:
    return _by_split(capture)
  train, test = split_held_out(len(capture), held_out or 0.0)
  text = f'{spans(test, _SHOWN)} held out' if len(test) else 'all are learnt from'
  reasons = [f'held_out={held_out}'] if held_out else []
  if capture.split is not None:
    reasons = [f'held_out={held_out}', 'split.json is not followed']
  if reasons:
    text += f' ({", ".join(reasons)})'
  return Division(train, test, 'held_out' if len(test) else None, text)


def _by_split(capture: Capture) -> Division:
  assert capture.split is not None
  train, test = capture.split.train, capture.split.test
  if not len(train):
    raise ValueError(
      f'capture {capture.name!r}: its split has no training frames; change split.json, or set '
      'held_out=0 to learn from all frames'
    )
  text = 'none held out (split.json)'
  if len(test):
    text = f'{spans(test, _SHOWN)} held out (test frames of split.json)'
  others = np.setdiff1d(np.arange(len(capture)), np.concatenate([train, test]))
  if len(others):
    text += f', {spans(others, _SHOWN)} not used'
  return Division(train, test, 'split.json' if len(test) else None, text)


def spans(positions: Int[np.ndarray, ' n'], most: int | None = None) -> str:
  """Ascending positions as ranges with STOP left out: '0:3, 5'; at most so many, then '…'."""
  breaks = np.flatnonzero(np.diff(positions) != 1) + 1
  runs = [run for run in np.split(positions, breaks) if len(run)]
  words = [f'{run[0]}:{run[-1] + 1}' if len(run) > 1 else f'{run[0]}' for run in runs]
  if most is not None and len(words) > most:
    words = [*words[:most], '…']
  return ', '.join(words)
