"""Reading other people's files as data: every function takes bytes or a path and checks all of it.

What is wrong is one line that names the file and the field.
"""

import json
import os
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from sa0_jax import archive
from sa0_jax.head.unpickle import as_array, read_pickle

IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.webp', '.tif', '.tiff')
_MAX_JSON_BYTES = 1 << 27
_MAX_PICKLE_BYTES = 1 << 34
_MAX_NPZ_BYTES = 1 << 30
_MAX_FRAME_BYTES = 1 << 26
_MAX_MEMBERS = 10_000
_MAX_NUMBER = 1e15  # frame numbers may be time stamps; nothing else comes near
_ZIP_DAMAGE = (
  zipfile.BadZipFile,
  zlib.error,
  EOFError,
  NotImplementedError,
  RuntimeError,
  ValueError,
)


def read_json(path: str | os.PathLike[str]) -> Any:
  """Reads a JSON file.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is damaged, too large, or holds NaN or infinity.
  """
  return parse_json(_read(path, _MAX_JSON_BYTES), str(path))


def parse_json(data: bytes, source: str) -> Any:
  """The value of a JSON text; errors as `read_json`, which name `source`."""

  def refuse(word: str) -> NoReturn:
    raise ValueError(f'{word} is no number')

  try:
    return json.loads(data, parse_constant=refuse)
  except (ValueError, RecursionError) as error:
    raise ValueError(f'{source}: damaged JSON ({error})') from error


def read_records(path: str | os.PathLike[str]) -> dict[str, Any]:
  """Reads a pickled dictionary of plain arrays without running it; errors as `parse_records`."""
  return parse_records(_read(path, _MAX_PICKLE_BYTES), str(path))


def parse_records(data: bytes, source: str) -> dict[str, Any]:
  """The dictionary in a pickle; its arrays stay wrapped until `pickled_array` takes them.

  Args:
    data: the pickle.
    source: what to call it in error messages.

  Raises:
    ValueError: it is damaged, holds anything but plain values and arrays, or no dictionary.
  """
  # Every operation takes a byte, so that work is bounded by the size of the file.
  value = read_pickle(data, source, max_operations=len(data) + 1)
  if not isinstance(value, dict):
    raise ValueError(f'{source}: expected a dictionary, found {type(value).__name__}')
  return value


def read_torch_frame(path: str | os.PathLike[str]) -> dict[str, Any]:
  """Reads a dictionary of NumPy arrays that `torch.save` wrote, without PyTorch.

  Args:
    path: a zip of PyTorch 1.6 or newer; anything in it but NumPy arrays is refused.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is damaged, of another format, or holds tensors or other objects.
  """
  if not Path(path).is_file():
    raise FileNotFoundError(f'{path}: no such file')
  try:
    with zipfile.ZipFile(path) as file:
      members = file.infolist()
      pickles = [info for info in members if info.filename.endswith('/data.pkl')]
      if len(pickles) != 1 or len(members) > _MAX_MEMBERS:
        raise ValueError('a zip file, but not one that torch.save wrote')
      if pickles[0].file_size > _MAX_FRAME_BYTES:
        raise ValueError(f'its data.pkl is longer than {_MAX_FRAME_BYTES} bytes')
      with file.open(pickles[0]) as stream:
        data = stream.read(_MAX_FRAME_BYTES + 1)
  except OSError as error:
    raise ValueError(f'{path}: damaged file ({error.strerror or error})') from error
  except _ZIP_DAMAGE as error:
    # What zip says of a damaged header quotes all of it.
    said = archive.first_line(error)
    raise ValueError(f'{path}: not a readable .frame file ({said})') from error
  return parse_records(data, str(path))


def read_npz(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  """Reads the arrays of an .npz file; errors as `archive.read_arrays`."""
  if not Path(path).is_file():
    raise FileNotFoundError(f'{path}: no such file')
  return archive.read_arrays(path, max_bytes=_MAX_NPZ_BYTES)


def read_numbers(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  """Arrays by name from an .npz or a .json file of nested lists, as written.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is damaged, or a list in it is ragged.
  """
  if Path(path).suffix.lower() == '.npz':
    return read_npz(path)
  table = require_table(read_json(path), str(path))
  arrays = {}
  for name, value in table.items():
    try:
      arrays[name] = np.asarray(value)
    except (ValueError, TypeError, OverflowError) as error:
      raise ValueError(f'{path}: {name[:80]!r} is no regular array ({error})') from error
    if arrays[name].dtype.kind not in 'biufU':
      raise ValueError(f'{path}: {name[:80]!r} holds neither numbers nor text')
  return arrays


def pickled_array(record: Any, name: str, source: str) -> np.ndarray:
  """An array of a pickled record by name.

  Raises:
    ValueError: it is missing or no array.
  """
  if not isinstance(record, dict) or name not in record:
    raise ValueError(f'{source}: {name!r} is missing')
  return as_array(record[name], name, source)


def numbers(value: Any, shape: tuple[int | None, ...], name: str, source: str) -> np.ndarray:
  """A float64 array of a wanted shape.

  Args:
    value: an array, or nested lists.
    shape: sizes of the axes, None for any; leading axes of one in front of it are taken off.
    name: what to call it in error messages.
    source: the file it came from.

  Raises:
    ValueError: it is no array of finite numbers of that shape.
  """
  try:
    array = np.asarray(value)
    given = array.shape
    if array.dtype.kind not in 'iuf':
      raise ValueError
    while array.ndim > len(shape) and array.shape[0] == 1:
      array = array[0]
    with np.errstate(invalid='ignore'):  # signalling NaNs of damaged files: refused below
      array = np.asarray(array, np.float64)  # indexing may have left a scalar
  except (ValueError, TypeError, OverflowError) as error:
    raise ValueError(f'{source}: {name!r} is not made of numbers') from error
  fits = array.ndim == len(shape) and all(
    wanted in (None, size) for wanted, size in zip(shape, array.shape, strict=True)
  )
  if not fits:
    wanted_text = ', '.join('any' if size is None else str(size) for size in shape)
    raise ValueError(f'{source}: {name!r} has the shape {given}, expected ({wanted_text})')
  if not np.isfinite(array).all():
    raise ValueError(f'{source}: {name!r} holds NaN or infinity')
  if (np.abs(array) > _MAX_NUMBER).any():
    raise ValueError(f'{source}: {name!r} holds numbers over {_MAX_NUMBER:g}')
  return array


def require_table(value: Any, source: str) -> dict[str, Any]:
  """The value, if it is a JSON object."""
  if not isinstance(value, dict):
    raise ValueError(f'{source}: expected a table, found {type(value).__name__}')
  return value


def take(table: Any, name: str, kind: type | tuple[type, ...], source: str) -> Any:
  """A field of a JSON object that must be there and of a type."""
  value = require_table(table, source).get(name)
  if not isinstance(value, kind) or isinstance(value, bool):
    raise ValueError(f'{source}: field {name!r} is missing or of the wrong type')
  return value


def take_whole(table: Any, name: str, source: str, *, low: int, high: int) -> int:
  """A whole number in a range; 512.0 counts, as some tools write all numbers so."""
  value = take(table, name, (int, float), source)
  if value != value or not low <= value <= high or int(value) != value:
    raise ValueError(f'{source}: {name!r} must be a whole number {low} to {high}, got {value!r}')
  return int(value)


def inside(folder: Path, name: str, source: str) -> Path:
  """The path of a file that another file names, if it stays inside the folder.

  Raises:
    ValueError: it does not.
  """
  path = Path(name)
  unusable = not name or len(name) > 1000 or '\0' in name or '\\' in name
  if unusable or path.is_absolute() or '..' in path.parts:
    raise ValueError(f'{source}: file name {name[:200]!r} leaves the folder')
  return folder / path


def image_named(path: Path) -> Path | None:
  """An existing image file: the path itself, or with the suffix it lacks or another one."""
  if path.is_file():
    return path
  # Names such as 'a.b/frame.0012' have no suffix to replace.
  bases = [path, path.with_suffix('')] if path.suffix.lower() in IMAGE_SUFFIXES else [path]
  for base in bases:
    for suffix in IMAGE_SUFFIXES:
      candidate = base.with_name(base.name + suffix)
      if candidate.is_file():
        return candidate
  return None


def images_in(folder: Path) -> Iterator[Path]:
  """Image files of a folder in the order of their names."""
  return iter(sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES))


def _read(path: str | os.PathLike[str], limit: int) -> bytes:
  path = Path(path)
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such file')
  size = path.stat().st_size
  if size > limit:
    raise ValueError(f'{path}: {size} bytes, more than the {limit} allowed')
  return path.read_bytes()
