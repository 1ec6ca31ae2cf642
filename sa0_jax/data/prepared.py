"""A prepared data set, opened for reading."""

import dataclasses
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from sa0_jax import archive
from sa0_jax.capture.capture import ImagePair
from sa0_jax.data.build import MANIFEST, MAX_JSON_BYTES
from sa0_jax.data.config import VERSION
from sa0_jax.data.index import FrameIndex, open_index
from sa0_jax.data.records import CODES, decode_pixels

_OTHER_FILES = 256  # that a training process may open meanwhile
_ARRAYS = (*CODES, 'world_to_camera', 'intrinsics', 'face_box')


class FrameRecord(NamedTuple):
  """One frame as it was stored.

  Attributes:
    pixels: decoded image and matte.
    arrays: codes, 'world_to_camera', 'intrinsics' and 'face_box', float32.
  """

  pixels: ImagePair
  arrays: dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class PreparedData:
  """One split of a data set.

  Attributes:
    path: its folder, DATA_DIR/NAME/VERSION.
    split: name of the split.
    head: name and mesh fingerprint of the head model the codes belong to.
    size: of the images, width and height.
    index: what samplers need of its frames.
  """

  path: Path
  split: str
  head: tuple[str, str]
  size: tuple[int, int]
  index: FrameIndex
  _source: Any

  def __len__(self) -> int:
    return len(self.index)

  def encoded(self, row: int) -> dict[str, Any]:
    """A frame as it is stored: 'image' and 'matte' as the bytes of their files.

    Raises:
      ValueError: the record is damaged.
    """
    try:
      example = self._source[row]
    except Exception as error:  # protobuf and array_record raise errors of their own
      raise self._damaged(row, error) from error
    absent = [name for name, value in example.items() if value is None]
    if absent:
      raise self._damaged(row, ValueError(f'it has no {absent[0]}'))
    return example

  def read(self, row: int) -> FrameRecord:
    """Reads and decodes a frame; any number of threads may do so.

    Raises:
      ValueError: the record is damaged.
    """
    example = self.encoded(row)
    try:
      pixels = decode_pixels(example['image'], example['matte'], self.size)
    except ValueError as error:
      raise self._damaged(row, error) from error
    return FrameRecord(pixels, {name: example[name] for name in _ARRAYS})

  def _damaged(self, row: int, error: Exception) -> ValueError:
    return ValueError(
      f'{self.path}: record {row} of split {self.split!r} is damaged ({error}); make the data set '
      'again with `sa0 prepare`'
    )


def open_prepared(folder: str | os.PathLike[str], split: str) -> PreparedData:
  """Opens a split of a data set made by `sa0 prepare`.

  Args:
    folder: DATA_DIR/NAME, or one of its versions.
    split: 'train' or 'val'.

  Raises:
    FileNotFoundError: there is no data set, or files of it are missing.
    ValueError: it has no such split, or is damaged.
  """
  path = Path(folder)
  if not (path / MANIFEST).is_file() and (path / VERSION).is_dir():
    path = path / VERSION
  manifest = _read_manifest(path)
  try:
    builder = tfds.builder_from_directory(str(path))
    splits = list(builder.info.splits)
    if split in splits:
      count = builder.info.splits[split].num_examples
      source = builder.as_data_source(
        split,
        decoders={'image': tfds.decode.SkipDecoding(), 'matte': tfds.decode.SkipDecoding()},
      )
      stored = len(source)
  except FileNotFoundError:
    raise
  except Exception as error:  # TFDS, protobuf and array_record raise what they like
    raise ValueError(
      f'{path}: damaged ({type(error).__name__}: {error}); make the data set again'
    ) from error
  if split not in splits:
    raise ValueError(f'{path}: has no split {split!r}, there are {", ".join(splits)}')
  check_room_for_files(len(builder.info.splits[split].shard_lengths), str(path))
  if stored != count:
    raise ValueError(f'{path}: split {split!r} holds {stored} of {count} records; make it again')
  return PreparedData(
    path,
    split,
    (manifest['head']['name'], manifest['head']['fingerprint']),
    (manifest['width'], manifest['height']),
    open_index(path / 'sa0_index' / split, count),
    source,
  )


def check_room_for_files(count: int, name: str) -> None:
  """Makes room for so many more open files: each shard that was read from stays open.

  Raises:
    ValueError: this system does not allow as many.
  """
  try:
    import resource
  except ImportError:  # Windows has no such limit
    return
  allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
  there = len(os.listdir('/proc/self/fd')) if os.path.isdir('/proc/self/fd') else _OTHER_FILES
  needed = there + count + _OTHER_FILES
  if allowed == resource.RLIM_INFINITY or needed <= allowed:
    return
  if most != resource.RLIM_INFINITY and needed > most:
    raise ValueError(
      f'{name}: its {count} shards need {needed} open files, this system allows {most}: raise the '
      'limit (ulimit -Hn), or prepare it with more --frames-per-shard'
    )
  resource.setrlimit(resource.RLIMIT_NOFILE, (needed, most))


def check_heads(datasets: list[PreparedData]) -> None:
  """Raises ValueError unless all data sets hold codes of one head model."""
  for data in datasets[1:]:
    first = datasets[0]
    if data.head != first.head:
      raise ValueError(
        f'{data.path} holds codes of head model {data.head[0]!r} (mesh {data.head[1]}), '
        f'{first.path} of {first.head[0]!r} (mesh {first.head[1]}): they cannot be mixed'
      )


def _read_manifest(path: Path) -> dict[str, Any]:
  file = path / MANIFEST
  if not file.is_file():
    raise FileNotFoundError(f'{path}: no data set here; make one with `sa0 prepare`')
  content = archive.read_json(file, MAX_JSON_BYTES)
  try:
    fits = (
      content['format'] == 'sa0-data'
      and all(isinstance(content['head'][name], str) for name in ('name', 'fingerprint'))
      and all(0 < content[name] < 1 << 15 for name in ('width', 'height'))
    )
  except (KeyError, TypeError) as error:
    raise ValueError(f'{file}: damaged ({error})') from error
  if not fits or content.get('version') != VERSION:
    raise ValueError(
      f'{file}: record layout {content.get("version")!r}; this program reads {VERSION}'
    )
  return dict(content)
