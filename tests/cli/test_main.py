"""The command line as a whole: help, usage, exit codes, quick start."""

import importlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import sa0_jax
from sa0_jax.cli import main as main_module
from sa0_jax.cli.errors import Interrupted, error_line
from sa0_jax.cli.main import COMMANDS, main

_ROOT = Path(sa0_jax.__file__).parents[1]


def test_every_command_has_help_with_an_example(capsys):
  for command in COMMANDS:
    assert main([command, '--help']) == 0
    text = capsys.readouterr().out
    assert f'example: sa0 {command}' in text or 'ACTION' in text, command
  assert main(['--help']) == 0
  listed = capsys.readouterr().out
  assert all(command in listed for command in COMMANDS)


def test_help_is_quick_and_imports_no_jax():
  program = (
    'import sys; from sa0_jax.cli.main import main; code = main(["--help"]);'
    'heavy = {"jax", "numpy", "cv2", "numba"} & set(sys.modules); assert not heavy, heavy;'
    'sys.exit(code)'
  )
  path = os.pathsep.join([str(_ROOT), str(_ROOT / 'kernels')])
  seconds = []
  for _ in range(3):
    begin = time.perf_counter()
    done = subprocess.run(
      [sys.executable, '-c', program],
      capture_output=True,
      text=True,
      check=False,
      env={**os.environ, 'PYTHONPATH': path},
    )
    seconds.append(time.perf_counter() - begin)
    assert done.returncode == 0, done.stderr
  assert min(seconds) < 1.5


@pytest.mark.parametrize(
  'words',
  [
    [],
    ['reconstitute'],
    ['refine'],
    ['refine', 'capture'],
    ['export', 'a.sa0', '--out', 'a.ply', '--config.steps=3'],
    ['refine', 'capture', '--out', 'a.sa0', '--config.steps'],
    ['refine', 'capture', '--out', 'a.sa0', '--prev', 'a.mp4'],
    ['render', 'a.sa0', '--out', 'a.mp4', '--background', 'mauve'],
    ['render', 'a.sa0', '--out', 'a.mp4', '--frames', '0'],
    ['render', 'a.sa0', '--out', 'a.mp4', '--size', '-3'],
    ['bench'],
  ],
)
def test_wrong_usage_is_two(words, capsys):
  assert main(words) == 2
  assert 'usage: sa0' in capsys.readouterr().err


def test_version(capsys):
  assert main(['--version']) == 0
  assert capsys.readouterr().out == f'sa0 {sa0_jax.__version__}\n'


@pytest.fixture
def raising(monkeypatch):
  """Makes `sa0 doctor` raise an error."""

  def replace(error):
    def run(_):
      raise error

    monkeypatch.setattr(importlib.import_module('sa0_jax.cli.doctor'), 'run', run)

  return replace


@pytest.mark.parametrize(
  'error',
  [
    ValueError('doctor: it is wrong\nand more'),
    RuntimeError('it is wrong'),
    FloatingPointError('it is wrong'),
    ImportError('it is wrong'),
    NotImplementedError('it is wrong'),
  ],
)
def test_expected_errors_are_one_line(raising, fails, error):
  raising(error)
  assert fails('doctor') == 'sa0 doctor: it is wrong'


def test_traceback_on_request(raising, monkeypatch):
  raising(ValueError('it is wrong'))
  monkeypatch.setenv('SA0_TRACEBACK', '1')
  with pytest.raises(ValueError, match='it is wrong'):
    main(['doctor'])


def test_bugs_keep_their_traceback(raising):
  raising(KeyError('a bug'))
  with pytest.raises(KeyError):
    main(['doctor'])


def test_interruption_says_what_was_saved(raising, sa0):
  raising(Interrupted('step 500 is kept'))
  code, _, errors = sa0('doctor')
  assert (code, errors.strip()) == (130, 'sa0 doctor: interrupted; step 500 is kept')
  raising(KeyboardInterrupt())
  assert sa0('doctor')[2].strip() == 'sa0 doctor: interrupted; nothing was written'


def test_errors_of_files_name_the_file():
  assert (
    error_line(PermissionError(13, 'Permission denied', 'a/b'), 'x') == 'a/b: Permission denied'
  )
  full = OSError(28, 'No space left on device', 'a/b')
  assert error_line(full, 'x').startswith('a/b: the disk is full')
  wrapped = RuntimeError('checkpoint failed')
  wrapped.__cause__ = full
  assert error_line(wrapped, 'x').startswith('a/b: the disk is full')
  assert 'the disk is full' in error_line(ValueError('RESOURCE: No space left on device'), 'x')
  assert error_line(ValueError(), 'x') == 'ValueError'


def test_unwritable_cache_is_not_fatal(sa0, monkeypatch, tmp_path):
  (tmp_path / 'file').write_bytes(b'')
  monkeypatch.setenv('SA0_CACHE', str(tmp_path / 'file' / 'cache'))
  code, output, _ = sa0('doctor')
  assert code == 0
  assert 'not writable' in output


def test_module_runs_as_a_program():
  assert main_module.__file__.endswith('main.py')
  done = subprocess.run(
    [sys.executable, '-m', 'sa0_jax.cli.main', '--version'],
    capture_output=True,
    text=True,
    check=False,
    env={**os.environ, 'PYTHONPATH': os.pathsep.join([str(_ROOT), str(_ROOT / 'kernels')])},
  )
  assert done.stdout.startswith('sa0 ')
