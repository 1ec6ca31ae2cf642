"""The network in a checkpoint of a run, without the run: no data, no optimiser, any devices."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from sa0_jax.generator.checkpoint import PARAMETERS, config_of, generator_of
from sa0_jax.generator.generator import Generator
from sa0_jax.train.checkpoint import Position, read_leaves, saved_position, saved_steps

LATEST, BEST = 'latest', 'best'
_PARTS = ('trainable', 'frozen')  # of the state: together they are the network
_SETTINGS = 'generator.'  # of the run's identity
_MAX_LISTED = 20  # checkpoints in a message


class SavedGenerator(NamedTuple):
  """A network as it was at some step.

  Attributes:
    generator: it.
    position: where the run was.
    digest: SHA-256 of its configuration and its weights.
  """

  generator: Generator
  position: Position
  digest: str


def read_generator(folder: Path, which: int | str) -> SavedGenerator:
  """The network in a checkpoint.

  Args:
    folder: of the checkpoints, such as WORKDIR/checkpoints.
    which: a step; 'latest', the newest; or 'best', the one with the highest score on held-out
      people, of equal ones the later.

  Raises:
    FileNotFoundError: there is no such checkpoint; the message lists those there are.
    ValueError: none was scored, or the checkpoint is damaged or of another version.
  """
  position = find(folder, which)
  identity, leaves = read_leaves(folder, position.step, _PARTS)
  source = str(folder / str(position.step))
  table = _settings(identity)
  arrays = {f'{PARAMETERS}/{name.partition("/")[2]}': value for name, value in leaves.items()}
  generator = generator_of(config_of(table, source), arrays, source)
  digest = hashlib.sha256(json.dumps(table, sort_keys=True).encode())
  for name in sorted(arrays):
    digest.update(f'{name} {arrays[name].dtype} {arrays[name].shape}'.encode())
    digest.update(arrays[name].tobytes())
  return SavedGenerator(generator, position, digest.hexdigest())


def find(folder: Path, which: int | str) -> Position:
  """Which checkpoint is meant; arguments and errors as `read_generator`."""
  steps = saved_steps(folder)
  if not steps:
    raise FileNotFoundError(f'{folder}: no checkpoints there')
  if which == BEST:
    return _best(folder, steps)
  step = steps[0] if which == LATEST else which
  if step not in steps:
    raise FileNotFoundError(f'{folder}: no checkpoint {step}; there are {_listed(steps)}')
  # A damaged one is an error, for `latest`, too: the one before is another network.
  return saved_position(folder, int(step))


def _best(folder: Path, steps: list[int]) -> Position:
  scored = [
    (position.score, position.step, position)
    for position in (saved_position(folder, step) for step in steps)
    if position.score is not None and math.isfinite(position.score)
  ]
  if not scored:
    raise ValueError(
      f'{folder}: no checkpoint was scored on held-out people; there are {_listed(steps)}'
    )
  return max(scored)[2]


def _listed(steps: list[int]) -> str:
  more = len(steps) - _MAX_LISTED
  newest = ', '.join(str(step) for step in steps[:_MAX_LISTED])
  return newest + (f' and {more} older ones' if more > 0 else '')


def _settings(identity: dict[str, Any]) -> dict[str, Any]:
  """The network's settings, of which the run's identity has each under one word with dots."""
  table: dict[str, Any] = {}
  for key, value in identity.items():
    if not key.startswith(_SETTINGS):
      continue
    *words, last = key.removeprefix(_SETTINGS).split('.')
    branch = table
    for word in words:
      branch = branch.setdefault(word, {})
    branch[last] = value
  return table
