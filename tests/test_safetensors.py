"""The safetensors reader: what files say, and files that lie."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from sa0_jax.safetensors import find_tensors, read_tensor
from tests.generator.vit_files import header_and_data, write_raw, write_safetensors

ARRAYS = {
  'a': np.arange(6, dtype=np.float32).reshape(2, 3),
  'half': np.array([1.5, -2.0], np.float16),
  'brain': np.asarray(jnp.asarray([[0.1], [3e38]], jnp.bfloat16)),
  'one': np.array(7.0, np.float32),
  'none': np.zeros((0, 4), np.float32),
}


def read(path):
  return {name: read_tensor(info) for name, info in find_tensors(path).items()}


def assert_equal(found, expected):
  assert found.keys() == expected.keys()
  for name, array in expected.items():
    assert found[name].dtype == array.dtype
    assert found[name].shape == array.shape
    np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize('padding', range(4))
def test_arrays_come_back_wherever_the_data_begins(tmp_path, padding):
  header, data = header_and_data(ARRAYS)
  text = json.dumps(header).encode() + b' ' * padding
  found = read(write_raw(tmp_path / 'x.safetensors', text, data))
  assert_equal(found, ARRAYS)
  assert not found['a'].flags.writeable


@pytest.mark.parity
def test_files_of_the_safetensors_library_are_read(tmp_path):
  numpy = pytest.importorskip('safetensors.numpy')
  arrays = {name: ARRAYS[name] for name in ('a', 'half', 'one')}
  numpy.save_file(arrays, tmp_path / 'x.safetensors', metadata={'format': 'np'})
  assert_equal(read(tmp_path / 'x.safetensors'), arrays)


def two_files(folder, places=None):
  write_safetensors(folder / 'one.safetensors', {'a': ARRAYS['a']})
  write_safetensors(folder / 'two.safetensors', {'half': ARRAYS['half'], 'one': ARRAYS['one']})
  default = {'a': 'one.safetensors', 'half': 'two.safetensors', 'one': 'two.safetensors'}
  index = folder / 'model.safetensors.index.json'
  index.write_text(json.dumps({'metadata': {}, 'weight_map': {**default, **(places or {})}}))
  return index


def test_a_model_in_several_files_is_read_by_its_index_or_folder(tmp_path):
  index = two_files(tmp_path)
  expected = {name: ARRAYS[name] for name in ('a', 'half', 'one')}
  assert_equal(read(index), expected)
  assert_equal(read(tmp_path), expected)


def test_a_folder_is_read_by_its_single_file(tmp_path):
  write_safetensors(tmp_path / 'model.safetensors', ARRAYS)
  assert_equal(read(tmp_path), ARRAYS)


@pytest.mark.parametrize(
  ('places', 'message'),
  [
    ({'a': '../one.safetensors'}, 'not the name of a safetensors file beside it'),
    ({'a': '/one.safetensors'}, 'not the name of a safetensors file beside it'),
    ({'a': '..\\one.safetensors'}, 'not the name of a safetensors file beside it'),
    ({'a': 'one.bin'}, 'not the name of a safetensors file beside it'),
    ({'a': '.safetensors'}, 'not the name of a safetensors file beside it'),
    ({'a': 7}, 'no weight_map of file names'),
    ({'b': 'one.safetensors'}, "places 'b' in a file that does not hold it"),
    ({'a': 'two.safetensors'}, "places 'a' in a file that does not hold it"),
    ({'half': 'one.safetensors'}, "does not place 'half' in two.safetensors"),
  ],
)
def test_an_index_that_lies_is_refused(tmp_path, places, message):
  with pytest.raises(ValueError, match=message):
    find_tensors(two_files(tmp_path, places))


def test_what_is_not_there_is_said(tmp_path):
  with pytest.raises(FileNotFoundError, match=r'x\.safetensors: no such file'):
    find_tensors(tmp_path / 'x.safetensors')
  with pytest.raises(FileNotFoundError, match=r'neither model\.safetensors nor'):
    find_tensors(tmp_path)
  with pytest.raises(FileNotFoundError, match=r'three\.safetensors: no such file'):
    find_tensors(two_files(tmp_path, {'c': 'three.safetensors'}))


def test_every_cut_file_is_refused(tmp_path):
  whole = write_safetensors(tmp_path / 'x.safetensors', ARRAYS).read_bytes()
  path = tmp_path / 'cut.safetensors'
  for length in range(len(whole)):
    path.write_bytes(whole[:length])
    with pytest.raises(ValueError, match=r'cut\.safetensors'):
      find_tensors(path)
  path.write_bytes(whole + b'x')
  with pytest.raises(ValueError, match='describes 36 bytes of data, there are 37'):
    find_tensors(path)


def entry(dtype='F32', shape=(2,), offsets=(0, 8)):
  return {'dtype': dtype, 'shape': shape, 'data_offsets': offsets}


@pytest.mark.parametrize(
  ('header', 'message'),
  [
    ({'a': entry(offsets=(0, 12))}, 'but takes bytes 0 to 12'),
    ({'a': entry(offsets=(8, 0))}, 'but takes bytes 8 to 0'),
    ({'a': entry(offsets=(-8, 0))}, 'has shape'),
    ({'a': entry(offsets=(0, 4, 8))}, 'has shape'),
    ({'a': entry(offsets=(0.0, 8.0))}, 'has shape'),
    ({'a': entry(offsets=(False, 8))}, 'has shape'),
    ({'a': entry(offsets=(8, 16))}, 'overlap or leave gaps'),
    ({'a': entry(offsets=(1 << 70, (1 << 70) + 8))}, 'overlap or leave gaps'),
    ({'a': entry(), 'b': entry()}, 'overlap or leave gaps'),
    ({'a': entry(), 'b': entry(offsets=(4, 12))}, 'overlap or leave gaps'),
    ({'a': entry(), 'b': entry(offsets=(12, 20))}, 'overlap or leave gaps'),
    ({'a': entry(shape=(1 << 40,), offsets=(0, 1 << 42))}, 'describes 4398046511104 bytes'),
    ({'a': entry(shape=(0, 1 << 60), offsets=(0, 0))}, 'has shape'),
    ({'a': entry(shape=(1,) * 9, offsets=(0, 4))}, 'has shape'),
    ({'a': entry(shape=(-1, -2))}, 'has shape'),
    ({'a': entry(shape=2)}, 'has shape'),
    ({'a': entry(dtype='I64', shape=(1,))}, "dtype 'I64': only F32, F16, BF16 are read"),
    ({'a': entry(dtype=['F32'])}, 'only F32, F16, BF16 are read'),
    ({'a': [1, 2]}, 'is not described by'),
    ({'a': {'dtype': 'F32'}}, 'is not described by'),
    ([1, 2], 'is not an object'),
    (b'{"a": ' + b'[' * 100_000, 'unreadable JSON'),
    (b'{"a": {}, "a": {}}', r'unreadable JSON \(a name twice\)'),
    (b'\xff\xfe', 'unreadable JSON'),
    (b'9' * 5000, 'unreadable JSON'),
    (b'', 'unreadable JSON'),
  ],
)
def test_headers_that_lie_are_refused(tmp_path, header, message):
  path = write_raw(tmp_path / 'x.safetensors', header, bytes(16))
  with pytest.raises(ValueError, match=message) as caught:
    find_tensors(path)
  assert str(path) in str(caught.value)
  assert '\n' not in str(caught.value)
  assert len(str(caught.value)) < 400 + len(str(path))


def test_a_huge_header_is_refused_before_it_is_read(tmp_path):
  path = tmp_path / 'x.safetensors'
  with path.open('wb') as file:
    file.write((100_000_001).to_bytes(8, 'little'))
    file.truncate(200_000_000)  # sparse: takes no disk
  with pytest.raises(ValueError, match='the header claims 100000001'):
    find_tensors(path)
