"""Compiled programs kept between runs, and everything else that can be made again."""

import atexit
import contextlib
import hashlib
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

_KEPT_VERSIONS = 4  # of compiled numba functions: one per state of the sources


def cache_home() -> Path:
  """Folder for what can be made again: `$SA0_CACHE`, else `$XDG_CACHE_HOME/sa0` or ~/.cache/sa0."""
  if named := os.environ.get('SA0_CACHE'):
    return Path(named).expanduser()
  return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'sa0'


def keep_compiled_programs() -> Path | None:
  """Has JAX and numba keep what they compile, for this process and the next ones.

  Call it before either is imported. `JAX_COMPILATION_CACHE_DIR` and `NUMBA_CACHE_DIR` are left
  alone where the user set them. A cache folder that cannot be written is no error: everything is
  compiled anew.

  Returns:
    The folder, or None when it cannot be written.
  """
  try:
    folder = cache_home()
    _make_writable(folder)
  except (OSError, RuntimeError):  # RuntimeError: there is no home folder
    _use_temporary_numba_cache()
    return None
  os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(folder / 'jax'))
  # A command compiles a hundred programs that take less than the second JAX starts to keep them at.
  os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.1')
  if 'NUMBA_CACHE_DIR' not in os.environ:
    os.environ['NUMBA_CACHE_DIR'] = str(_numba_folder(folder / 'numba'))
  return folder


def is_writable() -> bool:
  """Whether what is compiled can be kept."""
  try:
    _make_writable(cache_home())
  except (OSError, RuntimeError):
    return False
  return True


def _make_writable(folder: Path) -> None:
  """Makes the folder; OSError unless files can be made in it."""
  folder.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryFile(dir=folder):
    pass


def _numba_folder(parent: Path) -> Path:
  """Where functions compiled from the sources as they are now belong.

  Numba looks at the file a function stands in, not at the files it calls into: after an upgrade it
  would run old code. A folder for each state of the sources prevents that.
  """
  folder = parent / _sources_digest()
  folder.mkdir(parents=True, exist_ok=True)
  os.utime(folder)
  with contextlib.suppress(OSError):
    newest_first = sorted(parent.iterdir(), key=lambda p: p.stat().st_mtime, reverse=True)
    for old in newest_first[_KEPT_VERSIONS:]:
      shutil.rmtree(old, ignore_errors=True)
  return folder


def _sources_digest() -> str:
  """Hash of name, size and time of every source file with compiled functions in it."""
  digest = hashlib.sha256()
  for package in ('sa0_jax', 'sa0_kernels'):
    spec = importlib.util.find_spec(package)
    for root in (spec.submodule_search_locations or ()) if spec else ():
      for path in sorted(Path(root).rglob('*.py')):
        status = path.stat()
        digest.update(f'{path}:{status.st_size}:{status.st_mtime_ns};'.encode())
  return digest.hexdigest()[:16]


def _use_temporary_numba_cache() -> None:
  """Numba refuses to compile where it may write nothing: a folder for this process alone."""
  if 'NUMBA_CACHE_DIR' in os.environ:
    return
  with contextlib.suppress(OSError):
    folder = tempfile.mkdtemp(prefix='sa0-numba-')
    os.environ['NUMBA_CACHE_DIR'] = folder
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
