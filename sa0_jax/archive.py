"""Files written whole or not at all, and arrays in .npz files read as data only."""

import contextlib
import errno
import json
import math
import os
import re
import secrets
import shutil
import struct
import sys
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from io import BufferedIOBase
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

_MAX_MEMBERS = 1000
_MAX_HEADER = 4096
# The header NumPy writes, and Python 2's with its 3L; nothing is evaluated.
_HEADER = re.compile(
  r"\{'descr': '(?P<descr>[<>|](?:b1|[iuf][1248]|U[0-9]{1,6}))', "
  r"'fortran_order': (?P<fortran>True|False), "
  r"'shape': \((?P<shape>[0-9L, ]{0,100})\),? *\} *\n?"
)
_DAMAGE = (
  zipfile.BadZipFile,
  zlib.error,
  EOFError,
  NotImplementedError,
  RuntimeError,
  struct.error,
)
_MAX_BYTES = 1 << 30
_MAX_REASON = 200  # characters
_MAX_SIZE = 1 << 40  # product of the dimensions that are not zero
_EPOCH = (1980, 1, 1, 0, 0, 0)  # no clock in our files: the same arrays give the same bytes


class _Header(NamedTuple):
  shape: tuple[int, ...]
  fortran: bool
  dtype: np.dtype
  size: int  # of the header: where the data begins


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
  with _open(path) as archive:
    members = _members(archive, path)
    if names is not None:
      members = {name: info for name, info in members.items() if name in names}
    total = sum(info.file_size for info in members.values())
    if total > max_bytes:
      raise ValueError(f'{path}: holds {total} bytes of arrays, more than {max_bytes} allowed')
    return {name: _read_member(archive, info, path) for name, info in members.items()}


def read_shapes(path: str | os.PathLike[str]) -> dict[str, tuple[int, ...]]:
  """Shapes of the arrays in a .npz file, from their headers alone; errors as `read_arrays`."""
  with _open(path) as archive:
    shapes = {}
    for name, info in _members(archive, path).items():
      with archive.open(info) as stream:
        header = stream.read(_MAX_HEADER)
      shapes[name] = _parse_header(header, info.file_size, f'{path}: {name!r}').shape
    return shapes


def map_array(path: str | os.PathLike[str]) -> np.ndarray:
  """An .npy file as a read-only array that is mapped into memory, not read.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is damaged, or holds anything but numbers.
  """
  with open(path, 'rb') as file:
    header = _parse_header(file.read(_MAX_HEADER), os.stat(path).st_size, str(path))
  if 0 in header.shape:  # nothing can be mapped
    return np.zeros(header.shape, header.dtype)
  order: Literal['F', 'C'] = 'F' if header.fortran else 'C'
  return np.memmap(path, header.dtype, 'r', header.size, header.shape, order)


def read_json(path: str | os.PathLike[str], max_bytes: int) -> Any:
  """The value in a JSON file.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is damaged, or larger than `max_bytes`.
  """
  path = Path(path)
  if path.stat().st_size > max_bytes:
    raise ValueError(f'{path}: larger than {max_bytes} bytes')
  try:
    return json.loads(path.read_bytes())
  except (ValueError, RecursionError) as error:
    raise ValueError(f'{path}: damaged ({error})') from error


def is_number(value: Any) -> bool:
  """Whether a value out of JSON is a number and, if whole, one that a float holds exactly."""
  return isinstance(value, float) or (type(value) is int and abs(value) <= 1 << 53)


def first_line(error: BaseException) -> str:
  """One line of a message, not too long; libraries' may have many, and quote whole files."""
  line = next(iter(str(error).splitlines()), '') or type(error).__name__
  return line if len(line) <= _MAX_REASON else line[:_MAX_REASON] + '…'


def read_text(path: str | os.PathLike[str], max_bytes: int) -> str:
  """What a UTF-8 text file holds.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is no text, or larger than `max_bytes`.
  """
  path = Path(path)
  if path.stat().st_size > max_bytes:
    raise ValueError(f'{path}: larger than {max_bytes} bytes')
  try:
    return path.read_text(encoding='utf-8')
  except UnicodeDecodeError as error:
    raise ValueError(f'{path}: not a text file') from error


def write_arrays(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray]) -> None:
  """Writes arrays as a .npz file, atomically; equal arrays give equal files."""
  with atomic_write(path) as file, zipfile.ZipFile(file, 'w') as archive:
    for name, array in arrays.items():
      info = zipfile.ZipInfo(f'{name}.npy', date_time=_EPOCH)
      with archive.open(info, 'w', force_zip64=True) as member:
        np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)


def folder_name(name: str) -> str:
  """A name out of a file as that of a folder: letters, digits and -+_. stay, no leading dot."""
  return re.sub(r'[^A-Za-z0-9._+-]', '_', name)[:200].lstrip('.') or '_'


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BufferedIOBase]:
  """Opens a file that appears under its name only once it is complete.

  Writes go to a temporary file in the same folder, which takes the name when the block ends well
  and vanishes when it does not (a full disk included); what stood there before stays until then.
  An OSError names the file it was about, which those of writes do not by themselves.
  """
  target = Path(path)
  temporary = target.with_name(f'.{target.name}.{secrets.token_hex(4)}')
  try:
    with open(temporary, 'xb') as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, target)
  except BaseException as error:
    with contextlib.suppress(OSError):
      os.unlink(temporary)
    if isinstance(error, OSError) and error.errno and error.filename in (None, str(temporary)):
      raise OSError(error.errno, error.strerror, str(target)) from error
    raise


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
  """Gives a new folder that takes the place of `path` once the block ends well.

  What stood there before stays until then, and the new folder vanishes when the block fails.
  """
  target = Path(path)
  token = secrets.token_hex(4)
  temporary = target.with_name(f'.{target.name}.{token}')
  retired = target.with_name(f'.{target.name}.{token}.old')
  temporary.mkdir(parents=True)
  try:
    yield temporary
    if target.exists():
      os.rename(target, retired)
    os.rename(temporary, target)
  except BaseException:
    shutil.rmtree(temporary, ignore_errors=True)
    raise
  shutil.rmtree(retired, ignore_errors=True)


@contextlib.contextmanager
def _open(path: str | os.PathLike[str]) -> Iterator[zipfile.ZipFile]:
  """Opens a zip file; whatever damage its reader trips over is a ValueError."""
  try:
    with zipfile.ZipFile(path) as archive:
      yield archive
  except OSError as error:
    if error.errno != errno.EINVAL:  # a seek to where a damaged directory points
      raise
    raise ValueError(f'{path}: damaged .npz file') from error
  except _DAMAGE as error:
    # zipfile quotes what it found instead of a name: it may be half of the file.
    raise ValueError(f'{path}: not a readable .npz file ({first_line(error)})') from error


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
  data = archive.read(info)
  header = _parse_header(data[:_MAX_HEADER], len(data), name)
  array = np.frombuffer(data, header.dtype, offset=header.size)
  if header.dtype.kind == 'U' and not _is_text(array):
    raise ValueError(f'{name} is damaged: what it holds is no text')
  return array.reshape(header.shape, order='F' if header.fortran else 'C')


def _is_text(array: np.ndarray) -> bool:
  """Whether an array of strings holds code points that strings can hold."""
  code = array.view(array.dtype.str[0] + 'u4') if array.size else np.zeros(0, np.uint32)
  return not ((code > sys.maxunicode) | ((code >= 0xD800) & (code < 0xE000))).any()


def _parse_header(data: bytes, file_size: int, name: str) -> _Header:
  """What the first bytes of an .npy file say, held against the size of all of it."""
  width = {b'\x93NUMPY\x01\x00': 2, b'\x93NUMPY\x02\x00': 4}.get(data[:8])
  if width is None:
    raise ValueError(f'{name} is not an array')
  size = 8 + width + int.from_bytes(data[8 : 8 + width], 'little')
  match = _HEADER.fullmatch(data[8 + width : size].decode('latin1'))
  if match is None:
    raise ValueError(f'{name} is not an array of numbers or text: nothing else is read')
  dtype = np.dtype(match['descr'])
  shape = tuple(int(length) for length in re.findall(r'\d+', match['shape']))
  product = math.prod(length or 1 for length in shape)
  unusable = len(shape) > 8 or dtype.itemsize == 0 or product > _MAX_SIZE
  if unusable or math.prod(shape) * dtype.itemsize + size != file_size:
    raise ValueError(f'{name} says {shape} of {dtype} but its size is {file_size} bytes')
  return _Header(shape, match['fortran'] == 'True', dtype, size)
