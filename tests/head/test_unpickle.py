"""The restricted pickle reader: what it reads, and everything it must refuse without running it."""

import collections
import pickle
import pickletools
import random
import struct
import sys
import time
import types

import numpy as np
import pytest
import scipy.sparse

from sa0_jax.head.unpickle import PickledArray, as_array, read_pickle

ARRAYS = {
  'float64': np.arange(12.0).reshape(3, 4),
  'float32': np.arange(6, dtype=np.float32).reshape(1, 2, 3),
  'uint32': np.arange(5, dtype=np.uint32),
  'bool': np.array([True, False]),
  'big_endian': np.arange(4, dtype='>f8'),
  'fortran': np.asfortranarray(np.arange(6.0).reshape(2, 3)),
  'scalar': np.array(3.5),
  'empty': np.zeros((0, 3)),
}


@pytest.fixture
def chumpy(monkeypatch):
  """A stand-in with the names and the state that chumpy's arrays are pickled with."""
  module = types.ModuleType('chumpy.ch')

  class Ch:
    def __init__(self, x):
      self.x = np.asarray(x, np.float64)
      self._dirty_vars = {'x'}
      self._itr = None
      self._depends_on_deps = {}
      self._make_dense = False

  Ch.__module__, Ch.__qualname__ = 'chumpy.ch', 'Ch'
  module.Ch = Ch
  package = types.ModuleType('chumpy')
  package.ch = module
  monkeypatch.setitem(sys.modules, 'chumpy', package)
  monkeypatch.setitem(sys.modules, 'chumpy.ch', module)
  return module


@pytest.mark.parametrize('protocol', range(6))
def test_reads_what_pickle_wrote_in_every_protocol(protocol):
  content = {
    'arrays': list(ARRAYS.values()),
    'number': -7,
    'long': 1 << 60,
    'float': 2.5,
    'word': 'naïve',
    'flags': (True, False, None),
    'nested': {'deep': [{'deeper': (1, 2, 3, 4)}]},
    'numpy': np.float64(1.5),
    3: 'integer key',
  }
  value = read_pickle(pickle.dumps(content, protocol), 'test')
  for array, pickled in zip(content.pop('arrays'), value.pop('arrays'), strict=True):
    read = as_array(pickled, 'a', 'test')
    assert read.shape == array.shape
    assert read.dtype.kind == array.dtype.kind
    np.testing.assert_array_equal(read, array)
  assert as_array(value.pop('numpy'), 'n', 'test') == content.pop('numpy')
  assert value == content


def _python2_array(array):
  """The opcodes Python 2's protocol 0 writes for an array: text, the data as an escaped repr."""
  raw = repr(array.tobytes())[1:].encode('latin1')
  shape = b'(' + b''.join(b'I%d\n' % size for size in array.shape) + b't'
  return (
    b"cnumpy.core.multiarray\n_reconstruct\np1\n(cnumpy\nndarray\np2\n(I0\ntS'b'\ntp3\nRp4\n"
    b'(I1\n'
    + shape
    + b"cnumpy\ndtype\np5\n(S'"
    + array.dtype.str[1:].encode()
    + b"'\nI0\nI1\ntRp6\n"
    b"(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\nS" + raw + b'\ntb'
  )


def test_reads_python_2_protocol_0():
  array = np.random.default_rng(0).normal(size=(3, 5))
  data = b"(dp0\nS'lmk_b_coords'\n" + _python2_array(array) + b"sS'count'\nL15L\ns."
  value = read_pickle(data, 'test')
  np.testing.assert_array_equal(as_array(value['lmk_b_coords'], 'a', 'test'), array)
  assert value['count'] == 15
  windows = data.replace(b'\np', b'\r\np')
  np.testing.assert_array_equal(
    as_array(read_pickle(windows, 'test')['lmk_b_coords'], 'a', 'test'), array
  )


@pytest.mark.parametrize('protocol', [0, 2, 4])
def test_reads_chumpy_without_chumpy(chumpy, protocol):
  array = np.random.default_rng(0).normal(size=(4, 3, 2))
  value = read_pickle(pickle.dumps({'shapedirs': chumpy.Ch(array)}, protocol), 'test')
  np.testing.assert_array_equal(as_array(value['shapedirs'], 'shapedirs', 'test'), array)


@pytest.mark.parametrize('layout', ['csc', 'csr', 'coo'])
@pytest.mark.parametrize('suffix', ['matrix', 'array'])
@pytest.mark.parametrize('module', ['scipy.sparse.{}', 'scipy.sparse._{}'])
def test_reads_sparse_matrices_without_scipy(layout, suffix, module):
  generator = np.random.default_rng(0)
  dense = generator.normal(size=(5, 40)) * (generator.uniform(size=(5, 40)) < 0.2)
  sparse = getattr(scipy.sparse, f'{layout}_{suffix}')(dense)
  data = pickle.dumps(sparse, 2)
  renamed = data.replace(f'scipy.sparse._{layout}'.encode(), module.format(layout).encode())
  np.testing.assert_array_equal(as_array(read_pickle(renamed, 'test'), 'J', 'test'), dense)


def test_arrays_stored_twice_are_read_twice():
  array = np.arange(5.0)
  first, second = read_pickle(pickle.dumps([array, array], 2), 'test')
  assert first is second
  np.testing.assert_array_equal(as_array(first, 'a', 'test'), array)


def test_object_arrays_open_only_as_the_wrapper_of_one_dictionary():
  content = np.array({'a': np.arange(3)}, dtype=object)
  value = read_pickle(pickle.dumps(content), 'test', object_array=True)
  np.testing.assert_array_equal(as_array(value['a'], 'a', 'test'), np.arange(3))
  nested = np.array({'a': np.array([{}, 1], dtype=object)}, dtype=object)
  for refused, options in (
    (content, {}),
    (nested, {'object_array': True}),
    (np.array([{}, {}], dtype=object), {'object_array': True}),
    (np.arange(3), {'object_array': True}),
  ):
    with pytest.raises(ValueError, match='object'):
      read_pickle(pickle.dumps(refused), 'test', **options)


def test_torch_tensors_beside_the_arrays_are_passed_over():
  # DECA's file holds two: a storage rebuilt from bytes, which must never be looked into.
  storage = b'ctorch.storage\n_load_from_bytes\n(U\x04evilt' + b'R'
  tensor = (
    b'ctorch._utils\n_rebuild_tensor_v2\n('
    + storage
    + b'K\x00)(t\x89ccollections\nOrderedDict\n)RtR'
  )
  data = b'\x80\x02}(U\x03onetU\x03two'.replace(b'onet', b'one' + tensor) + b'K\x02u.'
  assert read_pickle(data, 'test')['two'] == 2
  with pytest.raises(ValueError, match="'one' is not an array"):
    as_array(read_pickle(data, 'test')['one'], 'one', 'test')


class _Calls:
  def __init__(self, function, *arguments):
    self.call = function, arguments

  def __reduce__(self):
    return self.call


def _hostile(tmp_path):
  """Payloads by name; each one, run by Python's own reader, would leave a file or worse."""
  marker = str(tmp_path / 'executed').encode()
  touch = b"touch '" + marker + b"'"
  word = lambda text: b'X' + struct.pack('<I', len(text)) + text  # noqa: E731
  array = pickle.dumps(np.arange(3.0), 2)
  huge = pickle.dumps(np.zeros((1, 1)), 2)
  return {
    'os.system': b'cos\nsystem\n(' + word(touch) + b'tR.',
    'posix.system': b'\x80\x04'
    + word(b'posix')
    + word(b'system')
    + b'\x93'
    + word(touch)
    + b'\x85R.',
    'eval': b'c__builtin__\neval\n(' + word(b'open("' + marker + b'", "w").close()') + b'tR.',
    'builtins.eval': b'cbuiltins\neval\n(' + word(b'1') + b'tR.',
    'exec through inst': b'(' + word(b'1') + b'i__builtin__\nexec\n.',
    'obj': b'(c__builtin__\nobject\no.',
    'getattr chain': b'c__builtin__\ngetattr\n(c__builtin__\nobject\n'
    + word(b'__subclasses__')
    + b'tR.',
    'dotted name': b'\x80\x04' + word(b'numpy') + word(b'ndarray.tofile') + b'\x93.',
    'numpy.load': pickle.dumps(_Calls(np.load, 'x.npy', None, True), 2),
    'numpy.fromfile': pickle.dumps(_Calls(np.fromfile, '/etc/passwd'), 2),
    'numpy.core.multiarray.fromfile': b'cnumpy.core.multiarray\nfromfile\n(U\x01xtR.',
    'pickle.loads': pickle.dumps(_Calls(pickle.loads, b'N.'), 2),
    'persistent id': b'Pfile\n.',
    'binary persistent id': b'U\x01xQ.',
    'extension registry': b'\x82\x01.',
    'state on a class': b'c__builtin__\nobject\n}b.',
    'instance of ndarray': b'cnumpy\nndarray\n)\x81.',
    'reconstructor of a class': b'ccopy_reg\n_reconstructor\n(cos\npopen\nNNtR.',
    'reconstructor of a function': b'ccopy_reg\n_reconstructor\n(c_codecs\nencode\nNNtR.',
    'keyword arguments': b'\x80\x04' + word(b'chumpy.ch') + word(b'Ch') + b'\x93)}\x92.',
    'other codec': b'c_codecs\nencode\n(' + word(b'x') + b'U\x03hextR.',
    'object array': pickle.dumps(np.array([{}], dtype=object), 2),
    'structured array': pickle.dumps(np.zeros(2, [('a', 'f4')]), 2),
    'strings': pickle.dumps(np.array(['a']), 2),
    'huge shape': huge.replace(b'K\x01K\x01\x86', b'J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86'),
    'negative shape': huge.replace(b'K\x01K\x01\x86', b'J\xff\xff\xff\xffJ\xff\xff\xff\xff\x86'),
    'short data': array.replace(b'K\x03\x85', b'K\x04\x85'),
    'huge string': b'T\xff\xff\xff\x7fx.',
    'negative string': b'T\xff\xff\xff\xffx.',
    'huge bytes': b'\x8e' + b'\xff' * 8 + b'x.',
    'huge memo index only': b'h\xff.',
    'huge integer': b'\x8b\xff\xff\xff\x7f',
    'decimal bomb': b'L' + b'9' * 100_000 + b'L\n.',
    'unhashable key': b'}(]K\x01u.',
    'tuple key': b'})K\x01s.',
    'cyclic list as state': b'cchumpy.ch\nCh\n)\x81]q\x00h\x00ab.',
    'no stop': b'N' * 100,
    'endless': b'N0' * 600_000 + b'N.',
    'unbalanced': b'(N.',
    'pop through a mark': b'N(0.',
    'empty': b'',
    'not a pickle': b'PK\x03\x04 hello',
  }


@pytest.mark.parametrize('name', sorted(_hostile(__import__('pathlib').Path('.'))))
def test_hostile_files_are_refused_with_one_clear_line(tmp_path, name):
  start = time.process_time()
  with pytest.raises(ValueError, match=r'^model\.pkl: ') as caught:
    read_pickle(_hostile(tmp_path)[name], 'model.pkl')
  assert '\n' not in str(caught.value)
  assert len(str(caught.value)) < 400
  assert not (tmp_path / 'executed').exists()
  assert time.process_time() - start < 5


def test_the_hostile_files_would_work_on_an_unrestricted_reader(tmp_path):
  pickle.loads(_hostile(tmp_path)['eval'].replace(b'__builtin__', b'builtins'))
  assert (tmp_path / 'executed').exists()


def test_a_huge_memo_index_takes_no_memory():
  assert read_pickle(b'Nr\xff\xff\xff\xff0j\xff\xff\xff\xff.', 'test') is None


def test_deep_nesting_neither_recurses_nor_hangs():
  depth = 50_000
  assert read_pickle(b']' * depth + b'a' * (depth - 1) + b'.', 'test') is not None
  shared = b')q\x00' + b'0h\x00h\x00\x86q\x00' * 60  # 2^60 leaves, 60 tuples
  assert len(read_pickle(shared + b'.', 'test')) == 2
  with pytest.raises(ValueError, match='dictionary key'):
    read_pickle(b'}(' + shared + b'K\x01u.', 'test')


def test_a_string_re_encoded_over_and_over_is_stopped():
  text = b'x' * 60_000
  copies = b'0c_codecs\nencode\n(h\x00U\x06latin1tR' * 1000
  data = b'X' + struct.pack('<I', len(text)) + text + b'q\x00' + copies + b'.'
  with pytest.raises(ValueError, match='copies itself'):
    read_pickle(data, 'test')


def test_contradictory_sparse_matrices_are_refused():
  def matrix(**changes):
    sparse = scipy.sparse.csc_matrix(np.eye(3))
    state = {
      '_shape': (3, 3),
      'data': sparse.data,
      'indices': sparse.indices,
      'indptr': sparse.indptr,
    }
    pickled = pickle.dumps(state | changes, 2)
    start = b'\x80\x02cscipy.sparse.csc\ncsc_matrix\n)\x81'
    return read_pickle(start + pickled[2:-1] + b'b.', 'test')

  np.testing.assert_array_equal(as_array(matrix(), 'J', 'test'), np.eye(3))
  for changes in (
    {'_shape': (1 << 30, 1 << 30)},
    {'_shape': (0, 3)},
    {'_shape': 'ab'},
    {'indices': np.array([0, 1, 3], np.int32)},
    {'indices': np.array([0, -1, 2], np.int32)},
    {'indices': np.array([0, 1], np.int32)},
    {'indices': np.array([0.0, 1, 2])},
    {'indptr': np.array([0, 2, 1, 3], np.int32)},
    {'indptr': np.array([0, 1, 2, 9], np.int32)},
    {'indptr': np.array([0, 1, 3], np.int32)},
    {'data': np.ones((3, 1))},
    {'data': 'none'},
  ):
    with pytest.raises(ValueError, match=r"^test: .*'J"):
      as_array(matrix(**changes), 'J', 'test')


def test_fuzzed_files_raise_nothing_but_value_error(chumpy):
  content = {
    'v_template': np.arange(12.0).reshape(4, 3),
    'f': np.array([[0, 1, 2]], np.uint32),
    'shapedirs': chumpy.Ch(np.zeros((2, 3))),
    'J_regressor': scipy.sparse.csc_matrix(np.eye(3)),
    'weights': np.asfortranarray(np.ones((2, 2), np.float32)),
    'tuple': (1, 'a', b'b', 2.5, collections.OrderedDict()),
  }
  seeds = [pickle.dumps(content, protocol) for protocol in range(6)]
  opcodes = [opcode.code.encode('latin1') for opcode in pickletools.opcodes]
  generator = random.Random(0)
  start, refused = time.process_time(), []
  for round_number in range(2000):
    data = bytearray(generator.choice(seeds))
    for _ in range(generator.choice([1, 1, 2, 8, 40])):
      place = generator.randrange(len(data))
      kind = generator.randrange(4)
      if kind == 0:
        data[place] = generator.randrange(256)
      elif kind == 1:
        data[place : place + 1] = generator.choice(opcodes)
      elif kind == 2:
        del data[place : place + generator.randrange(1, 6)]
      else:
        data[place:place] = generator.choice(opcodes) * generator.randrange(1, 3)
    try:
      value = read_pickle(bytes(data), 'fuzz', object_array=round_number % 7 == 0)
      for part in value.values() if isinstance(value, dict) else [value]:
        as_array(part, 'part', 'fuzz')
    except ValueError as error:
      refused.append(str(error))
  assert len(refused) > 1000
  assert all(message.startswith('fuzz: ') for message in refused)
  assert time.process_time() - start < 30


def test_arrays_are_read_only_views():
  value = read_pickle(pickle.dumps(np.arange(1000.0), 2), 'test')
  assert isinstance(value, PickledArray)
  with pytest.raises(ValueError, match='read-only'):
    value.array[0] = 1


def test_long_tables_are_read_when_the_caller_says_so():
  table = {f'frame {i}': i for i in range(300)}
  data = pickle.dumps(table)
  with pytest.raises(ValueError, match='more than 600 operations'):
    read_pickle(data, 'x.pkl', max_operations=600)
  assert read_pickle(data, 'x.pkl', max_operations=len(data)) == table
