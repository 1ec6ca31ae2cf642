"""Pictures and mattes where the imported data set keeps them, read when a frame is taken."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from sa0_jax.capture import image_files
from sa0_jax.capture.capture import ImagePair, ImageSource, StoredImages, StoredPair
from sa0_jax.capture.importers.lmdb_file import LmdbFile
from sa0_jax.capture.importers.mattes import matte_of_plain
from sa0_jax.capture.importers.readers import image_named


@runtime_checkable
class Picture(Protocol):
  """The contents of one image file, wherever it is kept."""

  @property
  def label(self) -> str:
    """What to call it in messages."""
    ...

  def read(self) -> bytes:
    """The file."""
    ...


class PictureFile(NamedTuple):
  """An image file."""

  path: Path

  @property
  def label(self) -> str:
    """Its path."""
    return str(self.path)

  def read(self) -> bytes:
    """Its contents; errors as `image_files.read_file`."""
    return image_files.read_file(self.path)


class PictureRecord(NamedTuple):
  """An image file in an LMDB."""

  database: LmdbFile
  key: bytes

  @property
  def label(self) -> str:
    """The database and the key."""
    return f'{self.database.path}: {self.key.decode("utf-8", "replace")[:80]!r}'

  def read(self) -> bytes:
    """Its contents."""
    return self.database.read(self.key)


@dataclasses.dataclass(frozen=True, eq=False)
class PictureSource:
  """Encoded pictures of one size.

  The matte is the first there is: a matte of its own, the picture's alpha channel, what differs
  from a plain background.

  Attributes:
    images: one a frame.
    mattes: one a frame, or None.
    background: plain colour the pictures stand on (`mattes.BLACK`, `WHITE`), or None.
    size: width, height.
  """

  images: Sequence[Picture]
  mattes: Sequence[Picture] | None
  background: int | None
  size: tuple[int, int]

  def __len__(self) -> int:
    return len(self.images)

  def load(self, position: int) -> ImagePair:
    """Reads one frame; errors as `load_stored`."""
    return self.load_stored(position).pixels

  def load_stored(self, position: int) -> StoredPair:
    """Reads one frame with its files.

    Raises:
      FileNotFoundError: a file is missing.
      ValueError: a file is no image or has another size, or nothing says what the head is.
    """
    picture = self.images[position]
    data = picture.read()
    image, alpha = image_files.decode_alpha(data, picture.label)
    check_size(image, self.size, picture.label)
    if self.mattes is not None:
      stored = self.mattes[position].read()
      matte = image_files.decode_gray(stored, self.mattes[position].label)
      check_size(matte, self.size, self.mattes[position].label)
      return StoredPair(ImagePair(image, matte), data, stored)
    if alpha is not None:
      return StoredPair(ImagePair(image, alpha), data, None)
    if self.background is None:
      raise ValueError(f'{picture.label}: has no alpha channel and no matte; give --mattes FOLDER')
    return StoredPair(ImagePair(image, matte_of_plain(image, self.background)), data, None)


@dataclasses.dataclass(frozen=True, eq=False)
class ArraySource:
  """Pictures held in memory, on a plain background or with mattes of their own."""

  images: tuple[UInt8[np.ndarray, 'h w 3'], ...]
  mattes: Sequence[Picture] | None
  background: int

  def __len__(self) -> int:
    return len(self.images)

  def load(self, position: int) -> ImagePair:
    """One frame.

    Raises:
      FileNotFoundError: its matte is missing.
      ValueError: its matte is no image, or has another size.
    """
    image = self.images[position]
    if self.mattes is None:
      return ImagePair(image, matte_of_plain(image, self.background))
    picture = self.mattes[position]
    matte = image_files.decode_gray(picture.read(), picture.label)
    check_size(matte, image.shape[1::-1], picture.label)
    return ImagePair(image, matte)


@dataclasses.dataclass(frozen=True, eq=False)
class ResizedSource:
  """Another source's frames in another size."""

  source: ImageSource
  size: tuple[int, int]  # width, height

  def __len__(self) -> int:
    return len(self.source)

  @property
  def in_order(self) -> bool:
    """Whether the source is cheap in its own order only."""
    return getattr(self.source, 'in_order', False)

  def load(self, position: int) -> ImagePair:
    """One frame."""
    return ImagePair(*(image_files.resize(x, self.size) for x in self.source.load(position)))


class ReadAhead:
  """Another source read once from the first frame to the last, the next frames already under way.

  A context manager: threads end with it.
  """

  def __init__(self, source: ImageSource, progress: Callable[[], None]):
    """Starts nothing yet.

    Args:
      source: what to read; one with a true `in_order` is read by a single thread.
      progress: called when a frame has been taken.
    """
    workers = 1 if getattr(source, 'in_order', False) else min(8, os.cpu_count() or 1)
    self._source = source
    self._progress = progress
    self._pool = ThreadPoolExecutor(workers)
    self._window = 2 * workers
    self._begun = 0
    self._pending: dict[int, Future[StoredPair]] = {}

  def __enter__(self) -> 'ReadAhead':
    return self

  def __exit__(self, *_: object) -> None:
    self._pool.shutdown(cancel_futures=True)

  def __len__(self) -> int:
    return len(self._source)

  def load(self, position: int) -> ImagePair:
    """One frame."""
    return self.load_stored(position).pixels

  def load_stored(self, position: int) -> StoredPair:
    """One frame with its files, where it has any; errors are those of the source."""
    while self._begun < min(position + self._window, len(self)):
      self._pending[self._begun] = self._pool.submit(self._load, self._begun)
      self._begun += 1
    pending = self._pending.pop(position, None)
    stored = self._load(position) if pending is None else pending.result()
    self._progress()
    return stored

  def _load(self, position: int) -> StoredPair:
    if isinstance(self._source, StoredImages):
      return self._source.load_stored(position)
    return StoredPair(self._source.load(position), None, None)


def check_size(pixels: np.ndarray, size: tuple[int, ...], label: str) -> None:
  """Raises ValueError unless a picture has a width and height."""
  if pixels.shape[1::-1] != size:
    raise ValueError(
      f'{label}: is {pixels.shape[1]} x {pixels.shape[0]} px, expected {size[0]} x {size[1]}'
    )


def first_size(picture: Picture) -> tuple[int, int]:
  """Width and height of a picture; only files other than png and jpg are decoded for it."""
  data = picture.read()
  known = image_files.stored_header(data)
  if known is not None:
    return known.width, known.height
  return image_files.decode_color(data, picture.label).shape[1::-1]


def mattes_for(folder: Path, names: Sequence[str]) -> tuple[PictureFile, ...]:
  """The mattes in a folder for images of these names, by name without suffix.

  Raises:
    FileNotFoundError: one is missing.
  """
  found = []
  for name in names:
    path = image_named(folder / f'{name}.png')
    if path is None:
      raise FileNotFoundError(f'{folder}: no matte {name}.png for the image of that name')
    found.append(PictureFile(path))
  return tuple(found)
