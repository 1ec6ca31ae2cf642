"""LMDB read without LMDB: what the library writes comes back, damage is a plain error."""

import shutil

import numpy as np
import pytest

from sa0_jax.capture.importers.lmdb_file import LmdbFile

lmdb = pytest.importorskip('lmdb')


def write(path, seed=0, count=3000):
  """A database with a history: pages split, values deleted and replaced, small and large ones."""
  rng = np.random.default_rng(seed)
  content = {}
  with lmdb.open(str(path), map_size=1 << 28) as database:
    for start in range(0, count, 500):
      with database.begin(write=True) as transaction:
        for number in range(start, start + 500):
          key = f'video{rng.integers(50)}_{number}'.encode()
          content[key] = rng.bytes(int(rng.choice([0, 5, 900, 3000, 20_000])))
          transaction.put(key, content[key])
    with database.begin(write=True) as transaction:
      for key in list(content)[::7]:
        transaction.delete(key)
        del content[key]
      for key in list(content)[::5]:
        content[key] = rng.bytes(4000)
        transaction.put(key, content[key])
  return content


@pytest.fixture(scope='module')
def database(tmp_path_factory):
  path = tmp_path_factory.mktemp('lmdb') / 'db'
  return path, write(path)


def test_everything_comes_back(database):
  path, content = database
  read = LmdbFile(path)
  assert list(read) == sorted(content)
  assert len(read) == len(content)
  assert all(read.read(key) == value for key, value in content.items())
  assert b'video1_-1' not in read
  assert list(LmdbFile(path / 'data.mdb')) == list(read)


def test_an_empty_database(tmp_path):
  lmdb.open(str(tmp_path / 'e'), map_size=1 << 20).close()
  assert list(LmdbFile(tmp_path / 'e')) == []


def test_other_kinds_are_refused(tmp_path):
  with lmdb.open(str(tmp_path / 'd'), max_dbs=2) as database:
    named = database.open_db(b'inner')
    with database.begin(write=True) as transaction:
      transaction.put(b'key', b'value', db=named)
  with pytest.raises(ValueError, match='with databases in it'):
    LmdbFile(tmp_path / 'd')
  with pytest.raises(FileNotFoundError, match=r'data\.mdb: no such LMDB database'):
    LmdbFile(tmp_path)
  (tmp_path / 'data.mdb').write_bytes(b'not a database' * 1000)
  with pytest.raises(ValueError, match='no LMDB database'):
    LmdbFile(tmp_path)


def test_cut_off_files_are_named(tmp_path):
  write(tmp_path / 'db', count=500)
  whole = (tmp_path / 'db' / 'data.mdb').read_bytes()
  path = tmp_path / 'data.mdb'
  for size in (0, 10, 100, 4096, 5000, 8192, len(whole) // 2, len(whole) - 5000):
    path.write_bytes(whole[:size])
    with pytest.raises(ValueError, match=r'LMDB database'):
      LmdbFile(tmp_path)


def test_damage_never_does_more_than_raise_a_value_error(tmp_path):
  write(tmp_path / 'db', count=500)
  source = tmp_path / 'db' / 'data.mdb'
  whole = np.frombuffer(source.read_bytes(), np.uint8)
  path = tmp_path / 'x.mdb'
  shutil.copy(source, path)
  rng = np.random.default_rng(1)
  refused = 0
  for _ in range(300):
    data = whole.copy()
    # Structure is at the start of pages; that is where damage can mislead.
    pages = 4096 * rng.integers(0, len(data) // 4096, 20)
    data[pages + rng.integers(0, 64, 20)] = rng.integers(0, 256, 20)
    with open(path, 'r+b') as file:
      file.write(data.tobytes())
    try:
      read = LmdbFile(path)
      for key in read:
        read.read(key)
    except ValueError:
      refused += 1
  assert refused > 50
