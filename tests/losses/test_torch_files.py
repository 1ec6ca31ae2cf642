"""Weights files: what torch.save writes is read, and nothing else is, hostile or damaged."""

import itertools
import os
import struct
import zipfile

import numpy as np
import pytest

from sa0_jax.losses.torch_files import read_tensors
from tests.losses import weights_files as files

RNG = np.random.default_rng(0)
ARRAYS = {
  'features.0.weight': RNG.standard_normal((4, 3, 2, 2)).astype(np.float32),
  'features.0.bias': RNG.standard_normal(4).astype(np.float16),
  'steps': np.asarray(7, np.int64),
  'empty': np.zeros((0, 5), np.float32),
}
WRITERS = {'zip': files.write_zip, 'legacy': files.write_legacy}
ALL = {**WRITERS, 'safetensors': files.write_safetensors}


def write(folder, form, *arguments, **options):
  suffix = 'safetensors' if form == 'safetensors' else 'pth'
  return ALL[form](folder / f'weights.{suffix}', *arguments, **options)


@pytest.mark.parametrize('form', ALL)
def test_arrays_come_back(tmp_path, form):
  got = read_tensors(write(tmp_path, form, ARRAYS))
  assert list(got) == list(ARRAYS)
  for name, array in ARRAYS.items():
    assert got[name].dtype == array.dtype
    np.testing.assert_array_equal(got[name], array)


@pytest.mark.parametrize('form', ALL)
def test_only_what_is_wanted_counts(tmp_path, form):
  path = write(tmp_path, form, ARRAYS)
  got = read_tensors(path, ['features.0.bias', 'nothing'], max_bytes=8)
  assert list(got) == ['features.0.bias']
  np.testing.assert_array_equal(got['features.0.bias'], ARRAYS['features.0.bias'])
  with pytest.raises(ValueError, match='holds 208 bytes of tensors, more than 207 allowed'):
    read_tensors(path, max_bytes=207)


@pytest.mark.parametrize('form', WRITERS)
def test_views_share_a_storage(tmp_path, form):
  """A transposed tensor and a slice of the same twelve numbers."""
  data = np.arange(12, dtype=np.float32)
  stored = files.storage('FloatStorage', '0', 12, legacy=form == 'legacy')
  items = files.text('a') + files.tensor(stored, (3, 4), (1, 3))
  items += files.text('b') + files.tensor(stored, (2, 2), (4, 1), offset=6)
  pickle = b'\x80\x02' + files.ORDERED + b'(' + items + b'u.'
  got = read_tensors(write(tmp_path, form, {'x': data}, pickle))
  np.testing.assert_array_equal(got['a'], data.reshape(4, 3).T)
  np.testing.assert_array_equal(got['b'], [[6, 7], [10, 11]])


def test_what_python_2_and_older_versions_wrote(tmp_path):
  """Byte strings, items given to OrderedDict, parameters, and tensors without requires_grad."""
  stored = files.storage('FloatStorage', '0', 4, legacy=True)
  sizes = files.tuple_of(files.number(4))
  arguments = files.tuple_of(stored, files.number(0), sizes, files.tuple_of(files.number(1)))
  tensor = b'ctorch._utils\n_rebuild_tensor\n' + arguments + b'R'
  parameter = b'ctorch._utils\n_rebuild_parameter\n' + tensor + b'\x88' + files.ORDERED + b'\x87R'
  items = b'](](U\x01a' + tensor + b'e](U\x01b' + parameter + b'ee'
  pickle = b'\x80\x02ccollections\nOrderedDict\n' + items + b'\x85R.'
  data = np.arange(4, dtype=np.float32)
  got = read_tensors(files.write_legacy(tmp_path / 'w.pth', {'x': data}, pickle))
  np.testing.assert_array_equal(got['a'], data)
  np.testing.assert_array_equal(got['b'], data)


STORED = files.storage('FloatStorage', '0', 4)
ONE = {'x': np.zeros(4, np.float32)}
HOSTILE = {
  'calls the system': (b'cposix\nsystem\n' + files.tuple_of(files.text('id')) + b'R.', 'posix'),
  'calls by another name': (b'\x8c\x02os\x8c\x06system\x93)R.', "'os'.'system'"),
  'calls a builtin': (b'cbuiltins\neval\n' + files.tuple_of(files.text('1')) + b'R.', 'eval'),
  'dotted name': (b'ctorch\nFloatStorage.__init__\n)R.', 'FloatStorage.__init__'),
  'torch, but not a storage': (b'ctorch\nload\n)R.', "'torch'.'load'"),
  'calls a storage': (b'ctorch\nFloatStorage\n)R.', 'calls what is no function'),
  'old instance': (b'(iposix\nsystem\n.', 'INST'),
  'new instance': (files.ORDERED[:-2] + b')\x81.', 'NEWOBJ'),
  'extension': (b'\x82\x01.', 'EXT1'),
  'persistent line': (b'Pkey\n.', 'PERSID'),
  'no state dict': (b'](K\x01e.', 'not a state dict'),
  'a whole checkpoint': (b'}' + files.text('epoch') + b'K\x03s.', "'epoch' is no tensor"),
  'keys that are no strings': (b'}K\x01K\x02s.', 'no string'),
  'nothing left': (b'0.', 'POP'),
  'a mark left': (b'(.', 'one value'),
  'state on a tensor': (files.tensor(STORED, (4,), (1,)) + b'}b.', 'gives a state'),
  'beyond the storage': (files.tensor(STORED, (5,), (1,)), 'beyond the 4 numbers'),
  'offset beyond': (files.tensor(STORED, (2,), (1,), offset=3), 'beyond the 4 numbers'),
  'strides beyond': (files.tensor(STORED, (2, 2), (3, 1)), 'beyond the 4 numbers'),
  'blown up': (files.tensor(STORED, (4000, 4000), (0, 0)), 'beyond the 4 numbers'),
  'negative stride': (files.tensor(STORED, (4,), (-1,)), 'unusable strides'),
  'negative shape': (files.tensor(STORED, (-4,), (1,)), 'no usable shape'),
  'absurd and empty': (files.tensor(STORED, (0, *[2**31 - 1] * 3), (1,) * 4), 'no usable shape'),
  'two sizes': (
    STORED + files.storage('FloatStorage', '0', 5) + b'\x86.',
    "storage '0' is described in two ways",
  ),
  'no such storage': (files.tensor(files.storage('FloatStorage', '9', 4), (4,), (1,)), ''),
  'another type': (files.tensor(files.storage('DoubleStorage', '0', 4), (4,), (1,)), ''),
  'unknown type': (files.storage('QInt8Storage', '0', 4) + b'.', 'QInt8Storage'),
}


@pytest.mark.parametrize('what', HOSTILE)
@pytest.mark.parametrize('form', WRITERS)
def test_hostile_pickles_are_refused(tmp_path, monkeypatch, form, what):
  monkeypatch.setattr(os, 'system', lambda _: pytest.fail('executed'))
  payload, reason = HOSTILE[what]
  if not payload.endswith(b'.'):
    payload = b'}' + files.text('w') + payload + b's.'
  path = write(tmp_path, form, ONE, b'\x80\x02' + payload)
  with pytest.raises(ValueError, match=r'weights\.pth: ') as caught:
    read_tensors(path)
  assert reason in str(caught.value)
  assert '\n' not in str(caught.value)


def test_other_archives_and_formats_are_refused(tmp_path):
  path = files.write_zip(tmp_path / 'w.pth', ARRAYS, compression=zipfile.ZIP_DEFLATED)
  with pytest.raises(ValueError, match='compressed'):
    read_tensors(path)
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('notes.txt', 'hello')
  with pytest.raises(ValueError, match=r'not one that torch\.save wrote'):
    read_tensors(path)
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('model/data.pkl', files.state_pickle(ARRAYS))
    archive.writestr('model/byteorder', 'big')
  with pytest.raises(ValueError, match='big-endian'):
    read_tensors(path)
  for data in (b'', b'hello', b'\x89PNG'):
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r'neither a \.pth file'):
      read_tensors(path)
  path.write_bytes(b'\x80\x02K\x01.')
  with pytest.raises(ValueError, match=r'not one that torch\.save wrote'):
    read_tensors(path)
  with pytest.raises(FileNotFoundError):
    read_tensors(tmp_path / 'nothing.pth')


@pytest.mark.parametrize(
  'entry',
  [
    {'shape': [5]},
    {'data_offsets': [0, 20]},
    {'data_offsets': [8, 24]},
    {'data_offsets': [-16, 0]},
    {'data_offsets': [0]},
    {'dtype': 'F8_E4M3'},
    {'shape': [True, 4]},
    {'shape': 'four'},
    {'dtype': []},
  ],
)
def test_contradictory_safetensors_are_refused(tmp_path, entry):
  header = {'x': {'dtype': 'F32', 'shape': [4], 'data_offsets': [0, 16]} | entry}
  with pytest.raises(ValueError, match=r'w\.safetensors: '):
    read_tensors(files.write_safetensors(tmp_path / 'w.safetensors', ONE, header))


@pytest.mark.parametrize('header', [[], {'x': 3}, 'x', {'x': {'dtype': 'F32'}}])
def test_malformed_safetensors_are_refused(tmp_path, header):
  with pytest.raises(ValueError, match=r'w\.safetensors: '):
    read_tensors(files.write_safetensors(tmp_path / 'w.safetensors', ONE, header))


def test_absurd_safetensors_headers_are_refused(tmp_path):
  path = tmp_path / 'w.safetensors'
  deep = b'[' * 200_000
  for length, data in ((1 << 62, b'{}'), (3, b'{'), (2, b'{}'[:1]), (len(deep), deep)):
    path.write_bytes(struct.pack('<Q', length) + data)
    with pytest.raises(ValueError, match=r'w\.safetensors: '):
      read_tensors(path)


@pytest.mark.parametrize('form', ALL)
def test_files_cut_short_are_refused(tmp_path, form):
  path = write(tmp_path, form, ONE)
  whole = path.read_bytes()
  for size in range(len(whole)):
    path.write_bytes(whole[:size])
    with pytest.raises(ValueError, match='weights'):
      read_tensors(path)


@pytest.mark.parametrize('form', ALL)
def test_flipped_bytes_give_errors_or_arrays(tmp_path, form):
  """Nothing but a ValueError or a state dict comes out of damage."""
  path = write(tmp_path, form, ONE)
  whole = bytearray(path.read_bytes())
  outcomes = set()
  for place, value in itertools.product(range(len(whole)), (0x00, 0x28, 0xFF)):
    damaged = bytearray(whole)
    damaged[place] = value
    path.write_bytes(damaged)
    try:
      outcomes.add(all(isinstance(a, np.ndarray) for a in read_tensors(path).values()))
    except ValueError:
      outcomes.add('refused')
  assert outcomes == {True, 'refused'}


@pytest.mark.parity
@pytest.mark.parametrize('form', ['zip', 'legacy'])
def test_reads_what_torch_saves(tmp_path, form):
  torch = pytest.importorskip('torch')
  model = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3), torch.nn.BatchNorm2d(5))
  state = model.state_dict()
  state['half'] = torch.arange(6).half().reshape(2, 3).T
  state['bfloat'] = torch.linspace(0, 1, 4).bfloat16()
  state['parameter'] = torch.nn.Parameter(torch.arange(10.0)[3:7])
  path = tmp_path / 'w.pth'
  torch.save(state, path, _use_new_zipfile_serialization=form == 'zip')
  got = read_tensors(path)
  assert list(got) == list(state)
  for name, value in state.items():
    np.testing.assert_array_equal(got[name].astype(np.float64), value.detach().double().numpy())
    assert str(got[name].dtype) == str(value.dtype).removeprefix('torch.')
