"""Reads the tensors of a PyTorch state dict, or of a safetensors file, as data only.

A .pth file is a pickle, in a zip since PyTorch 1.6 and before that followed by the raw storages. A
pickle is a program, so none is ever run: this module interprets the few opcodes that a state dict
needs, maps the few names it mentions to what it does on seeing them, and imports or calls nothing
that a file names. Sizes are held against the file before anything is allocated, and whatever is
unexpected is a `ValueError` of one line.
"""

import errno
import math
import os
import pickletools
import struct
import warnings
import zipfile
import zlib
from collections.abc import Collection
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import jax.numpy as jnp
import numpy as np

from sa0_jax.safetensors import FLOATS, find_tensors, read_tensor

_MAX_BYTES = 1 << 30  # of tensors; VGG16's with its classifier are 553 MB
_MAX_PICKLE = 1 << 22  # bytes; AlexNet's and VGG16's are a few thousand
_MAX_OPERATIONS = 200_000
_MAX_MEMBERS = 10_000
_MAX_RANK = 8
_MAX_SIZE = 1 << 40  # product of the dimensions that are not zero
_ZIP, _PROTO = b'PK\x03\x04', b'\x80'
_LEGACY_MAGIC, _LEGACY_VERSION = 0x1950A86A20F9469CFC6C, 1001
_STORAGES = {
  'DoubleStorage': '<f8',
  'FloatStorage': '<f4',
  'HalfStorage': '<f2',
  'BFloat16Storage': jnp.bfloat16,
  'LongStorage': '<i8',
  'IntStorage': '<i4',
  'ShortStorage': '<i2',
  'CharStorage': 'i1',
  'ByteStorage': 'u1',
  'BoolStorage': '?',
}
_SAFETENSORS = {**FLOATS, 'F64': np.dtype('<f8'), 'I64': np.dtype('<i8')}
_CALLS = {
  ('collections', 'OrderedDict'): 'dictionary',
  ('torch._utils', '_rebuild_tensor'): 'tensor',
  ('torch._utils', '_rebuild_tensor_v2'): 'tensor',
  ('torch._utils', '_rebuild_parameter'): 'parameter',
}
_DAMAGE = (
  ArithmeticError,
  EOFError,
  LookupError,
  NotImplementedError,
  RuntimeError,  # what zipfile says of encryption, and of nesting without end
  TypeError,
  ValueError,
  struct.error,
  zipfile.BadZipFile,
  zlib.error,
)


class _Refusal(ValueError):
  """Raised on what is understood and not accepted; its message is already for the user."""


class _Symbol(NamedTuple):
  """A name the pickle refers to; only ever compared, never resolved."""

  module: str
  name: str


class _Storage(NamedTuple):
  """A run of `length` numbers kept outside the pickle under a key."""

  dtype: np.dtype
  key: str
  length: int


class _Tensor(NamedTuple):
  """A view of a storage; offset and strides in elements."""

  storage: _Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


_MARK = _Symbol('', 'mark')


def read_tensors(
  path: str | os.PathLike[str],
  names: Collection[str] | None = None,
  *,
  max_bytes: int = _MAX_BYTES,
) -> dict[str, np.ndarray]:
  """Reads tensors by name from a .pth (zip or legacy format) or .safetensors file.

  Args:
    path: the file; its format is told by its first bytes, safetensors by its suffix.
    names: read only these, those that are there; None reads all.
    max_bytes: refuse to read more than this.

  Returns:
    Arrays by name, in the file's dtype, which may be read-only.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is none of these, is damaged, holds anything but tensors, or is too large.
  """
  path = Path(path)
  with open(path, 'rb') as file, warnings.catch_warnings():
    # Of the standard library, about escape sequences in damaged pickles.
    warnings.simplefilter('ignore', DeprecationWarning)
    start = file.read(4)
    file.seek(0)
    try:
      if path.suffix == '.safetensors':
        return _read_safetensors(path, names, max_bytes)
      if start == _ZIP:
        return _read_zip(file, names, max_bytes)
      if start[:1] == _PROTO:
        return _read_legacy(file, names, max_bytes)
    except _Refusal as error:
      raise ValueError(f'{path}: {error}') from None
    except OSError as error:
      if error.errno != errno.EINVAL:  # a seek to where a damaged zip directory points
        raise
      raise ValueError(f'{path}: damaged weights file') from error
    except _DAMAGE as error:
      raise ValueError(f'{path}: damaged weights file ({type(error).__name__})') from error
  raise ValueError(f'{path}: neither a .pth file of PyTorch nor a .safetensors file')


def _refuse(reason: str) -> NoReturn:
  raise _Refusal(reason)


# Formats.


def _read_zip(
  file: BufferedReader, names: Collection[str] | None, max_bytes: int
) -> dict[str, np.ndarray]:
  """<folder>/data.pkl, and a member <folder>/data/<key> for each storage."""
  with zipfile.ZipFile(file) as archive:
    infos = {info.filename: info for info in archive.infolist()}
    pickles = [name for name in infos if name.endswith('/data.pkl')]
    if len(pickles) != 1 or len(infos) > _MAX_MEMBERS:
      _refuse('a zip file, but not one that torch.save wrote')
    folder = pickles[0].removesuffix('data.pkl')
    if infos[pickles[0]].file_size > _MAX_PICKLE:
      _refuse(f'its data.pkl is longer than {_MAX_PICKLE} bytes')
    order = infos.get(f'{folder}byteorder')
    if order is not None and (order.file_size > 16 or archive.read(order) != b'little'):
      _refuse('written in big-endian order: save it again on a little-endian machine')
    tensors = _chosen(_Interpreter().run(BytesIO(archive.read(pickles[0]))), names, max_bytes)
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    raw = {}
    for key, storage in storages.items():
      info = infos.get(f'{folder}data/{key}')
      # Stored, not deflated: a few bytes must not become gigabytes.
      if info is None or info.compress_type != zipfile.ZIP_STORED:
        _refuse(f'the numbers of storage {key[:20]!r} are missing or compressed')
      if info.file_size != storage.length * storage.dtype.itemsize:
        _refuse(f'storage {key[:20]!r} says {storage.length} numbers, has {info.file_size} bytes')
      raw[key] = archive.read(info)
  return {name: _view(tensor, raw[tensor.storage.key]) for name, tensor in tensors.items()}


def _read_legacy(
  file: BufferedReader, names: Collection[str] | None, max_bytes: int
) -> dict[str, np.ndarray]:
  """Five pickles (magic, version, machine, state dict, keys), then a count and numbers per key."""
  size = os.fstat(file.fileno()).st_size
  stream = BytesIO(file.read(_MAX_PICKLE))
  if _Interpreter().run(stream) != _LEGACY_MAGIC or _Interpreter().run(stream) != _LEGACY_VERSION:
    _refuse('a pickle, but not one that torch.save wrote')
  machine = _Interpreter().run(stream)
  if not isinstance(machine, dict) or machine.get('little_endian') is not True:
    _refuse('written in big-endian order: save it again on a little-endian machine')
  state = _Interpreter()
  tensors = _chosen(state.run(stream), names, max_bytes)
  keys = _Interpreter().run(stream)
  if not isinstance(keys, list) or set(keys) != set(state.storages):
    _refuse('its list of storages is not the one its tensors use')
  wanted = {tensor.storage.key for tensor in tensors.values()}
  position, raw = stream.tell(), {}
  for key in keys:
    storage = state.storages[key]
    file.seek(position)
    (count,) = struct.unpack('<q', file.read(8))
    length = storage.length * storage.dtype.itemsize
    if count != storage.length or length > size - position - 8:
      _refuse(f'storage {key[:20]!r} says {storage.length} numbers and has fewer or more')
    if key in wanted:
      raw[key] = file.read(length)
    position += 8 + length
  return {name: _view(tensor, raw[tensor.storage.key]) for name, tensor in tensors.items()}


def _read_safetensors(
  path: Path, names: Collection[str] | None, max_bytes: int
) -> dict[str, np.ndarray]:
  found = find_tensors(path, _SAFETENSORS)
  chosen = {name: info for name, info in found.items() if names is None or name in names}
  _check_total(sum(math.prod(i.shape) * i.dtype.itemsize for i in chosen.values()), max_bytes)
  return {name: read_tensor(info) for name, info in chosen.items()}


# Tensors.


def _chosen(state: Any, names: Collection[str] | None, max_bytes: int) -> dict[str, _Tensor]:
  """The wanted tensors of a state dict, once all of it is known to be one."""
  if not isinstance(state, dict):
    _refuse('not a state dict: save the model.state_dict() alone')
  for name, value in state.items():
    if not isinstance(value, _Tensor):
      _refuse(f'{name[:80]!r} is no tensor: save the model.state_dict() alone')
  chosen = {name: tensor for name, tensor in state.items() if names is None or name in names}
  storages = {tensor.storage for tensor in chosen.values()}
  _check_total(sum(storage.length * storage.dtype.itemsize for storage in storages), max_bytes)
  return chosen


def _check_total(total: int, max_bytes: int) -> None:
  if total > max_bytes:
    _refuse(f'holds {total} bytes of tensors, more than {max_bytes} allowed')


def _element_count(shape: tuple[Any, ...]) -> int:
  plain = all(type(length) is int and length >= 0 for length in shape)
  if not plain or len(shape) > _MAX_RANK or math.prod(n or 1 for n in shape) > _MAX_SIZE:
    _refuse('a tensor has no usable shape')
  return math.prod(shape)


def _make_tensor(storage: Any, offset: Any, shape: Any, strides: Any) -> _Tensor:
  """A tensor that is known to lie within its storage and to be no larger than it."""
  if not isinstance(storage, _Storage) or not isinstance(shape, tuple):
    _refuse('a tensor is malformed')
  if not isinstance(strides, tuple) or len(strides) != len(shape):
    _refuse('a tensor is malformed')
  count = _element_count(shape)
  if not all(type(number) is int and 0 <= number < 1 << 40 for number in (offset, *strides)):
    _refuse('a tensor has unusable strides')
  last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
  if count > storage.length or (count and last >= storage.length):
    _refuse(f'a tensor of shape {shape} reaches beyond the {storage.length} numbers of its storage')
  return _Tensor(storage, offset, shape, strides)


def _view(tensor: _Tensor, raw: bytes) -> np.ndarray:
  dtype = tensor.storage.dtype
  if len(raw) != tensor.storage.length * dtype.itemsize:
    _refuse(f'storage {tensor.storage.key[:20]!r} ends too early')
  if math.prod(tensor.shape) == 0:
    return np.zeros(tensor.shape, dtype)
  flat = np.frombuffer(raw, dtype)[tensor.offset :]
  steps = [step * dtype.itemsize for step in tensor.strides]
  return np.lib.stride_tricks.as_strided(flat, tensor.shape, steps, writeable=False)


# Pickles.


class _Interpreter:
  """Reads one pickle: a stack and a memo of plain values.

  Attributes:
    storages: every storage the pickle mentioned, by key.
  """

  def __init__(self) -> None:
    self.storages: dict[str, _Storage] = {}
    self._stack: list[Any] = []
    self._memo: dict[int, Any] = {}

  def run(self, stream: BytesIO) -> Any:
    """Interprets the stream up to a STOP, leaves it behind that, returns the one value left."""
    # genops only splits the bytes into opcodes and their arguments.
    for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
      if count > _MAX_OPERATIONS:
        _refuse(f'more than {_MAX_OPERATIONS} pickle operations')
      if opcode.name == 'STOP':
        break
      self._step(opcode.name, argument)
    if len(self._stack) != 1 or self._stack[0] is _MARK:
      _refuse('its pickle does not end with one value')
    return self._stack[0]

  def _step(self, name: str, argument: Any) -> None:
    match name:
      case 'PROTO' | 'FRAME':
        pass
      case 'MARK':
        self._stack.append(_MARK)
      case 'NONE':
        self._stack.append(None)
      case 'NEWTRUE' | 'NEWFALSE':
        self._stack.append(name == 'NEWTRUE')
      case 'BININT' | 'BININT1' | 'BININT2' | 'LONG1' | 'BINFLOAT':
        self._stack.append(argument)
      case 'BINUNICODE' | 'SHORT_BINUNICODE' | 'BINSTRING' | 'SHORT_BINSTRING':
        self._stack.append(argument)
      case 'EMPTY_DICT':
        self._stack.append({})
      case 'EMPTY_LIST':
        self._stack.append([])
      case 'EMPTY_TUPLE':
        self._stack.append(())
      case 'TUPLE':
        self._stack.append(tuple(self._pop_to_mark()))
      case 'TUPLE1' | 'TUPLE2' | 'TUPLE3':
        self._stack.append(tuple([self._pop() for _ in range(int(name[-1]))][::-1]))
      case 'APPEND' | 'APPENDS':
        items = [self._pop()] if name == 'APPEND' else self._pop_to_mark()
        self._list().extend(items)
      case 'SETITEM' | 'SETITEMS':
        items = [self._pop(), self._pop()][::-1] if name == 'SETITEM' else self._pop_to_mark()
        self._set_items(self._top(), zip(items[::2], items[1::2], strict=True))
      case 'BINPUT' | 'LONG_BINPUT':
        self._memo[argument] = self._top()
      case 'MEMOIZE':
        self._memo[len(self._memo)] = self._top()
      case 'BINGET' | 'LONG_BINGET':
        self._stack.append(self._memo[argument])
      case 'GLOBAL':
        self._push_symbol(*argument.split(' ', 1))
      case 'STACK_GLOBAL':
        symbol = self._pop()
        self._push_symbol(self._pop(), symbol)
      case 'BINPERSID':
        self._push_storage(self._pop())
      case 'REDUCE':
        arguments = self._pop()
        self._stack.append(self._call(self._pop(), arguments))
      case 'BUILD':  # the versions of modules, kept as an attribute of the dictionary
        if not (isinstance(self._pop(), dict) and isinstance(self._top(), dict)):
          _refuse('its pickle gives a state to what is no dictionary')
      case _:
        _refuse(f'pickle opcode {name} is not allowed in a state dict')

  def _pop(self) -> Any:
    if not self._stack or self._stack[-1] is _MARK:
      _refuse('its pickle confuses the stack')
    return self._stack.pop()

  def _top(self) -> Any:
    self._stack.append(self._pop())
    return self._stack[-1]

  def _pop_to_mark(self) -> list[Any]:
    items = []
    while self._stack[-1] is not _MARK:
      items.append(self._stack.pop())
    self._stack.pop()
    return items[::-1]

  def _list(self) -> list[Any]:
    target = self._top()
    if not isinstance(target, list):
      _refuse('its pickle appends to what is no list')
    return target

  def _set_items(self, target: Any, items: Any) -> None:
    if not isinstance(target, dict):
      _refuse('its pickle sets items of what is no dictionary')
    for key, value in items:
      if not isinstance(key, str):
        _refuse('a dictionary key is no string')
      target[key] = value

  def _push_symbol(self, module: Any, name: Any) -> None:
    if not isinstance(module, str) or not isinstance(name, str):
      _refuse('a name in its pickle is no string')
    if (module, name) not in _CALLS and not (module == 'torch' and name in _STORAGES):
      _refuse(f'its pickle asks for {module[:80]!r}.{name[:80]!r}, which no state dict needs')
    self._stack.append(_Symbol(module, name))

  def _push_storage(self, identifier: Any) -> None:
    """('storage', type, key, device, count), and in legacy files a sixth, None unless a view."""
    kind, symbol, key, _, count, *view = identifier
    if kind != 'storage' or not isinstance(symbol, _Symbol) or symbol.name not in _STORAGES:
      _refuse('it refers to something outside that is no storage')
    if not isinstance(key, str) or type(count) is not int or not 0 <= count <= _MAX_SIZE:
      _refuse('a storage is malformed')
    storage = _Storage(np.dtype(_STORAGES[symbol.name]), key, count)
    if view not in ([], [None]) or self.storages.setdefault(key, storage) != storage:
      _refuse(f'storage {key[:20]!r} is described in two ways')
    self._stack.append(storage)

  def _call(self, symbol: Any, arguments: Any) -> Any:
    action = _CALLS.get(symbol) if isinstance(symbol, _Symbol) else None
    if action is None or not isinstance(arguments, tuple):
      _refuse('its pickle calls what is no function')
    if action == 'dictionary':
      target: dict[str, Any] = {}
      self._set_items(target, arguments[0] if arguments else ())  # Python 2 gives the items here
      return target
    if action == 'parameter':
      if not isinstance(arguments[0], _Tensor):
        _refuse('a parameter is no tensor')
      return arguments[0]
    return _make_tensor(*arguments[:4])
