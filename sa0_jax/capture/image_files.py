"""Reading and writing single images."""

import os
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from sa0_jax import archive

_MAX_FILE_BYTES = 1 << 28
_MAX_PIXELS = 1 << 27
JPEG_QUALITY = 95
# PNG compression 3: a third of the time of the default at nearly its size.
_PNG_COMPRESSION = 3


def read_color(path: str | os.PathLike[str]) -> UInt8[np.ndarray, 'h w 3']:
  """Reads a colour image as RGB; transparency is dropped, 16 bits become 8.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is no image, or too large.
  """
  import cv2  # here: it takes longer to import than the rest of the package

  return cv2.cvtColor(_decode(path, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def read_gray(path: str | os.PathLike[str]) -> UInt8[np.ndarray, 'h w']:
  """Reads a single-channel image; errors as `read_color`."""
  import cv2

  return _decode(path, cv2.IMREAD_GRAYSCALE)


def _decode(path: str | os.PathLike[str], flags: int) -> np.ndarray:
  import cv2

  path = Path(path)
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such image')
  if path.stat().st_size > _MAX_FILE_BYTES:
    raise ValueError(f'{path}: larger than {_MAX_FILE_BYTES} bytes')
  data = np.fromfile(path, np.uint8)
  try:
    pixels = cv2.imdecode(data, flags | cv2.IMREAD_IGNORE_ORIENTATION) if data.size else None
  except cv2.error as error:
    raise ValueError(f'{path}: not a readable image ({error.err})') from error
  if pixels is None:
    raise ValueError(f'{path}: not a readable image')
  if pixels.shape[0] * pixels.shape[1] > _MAX_PIXELS:
    raise ValueError(f'{path}: more than {_MAX_PIXELS} pixels')
  return pixels


def write(path: str | os.PathLike[str], pixels: UInt8[np.ndarray, 'h w *c']) -> None:
  """Writes an RGB or grey image in the format its name says, whole or not at all.

  Raises:
    ValueError: the format is unknown to the encoder.
  """
  import cv2

  path = Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  ordered = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.ndim == 3 else pixels
  suffix = path.suffix.lower()
  # OpenCV 5 warns on standard error about options of other formats.
  options: list[int] = []
  if suffix == '.png':
    options = [cv2.IMWRITE_PNG_COMPRESSION, _PNG_COMPRESSION]
  elif suffix in ('.jpg', '.jpeg'):
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
  try:
    done, data = cv2.imencode(suffix, np.ascontiguousarray(ordered), options)
  except cv2.error:
    done = False
  if not done:
    raise ValueError(f'{path}: cannot encode an image as {path.suffix!r}')
  with archive.atomic_write(path) as file:
    file.write(data.tobytes())
