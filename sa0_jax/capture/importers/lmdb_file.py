"""Reads LMDB databases as data.

LMDB's own library maps the file into memory and trusts it: a truncated or damaged one ends the
process, and its authors say that it is not meant for files of others. The format is small (pages of
a B+ tree), so it is read here, with every offset checked. Only plain key-value databases, the kind
tools for image sets write, are read; nothing is ever written and no lock is taken.
"""

import os
import struct
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple

_MAGIC, _VERSION = 0xBEEFC0DE, 1
_PAGE_HEADER = struct.Struct('<QHHHH')  # number, pad, flags, end of pointers, end of free space
_NODE_HEADER = struct.Struct('<HHHH')  # size low, size high, flags, key size
_META = struct.Struct('<IIQQ')  # magic, version, address, map size; two databases follow
_DATABASE = struct.Struct('<IHHQQQQQ')  # pad, flags, depth, branch, leaf, overflow, entries, root
_BRANCH, _LEAF, _OVERFLOW, _META_PAGE = 1, 2, 4, 8
_BIG, _SUB, _DUP = 1, 2, 4
_NO_PAGE = (1 << 64) - 1
_PAGE_SIZES = tuple(1 << k for k in range(9, 17))
_MAX_DEPTH = 32
_MAX_VALUE = 1 << 28


class _Place(NamedTuple):
  offset: int
  length: int


class LmdbFile:
  """The keys of a database, and its values when asked for.

  The keys and where their values lie are read at once (about 200 bytes each); values are read one
  at a time, from any thread.
  """

  def __init__(self, path: str | os.PathLike[str]):
    """Opens a database and reads its keys.

    Args:
      path: the folder that holds data.mdb, or the file itself.

    Raises:
      FileNotFoundError: there is no database.
      ValueError: the file is damaged, cut off, or of an unknown kind.
    """
    path = Path(path)
    self.path = path / 'data.mdb' if path.is_dir() else path
    if not self.path.is_file():
      raise FileNotFoundError(f'{self.path}: no such LMDB database')
    with open(self.path, 'rb') as file:
      try:
        self._places = _Walk(file).places()
      except _DamageError as error:
        raise ValueError(f'{self.path}: {error}') from None

  def __len__(self) -> int:
    return len(self._places)

  def __contains__(self, key: object) -> bool:
    return key in self._places

  def __iter__(self) -> Iterator[bytes]:
    """The keys in the database's order."""
    return iter(self._places)

  def read(self, key: bytes) -> bytes:
    """The value of a key.

    Raises:
      KeyError: there is none.
      ValueError: the file has become shorter since it was opened.
    """
    offset, length = self._places[key]
    with open(self.path, 'rb') as file:
      file.seek(offset)
      value = file.read(length)
    if len(value) != length:
      raise ValueError(f'{self.path}: ends within a value; it was changed while it was read')
    return value


class _DamageError(Exception):
  """What is wrong with the file, without its name."""


class _Walk:
  """One pass over the tree of the main database."""

  def __init__(self, file: BufferedReader):
    self._file = file
    self._size = os.fstat(file.fileno()).st_size
    self._page_size = 0

  def places(self) -> dict[bytes, _Place]:
    """Where the value of each key lies."""
    root, depth, entries = self._newest_root()
    places: dict[bytes, _Place] = {}
    if root == _NO_PAGE:
      return places
    seen: set[int] = set()
    pending = [(root, 1)]
    while pending:
      number, level = pending.pop()
      if number in seen or level > min(depth, _MAX_DEPTH):
        raise _DamageError('damaged LMDB database (its tree runs in a circle)')
      seen.add(number)
      page = self._page(number)
      flags = _PAGE_HEADER.unpack_from(page)[2]
      nodes = list(self._nodes(page))
      if flags & _BRANCH:
        children = [(low | high << 16 | more << 32, level + 1) for low, high, more, *_ in nodes]
        pending += reversed(children)
      elif flags & _LEAF and not flags & ~(_LEAF | 0x10):
        for low, high, kind, key, offset in nodes:
          places[key] = self._value(number, page, low | high << 16, kind, offset)
      else:
        raise _DamageError(f'damaged LMDB database (page {number} is neither branch nor leaf)')
    if len(places) != entries:
      raise _DamageError(f'damaged LMDB database ({len(places)} keys of {entries} are readable)')
    return places

  def _newest_root(self) -> tuple[int, int, int]:
    """Root page, depth and number of entries, from the newer of the two meta pages."""
    first = self._read(0, 512)
    self._page_size = self._meta(first)[0]
    metas = [self._meta(first)]
    second = self._read(self._page_size, 512)
    metas.append(self._meta(second))
    _, flags, depth, entries, root, _ = max(metas, key=lambda meta: meta[-1])
    if flags & ~0x08:  # integer keys are harmless; duplicates and the like are other formats
      raise _DamageError(f'an LMDB database of a kind that image sets do not use (flags {flags})')
    return root, depth, entries

  def _meta(self, page: bytes) -> tuple[int, int, int, int, int, int]:
    """Page size; flags, depth, entries, root of the main database; transaction."""
    start = _PAGE_HEADER.size
    if len(page) < start + _META.size + 2 * _DATABASE.size + 16:
      raise _DamageError('no LMDB database, or cut off')
    magic, version, _, _ = _META.unpack_from(page, start)
    if magic != _MAGIC or not _PAGE_HEADER.unpack_from(page)[2] & _META_PAGE:
      raise _DamageError('no LMDB database')
    if version != _VERSION:
      raise _DamageError(f'LMDB format {version}; format {_VERSION} (LMDB 0.9) is read here')
    free = _DATABASE.unpack_from(page, start + _META.size)
    main = _DATABASE.unpack_from(page, start + _META.size + _DATABASE.size)
    if free[0] not in _PAGE_SIZES or self._page_size not in (0, free[0]):
      raise _DamageError('damaged LMDB database (page size)')
    (transaction,) = struct.unpack_from('<Q', page, start + _META.size + 2 * _DATABASE.size + 8)
    return free[0], main[1], main[2], main[6], main[7], transaction

  def _read(self, offset: int, count: int) -> bytes:
    self._file.seek(offset)
    return self._file.read(count)

  def _page(self, number: int) -> bytes:
    if number >= self._size // self._page_size + 1:
      raise _DamageError(f'damaged or cut off LMDB database (page {number} is not there)')
    page = self._read(number * self._page_size, self._page_size)
    if len(page) != self._page_size or _PAGE_HEADER.unpack_from(page)[0] != number:
      raise _DamageError(f'damaged or cut off LMDB database (page {number})')
    return page

  def _nodes(self, page: bytes) -> Iterator[tuple[int, int, int, bytes, int]]:
    """Size words, flags, key and the offset behind the key, of each node of a page."""
    lower = _PAGE_HEADER.unpack_from(page)[3]
    if not _PAGE_HEADER.size <= lower <= len(page):
      raise _DamageError('damaged LMDB database (a page contradicts itself)')
    for position in range(_PAGE_HEADER.size, lower - 1, 2):
      (offset,) = struct.unpack_from('<H', page, position)
      if not lower <= offset <= len(page) - _NODE_HEADER.size:
        raise _DamageError('damaged LMDB database (a node lies outside its page)')
      low, high, flags, key_size = _NODE_HEADER.unpack_from(page, offset)
      end = offset + _NODE_HEADER.size + key_size
      if end > len(page):
        raise _DamageError('damaged LMDB database (a key lies outside its page)')
      yield low, high, flags, page[end - key_size : end], end

  def _value(self, number: int, page: bytes, length: int, kind: int, offset: int) -> _Place:
    if kind & (_SUB | _DUP):
      raise _DamageError('an LMDB database with databases in it, which image sets do not use')
    if length > _MAX_VALUE:
      raise _DamageError(f'an LMDB value of {length} bytes, more than the {_MAX_VALUE} allowed')
    if not kind & _BIG:
      if offset + length > len(page):
        raise _DamageError('damaged LMDB database (a value lies outside its page)')
      return _Place(number * self._page_size + offset, length)
    if offset + 8 > len(page):
      raise _DamageError('damaged LMDB database (a value lies outside its page)')
    (first,) = struct.unpack_from('<Q', page, offset)
    start = first * self._page_size + _PAGE_HEADER.size
    if start + length > self._size:
      raise _DamageError('damaged or cut off LMDB database (a value lies outside the file)')
    header = self._read(start - _PAGE_HEADER.size, _PAGE_HEADER.size)
    if _PAGE_HEADER.unpack(header)[:3:2] != (first, _OVERFLOW):
      raise _DamageError(f'damaged LMDB database (page {first} holds no value)')
    return _Place(start, length)
