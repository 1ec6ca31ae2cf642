"""Protocol buffers without their schema: the fields of a message, one after the other."""

from collections.abc import Iterator
from typing import TypeVar

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5  # wire types
_WIDTHS = {_FIXED64: 8, _FIXED32: 4}

Bytes = TypeVar('Bytes', bytes, memoryview)


def fields(message: Bytes) -> Iterator[tuple[int, int | Bytes]]:
  """Field numbers and values: variable-length numbers as they are, all else as bytes.

  Numbers of fixed width are passed over.

  Args:
    message: the bytes; parts of a memoryview are not copied.

  Raises:
    ValueError: it is damaged.
  """
  at = 0
  while at < len(message):
    tag, at = _varint(message, at)
    number, kind = tag >> 3, tag & 7
    if kind == _VARINT:
      value, at = _varint(message, at)
      yield number, value
      continue
    if kind == _LENGTH:
      size, at = _varint(message, at)
    elif kind in _WIDTHS:
      size = _WIDTHS[kind]
    else:
      raise ValueError(f'wire type {kind}')
    if at + size > len(message):
      raise ValueError('it ends inside a field')
    if kind == _LENGTH:
      yield number, message[at : at + size]
    at += size


def _varint(message: Bytes, at: int) -> tuple[int, int]:
  """A number of seven bits a byte, lowest first, and where it ends."""
  value = shift = 0
  while at < len(message) and shift < 70:
    byte = message[at]
    value |= (byte & 127) << shift
    at, shift = at + 1, shift + 7
    if byte < 128:
      return value, at
  raise ValueError('a number does not end')
