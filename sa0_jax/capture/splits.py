"""Which frames of a capture are for training, validation and testing: split.json beside it.

A split is a file the user can see and replace:

    {"format": "sa0-split", "version": 1, "train": [0, 1, 2], "val": [], "test": [3, 4]}

The numbers are positions in the capture: rows of `frames` in capture.json, from 0. Importers write
the file where the imported data set has a published split; a frame in no part is used by nobody.
"""

import dataclasses
import json
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from sa0_jax import archive

FORMAT = 'sa0-split'
VERSION = 1
PARTS = ('train', 'val', 'test')
FILE_NAME = 'split.json'
_MAX_BYTES = 1 << 26


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
  """Positions of the frames of each part, ascending.

  `capture.select(capture.split.test)` takes one part.

  Attributes:
    train: to learn from.
    val: to choose by; published sets let it overlap the test frames.
    test: to report on; never in `train`.
  """

  train: Int[np.ndarray, ' a']
  val: Int[np.ndarray, ' b']
  test: Int[np.ndarray, ' c']

  @classmethod
  def of_parts(cls, parts: Sequence[set[int]] | Sequence[Sequence[int]]) -> 'Split':
    """A split of three collections of positions, in the order of `PARTS`."""
    return cls(*(np.array(sorted(part), np.int64) for part in parts))

  @classmethod
  def of_frames(cls, names: Sequence[Collection[str]]) -> 'Split':
    """A split from the names of the parts that each frame is in."""
    return cls.of_parts([[i for i, own in enumerate(names) if part in own] for part in PARTS])

  @classmethod
  def last_for_test(cls, frames: int, count: int) -> 'Split':
    """The last `count` frames are the test set, as monocular data sets are published.

    Raises:
      ValueError: nothing would be left to train on.
    """
    if count >= frames:
      raise ValueError(f'the last {count} of {frames} frames for testing leaves none to train on')
    return cls.of_parts([range(frames - count), (), range(frames - count, frames)])

  def part(self, name: str) -> Int[np.ndarray, ' n']:
    """Positions of a part by name.

    Raises:
      ValueError: there is no such part.
    """
    if name not in PARTS:
      raise ValueError(f'split part {name!r} is unknown: use one of {", ".join(PARTS)}')
    return getattr(self, name)

  def select(self, positions: Int[np.ndarray, ' n']) -> 'Split':
    """The split of the capture that has these frames, in their order."""
    return Split.of_parts(
      [np.flatnonzero(np.isin(positions, self.part(name))).tolist() for name in PARTS]
    )

  def to_bytes(self) -> bytes:
    """The text of split.json."""
    parts = {name: self.part(name).tolist() for name in PARTS}
    return (json.dumps({'format': FORMAT, 'version': VERSION, **parts}) + '\n').encode()


def write_split(folder: str | os.PathLike[str], split: Split) -> None:
  """Writes split.json into a capture folder, whole or not at all."""
  with archive.atomic_write(Path(folder) / FILE_NAME) as file:
    file.write(split.to_bytes())


def read_split(path: str | os.PathLike[str], num_frames: int) -> Split | None:
  """Reads the split of a capture.

  Args:
    path: the capture's folder, or a split file.
    num_frames: frames of the capture.

  Returns:
    The split; None where a folder has no split.json.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: the file is damaged, names frames that are not there, or trains on test frames.
  """
  path = Path(path)
  if path.is_dir():
    path = path / FILE_NAME
    if not path.is_file():
      return None
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such split file')
  table = archive.read_json(path, _MAX_BYTES)
  if not isinstance(table, dict) or table.get('format') != FORMAT:
    raise ValueError(f'{path}: not a split file')
  if table.get('version') != VERSION:
    raise ValueError(
      f'{path}: split version {table.get("version")!r}, this program reads version {VERSION}'
    )
  return _checked(table, num_frames, str(path))


def _checked(table: dict[str, Any], num_frames: int, source: str) -> Split:
  parts = []
  for name in PARTS:
    numbers = table.get(name)
    if not isinstance(numbers, list) or not all(type(number) is int for number in numbers):
      raise ValueError(f'{source}: {name!r} must be a list of frame positions')
    outside = [number for number in numbers if not 0 <= number < num_frames]
    if outside:
      raise ValueError(f'{source}: {name!r} names frame {outside[0]} of {num_frames}')
    parts.append(set(numbers))
  shared = parts[0] & parts[2]
  if shared:
    raise ValueError(f'{source}: frame {min(shared)} is in both train and test')
  return Split.of_parts(parts)
