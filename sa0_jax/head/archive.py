"""Arrays in .npz files, read as data only and written whole or not at all."""

import contextlib
import math
import os
import secrets
import warnings
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import IO

import numpy as np

_MAX_MEMBERS = 1000
_MAX_BYTES = 1 << 30
_EPOCH = (1980, 1, 1, 0, 0, 0)  # no clock in our files: the same arrays give the same bytes


def read_arrays(
  path: str | os.PathLike[str],
  names: Collection[str] | None = None,
  *,
  max_bytes: int = _MAX_BYTES,
) -> dict[str, np.ndarray]:
  """Reads arrays from a .npz file that anyone may have made.

  Sizes are checked against the headers before anything is allocated, and pickled objects are
  refused.

  Args:
    path: the file.
    names: read only these arrays, those that are there; None reads all.
    max_bytes: refuse more than this in total.

  Returns:
    Read-only arrays by name.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is no .npz file, is damaged, holds objects, or is larger than allowed.
  """
  try:
    with zipfile.ZipFile(path) as archive:
      members = _members(archive, path)
      if names is not None:
        members = {name: info for name, info in members.items() if name in names}
      total = sum(info.file_size for info in members.values())
      if total > max_bytes:
        raise ValueError(f'{path}: holds {total} bytes of arrays, more than {max_bytes} allowed')
      return {name: _read_member(archive, info, path) for name, info in members.items()}
  except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
    raise ValueError(f'{path}: not a readable .npz file ({error})') from error


def read_shapes(path: str | os.PathLike[str]) -> dict[str, tuple[int, ...]]:
  """Shapes of the arrays in a .npz file, from their headers alone; errors as `read_arrays`."""
  try:
    with zipfile.ZipFile(path) as archive:
      shapes = {}
      for name, info in _members(archive, path).items():
        with archive.open(info) as stream:
          shapes[name] = _read_header(stream, info.file_size, f'{path}: {name!r}')[0]
      return shapes
  except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
    raise ValueError(f'{path}: not a readable .npz file ({error})') from error


def write_arrays(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray]) -> None:
  """Writes arrays as a .npz file, atomically; equal arrays give equal files."""
  with atomic_write(path) as file, zipfile.ZipFile(file, 'w') as archive:
    for name, array in arrays.items():
      info = zipfile.ZipInfo(f'{name}.npy', date_time=_EPOCH)
      with archive.open(info, 'w', force_zip64=True) as member:
        np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
  """Opens a file that appears under its name only once it is complete.

  Writes go to a temporary file in the same folder, which takes the name when the block ends well
  and vanishes when it does not (a full disk included); what stood there before stays until then.
  """
  target = Path(path)
  temporary = target.with_name(f'.{target.name}.{secrets.token_hex(4)}')
  try:
    with open(temporary, 'xb') as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, target)
  except BaseException:
    with contextlib.suppress(OSError):
      os.unlink(temporary)
    raise


def _members(archive: zipfile.ZipFile, path: str | os.PathLike[str]) -> dict[str, zipfile.ZipInfo]:
  infos = archive.infolist()
  if len(infos) > _MAX_MEMBERS:
    raise ValueError(f'{path}: holds {len(infos)} files, more than {_MAX_MEMBERS} allowed')
  members = {info.filename.removesuffix('.npy'): info for info in infos}
  if len(members) != len(infos):
    raise ValueError(f'{path}: holds two arrays of one name')
  return members


def _read_member(
  archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: str | os.PathLike[str]
) -> np.ndarray:
  name = f'{path}: {info.filename.removesuffix(".npy")!r}'
  with archive.open(info) as stream:
    shape, fortran, dtype = _read_header(stream, info.file_size, name)
    data = stream.read()
  if len(data) != math.prod(shape) * dtype.itemsize:
    raise ValueError(f'{name} is cut short')
  return np.frombuffer(data, dtype).reshape(shape, order='F' if fortran else 'C')


def _read_header(
  stream: IO[bytes], file_size: int, name: str
) -> tuple[tuple[int, ...], bool, np.dtype]:
  """Shape, order and type of an .npy stream, consistent with its size; leaves it at the data."""
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')  # Python 2 headers, which FLAME's files have, are announced
      version = np.lib.format.read_magic(stream)
      if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
      elif version == (2, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(stream)
      else:
        raise ValueError(f'version {version}')
  except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
    raise ValueError(f'{name} is not an array ({error})') from error
  if dtype.hasobject or dtype.kind not in 'biufU' or dtype.itemsize == 0:
    raise ValueError(f'{name} holds {dtype} elements: only numbers and text are read')
  expected = math.prod(shape) * dtype.itemsize + stream.tell()
  if expected != file_size or min(shape, default=0) < 0:
    raise ValueError(f'{name} says {shape} of {dtype} but its size is {file_size} bytes')
  return shape, fortran, dtype
