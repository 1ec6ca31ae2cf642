"""Draws become batches of decoded images."""

import dataclasses
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from sa0_kernels import Camera

from sa0_jax.capture import image_files
from sa0_jax.capture.capture import ImagePair
from sa0_jax.data.config import MAX_SOURCES
from sa0_jax.data.prepared import PreparedData
from sa0_jax.data.records import CODES
from sa0_jax.data.sampling import Draw
from sa0_jax.head.model import HeadCodes

FRAMES = 1 + MAX_SOURCES  # of each person: the target, then the sources


class FrameBatch(NamedTuple):
  """Frames of b people, five each: the target, then the sources; absent ones are padding.

  Images are black and codes those of the first source where they are padding.

  Attributes:
    images: [b, 5, h, w, 3] as filmed.
    mattes: [b, 5, h, w] 255 where the pixel belongs to the head.
    codes: [b, 5] of each frame, shape codes included.
    camera: [b, 5] of these images.
    face_box: [b, 5, 4] left, top, right, bottom, px.
    mask: [b, 4] False for padding among the sources.
    rows: [b, 5] row of each frame in its data set, −1 for padding.
    dataset: [b] number of the data set.
  """

  images: UInt8[np.ndarray, 'b f h w 3']
  mattes: UInt8[np.ndarray, 'b f h w']
  codes: HeadCodes
  camera: Camera
  face_box: Float[np.ndarray, 'b f 4']
  mask: Bool[np.ndarray, 'b k']
  rows: Int[np.ndarray, 'b f']
  dataset: Int[np.ndarray, ' b']


def batch_bytes(batch_size: int, image_size: int) -> int:
  """Host memory of a batch, bytes; its images are nearly all of it."""
  return batch_size * FRAMES * image_size * image_size * 4


@dataclasses.dataclass(eq=False)
class Loader:
  """Reads the frames of draws, decoding on threads straight into the batch.

  Attributes:
    datasets: what draws refer to.
    image_size: side of the images, px; stored ones of another size are resized.
    threads: that decode; 0 decodes in the calling one.
  """

  datasets: Sequence[PreparedData]
  image_size: int
  threads: int

  def __post_init__(self) -> None:
    self._lock = threading.Lock()
    self._pool: ThreadPoolExecutor | None = None

  def __call__(self, draws: Sequence[tuple[int, Draw]]) -> FrameBatch:
    """A batch.

    Args:
      draws: data set and rows of each person.

    Raises:
      ValueError: a record is damaged.
    """
    rows = np.full((len(draws), FRAMES), -1, np.int32)
    for number, (_, one) in enumerate(draws):
      rows[number, : 1 + len(one.sources)] = (one.target, *one.sources)
    size = self.image_size
    images = np.zeros((*rows.shape, size, size, 3), np.uint8)
    mattes = np.zeros(images.shape[:-1], np.uint8)
    arrays: dict[str, np.ndarray] = {}

    def load(place: tuple[int, int]) -> dict[str, np.ndarray]:
      data = self.datasets[draws[place[0]][0]]
      pixels, values = data.read(int(rows[place]))
      scale = np.array([size / data.size[0], size / data.size[1]], np.float32)
      if pixels.matte.shape != (size, size):
        pixels = ImagePair(*(image_files.resize(x, (size, size)) for x in pixels))
      images[place], mattes[place] = pixels
      for name in ('intrinsics', 'face_box'):
        values[name] = values[name] * np.tile(scale, 2)
      return values

    places = [(int(i), int(j)) for i, j in np.argwhere(rows >= 0)]
    for place, values in zip(places, self._map(load, places), strict=True):
      for name, value in values.items():
        if name not in arrays:
          arrays[name] = np.empty((*rows.shape, *value.shape), np.float32)
        arrays[name][place] = value
    for array in arrays.values():
      np.copyto(array, array[:, 1:2], where=_beside(rows < 0, array))
    return FrameBatch(
      images=images,
      mattes=mattes,
      codes=HeadCodes(**{name: arrays[name] for name in CODES}),
      camera=Camera(arrays['world_to_camera'], arrays['intrinsics'], size, size),
      face_box=arrays['face_box'],
      mask=rows[:, 1:] >= 0,
      rows=rows,
      dataset=np.array([number for number, _ in draws], np.int32),
    )

  def _map(self, function: Any, places: list[Any]) -> Any:
    if not self.threads:
      return map(function, places)
    with self._lock:
      if self._pool is None:
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix='sa0-decode')
    return self._pool.map(function, places)


def _beside(mask: Bool[np.ndarray, 'b f'], array: np.ndarray) -> np.ndarray:
  return mask.reshape(*mask.shape, *(1,) * (array.ndim - 2))


def default_threads() -> int:
  """One for each core this process may use."""
  return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
