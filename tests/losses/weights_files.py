"""Writes weights files as PyTorch and safetensors do, byte by byte, without either."""

import json
import struct
import zipfile

import numpy as np

KINDS = {'float32': 'FloatStorage', 'float16': 'HalfStorage', 'int64': 'LongStorage'}
ORDERED = b'ccollections\nOrderedDict\n)R'
LEGACY_HEAD = (
  b'\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.'
  b'\x80\x02}(X\x10\x00\x00\x00protocol_versionM\xe9\x03X\r\x00\x00\x00little_endian\x88u.'
)


def text(value):
  raw = value.encode()
  return b'X' + struct.pack('<I', len(raw)) + raw


def number(value):
  return b'J' + struct.pack('<i', value)


def tuple_of(*parts):
  return b'(' + b''.join(parts) + b't'


def storage(kind, key, count, legacy=False):
  view = [b'N'] if legacy else []
  parts = [text('storage'), f'ctorch\n{kind}\n'.encode(), text(key), text('cpu'), number(count)]
  return tuple_of(*parts, *view) + b'Q'


def tensor(stored, shape, strides, offset=0):
  sizes, steps = (tuple_of(*map(number, x)) for x in (shape, strides))
  arguments = tuple_of(stored, number(offset), sizes, steps, b'\x89', ORDERED)
  return b'ctorch._utils\n_rebuild_tensor_v2\n' + arguments + b'R'


def state_pickle(arrays, legacy=False):
  """The pickle of an OrderedDict, its `_metadata` set as modules do."""
  items = b''
  for key, (name, array) in enumerate(arrays.items()):
    strides = [step // array.itemsize for step in array.strides]
    stored = storage(KINDS[str(array.dtype)], str(key), array.size, legacy)
    items += text(name) + tensor(stored, array.shape, strides)
  metadata = b'}' + text('_metadata') + ORDERED + b'sb'
  return b'\x80\x02' + ORDERED + b'(' + items + b'u' + metadata + b'.'


def write_zip(path, arrays, pickle=None, compression=zipfile.ZIP_STORED):
  with zipfile.ZipFile(path, 'w', compression) as archive:
    archive.writestr('model/data.pkl', state_pickle(arrays) if pickle is None else pickle)
    archive.writestr('model/byteorder', 'little')
    for key, array in enumerate(arrays.values()):
      archive.writestr(f'model/data/{key}', array.tobytes())
    archive.writestr('model/version', '3\n')
  return path


def write_legacy(path, arrays, pickle=None):
  keys = b'\x80\x02](' + b''.join(text(str(key)) for key in range(len(arrays))) + b'e.'
  data = b''.join(struct.pack('<q', array.size) + array.tobytes() for array in arrays.values())
  state = state_pickle(arrays, legacy=True) if pickle is None else pickle
  path.write_bytes(LEGACY_HEAD + state + keys + data)
  return path


def write_safetensors(path, arrays, header=None):
  names = {'float32': 'F32', 'float16': 'F16', 'int64': 'I64'}
  entries, position = {'__metadata__': {'format': 'pt'}}, 0
  for name, array in arrays.items():
    place = [position, position + array.nbytes]
    entries[name] = {'dtype': names[str(array.dtype)], 'shape': array.shape, 'data_offsets': place}
    position += array.nbytes
  raw = json.dumps(entries if header is None else header).encode()
  data = b''.join(np.ascontiguousarray(array).tobytes() for array in arrays.values())
  path.write_bytes(struct.pack('<Q', len(raw)) + raw + data)
  return path
