"""The landmark environment: MediaPipe 0.10.21 in a virtual environment of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from sa0_jax.cache import cache_home

PACKAGE = 'mediapipe==0.10.21'
_PYTHONS = ('python3.11', 'python3.12', 'python3.10', 'python3.9', 'python3')
_SUPPORTED = ((3, 9), (3, 12))


def environment_folder() -> Path:
  """Where the landmark environment is, or will be."""
  return cache_home() / 'mediapipe-0.10.21'


def landmark_python() -> Path:
  """Python of the landmark environment; makes the environment when it is not there (about 1 GB).

  Raises:
    RuntimeError: no suitable Python is installed, or the installation failed.
  """
  folder = environment_folder()
  python = folder / 'bin' / 'python'
  if python.is_file():
    return python
  print(
    f'track: installing {PACKAGE} into {folder} (once, about 1 GB)', file=sys.stderr, flush=True
  )
  temporary = folder.with_name(f'.{folder.name}.{os.getpid()}')
  shutil.rmtree(temporary, ignore_errors=True)
  temporary.parent.mkdir(parents=True, exist_ok=True)
  try:
    _run([_suitable_python(), '-m', 'venv', str(temporary)])
    pip = [str(temporary / 'bin' / 'python'), '-m', 'pip', 'install', '--quiet']
    _run([*pip, '--disable-pip-version-check', PACKAGE])
    # Virtual environments run from where they are: only `bin/python` is used, which finds its
    # packages relative to itself.
    os.rename(temporary, folder)
  except BaseException:
    shutil.rmtree(temporary, ignore_errors=True)
    raise
  return python


def _suitable_python() -> str:
  for name in (sys.executable, *_PYTHONS):
    path = shutil.which(name)
    if path is None:
      continue
    asked = subprocess.run(
      [path, '-c', 'import sys; print(*sys.version_info[:2])'],
      capture_output=True,
      text=True,
      check=False,
    )
    if asked.returncode == 0:
      version = tuple(int(n) for n in asked.stdout.split())
      if _SUPPORTED[0] <= version <= _SUPPORTED[1]:
        return path
  raise RuntimeError(
    f'track: {PACKAGE} needs a Python from 3.9 to 3.12 on the PATH; install one, or pass '
    'what it would see, made elsewhere: --landmarks FILE.npz and --mattes PATH'
  )


def _run(command: list[str]) -> None:
  done = subprocess.run(command, capture_output=True, text=True, check=False)
  if done.returncode:
    last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ['no message']
    raise RuntimeError(f'track: {" ".join(command[:4])} … failed: {last[0]}')
