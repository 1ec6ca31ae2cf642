"""Reading and writing single images."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from sa0_jax import archive

_MAX_FILE_BYTES = 1 << 28
_MAX_PIXELS = 1 << 27
JPEG_QUALITY = 95
# PNG compression 3: a third of the time of the default at nearly its size.
_PNG_COMPRESSION = 3
# JPEG markers: start of scan; Exif, which may say that the picture is to be turned.
_PIXELS, _EXIF = 0xDA, 0xE1


def read_color(path: str | os.PathLike[str]) -> UInt8[np.ndarray, 'h w 3']:
  """Reads a colour image as RGB, as it is stored; transparency is dropped, 16 bits become 8.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is no image, or too large.
  """
  return decode_color(read_file(path), str(path))


def read_upright(path: str | os.PathLike[str]) -> UInt8[np.ndarray, 'h w 3']:
  """Reads a photograph as viewers show it, turned as its EXIF note says; else as `read_color`."""
  return decode_color(read_file(path), str(path), upright=True)


def read_gray(path: str | os.PathLike[str]) -> UInt8[np.ndarray, 'h w']:
  """Reads a single-channel image; errors as `read_color`."""
  return decode_gray(read_file(path), str(path))


def read_file(path: str | os.PathLike[str]) -> bytes:
  """The contents of an image file; errors as `read_color`."""
  path = Path(path)
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such image')
  if path.stat().st_size > _MAX_FILE_BYTES:
    raise ValueError(f'{path}: larger than {_MAX_FILE_BYTES} bytes')
  return path.read_bytes()


def decode_color(data: bytes, source: str, *, upright: bool = False) -> UInt8[np.ndarray, 'h w 3']:
  """Decodes the contents of a colour image file.

  Args:
    data: the file.
    source: what to call it in error messages.
    upright: turn the picture as its EXIF note says. Not where a camera belongs to its pixels.

  Raises:
    ValueError: it is no image, or too large.
  """
  import cv2  # here: it takes longer to import than the rest of the package

  stored = 0 if upright else cv2.IMREAD_IGNORE_ORIENTATION
  return cv2.cvtColor(_decode(data, source, cv2.IMREAD_COLOR | stored), cv2.COLOR_BGR2RGB)


def decode_gray(data: bytes, source: str) -> UInt8[np.ndarray, 'h w']:
  """Decodes a single-channel image; arguments and errors as `decode_color`."""
  import cv2

  return _decode(data, source, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION)


def decode_alpha(
  data: bytes, source: str
) -> tuple[UInt8[np.ndarray, 'h w 3'], UInt8[np.ndarray, 'h w'] | None]:
  """Decodes a colour image and, where it has one, its alpha channel; errors as `decode_color`."""
  import cv2

  pixels = _decode(data, source, cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
  if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 4:
    return decode_color(data, source), None
  return cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGB), np.ascontiguousarray(pixels[..., 3])


class StoredHeader(NamedTuple):
  """What the head of an image file says.

  Attributes:
    suffix: 'png' or 'jpg'.
    width: px.
    height: px.
    plain: a JPEG of three channels of eight bits that nothing turns: every decoder shows the same.
  """

  suffix: str
  width: int
  height: int
  plain: bool


def stored_header(data: bytes) -> StoredHeader | None:
  """Reads the head of a png or jpg file; None for every other format and for damaged heads."""
  if data[:8] == b'\x89PNG\r\n\x1a\n' and data[12:16] == b'IHDR' and len(data) >= 24:
    width, height = (int.from_bytes(data[k : k + 4], 'big') for k in (16, 20))
    return StoredHeader('png', width, height, plain=False)
  turned = False
  for position, marker in _jpeg_segments(data):
    turned |= marker == _EXIF
    if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and position + 10 <= len(data):
      height, width = (int.from_bytes(data[position + k : position + k + 2], 'big') for k in (5, 7))
      common = marker <= 0xC2 and data[position + 4] == 8 and data[position + 9] == 3
      return StoredHeader('jpg', width, height, common and not turned)
  return None


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
  """Where the segments of a JPEG file begin and what they are, up to the first one of pixels."""
  position = 2 if data[:2] == b'\xff\xd8' else len(data)
  while position + 4 <= len(data) and data[position] == 0xFF:
    marker = data[position + 1]
    if marker == 0xFF:  # padding
      position += 1
      continue
    yield position, marker
    if marker == _PIXELS:
      return
    position += 2 + int.from_bytes(data[position + 2 : position + 4], 'big')


def _is_cut_off(data: bytes) -> bool:
  """Whether a file lacks its end. Decoders fill what is missing with grey and say nothing."""
  if data[:4] == b'\x89PNG':
    return b'IEND' not in data[-64:]
  begin = next((p for p, marker in _jpeg_segments(data) if marker == _PIXELS), None)
  return begin is not None and data.find(b'\xff\xd9', begin) < 0


def _decode(data: bytes, source: str, flags: int) -> np.ndarray:
  import cv2

  head = stored_header(data)
  # Before decoding: a few bytes must not become gigabytes.
  if head is not None and head.width * head.height > _MAX_PIXELS:
    raise ValueError(f'{source}: more than {_MAX_PIXELS} pixels')
  if head is not None and _is_cut_off(data):
    raise ValueError(f'{source}: not a whole image: the file is cut off')
  buffer = np.frombuffer(data, np.uint8)
  try:
    pixels = cv2.imdecode(buffer, flags) if buffer.size else None
  except cv2.error as error:
    raise ValueError(f'{source}: not a readable image ({error.err})') from error
  if pixels is None:
    raise ValueError(f'{source}: not a readable image')
  if pixels.shape[0] * pixels.shape[1] > _MAX_PIXELS:
    raise ValueError(f'{source}: more than {_MAX_PIXELS} pixels')
  return pixels


def resize(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """A picture in another size (width, height): averaged where it shrinks, else bilinear."""
  import cv2

  method = cv2.INTER_AREA if size[0] < pixels.shape[1] else cv2.INTER_LINEAR
  return cv2.resize(pixels, size, interpolation=method)


def write(path: str | os.PathLike[str], pixels: UInt8[np.ndarray, 'h w *c']) -> None:
  """Writes an RGB or grey image in the format its name says, whole or not at all.

  Raises:
    ValueError: the format is unknown to the encoder.
  """
  path = Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  try:
    data = encode(pixels, path.suffix)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from None
  with archive.atomic_write(path) as file:
    file.write(data)


def encode(pixels: UInt8[np.ndarray, 'h w *c'], suffix: str) -> bytes:
  """An RGB or grey image as the bytes of a file.

  Args:
    pixels: the image.
    suffix: of the format's files, such as '.png'.

  Raises:
    ValueError: the format is unknown to the encoder.
  """
  import cv2

  ordered = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.ndim == 3 else pixels
  # OpenCV 5 warns on standard error about options of other formats.
  options: list[int] = []
  if suffix.lower() == '.png':
    options = [cv2.IMWRITE_PNG_COMPRESSION, _PNG_COMPRESSION]
  elif suffix.lower() in ('.jpg', '.jpeg'):
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
  try:
    done, data = cv2.imencode(suffix.lower(), np.ascontiguousarray(ordered), options)
  except cv2.error:
    done = False
  if not done:
    raise ValueError(f'cannot encode an image as {suffix!r}')
  return data.tobytes()
