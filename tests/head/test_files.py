"""Our head file: what is written comes back, and what is damaged is named."""

import dataclasses
import io
import os
import random
import zipfile

import numpy as np
import pytest

from sa0_jax import archive
from sa0_jax.head import files
from sa0_jax.head.model import LandmarkEmbedding


def _assert_equal(a, b):
  for field in dataclasses.fields(a):
    left, right = getattr(a, field.name), getattr(b, field.name)
    if isinstance(left, LandmarkEmbedding):
      _assert_equal(left, right)
    else:
      np.testing.assert_array_equal(left, right)
      assert isinstance(left, str | tuple | None) or left.dtype == right.dtype, field.name


def test_heads_come_back_as_they_were_written(head, tmp_path):
  path = tmp_path / 'head.npz'
  files.save_head(head, path)
  loaded = files.load_head_file(path)
  _assert_equal(loaded, head)
  assert loaded.fingerprint == head.fingerprint
  bare = dataclasses.replace(
    head,
    vt=head.vt[:0],
    ft=np.full_like(head.ft, -1),
    landmarks68=None,
    landmarks_mediapipe=None,
    components=None,
    shape_names=(),
    expression_names=(),
  )
  files.save_head(bare, path)
  _assert_equal(files.load_head_file(path), bare)


def test_equal_heads_give_equal_files_without_pickles(head, tmp_path):
  files.save_head(head, tmp_path / 'a.npz')
  files.save_head(head, tmp_path / 'b.npz')
  assert (tmp_path / 'a.npz').read_bytes() == (tmp_path / 'b.npz').read_bytes()
  with np.load(tmp_path / 'a.npz', allow_pickle=False) as arrays:
    assert all(arrays[name].dtype.kind in 'iufU' for name in arrays.files)


_POINT = {'index': [1], 'face': [0], 'barycentric': [[0.2, 0.3, 0.5]]}


def _landmarks(scheme, **changes):
  parts = _POINT | changes
  types = {'index': np.int32, 'face': np.int32, 'barycentric': np.float32}
  return {f'{scheme}.{name}': np.array(parts[name], types[name]) for name in types}


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'v_template': np.full((60, 3), np.nan, np.float32)}, "'v_template' has NaN"),
    ({'v_template': np.zeros((0, 3), np.float32)}, 'has the shape'),
    ({'v_template': np.array(1.0, np.float32)}, "'v_template' has the shape"),
    ({'shapedirs': np.zeros((59, 3, 7), np.float32)}, "'shapedirs' has the shape"),
    ({'exprdirs': np.array(1.0, np.float32)}, "'exprdirs' has the shape"),
    ({'posedirs': np.zeros((60, 3, 35), np.float32)}, "'posedirs' has the shape"),
    ({'faces': np.full((58, 3), 60, np.int32)}, "'faces' has values from 60"),
    ({'faces': np.array(1, np.int32)}, "'face' has values"),
    ({'ft': np.full((58, 3), -2, np.int32)}, "'ft' has values from -2"),
    ({'ft': np.zeros((57, 3), np.int32)}, "'ft' has the shape"),
    ({'vt': np.full((60, 2), 3, np.float32)}, "'vt' leaves the unit square"),
    ({'weights': np.zeros((60, 5), np.float32)}, "'weights' must be positive"),
    ({'joint_regressor': np.zeros((4, 60), np.float32)}, "'joint_regressor' has the shape"),
    ({'components': np.full(60, 9, np.int32)}, "'components' has values from 9"),
    ({'components': np.zeros(6, np.int32)}, "'components' has the shape"),
    ({'shape_names': np.array(['one'])}, "'shape_names' names 1 directions of 7"),
    (_landmarks('landmarks68', index=[68]), "'landmarks68': 'index' has values from 68"),
    (_landmarks('landmarks68', index=[1, 1], face=[0]), 'of the shapes'),
    (_landmarks('landmarks68', index=[[1]]), 'of the shapes'),
    (
      _landmarks('landmarks_mediapipe', index=[7, 7], face=[0, 0], barycentric=[[1, 0, 0]] * 2),
      'has a point twice',
    ),
    (_landmarks('landmarks_mediapipe', face=[58]), "'face' has values from 58"),
    (_landmarks('landmarks_mediapipe', barycentric=[[np.nan, 0, 1]]), 'do not sum to 1'),
    ({'format': None}, 'not a head file'),
    ({'format': np.array('other')}, 'not a head file'),
    ({'version': np.array(files.VERSION + 1)}, 'update it'),
    ({'version': np.array('1')}, 'version'),
    ({'version': None}, 'version'),
    ({'name': None}, "'name' is missing"),
    ({'weights': None}, "'weights' is missing"),
    ({'weights': np.zeros((60, 5))}, "'weights' holds float64, expected float32"),
    ({'faces': np.zeros((58, 3), np.float32)}, "'faces' holds float32"),
    ({'shape_names': np.zeros(7)}, "'shape_names' holds float64"),
    ({'landmarks68.face': None}, "'landmarks68.face' is missing"),
  ],
)
def test_files_that_are_no_heads_are_refused_by_array(head, tmp_path, changes, message):
  path = tmp_path / 'head.npz'
  files.save_head(head, path)
  arrays = {**archive.read_arrays(path), **changes}
  archive.write_arrays(path, {name: array for name, array in arrays.items() if array is not None})
  with pytest.raises(ValueError, match=message) as caught:
    files.load_head_file(path)
  assert str(caught.value).startswith(str(path))


def test_unusable_heads_are_never_written(head, tmp_path):
  broken = dataclasses.replace(head, weights=np.full((60, 5), np.nan, np.float32))
  with pytest.raises(ValueError, match="'weights' has NaN"):
    files.save_head(broken, tmp_path / 'head.npz')
  assert not list(tmp_path.iterdir())


def test_missing_files_are_file_not_found(tmp_path):
  with pytest.raises(FileNotFoundError):
    files.load_head_file(tmp_path / 'none.npz')


def _npz(**members):
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, 'w', zipfile.ZIP_DEFLATED) as file:
    for name, data in members.items():
      file.writestr(f'{name}.npy', data)
  return buffer.getvalue()


def _npy(header, data=b'', version=b'\x01\x00'):
  header = header.encode().ljust(117) + b'\n'
  return b'\x93NUMPY' + version + len(header).to_bytes(2, 'little') + header + data


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,)}"), 'size is'),
    (
      _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -1)}", b'abcd'),
      'is not an array',
    ),
    (
      _npy("{'descr': '|O', 'fortran_order': False, 'shape': ()}", b'cos\nsystem\n.'),
      'is not an array',
    ),
    (
      _npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': ()}", b'abcd'),
      'is not an array',
    ),
    (_npy("{'descr': '<U0', 'fortran_order': False, 'shape': (5,)}"), 'size is'),
    (_npy('__import__("os")'), 'is not an array'),
    (_npy('(' * 50), 'is not an array'),
    (_npy("{'descr': '<f4'}", version=b'\x09\x00'), 'is not an array'),
    (_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 99999999999999999)}"), 'size is'),
    (_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (" + '1' * 90 + 'x)}'), 'is not an'),
    (b'hello', 'is not an array'),
    (b'', 'is not an array'),
  ],
)
def test_hostile_arrays_are_refused_before_memory_is_taken(tmp_path, content, message):
  path = tmp_path / 'x.npz'
  path.write_bytes(_npz(a=content))
  with pytest.raises(ValueError, match=rf"x\.npz: 'a' .*{message}"):
    archive.read_arrays(path)
  with pytest.raises(ValueError, match=r'x\.npz'):
    archive.read_shapes(path)


def test_archives_that_are_too_large_or_ambiguous_are_refused(tmp_path):
  path = tmp_path / 'x.npz'
  zeros = io.BytesIO()
  np.save(zeros, np.zeros(1 << 20))
  path.write_bytes(_npz(a=zeros.getvalue()))
  assert path.stat().st_size < 1 << 16  # it deflates to almost nothing
  with pytest.raises(ValueError, match='more than 1048576 allowed'):
    archive.read_arrays(path, max_bytes=1 << 20)
  assert archive.read_arrays(path, ('b',), max_bytes=1) == {}
  path.write_bytes(_npz(**{f'a{i}': b'' for i in range(1001)}))
  with pytest.raises(ValueError, match='1001 files'):
    archive.read_arrays(path)
  with zipfile.ZipFile(path, 'w') as file:
    file.writestr('a', b'')
    file.writestr('a.npy', b'')
  with pytest.raises(ValueError, match='two arrays of one name'):
    archive.read_arrays(path)


def test_fuzzed_head_files_raise_nothing_but_value_error(make_head, tmp_path):
  good = tmp_path / 'good.npz'
  files.save_head(make_head(8, 2, 2), good)
  content = good.read_bytes()
  generator = random.Random(0)
  path = tmp_path / 'bad.npz'
  refused = 0
  for _ in range(1000):
    data = bytearray(content)
    for _ in range(generator.choice([1, 2, 10])):
      # The directory at the end is where structure is; arrays are checked by their CRC.
      low = 0 if generator.random() < 0.5 else len(data) - 2000
      data[generator.randrange(low, len(data))] = generator.randrange(256)
    if generator.random() < 0.1:
      del data[generator.randrange(len(data)) :]
    path.write_bytes(data)
    try:
      files.load_head_file(path)
    except ValueError:
      refused += 1
  assert refused > 500


def test_a_failing_write_leaves_nothing_and_spares_what_was_there(head, tmp_path, monkeypatch):
  path = tmp_path / 'head.npz'
  files.save_head(head, path)
  before = path.read_bytes()

  def disk_full(*_):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(os, 'fsync', disk_full)
  with pytest.raises(OSError, match='No space left'):
    files.save_head(head, path)
  assert path.read_bytes() == before
  assert [entry.name for entry in tmp_path.iterdir()] == ['head.npz']
