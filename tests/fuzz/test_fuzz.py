"""Damaged files: refused with one line, or read; never a crash, a hang, or anything executed."""

import os
import subprocess
import sys

import pytest

from tests.fuzz.mutations import mutate
from tests.fuzz.readers import READERS
from tests.structure.sources import ROOT

QUICK = 15  # files of each reader in the suite
ALL = 10_000  # of each reader in `make test-slow`


def feed(name, first, count):
  """Runs a worker; its last line says which file ended it."""
  paths = os.pathsep.join([str(ROOT), str(ROOT / 'kernels')])
  done = subprocess.run(
    [sys.executable, '-m', 'tests.fuzz.worker', name, str(first), str(count)],
    cwd=ROOT,
    env={**os.environ, 'PYTHONPATH': paths, 'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
    check=False,
  )
  last = done.stdout.strip().splitlines()[-1:]
  assert done.returncode == 0, f'{last}: exit {done.returncode}\n{done.stderr[-3000:]}'
  assert last == [f'{name if name in READERS else list(READERS)[-1]} seed {first + count - 1}']


def test_the_same_seed_is_the_same_damage():
  data = bytes(range(256)) * 4
  assert mutate(data, 5) == mutate(data, 5)
  assert sum(mutate(data, seed) != data for seed in range(100)) > 95


def test_damaged_files_are_refused():
  feed('all', 0, QUICK)


@pytest.mark.slow
@pytest.mark.parametrize('name', READERS)
def test_ten_thousand_damaged_files_are_refused(name):
  feed(name, QUICK, ALL)
