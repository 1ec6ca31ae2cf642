"""Which captures go into which shard of a data set: decided before anything is written."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sa0_jax import archive
from sa0_jax.capture.capture import Capture, load_capture
from sa0_jax.data.config import BUILDERS, VERSION, BuildConfig

_MAX_SPLIT_BYTES = 1 << 26


class Clip(NamedTuple):
  """One capture of a data set.

  Attributes:
    path: of its folder, relative to the captures' folder.
    subject: whose it is.
    frames: how many.
    digest: of its codes, cameras and file names.
  """

  path: str
  subject: str
  frames: int
  digest: str


class Piece(NamedTuple):
  """Frames of one capture in one shard.

  Attributes:
    path: of the capture's folder, relative to the captures' folder.
    subject: whose it is.
    numbers: of the subject and of the clip in the split.
    start, stop: positions in the capture.
  """

  path: str
  subject: str
  numbers: tuple[int, int]
  start: int
  stop: int


class Plan(NamedTuple):
  """A data set that is not built yet.

  Attributes:
    captures: the folder with all captures.
    config: how it is built.
    head: name and mesh fingerprint of the captures' head model.
    size: of the images, width and height.
    clips: of each split.
    shards: of each split.
    unlisted: subjects that are in no split.
  """

  captures: Path
  config: BuildConfig
  head: tuple[str, str]
  size: tuple[int, int]
  clips: dict[str, list[Clip]]
  shards: dict[str, list[list[Piece]]]
  unlisted: list[str]

  @property
  def num_frames(self) -> int:
    """Frames of all splits."""
    return sum(clip.frames for clips in self.clips.values() for clip in clips)

  def manifest(self) -> bytes:
    """What makes two builds the same build."""
    config = dict(self.config.__dict__)
    del config['max_bad_share']  # it decides whether there is a data set, not what is in it
    content: dict[str, Any] = {
      'format': 'sa0-data',
      'version': VERSION,
      'config': config,
      'head': {'name': self.head[0], 'fingerprint': self.head[1]},
      'width': self.size[0],
      'height': self.size[1],
      'splits': {
        name: {'shards': len(self.shards[name]), 'clips': [clip._asdict() for clip in clips]}
        for name, clips in self.clips.items()
      },
    }
    return json.dumps(content, indent=1).encode()


def find_captures(folder: str | os.PathLike[str]) -> dict[str, list[str]]:
  """Captures of a folder: FOLDER/SUBJECT, or FOLDER/SUBJECT/CLIP where a subject has several.

  Returns:
    Subject → paths of its captures, relative to the folder; both in sorted order.

  Raises:
    FileNotFoundError: there are none.
  """
  root = Path(folder)
  if not root.is_dir():
    raise FileNotFoundError(f'{root}: no such folder')
  found = {}
  for entry in _folders(root):
    if (entry / 'capture.json').is_file():
      found[entry.name] = [entry.name]
      continue
    clips = [c for c in _folders(entry) if (c / 'capture.json').is_file()]
    if clips:
      found[entry.name] = [f'{entry.name}/{clip.name}' for clip in clips]
  if not found:
    raise FileNotFoundError(
      f'{root}: no captures here; they are expected as {root}/SUBJECT or {root}/SUBJECT/CLIP'
    )
  return found


def _folders(root: Path) -> Iterator[Path]:
  yield from sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith('.'))


def read_split(path: str | os.PathLike[str]) -> list[str]:
  """Subjects of a split file: one a line; blank lines and those that begin with # are left out.

  Raises:
    FileNotFoundError: there is no such file; the message says how to make one.
    ValueError: it is no text, or names a subject twice.
  """
  path = Path(path)
  if not path.is_file():
    raise FileNotFoundError(
      f'{path}: no such split file: write one, the names of its subjects line by line, or let '
      '`sa0 prepare --hold-out 0.05` write train.txt and val.txt'
    )
  lines = [line.strip() for line in archive.read_text(path, _MAX_SPLIT_BYTES).splitlines()]
  subjects = [line for line in lines if line and not line.startswith('#')]
  if len(set(subjects)) < len(subjects):
    twice = next(s for s in subjects if subjects.count(s) > 1)
    raise ValueError(f'{path}: names {twice!r} twice')
  return subjects


def write_splits(folder: str | os.PathLike[str], hold_out: float, seed: int = 0) -> list[Path]:
  """Writes train.txt and val.txt beside the captures; files that are there stay as they are.

  Args:
    folder: the captures' folder.
    hold_out: share of the subjects for validation, at least one.
    seed: of the draw.

  Returns:
    The files: train, val.

  Raises:
    FileNotFoundError: there are no captures.
    ValueError: nobody would be left to train on, or one of the files is there and the other not.
  """
  paths = [Path(folder) / 'train.txt', Path(folder) / 'val.txt']
  there = [path.is_file() for path in paths]
  if all(there):
    return paths
  if any(there):
    missing = paths[there.index(False)]
    raise ValueError(f'{missing}: missing, and its counterpart is there; remove that or add this')
  subjects = sorted(find_captures(folder))
  count = max(1, round(hold_out * len(subjects)))
  if count >= len(subjects):
    raise ValueError(
      f'{folder}: holding {count} of {len(subjects)} subjects out leaves nobody to train on'
    )
  chosen = set(np.random.default_rng(seed).permutation(len(subjects))[:count].tolist())
  for path, held in zip(paths, (False, True), strict=True):
    names = [s for number, s in enumerate(subjects) if (number in chosen) is held]
    with archive.atomic_write(path) as file:
      file.write(''.join(f'{name}\n' for name in names).encode())
  return paths


def make_plan(
  captures: str | os.PathLike[str],
  splits: Mapping[str, Sequence[str]],
  config: BuildConfig,
  progress: Any = None,
) -> Plan:
  """Looks at all captures and lays out the shards.

  Args:
    captures: folder of captures, see `find_captures`.
    splits: split name → its subjects.
    config: how to build.
    progress: called as progress(done, total) after each capture.

  Raises:
    FileNotFoundError: a subject has no captures.
    ValueError: a subject is in two splits; captures are damaged, of different head models or sizes,
      or of the wrong kind.
  """
  found = find_captures(captures)
  _check_splits(splits, found, captures)
  total = sum(len(found[subject]) for names in splits.values() for subject in names)
  check, done = _Check(config), 0
  clips: dict[str, list[Clip]] = {}
  for name, subjects in splits.items():
    clips[name] = []
    for subject in sorted(subjects):
      for path in found[subject]:
        capture = load_capture(Path(captures) / path)
        check(capture, path)
        clips[name].append(Clip(path, subject, len(capture), _digest(Path(captures) / path)))
        done += 1
        if progress is not None:
          progress(done, total)
  listed = {subject for names in splits.values() for subject in names}
  return Plan(
    Path(captures),
    config,
    check.head,
    check.size,
    clips,
    {name: _shards(split, config.frames_per_shard) for name, split in clips.items()},
    sorted(set(found) - listed),
  )


def _check_splits(
  splits: Mapping[str, Sequence[str]],
  found: dict[str, list[str]],
  captures: str | os.PathLike[str],
) -> None:
  owner: dict[str, str] = {}
  for name, subjects in splits.items():
    if not subjects:
      raise ValueError(f'split {name!r} names no subjects')
    for subject in subjects:
      if subject not in found:
        raise FileNotFoundError(
          f'{captures}: split {name!r} names {subject!r}, which has no captures here'
        )
      if subject in owner:
        raise ValueError(f'{subject!r} is in both splits, {owner[subject]!r} and {name!r}')
      owner[subject] = name


class _Check:
  """Holds each capture against the first."""

  def __init__(self, config: BuildConfig):
    self._config = config
    self._first = ''
    self.head = ('', '')
    self.size = (0, 0)

  def __call__(self, capture: Capture, path: str) -> None:
    head = (capture.head_name, capture.head_fingerprint)
    size = (capture.width, capture.height)
    if self._config.resolution:
      if size[0] != size[1]:
        raise ValueError(
          f'{path}: is {size[0]} x {size[1]} px; only square images can be resized to '
          f'{self._config.resolution}'
        )
      size = (self._config.resolution, self._config.resolution)
    views = len(np.unique(capture.view_ids))
    if (views > 1) != (BUILDERS[self._config.name] == 'multiview'):
      other = next(name for name in BUILDERS if name != self._config.name)
      raise ValueError(
        f'{path}: has {views} camera{"s" * (views > 1)}; it belongs into {other}, not into '
        f'{self._config.name}'
      )
    if not self._first:
      self._first, self.head, self.size = path, head, size
    if head != self.head:
      raise ValueError(
        f'{path}: its head model is {head[0]!r} (mesh {head[1]}), that of {self._first} is '
        f'{self.head[0]!r} (mesh {self.head[1]}): one data set holds codes of one head model'
      )
    if size != self.size:
      raise ValueError(
        f'{path}: is {size[0]} x {size[1]} px, {self._first} is {self.size[0]} x {self.size[1]}: '
        'give the resolution to store'
      )


def _digest(folder: Path) -> str:
  digest = hashlib.sha256()
  for name in ('capture.json', 'tracking.npz'):
    digest.update((folder / name).read_bytes())
  return digest.hexdigest()


def _shards(clips: list[Clip], size: int) -> list[list[Piece]]:
  """Clips one after the other, cut where a shard is full."""
  shards: list[list[Piece]] = []
  room = 0
  subjects: dict[str, int] = {}
  for number, clip in enumerate(clips):
    numbers = (subjects.setdefault(clip.subject, len(subjects)), number)
    start = 0
    while start < clip.frames:
      if not room:
        shards.append([])
        room = size
      stop = min(clip.frames, start + room)
      shards[-1].append(Piece(clip.path, clip.subject, numbers, start, stop))
      room -= stop - start
      start = stop
  return shards
