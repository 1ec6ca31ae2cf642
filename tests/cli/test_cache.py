"""Compiled programs are kept where the user wants them, and never used for other sources."""

import os

from sa0_jax import cache


def _clear(monkeypatch):
  # Set, then deleted: monkeypatch restores what the code under test adds.
  for name in ('JAX_COMPILATION_CACHE_DIR', 'NUMBA_CACHE_DIR'):
    monkeypatch.setenv(name, '')
    monkeypatch.delenv(name)


def test_folders_lie_in_the_cache_home(monkeypatch, tmp_path):
  _clear(monkeypatch)
  monkeypatch.setenv('SA0_CACHE', str(tmp_path / 'c'))
  assert cache.keep_compiled_programs() == tmp_path / 'c'
  assert os.environ['JAX_COMPILATION_CACHE_DIR'] == str(tmp_path / 'c' / 'jax')
  assert os.environ['NUMBA_CACHE_DIR'].startswith(str(tmp_path / 'c' / 'numba'))


def test_the_users_folders_are_kept(monkeypatch, tmp_path):
  monkeypatch.setenv('SA0_CACHE', str(tmp_path))
  monkeypatch.setenv('JAX_COMPILATION_CACHE_DIR', 'mine')
  monkeypatch.setenv('NUMBA_CACHE_DIR', 'also mine')
  cache.keep_compiled_programs()
  assert os.environ['JAX_COMPILATION_CACHE_DIR'] == 'mine'
  assert os.environ['NUMBA_CACHE_DIR'] == 'also mine'


def test_other_sources_get_another_folder_and_old_ones_go(monkeypatch, tmp_path):
  monkeypatch.setenv('SA0_CACHE', str(tmp_path))
  names = []
  for digest in 'abcdef':
    _clear(monkeypatch)
    monkeypatch.setattr(cache, '_sources_digest', lambda digest=digest: digest)
    cache.keep_compiled_programs()
    names.append(os.environ['NUMBA_CACHE_DIR'])
    os.utime(names[-1], (0, 1_000_000 + ord(digest)))
  assert len(set(names)) == 6
  assert len(list((tmp_path / 'numba').iterdir())) == cache._KEPT_VERSIONS
  assert os.path.isdir(names[-1])


def test_unwritable_home_gives_numba_a_folder_of_this_process(monkeypatch, tmp_path):
  _clear(monkeypatch)
  (tmp_path / 'file').write_bytes(b'')
  monkeypatch.setenv('SA0_CACHE', str(tmp_path / 'file' / 'c'))
  assert cache.keep_compiled_programs() is None
  assert 'JAX_COMPILATION_CACHE_DIR' not in os.environ
  assert os.path.isdir(os.environ['NUMBA_CACHE_DIR'])
