"""Calls a Python function on XLA's own CPU buffers, from inside a jitted program.

`jax.pure_callback` does the same with two copies of every result, a JAX array made of every
argument, and at the price that a program containing it never enters JAX's persistent compilation
cache. This module registers a Python function as an XLA FFI target instead: a ctypes callback reads
the call frame of XLA's stable C interface (`xla/ffi/api/c_api.h`, shipped inside jaxlib; the
structures below name the fields used) and hands NumPy views of the buffers to the function, which
writes its results in place.
"""

import ctypes
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

_EXECUTE_STAGE = 3
_METADATA_EXTENSION = 1
_INTERNAL_ERROR = 13
_SUPPORTED_MAJOR = 0
# xla::PrimitiveType numbers of the element types used here.
_DTYPES = {1: np.bool_, 4: np.int32, 5: np.int64, 8: np.uint32, 11: np.float32, 12: np.float64}


class _ApiVersion(ctypes.Structure):
  _fields_ = (
    ('struct_size', ctypes.c_size_t),
    ('extension_start', ctypes.c_void_p),
    ('major', ctypes.c_int),
    ('minor', ctypes.c_int),
  )


class _ErrorCreateArgs(ctypes.Structure):
  _fields_ = (
    ('struct_size', ctypes.c_size_t),
    ('extension_start', ctypes.c_void_p),
    ('message', ctypes.c_char_p),
    ('code', ctypes.c_int),
  )


_ErrorCreate = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.POINTER(_ErrorCreateArgs))


class _Api(ctypes.Structure):
  _fields_ = (
    ('struct_size', ctypes.c_size_t),
    ('extension_start', ctypes.c_void_p),
    ('version', _ApiVersion),
    ('internal_api', ctypes.c_void_p),
    ('error_create', _ErrorCreate),
  )


class _Buffer(ctypes.Structure):
  _fields_ = (
    ('struct_size', ctypes.c_size_t),
    ('extension_start', ctypes.c_void_p),
    ('dtype', ctypes.c_int),
    ('data', ctypes.c_void_p),
    ('rank', ctypes.c_int64),
    ('dims', ctypes.POINTER(ctypes.c_int64)),
  )


class _Buffers(ctypes.Structure):
  """XLA_FFI_Args and XLA_FFI_Rets, which have the same layout."""

  _fields_ = (
    ('struct_size', ctypes.c_size_t),
    ('extension_start', ctypes.c_void_p),
    ('size', ctypes.c_int64),
    ('types', ctypes.c_void_p),
    ('buffers', ctypes.POINTER(ctypes.POINTER(_Buffer))),
  )


class _Metadata(ctypes.Structure):
  _fields_ = (
    ('struct_size', ctypes.c_size_t),
    ('version', _ApiVersion),
    ('traits', ctypes.c_uint32),
  )


class _Extension(ctypes.Structure):
  """XLA_FFI_Metadata_Extension; only its first three fields exist for other types."""

  _fields_ = (
    ('struct_size', ctypes.c_size_t),
    ('type', ctypes.c_int),
    ('next', ctypes.c_void_p),
    ('metadata', ctypes.POINTER(_Metadata)),
  )


class _CallFrame(ctypes.Structure):
  _fields_ = (
    ('struct_size', ctypes.c_size_t),
    ('extension_start', ctypes.POINTER(_Extension)),
    ('api', ctypes.POINTER(_Api)),
    ('context', ctypes.c_void_p),
    ('stage', ctypes.c_int),
    ('arguments', _Buffers),
    ('results', _Buffers),
  )


_Handler = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.POINTER(_CallFrame))

HostFunction = Callable[[list[np.ndarray], list[np.ndarray]], None]
_registered: dict[str, Any] = {}  # keeps the C callbacks alive as long as XLA may call them


def _arrays(buffers: _Buffers, *, writeable: bool) -> list[np.ndarray]:
  """NumPy views of XLA's buffers."""
  views = []
  for i in range(buffers.size):
    buffer = buffers.buffers[i].contents
    shape = tuple(buffer.dims[: buffer.rank])
    dtype = np.dtype(_DTYPES[buffer.dtype])
    count = int(np.prod(shape, dtype=np.int64))
    if count == 0:
      views.append(np.empty(shape, dtype))
      continue
    memory = (ctypes.c_char * (count * dtype.itemsize)).from_address(buffer.data)
    view = np.frombuffer(memory, dtype).reshape(shape)  # type: ignore[call-overload]
    view.flags.writeable = writeable
    views.append(view)
  return views


def _error(api: _Api, message: str) -> int | None:
  arguments = _ErrorCreateArgs(
    ctypes.sizeof(_ErrorCreateArgs), None, message.encode(), _INTERNAL_ERROR
  )
  return api.error_create(ctypes.byref(arguments))


def _handler(function: HostFunction) -> Any:
  def handle(frame_pointer: Any) -> int | None:
    frame = frame_pointer.contents
    api = frame.api.contents
    try:
      if frame.extension_start:
        extension = frame.extension_start.contents
        if extension.type == _METADATA_EXTENSION:
          metadata = extension.metadata.contents
          metadata.version.major = api.version.major
          metadata.version.minor = api.version.minor
          metadata.traits = 0
          return None
      if api.version.major != _SUPPORTED_MAJOR:
        return _error(api, f'XLA FFI version {api.version.major} is newer than this package')
      if frame.stage == _EXECUTE_STAGE:
        function(_arrays(frame.arguments, writeable=False), _arrays(frame.results, writeable=True))
      return None
    except BaseException:  # nothing may unwind through C; XLA raises it again in Python
      return _error(api, traceback.format_exc())

  return _Handler(handle)


def register(name: str, function: HostFunction) -> None:
  """Makes `function(arguments, results)` callable as the FFI target `name` on CPU.

  The function gets read-only views of the arguments and writes into the views of the results. Under
  vmap all arrays carry the same number of leading axes, those of unbatched arguments of size 1. It
  must be pure, and must not call JAX.
  """
  handler = _handler(function)
  _registered[name] = handler
  jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(handler), platform='cpu')


def call(name: str, results: Sequence[jax.ShapeDtypeStruct], *arguments: Any) -> Any:
  """Calls a registered target from traced code; returns a list like `results`."""
  return jax.ffi.ffi_call(name, tuple(results), vmap_method='expand_dims')(*arguments)


def slots(arrays: list[np.ndarray], ranks: tuple[int, ...]) -> list[list[np.ndarray]]:
  """Splits off the leading (vmapped) axes of a call's arrays: one list of arrays per element.

  Args:
    arrays: arguments and results of one call.
    ranks: each array's own rank, without the vmapped axes.
  """
  leading = [a.shape[: a.ndim - rank] for a, rank in zip(arrays, ranks, strict=True)]
  batch = np.broadcast_shapes(*leading)
  return [
    [
      a[(*(0 if size == 1 else i for i, size in zip(index, lead, strict=True)), ...)]
      for a, lead in zip(arrays, leading, strict=True)
    ]
    for index in np.ndindex(batch)
  ]
