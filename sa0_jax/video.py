"""Videos in and out."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

_MAX_PIXELS = 1 << 26
_CODEC = 'h264'
_QUALITY = '18'  # constant rate factor: visually lossless


class VideoReader:
  """Frames of a video file, one at a time."""

  def __init__(self, path: str | os.PathLike[str]):
    """Opens a video.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is no readable video.
    """
    import av  # here: codecs take long to load

    self._path = Path(path)
    if not self._path.is_file():
      raise FileNotFoundError(f'{path}: no such video')
    self._failure = av.error.FFmpegError
    try:
      self._container = av.open(str(self._path))
      self._stream = self._container.streams.video[0]
    except (self._failure, IndexError) as error:
      raise ValueError(f'{path}: not a readable video ({error}); is the file complete?') from error
    if self._stream.codec_context is None:
      self._container.close()
      raise ValueError(f'{path}: a video in a format that cannot be decoded; is it damaged?')
    self._stream.thread_type = 'AUTO'
    if self._stream.width * self._stream.height > _MAX_PIXELS:
      raise ValueError(f'{path}: frames have more than {_MAX_PIXELS} pixels')

  @property
  def fps(self) -> float:
    """Frames per second."""
    return float(self._stream.average_rate or 30.0)

  @property
  def size(self) -> tuple[int, int]:
    """Width and height of the frames as they are stored, px."""
    return self._stream.width, self._stream.height

  def __iter__(self) -> Iterator[UInt8[np.ndarray, 'h w 3']]:
    """Decodes the frames in order, RGB, as they are stored; errors as for `upright`."""
    return (frame.to_ndarray(format='rgb24') for frame in self._decoded())

  def upright(self) -> Iterator[UInt8[np.ndarray, 'h w 3']]:
    """Decodes the frames in order, RGB, turned and mirrored as players show them.

    Raises:
      ValueError: the stream breaks off or is damaged.
    """
    return (_turned(frame.to_ndarray(format='rgb24'), frame) for frame in self._decoded())

  def _decoded(self) -> Iterator[Any]:
    count = 0
    try:
      for frame in self._container.decode(self._stream):
        yield frame
        count += 1
    except self._failure as error:
      raise ValueError(f'{self._path}: damaged after {count} frames ({error})') from error
    if not count:
      raise ValueError(f'{self._path}: holds no frames')

  def close(self) -> None:
    """Closes the file."""
    self._container.close()


def _turned(picture: UInt8[np.ndarray, 'h w 3'], frame: Any) -> UInt8[np.ndarray, '_ _ 3']:
  """The picture of a frame as its display matrix says, to the nearest quarter turn.

  The matrix shows the pixel (x, y) at (a x + c y, b x + d y), y downwards. `frame.rotation` would
  not tell a mirrored picture, as front cameras store, from one that stands on its head.
  """
  from av.sidedata.sidedata import Type

  note = frame.side_data.get(Type.DISPLAYMATRIX)
  if note is None:
    return picture
  a, b, _, c, d = np.frombuffer(bytes(note), np.int32)[:5].tolist()
  if abs(b) > abs(a):
    picture = picture.swapaxes(0, 1)
    a, d = c, b
  return np.ascontiguousarray(picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def write_video(
  path: str | os.PathLike[str], frames: Iterable[UInt8[np.ndarray, 'h w 3']], fps: float
) -> int:
  """Writes an H.264 mp4, whole or not at all.

  Args:
    path: where; the name decides the container.
    frames: RGB frames of one even width and height.
    fps: frames per second.

  Returns:
    The number of frames written.

  Raises:
    ValueError: there are no frames, or their size is odd or changes.
  """
  from fractions import Fraction

  import av

  target = Path(path)
  target.parent.mkdir(parents=True, exist_ok=True)
  temporary = target.with_name(f'.{target.stem}.{os.getpid()}{target.suffix}')
  size: tuple[int, ...] | None = None
  count = 0
  try:
    with av.open(str(temporary), 'w') as container:
      stream = container.add_stream(_CODEC, rate=Fraction(fps).limit_denominator(1001))
      stream.pix_fmt = 'yuv420p'
      stream.options = {'crf': _QUALITY, 'preset': 'veryfast'}
      for frame in frames:
        if size is None:
          size = frame.shape
          if size[0] % 2 or size[1] % 2:
            raise ValueError(f'{path}: video frames need even sides, got {size[1]} x {size[0]}')
          stream.height, stream.width = size[:2]
        if frame.shape != size:
          raise ValueError(f'{path}: frames change size from {size} to {frame.shape}')
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format='rgb24')
        container.mux(stream.encode(picture))
        count += 1
      if not count:
        raise ValueError(f'{path}: no frames to write')
      container.mux(stream.encode())
    os.replace(temporary, target)
  finally:
    with contextlib.suppress(FileNotFoundError):
      os.unlink(temporary)
  return count
