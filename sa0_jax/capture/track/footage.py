"""Where a tracker's pictures come from: a video, a folder of images, or one image.

Telephones store pictures lying down, with a note that says how to turn them. Here they are turned;
a capture that is made of them is upright.
"""

import dataclasses
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from sa0_jax.capture import image_files
from sa0_jax.video import VideoReader

IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.webp', '.tif', '.tiff')
_IMAGES_PER_SECOND = 30.0  # nominal rate of a folder of frames


@dataclasses.dataclass(frozen=True)
class Footage:
  """Pictures of one subject, read one at a time and as often as wanted.

  Attributes:
    path: the video, folder or image; of images named one by one the first.
    images: the image files in order; none for a video.
    fps: frames per second.
    span: number of the first frame to use and of the one after the last; None uses all.
  """

  path: Path
  images: tuple[Path, ...]
  fps: float
  span: tuple[int, int] | None = None

  @classmethod
  def of_images(cls, images: Sequence[Path]) -> 'Footage':
    """Image files in the order given, at least one."""
    return cls(images[0], tuple(images), _IMAGES_PER_SECOND)

  @property
  def name(self) -> str:
    """What to call the subject."""
    return self.path.resolve().stem

  @property
  def label(self) -> str:
    """What to call it in messages: the path, or every image that was named."""
    named = self.images if self.path in self.images else (self.path,)
    return ', '.join(map(str, named))

  @property
  def is_single(self) -> bool:
    """Whether it is one image."""
    return len(self.images) == 1

  def identity(self) -> dict[str, Any]:
    """What tells these files from others without reading them."""
    files = self.images or (self.path,)
    stats = [path.stat() for path in files]
    return {
      'path': str(self.path.resolve()),
      'files': len(files),
      'bytes': sum(stat.st_size for stat in stats),
      'modified': max(stat.st_mtime_ns for stat in stats),
    }

  def numbered(self) -> Iterator[tuple[int, UInt8[np.ndarray, 'h w 3']]]:
    """The frames of `span` with their numbers; errors as for `frames`."""
    first, end = self.span or (0, None)
    yield from itertools.islice(enumerate(self.frames()), first, end)

  def frames(self) -> Iterator[UInt8[np.ndarray, 'h w 3']]:
    """All RGB frames in order, upright, in full size.

    Raises:
      ValueError: a file is damaged.
    """
    if self.images:
      for path in self.images:
        yield image_files.read_upright(path)
      return
    reader = VideoReader(self.path)
    try:
      yield from reader.upright()
    finally:
      reader.close()


def open_footage(path: str | os.PathLike[str]) -> Footage:
  """Finds out what a path is.

  Args:
    path: a video file, an image file, or a folder of image files, taken in the order of their
      names.

  Raises:
    FileNotFoundError: there is nothing.
    ValueError: the folder holds no images, or the file is neither image nor video.
  """
  path = Path(path)
  if path.is_dir():
    images = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
      raise ValueError(f'{path}: no images in this folder ({", ".join(IMAGE_SUFFIXES)})')
    return Footage(path, tuple(images), _IMAGES_PER_SECOND)
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such video, image or folder')
  if path.suffix.lower() in IMAGE_SUFFIXES:
    return Footage.of_images([path])
  reader = VideoReader(path)
  try:
    return Footage(path, (), reader.fps)
  finally:
    reader.close()
