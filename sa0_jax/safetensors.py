"""Reads safetensors files, which anyone may have made, as data only.

The format: a little-endian uint64, that many bytes of JSON naming dtype, shape and place of every
tensor, then the tensors without gaps. Nothing in a file is executed, and everything its header says
is held against the file's size before a tensor is touched.
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

_MAX_HEADER = 100_000_000  # bytes, the format's own limit
_MAX_RANK = 8
_MAX_SIZE = 1 << 40  # product of the dimensions that are not zero
FLOATS = {'F32': np.dtype('<f4'), 'F16': np.dtype('<f2'), 'BF16': np.dtype(jnp.bfloat16)}
_METADATA = '__metadata__'
_INDEX = 'model.safetensors.index.json'
_SINGLE = 'model.safetensors'


class TensorInfo(NamedTuple):
  """Where a tensor lies.

  Attributes:
    file: the file that holds it.
    dtype: of its numbers.
    shape: its shape.
    start: offset of its first byte in the file.
  """

  file: Path
  dtype: np.dtype
  shape: tuple[int, ...]
  start: int


def find_tensors(
  path: str | os.PathLike[str], dtypes: Mapping[str, np.dtype] = FLOATS
) -> dict[str, TensorInfo]:
  """Lists the tensors of a model without reading them.

  Args:
    path: a .safetensors file; the index file of a model in several of them, or a folder that holds
      model.safetensors or model.safetensors.index.json.
    dtypes: what is read, by the format's names.

  Returns:
    What there is, by name.

  Raises:
    FileNotFoundError: there is no such file, or the index names one that is not there.
    ValueError: a file is damaged, contradicts itself or its index, or holds other dtypes.
  """
  path = Path(path)
  if path.is_dir():
    names = [name for name in (_SINGLE, _INDEX) if (path / name).is_file()]
    if not names:
      raise FileNotFoundError(f'{path}: neither {_SINGLE} nor {_INDEX} in this folder')
    path = path / names[0]
  return (_read_index if path.suffix == '.json' else _read_header)(path, dtypes)


def read_tensor(info: TensorInfo) -> np.ndarray:
  """One tensor as a read-only array of its file's dtype, mapped from the file, not copied."""
  if math.prod(info.shape) == 0:  # nothing can be mapped
    return np.zeros(info.shape, info.dtype)
  return np.memmap(info.file, info.dtype, 'r', offset=info.start, shape=info.shape)


def _read_index(path: Path, dtypes: Mapping[str, np.dtype]) -> dict[str, TensorInfo]:
  """The tensors of all the files that an index names; the files must lie beside it."""
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such file')
  if path.stat().st_size > _MAX_HEADER:
    raise ValueError(f'{path}: an index of more than {_MAX_HEADER} bytes')
  index = _parse_json(path.read_bytes(), path)
  places = index.get('weight_map')
  if not isinstance(places, dict) or not all(isinstance(v, str) for v in places.values()):
    raise ValueError(f'{path}: not an index of safetensors files: no weight_map of file names')
  found: dict[str, TensorInfo] = {}
  for name in sorted(set(places.values())):
    # Also keeps an index from reaching outside its folder.
    if not name.endswith('.safetensors') or set(name) & set('/\\\0') or name.startswith('.'):
      raise ValueError(f'{path}: {name!r} is not the name of a safetensors file beside it')
    shard = _read_header(path.parent / name, dtypes)
    for key, info in shard.items():
      if places.get(key) != name:
        raise ValueError(f'{path}: does not place {key!r} in {name}, which holds it')
      found[key] = info
  missing = sorted(places.keys() - found.keys())
  if missing:
    raise ValueError(f'{path}: places {missing[0]!r} in a file that does not hold it')
  return found


def _read_header(path: Path, dtypes: Mapping[str, np.dtype]) -> dict[str, TensorInfo]:
  """Every tensor of one file, checked: they fill what follows the header, once and wholly."""
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such file')
  with path.open('rb') as file:
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), 'little')
    if size < 8 or length > min(_MAX_HEADER, size - 8):
      raise ValueError(
        f'{path}: not a safetensors file, or cut off: {size} bytes, of which the header claims '
        f'{length}'
      )
    header = _parse_json(file.read(length), path)
  header.pop(_METADATA, None)
  spans = []
  found = {}
  for name, entry in header.items():
    dtype, shape, (begin, end) = _parse_entry(entry, f'{path}: {name!r}', dtypes)
    spans.append((begin, end, name))
    found[name] = TensorInfo(path, dtype, shape, 8 + length + begin)
  position = 0
  for begin, end, name in sorted(spans):
    if begin != position:
      raise ValueError(
        f'{path}: {name!r} begins at byte {begin} of the data where {position} was due: '
        'tensors overlap or leave gaps'
      )
    position = end
  if position != size - 8 - length:
    raise ValueError(
      f'{path}: the header describes {position} bytes of data, there are {size - 8 - length}: '
      'the file is cut off or damaged, get it again'
    )
  return found


def _parse_entry(
  entry: Any, name: str, dtypes: Mapping[str, np.dtype]
) -> tuple[np.dtype, tuple[int, ...], tuple[int, int]]:
  """Dtype, shape and byte span that a header gives a tensor; the three fit each other."""
  if not isinstance(entry, dict) or entry.keys() != {'dtype', 'shape', 'data_offsets'}:
    raise ValueError(f'{name} is not described by dtype, shape and data_offsets')
  dtype = dtypes.get(entry['dtype']) if isinstance(entry['dtype'], str) else None
  if dtype is None:
    raise ValueError(f'{name} has dtype {entry["dtype"]!r:.40}: only {", ".join(dtypes)} are read')
  shape, span = entry['shape'], entry['data_offsets']
  usable = _are_counts(shape) and _are_counts(span) and len(shape) <= _MAX_RANK and len(span) == 2
  if not usable or math.prod(length or 1 for length in shape) > _MAX_SIZE:
    raise ValueError(f'{name} has shape {shape!r:.80} and data_offsets {span!r:.80}')
  if span[1] - span[0] != math.prod(shape) * dtype.itemsize:
    raise ValueError(
      f'{name} is {shape} of {entry["dtype"]} but takes bytes {span[0]} to {span[1]}'
    )
  return dtype, tuple(shape), (span[0], span[1])


def _are_counts(values: Any) -> bool:
  return isinstance(values, list) and all(type(v) is int and v >= 0 for v in values)


def _parse_json(data: bytes, path: Path) -> dict[str, Any]:
  """A JSON object without repeated names."""

  def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) != len(pairs):
      raise ValueError('a name twice')
    return names

  try:
    parsed = json.loads(data.decode('utf-8'), object_pairs_hook=unique)
  except (ValueError, RecursionError) as error:
    raise ValueError(f'{path}: unreadable JSON ({error!s:.80})') from error
  if not isinstance(parsed, dict):
    raise ValueError(f'{path}: its JSON is not an object')
  return parsed
