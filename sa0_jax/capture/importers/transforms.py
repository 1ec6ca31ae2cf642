"""transforms.json of NeRF data sets, as VHAP and INSTA write it: one file, or one a split part."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sa0_jax.capture.importers import readers
from sa0_jax.capture.splits import PARTS

_MAX_FRAMES = 10_000_000


class Entry(NamedTuple):
  """A frame of such a file.

  Attributes:
    fields: its own fields over those of the file as a whole.
    source: what to call it in messages.
    parts: the split parts that list it; empty for a single file.
  """

  fields: dict[str, Any]
  source: str
  parts: frozenset[str]

  def text(self, name: str) -> str:
    """A field that must be text."""
    return readers.take(self.fields, name, str, self.source)

  def whole(self, name: str, high: int = 1 << 40) -> int:
    """A field that must be a whole number from 0 on."""
    return readers.take_whole(self.fields, name, self.source, low=0, high=high)

  def size(self) -> tuple[int, int]:
    """Width and height of the picture."""
    side = (1 << 15) - 1
    return self.whole('w', side), self.whole('h', side)

  def pose(self) -> np.ndarray:
    """[4, 4] camera to world."""
    value = readers.take(self.fields, 'transform_matrix', list, self.source)
    return readers.numbers(value, (4, 4), 'transform_matrix', self.source)

  def intrinsics(self) -> list[float]:
    """fx, fy, cx, cy in pixels; the principal point is where the file says, or in the middle."""
    fl_x = self._number('fl_x')
    fl_y = self._number('fl_y') if 'fl_y' in self.fields else fl_x
    width, height = self.size()
    center = [
      self._number(name) if name in self.fields else side / 2
      for name, side in (('cx', width), ('cy', height))
    ]
    return [fl_x, fl_y, *center]

  def _number(self, name: str) -> float:
    value = readers.take(self.fields, name, (int, float), self.source)
    return float(readers.numbers(value, (), name, self.source))


def read_transforms(folder: Path) -> tuple[list[Entry], bool]:
  """The frames of a data set.

  Args:
    folder: holds transforms_train.json, transforms_val.json and transforms_test.json, any of them,
      or else transforms.json.

  Returns:
    The frames, each once however many files list it, and whether they have a split.

  Raises:
    FileNotFoundError: none of the files is there.
    ValueError: one is damaged.
  """
  files = {part: folder / f'transforms_{part}.json' for part in PARTS}
  files = {part: path for part, path in files.items() if path.is_file()}
  if not files:
    single = folder / 'transforms.json'
    if not single.is_file():
      raise FileNotFoundError(f'{folder}: no transforms.json and no transforms_train.json here')
    return [Entry(fields, source, frozenset()) for fields, source in _entries(single)], False
  merged: dict[str, Entry] = {}
  for part, path in files.items():
    for fields, source in _entries(path):
      name = readers.take(fields, 'file_path', str, source)
      known = merged.get(name)
      parts = frozenset({part}) | (known.parts if known is not None else frozenset())
      if {'train', 'test'} <= parts:
        raise ValueError(f'{source}: {name[:80]!r} is in both train and test')
      merged[name] = Entry(fields, source, parts)
  return list(merged.values()), True


def _entries(path: Path) -> list[tuple[dict[str, Any], str]]:
  table = readers.require_table(readers.read_json(path), str(path))
  frames = readers.take(table, 'frames', list, str(path))
  if len(frames) > _MAX_FRAMES:
    raise ValueError(f'{path}: more than {_MAX_FRAMES} frames')
  shared = {name: value for name, value in table.items() if name != 'frames'}
  entries = []
  for position, frame in enumerate(frames):
    source = f'{path}: frame {position}'
    entries.append((shared | readers.require_table(frame, source), source))
  return entries


def one_size(entries: list[Entry]) -> tuple[int, int]:
  """The size all pictures have.

  Raises:
    ValueError: they have several, or there are none.
  """
  sizes = {entry.size() for entry in entries}
  if len(sizes) != 1:
    found = ', '.join(f'{w} x {h}' for w, h in sorted(sizes)) or 'none'
    raise ValueError(
      f'{entries[0].source if entries else "transforms.json"}: pictures must have one size, '
      f'found {found}'
    )
  return sizes.pop()
