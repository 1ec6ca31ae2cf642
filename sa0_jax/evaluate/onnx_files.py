"""ONNX files that anyone may have made: which other files they name, and what all of them hold.

The weights of a network may lie beside it ("external data"), under names that the file chooses.
Whoever opens the file opens them, too; so they are found here first, by reading the protocol buffer
as far as such names stand in it (onnx.proto), and must lie in the file's folder.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from sa0_jax import protobuf

MAX_BYTES = 1 << 30
_MAX_DEPTH = 128  # messages inside messages; a network inside a network is four

# Message → field → message, as far as tensors may be inside.
_GRAPH = 7  # of a model
_INSIDE = {
  'model': {_GRAPH: 'graph', 25: 'function'},
  'function': {7: 'node', 11: 'attribute'},
  'graph': {1: 'node', 5: 'tensor', 15: 'sparse'},
  'node': {5: 'attribute'},
  'attribute': {5: 'tensor', 6: 'graph', 10: 'tensor', 11: 'graph', 22: 'sparse', 23: 'sparse'},
  'sparse': {1: 'tensor', 2: 'tensor'},
  'tensor': {13: 'entry'},  # external_data
}


class OnnxFile(NamedTuple):
  """A network's file and those that belong to it.

  Attributes:
    path: the file.
    digest: SHA-256 of it and of them.
  """

  path: Path
  digest: str


def inspect_onnx(path: str | os.PathLike[str], max_bytes: int = MAX_BYTES) -> OnnxFile:
  """Looks at an ONNX file without loading it.

  Args:
    path: the file.
    max_bytes: refuse more than this, in all files together.

  Raises:
    FileNotFoundError: it, or a file that it names, is missing.
    ValueError: it is no ONNX file, is damaged, is too large, or names a file outside its folder.
  """
  path = Path(path)
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such network; give an ONNX file')
  total = path.stat().st_size
  _check_size(path, total, max_bytes)
  digest = hashlib.sha256()
  data = path.read_bytes()
  digest.update(data)
  for location in sorted(_locations(data, path)):
    file = _beside(path, location)
    total += file.stat().st_size
    _check_size(path, total, max_bytes)
    with open(file, 'rb') as stream:
      digest.update(hashlib.file_digest(stream, 'sha256').digest())
  return OnnxFile(path, digest.hexdigest())


def _check_size(path: Path, size: int, max_bytes: int) -> None:
  if size > max_bytes:
    raise ValueError(f'{path}: holds {size} bytes with its weights, more than {max_bytes} allowed')


def _beside(path: Path, location: str) -> Path:
  """A file that the network names."""
  words, file = PurePosixPath(location), path.parent / location
  plain = not words.is_absolute() and '..' not in words.parts and '\0' not in location
  # A link may lead out, too.
  if not plain or not file.resolve().is_relative_to(path.parent.resolve()):
    raise ValueError(f'{path}: names weights outside its folder ({location[:100]!r})')
  if not file.is_file():
    raise FileNotFoundError(f'{path}: its weights {location[:100]!r} are missing beside it')
  return file


def _locations(data: bytes, path: Path) -> set[str]:
  """Names of the files that hold tensors."""
  try:
    view = memoryview(data)
    if not any(number == _GRAPH for number, _ in _fields(view)):
      raise ValueError('no graph')
    return set(_in_message(view, 'model', 0))
  except ValueError as error:
    raise ValueError(f'{path}: not an ONNX file, or damaged ({error})') from error


def _in_message(view: memoryview, message: str, depth: int) -> Iterator[str]:
  if depth > _MAX_DEPTH:
    raise ValueError('networks inside networks without end')
  for number, value in _fields(view):
    inside = _INSIDE[message].get(number)
    if inside == 'entry':
      entry = {key: bytes(word) for key, word in _fields(value)}
      if entry.get(1) == b'location':
        yield entry.get(2, b'').decode()
    elif inside is not None:
      yield from _in_message(value, inside, depth + 1)


def _fields(view: memoryview) -> Iterator[tuple[int, memoryview]]:
  """Fields of a message that have a length."""
  return ((n, value) for n, value in protobuf.fields(view) if not isinstance(value, int))
