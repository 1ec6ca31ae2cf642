"""Reads arrays out of other people's pickles without ever running them.

FLAME models and landmark files are pickles, many of them written by Python 2 with chumpy and scipy
objects inside. A pickle is a program, so Python's own reader is out of the question; this module
interprets the few opcodes such files use and builds nothing but numbers, strings, lists, tuples,
dictionaries, `PickledArray` and `PickledObject`. No name in the file is ever imported or called:
the allow-list maps names to what this reader does on seeing them. Work and memory are bounded by
the size of the file, and whatever is unexpected is a `ValueError`.
"""

import dataclasses
import math
import re
import struct
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import numpy as np

_MAX_OPERATIONS = 200_000
_MAX_LINE = 512  # bytes of a name, number or memo index in the text protocols
_MAX_DIMENSIONS = 8
_MAX_DENSE = 1 << 22  # elements of a sparse matrix made dense; FLAME's has 25,115
_DTYPE_CODE = re.compile(r'[biuf][1248]|O8?')
_ESCAPE = re.compile(rb'\\(x[0-9a-fA-F]{2}|.?)', re.DOTALL)
_ESCAPED = {b'n': b'\n', b'r': b'\r', b't': b'\t', b'\\': b'\\', b"'": b"'", b'"': b'"'}


class _Refusal(ValueError):
  """Raised on what is understood and not accepted; its message is already for the user."""


class _Symbol(NamedTuple):
  """A name the pickle refers to; only ever compared, never resolved."""

  module: str
  name: str


@dataclasses.dataclass(eq=False, slots=True)
class PickledArray:
  """A NumPy array found in a pickle.

  Attributes:
    array: its value, a read-only view of the file's bytes; None until its state has been read.
    item: what a one-element object array holds.
  """

  array: np.ndarray | None = None
  item: Any = None


@dataclasses.dataclass(eq=False)
class PickledObject:
  """An instance of an allowed class: its name and the state it was saved with, nothing else."""

  kind: str
  state: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(eq=False)
class _PickledDtype:
  code: str
  dtype: np.dtype


def _allowed_symbols() -> dict[_Symbol, str]:
  """Every name a file may mention, and which of `_Reader._call`'s actions it stands for."""
  symbols = {
    ('numpy', 'ndarray'): 'class',
    ('numpy', 'dtype'): 'dtype',
    ('_codecs', 'encode'): 'encode',
    ('copy_reg', '_reconstructor'): 'reconstructor',
    ('copyreg', '_reconstructor'): 'reconstructor',
    # What Python 3 writes for empty bytes, the unset state of every array, up to protocol 2.
    ('__builtin__', 'bytes'): 'bytes',
    ('builtins', 'bytes'): 'bytes',
    ('__builtin__', 'object'): 'class',
    ('builtins', 'object'): 'class',
    ('chumpy.ch', 'Ch'): 'chumpy',
    ('chumpy', 'Ch'): 'chumpy',
    # Bystanders in files we read: kept as unread placeholders.
    ('__builtin__', 'set'): 'ignored',
    ('builtins', 'set'): 'ignored',
    ('collections', 'OrderedDict'): 'ignored',
    ('torch._utils', '_rebuild_tensor_v2'): 'ignored',
    ('torch.storage', '_load_from_bytes'): 'ignored',
  }
  for core in ('numpy.core', 'numpy._core'):
    symbols[core + '.multiarray', '_reconstruct'] = 'reconstruct'
    symbols[core + '.multiarray', 'scalar'] = 'scalar'
    symbols[core + '.numeric', '_frombuffer'] = 'frombuffer'
  for layout in ('csc', 'csr', 'coo'):
    for module in (f'scipy.sparse.{layout}', f'scipy.sparse._{layout}'):
      for suffix in ('matrix', 'array'):
        symbols[module, f'{layout}_{suffix}'] = layout
  return {_Symbol(*key): action for key, action in symbols.items()}


_ACTIONS = _allowed_symbols()
_INSTANCES = {'chumpy', 'csc', 'csr', 'coo'}


def read_pickle(
  data: bytes, source: str, *, object_array: bool = False, max_operations: int = _MAX_OPERATIONS
) -> Any:
  """Reads a pickle made of numbers, strings, containers and arrays.

  Args:
    data: the pickle, any protocol from 0 to 5.
    source: what to call it in error messages, usually its path.
    object_array: accept the pickle of a one-element object array, as NumPy writes a dictionary into
      a .npy file, and return that element.
    max_operations: refuse longer programs; tables of many small arrays need about 20 an array.

  Returns:
    The value. Strings of Python 2 come back as bytes, dictionary keys always as str; arrays are
    `PickledArray` and allowed instances `PickledObject`: `as_array` reads both.

  Raises:
    ValueError: the file is damaged, or holds anything beyond those.
  """
  reader = _Reader(data, source, object_array, max_operations)
  try:
    value = reader.run()
  except _Refusal:
    raise
  except (IndexError, KeyError, TypeError, ValueError, OverflowError, struct.error) as error:
    raise ValueError(
      f'{source}: damaged or unusual pickle near byte {reader.position} ({type(error).__name__})'
    ) from error
  if object_array:
    if not isinstance(value, PickledArray) or value.array is not None:
      raise ValueError(f'{source}: expected one object array around a dictionary')
    return value.item
  return value


def as_array(value: Any, name: str, source: str) -> np.ndarray:
  """The array a pickled value stands for: plain, chumpy's, or a sparse matrix made dense.

  Args:
    value: part of what `read_pickle` returned.
    name: what to call it in error messages.
    source: the file it came from, for error messages.

  Raises:
    ValueError: it is none of these, or a sparse matrix contradicts itself.
  """
  if isinstance(value, PickledObject) and value.kind == 'chumpy':
    value = value.state.get('x')
  if isinstance(value, PickledObject) and value.kind in ('csc', 'csr', 'coo'):
    return _dense(value, name, source)
  if isinstance(value, PickledArray) and value.array is not None:
    return value.array
  raise ValueError(f'{source}: {name!r} is not an array')


def _dense(matrix: PickledObject, name: str, source: str) -> np.ndarray:
  """A sparse matrix of scipy's as a dense one, every index checked first."""
  state = matrix.state
  shape = state.get('_shape', state.get('shape'))
  data = as_array(state.get('data'), f'{name}.data', source)
  if not (
    isinstance(shape, tuple)
    and len(shape) == 2
    and all(isinstance(size, int) and size > 0 for size in shape)
    and shape[0] * shape[1] <= _MAX_DENSE
  ):
    raise ValueError(f'{source}: the sparse matrix {name!r} has no usable shape')
  if matrix.kind == 'coo':
    pair = state.get('coords', (state.get('row'), state.get('col')))
    if not isinstance(pair, tuple) or len(pair) != 2:
      raise ValueError(f'{source}: the sparse matrix {name!r} has no coordinates')
    rows, columns = (as_array(part, f'{name}.coords', source) for part in pair)
  else:
    minor = as_array(state.get('indices'), f'{name}.indices', source)
    starts = as_array(state.get('indptr'), f'{name}.indptr', source)
    major_size = shape[1] if matrix.kind == 'csc' else shape[0]
    if (
      starts.shape != (major_size + 1,)
      or starts.dtype.kind not in 'iu'
      or starts[0] != 0
      or starts[-1] != data.size
      or (starts[1:] < starts[:-1]).any()
    ):
      raise ValueError(f'{source}: the sparse matrix {name!r} has contradictory indptr')
    lengths = starts[1:].astype(np.int64) - starts[:-1].astype(np.int64)
    major = np.repeat(np.arange(major_size), lengths)
    rows, columns = (minor, major) if matrix.kind == 'csc' else (major, minor)
  for index, size in ((rows, shape[0]), (columns, shape[1])):
    if (
      index.shape != data.shape
      or data.ndim != 1
      or index.dtype.kind not in 'iu'
      or (index.size and (index.min() < 0 or index.max() >= size))
    ):
      raise ValueError(f'{source}: the sparse matrix {name!r} has indices outside its shape')
  dense = np.zeros(shape, np.float64)
  np.add.at(dense, (rows, columns), data)
  return dense


class _Reader:
  """One pass over the opcodes, with a stack and a memo of plain values."""

  def __init__(self, data: bytes, source: str, object_array: bool, max_operations: int):
    self.position = 0
    self._max_operations = max_operations
    self._data = data
    self._source = source
    self._stack: list[Any] = []
    self._marks: list[int] = []
    self._memo: dict[int, Any] = {}
    self._object_arrays_left = 1 if object_array else 0
    # Strings re-encoded by the file are the only copies it can ask for repeatedly.
    self._copies_left = 4 * len(data) + 1024

  def run(self) -> Any:
    """Interprets the file up to its STOP and returns the one value left."""
    for _ in range(self._max_operations):
      opcode = self._take(1)
      if opcode == b'.':
        if len(self._stack) != 1 or self._marks:
          self._refuse('it does not end with one value')
        return self._stack[0]
      operation = _OPERATIONS.get(opcode)
      if operation is None:
        self._refuse(f'opcode {opcode!r} is not allowed')
      operation(self)
    self._refuse(f'more than {self._max_operations} operations')

  def _refuse(self, reason: str) -> NoReturn:
    raise _Refusal(
      f'{self._source}: refused near byte {self.position}: {reason}. Only pickles of plain arrays '
      '(NumPy, chumpy, scipy.sparse) are read'
    )

  # Input.

  def _take(self, count: int) -> bytes:
    if count < 0 or count > len(self._data) - self.position:
      self._refuse('the file ends too early')
    start = self.position
    self.position += count
    return self._data[start : self.position]

  def _number(self, layout: str) -> Any:
    return struct.unpack(layout, self._take(struct.calcsize(layout)))[0]

  def _line(self, limit: int = _MAX_LINE) -> bytes:
    end = self._data.find(b'\n', self.position, self.position + limit)
    if end < 0:
      self._refuse('a line does not end')
    return self._take(end + 1 - self.position)[:-1].removesuffix(b'\r')

  def _written_number(self) -> str:
    text = self._line().decode('ascii')
    if not re.fullmatch(r'[-+.0-9a-zA-Z]{1,32}', text):
      self._refuse('a number is malformed')
    return text

  # Stack.

  def _push(self, value: Any) -> None:
    self._stack.append(value)

  def _pop(self) -> Any:
    if self._marks and len(self._stack) <= self._marks[-1]:
      self._refuse('the stack is confused')
    return self._stack.pop()

  def _top(self) -> Any:
    value = self._pop()
    self._stack.append(value)
    return value

  def _pop_to_mark(self) -> list[Any]:
    start = self._marks.pop()
    items = self._stack[start:]
    del self._stack[start:]
    return items

  # Numbers and strings.

  def _push_int(self) -> None:
    text = self._written_number()
    self._push({'00': False, '01': True}[text] if text in ('00', '01') else self._to_int(text))

  def _push_long(self) -> None:
    self._push(self._to_int(self._written_number().removesuffix('L')))

  def _to_int(self, text: str) -> int:
    if not re.fullmatch(r'[-+]?[0-9]+', text):
      self._refuse('an integer is malformed')
    return int(text)

  def _push_long1(self) -> None:
    size = self._number('<B')
    if size > 16:
      self._refuse('an integer is too long')
    self._push(int.from_bytes(self._take(size), 'little', signed=True))

  def _push_float(self) -> None:
    self._push(float(self._written_number()))

  def _push_bytes(self, layout: str) -> None:
    self._push(self._take(self._number(layout)))

  def _push_text(self, layout: str) -> None:
    self._push(self._take(self._number(layout)).decode('utf-8', 'surrogatepass'))

  def _push_quoted(self) -> None:
    """STRING: the repr of a Python 2 str; the whole of an array in protocol 0."""
    line = self._line(limit=len(self._data))
    if len(line) < 2 or line[:1] not in (b"'", b'"') or line[-1:] != line[:1]:
      self._refuse('a string is malformed')

    def unescape(match: re.Match[bytes]) -> bytes:
      escape = match.group(1)
      return bytes([int(escape[1:], 16)]) if escape[:1] == b'x' else _ESCAPED[escape]

    self._push(_ESCAPE.sub(unescape, line[1:-1]))

  def _push_unicode_line(self) -> None:
    """UNICODE: how Python 3 writes strings, and the bytes of arrays, in protocol 0."""
    self._push(self._line(limit=len(self._data)).decode('raw-unicode-escape'))

  # Containers.

  def _extend_list(self, items: list[Any]) -> None:
    target = self._top()
    if not isinstance(target, list):
      self._refuse('items are appended to what is no list')
    target.extend(items)

  def _append(self) -> None:
    item = self._pop()
    self._extend_list([item])

  def _set_items(self, items: list[Any]) -> None:
    target = self._top()
    if isinstance(target, PickledObject) and target.kind == 'ignored':
      return
    if not isinstance(target, dict) or len(items) % 2:
      self._refuse('items are set on what is no dictionary')
    for key, value in zip(items[::2], items[1::2], strict=True):
      # Keys are hashed: nested tuples could make that take for ever.
      if not isinstance(key, str | bytes | int | float):
        self._refuse('a dictionary key is neither a string nor a number')
      target[key.decode('latin1') if isinstance(key, bytes) else key] = value

  def _set_item(self) -> None:
    value, key = self._pop(), self._pop()
    self._set_items([key, value])

  def _push_dict(self) -> None:
    items = self._pop_to_mark()
    self._push({})
    self._set_items(items)

  def _push_tuple(self, size: int) -> None:
    items = [self._pop() for _ in range(size)]
    self._push(tuple(reversed(items)))

  # Memo.

  def _put(self, index: int) -> None:
    self._memo[index] = self._top()

  def _get(self, index: int) -> None:
    if index not in self._memo:
      self._refuse('it refers to a value that was never stored')
    self._push(self._memo[index])

  # Names and what is done on seeing them.

  def _push_symbol(self, module: str, name: str) -> None:
    symbol = _Symbol(module, name)
    if symbol not in _ACTIONS:
      self._refuse(f'it asks for {module[:80]!r}.{name[:80]!r}')
    self._push(symbol)

  def _global(self) -> None:
    module = self._line().decode('ascii')
    self._push_symbol(module, self._line().decode('ascii'))

  def _stack_global(self) -> None:
    name, module = self._pop(), self._pop()
    if not isinstance(name, str) or not isinstance(module, str):
      self._refuse('a name is not a string')
    self._push_symbol(module, name)

  def _new_object(self) -> None:
    """NEWOBJ: an empty instance of one of the classes we keep as state."""
    arguments, symbol = self._pop(), self._pop()
    action = _ACTIONS.get(symbol) if isinstance(symbol, _Symbol) else None
    if action not in _INSTANCES or arguments != ():
      self._refuse('it makes an instance of an unexpected class')
    self._push(PickledObject(action))

  def _reduce(self) -> None:
    arguments, symbol = self._pop(), self._pop()
    if not isinstance(symbol, _Symbol) or not isinstance(arguments, tuple):
      self._refuse('it calls what is no function')
    self._push(self._call(_ACTIONS[symbol], arguments))

  def _call(self, action: str, arguments: tuple[Any, ...]) -> Any:
    if action == 'ignored':
      return PickledObject('ignored')
    if action == 'reconstruct':
      return PickledArray()
    if action == 'dtype':
      return self._make_dtype(_text(arguments[0]))
    if action == 'bytes' and not arguments:
      return b''
    if action == 'encode':
      return self._encode(*arguments)
    if action == 'scalar':
      dtype, raw = arguments
      return PickledArray(self._make_array((), dtype, raw, 'C'))
    if action == 'frombuffer':
      raw, dtype, shape, order = arguments
      return PickledArray(self._make_array(shape, dtype, raw, _text(order)))
    if action == 'reconstructor':
      kind = _ACTIONS[arguments[0]] if isinstance(arguments[0], _Symbol) else ''
      if kind in _INSTANCES:
        return PickledObject(kind)
    self._refuse('it calls what is no function')

  def _encode(self, text: str, encoding: str | bytes) -> bytes:
    if not isinstance(text, str) or _text(encoding) not in ('latin1', 'latin-1'):
      self._refuse('a string is encoded in an unexpected way')
    self._copies_left -= len(text)
    if self._copies_left < 0:
      self._refuse('it copies itself over and over')
    return text.encode('latin1')

  def _make_dtype(self, code: str) -> _PickledDtype:
    if not _DTYPE_CODE.fullmatch(code):
      self._refuse(f'an array of {code[:20]!r} elements')
    return _PickledDtype(code[0], np.dtype(object if code[0] == 'O' else code))

  def _make_array(self, shape: Any, dtype: Any, raw: Any, order: str) -> np.ndarray:
    if not isinstance(dtype, _PickledDtype) or dtype.code == 'O' or not isinstance(raw, bytes):
      self._refuse('an array is malformed')
    size = self._size(shape)
    if size * dtype.dtype.itemsize != len(raw) or order not in ('C', 'F'):
      self._refuse(f'an array says it has {size} elements and brings {len(raw)} bytes')
    try:
      return np.frombuffer(raw, dtype.dtype).reshape(shape, order='F' if order == 'F' else 'C')
    except ValueError as error:  # an empty array with absurd dimensions
      self._refuse(f'an array is malformed ({error})')

  def _size(self, shape: Any) -> int:
    if (
      not isinstance(shape, tuple)
      or len(shape) > _MAX_DIMENSIONS
      or not all(isinstance(size, int) and 0 <= size < 1 << 31 for size in shape)
    ):
      self._refuse('an array has no usable shape')
    return math.prod(shape)

  def _build(self) -> None:
    state, target = self._pop(), self._top()
    if isinstance(target, _PickledDtype) and isinstance(state, tuple):
      order: Any = _text(state[1])
      if order not in ('<', '>', '|', '=') or any(part is not None for part in state[2:5]):
        self._refuse('an array has structured elements')
      target.dtype = target.dtype.newbyteorder(order)
    elif isinstance(target, PickledArray) and isinstance(state, tuple) and len(state) == 5:
      _, shape, dtype, fortran, raw = state
      if isinstance(dtype, _PickledDtype) and dtype.code == 'O':
        self._build_object_array(target, shape, raw)
      else:
        target.array = self._make_array(shape, dtype, raw, 'F' if fortran else 'C')
    elif isinstance(target, PickledObject) and isinstance(state, dict):
      target.state = state
    else:
      self._refuse('a state is set on what has none')

  def _build_object_array(self, target: PickledArray, shape: Any, items: Any) -> None:
    self._object_arrays_left -= 1
    if self._object_arrays_left < 0 or self._size(shape) != 1 or not isinstance(items, list):
      self._refuse('an array of Python objects')
    target.item = items[0]


def _text(value: Any) -> str:
  if isinstance(value, bytes):
    return value.decode('latin1')
  if not isinstance(value, str):
    raise TypeError('not a string')
  return value


# Python 2's str and Python 3's bytes are both kept as bytes; text stays text.
_OPERATIONS: dict[bytes, Callable[[_Reader], object]] = {
  b'\x80': lambda r: r._take(1),  # PROTO
  b'\x95': lambda r: r._take(8),  # FRAME
  b'(': lambda r: r._marks.append(len(r._stack)),  # MARK
  b'0': lambda r: r._pop(),  # POP
  b'1': lambda r: r._pop_to_mark(),  # POP_MARK
  b'N': lambda r: r._push(None),  # NONE
  b'\x88': lambda r: r._push(True),  # NEWTRUE
  b'\x89': lambda r: r._push(False),  # NEWFALSE
  b'I': _Reader._push_int,  # INT
  b'J': lambda r: r._push(r._number('<i')),  # BININT
  b'K': lambda r: r._push(r._number('<B')),  # BININT1
  b'M': lambda r: r._push(r._number('<H')),  # BININT2
  b'L': _Reader._push_long,  # LONG
  b'\x8a': _Reader._push_long1,  # LONG1
  b'F': _Reader._push_float,  # FLOAT
  b'G': lambda r: r._push(r._number('>d')),  # BINFLOAT
  b'S': _Reader._push_quoted,  # STRING
  b'T': lambda r: r._push_bytes('<i'),  # BINSTRING
  b'U': lambda r: r._push_bytes('<B'),  # SHORT_BINSTRING
  b'B': lambda r: r._push_bytes('<I'),  # BINBYTES
  b'C': lambda r: r._push_bytes('<B'),  # SHORT_BINBYTES
  b'\x8e': lambda r: r._push_bytes('<Q'),  # BINBYTES8
  b'\x96': lambda r: r._push_bytes('<Q'),  # BYTEARRAY8
  b'V': _Reader._push_unicode_line,  # UNICODE
  b'X': lambda r: r._push_text('<I'),  # BINUNICODE
  b'\x8c': lambda r: r._push_text('<B'),  # SHORT_BINUNICODE
  b'\x8d': lambda r: r._push_text('<Q'),  # BINUNICODE8
  b']': lambda r: r._push([]),  # EMPTY_LIST
  b'a': _Reader._append,  # APPEND
  b'e': lambda r: r._extend_list(r._pop_to_mark()),  # APPENDS
  b'l': lambda r: r._push(r._pop_to_mark()),  # LIST
  b')': lambda r: r._push(()),  # EMPTY_TUPLE
  b't': lambda r: r._push(tuple(r._pop_to_mark())),  # TUPLE
  b'\x85': lambda r: r._push_tuple(1),  # TUPLE1
  b'\x86': lambda r: r._push_tuple(2),  # TUPLE2
  b'\x87': lambda r: r._push_tuple(3),  # TUPLE3
  b'}': lambda r: r._push({}),  # EMPTY_DICT
  b'd': _Reader._push_dict,  # DICT
  b's': _Reader._set_item,  # SETITEM
  b'u': lambda r: r._set_items(r._pop_to_mark()),  # SETITEMS
  b'\x8f': lambda r: r._push(PickledObject('ignored')),  # EMPTY_SET
  b'\x90': lambda r: r._pop_to_mark(),  # ADDITEMS
  b'g': lambda r: r._get(r._to_int(r._written_number())),  # GET
  b'h': lambda r: r._get(r._number('<B')),  # BINGET
  b'j': lambda r: r._get(r._number('<I')),  # LONG_BINGET
  b'p': lambda r: r._put(r._to_int(r._written_number())),  # PUT
  b'q': lambda r: r._put(r._number('<B')),  # BINPUT
  b'r': lambda r: r._put(r._number('<I')),  # LONG_BINPUT
  b'\x94': lambda r: r._put(len(r._memo)),  # MEMOIZE
  b'c': _Reader._global,  # GLOBAL
  b'\x93': _Reader._stack_global,  # STACK_GLOBAL
  b'R': _Reader._reduce,  # REDUCE
  b'\x81': _Reader._new_object,  # NEWOBJ
  b'b': _Reader._build,  # BUILD
}
