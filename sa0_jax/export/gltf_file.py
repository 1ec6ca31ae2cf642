"""Binary glTF 2.0 containers: arrays become accessors of one buffer, JSON goes before it."""

import json
import os
import struct
from typing import Any

import numpy as np

from sa0_jax import archive

_GLB_MAGIC, _JSON_CHUNK, _BINARY_CHUNK = 0x46546C67, 0x4E4F534A, 0x004E4942
_COMPONENTS = {'uint8': 5121, 'uint16': 5123, 'uint32': 5125, 'float32': 5126}
_TYPES = {(): 'SCALAR', (2,): 'VEC2', (3,): 'VEC3', (4,): 'VEC4', (4, 4): 'MAT4'}
ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER = 34962, 34963


class BinaryBuffer:
  """The buffer of a .glb file while it is filled.

  Attributes:
    views: what will be `bufferViews`.
    accessors: what will be `accessors`.
  """

  def __init__(self) -> None:
    self._data = bytearray()
    self.views: list[dict[str, Any]] = []
    self.accessors: list[dict[str, Any]] = []

  def view(self, data: bytes, target: int | None = None) -> int:
    """Appends bytes; returns the number of their buffer view."""
    entry: dict[str, Any] = {'buffer': 0, 'byteOffset': len(self._data), 'byteLength': len(data)}
    if target is not None:
      entry['target'] = target
    self._data += data + b'\0' * (-len(data) % 4)
    self.views.append(entry)
    return len(self.views) - 1

  def accessor(self, array: np.ndarray, target: int | None = None, bounds: bool = False) -> int:
    """Appends an array, rows first; `bounds` records its least and largest row.

    Args:
      array: [n], [n, 2], [n, 3], [n, 4] or [n, 4, 4] (column-major) of a glTF component type.
      target: what a buffer view of vertices or indices says it is for.
      bounds: whether to write min and max, which positions need.
    """
    entry = self._entry(array, bounds)
    entry['bufferView'] = self.view(np.ascontiguousarray(array).tobytes(), target)
    return self._add(entry)

  def sparse_accessor(self, array: np.ndarray) -> int:
    """Appends an array of which most rows are zero, with its bounds."""
    rows = np.flatnonzero(np.any(array != 0, axis=1))
    if 2 * len(rows) > len(array) or not len(rows):
      # An accessor without a view is all zeros, but some readers want one.
      return self.accessor(array, bounds=True)
    entry = self._entry(array, bounds=True)
    kind = np.uint16 if len(array) <= 1 << 16 else np.uint32
    entry['sparse'] = {
      'count': len(rows),
      'indices': {
        'bufferView': self.view(rows.astype(kind).tobytes()),
        'componentType': _COMPONENTS[np.dtype(kind).name],
      },
      'values': {'bufferView': self.view(np.ascontiguousarray(array[rows]).tobytes())},
    }
    return self._add(entry)

  def _entry(self, array: np.ndarray, bounds: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {
      'componentType': _COMPONENTS[array.dtype.name],
      'count': len(array),
      'type': _TYPES[array.shape[1:]],
    }
    if bounds:
      entry['min'], entry['max'] = array.min(axis=0).tolist(), array.max(axis=0).tolist()
    return entry

  def _add(self, entry: dict[str, Any]) -> int:
    self.accessors.append(entry)
    return len(self.accessors) - 1

  def write(self, path: str | os.PathLike[str], document: dict[str, Any]) -> None:
    """Writes the file, whole or not at all.

    Args:
      path: where.
      document: the rest of the glTF JSON; buffers, views and accessors are added here.
    """
    document = {
      **document,
      'buffers': [{'byteLength': len(self._data)}],
      'bufferViews': self.views,
      'accessors': self.accessors,
    }
    text = json.dumps(document, separators=(',', ':')).encode()
    text += b' ' * (-len(text) % 4)
    total = 12 + 8 + len(text) + 8 + len(self._data)
    with archive.atomic_write(path) as file:
      file.write(struct.pack('<III', _GLB_MAGIC, 2, total))
      file.write(struct.pack('<II', len(text), _JSON_CHUNK) + text)
      file.write(struct.pack('<II', len(self._data), _BINARY_CHUNK) + bytes(self._data))
