"""Two processes of four devices train as one of eight, and go on with each other's runs."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sa0_jax.data.config import BuildConfig, DataConfig
from sa0_jax.train.checkpoint import CheckpointConfig
from sa0_jax.train.config import TrainConfig, WatchConfig
from tests.data.scenes import prepare, save_captures
from tests.structure.sources import ROOT
from tests.train.runs import config_file, settings

STEPS = 3
# Sums over devices are made in another order; two steps of Adam later that is all there is.
TOLERANCE = 1e-4


@pytest.fixture(scope='module')
def config(tmp_path_factory) -> TrainConfig:
  where, base = tmp_path_factory.mktemp('data'), settings()
  clips = save_captures(where / 'clips', 2, size=base.generator.image_size)
  folder = prepare(clips, where, {'train': ['p0', 'p1']}, BuildConfig()).path
  data = DataConfig((str(folder),), threads=1)
  return dataclasses.replace(
    base,
    phase1=dataclasses.replace(base.phase1, steps=STEPS, batch_size=8, data=data),
    phase2=dataclasses.replace(base.phase2, steps=0),
    fsdp=2,
    checkpoints=CheckpointConfig(every=1, keep=9),
    watch=WatchConfig(log_every=1, pictures_every=0, validate_every=0, tensorboard=False),
  )


@pytest.fixture(scope='module')
def launch(config, tmp_path_factory):
  """Runs `sa0 train` over some processes of made-up devices; the losses it logged."""
  where = tmp_path_factory.mktemp('launch')
  file = config_file(config, where)

  def start(processes: int, devices: int, folder: Path) -> list[dict]:
    words = [str(processes), '--fake-devices', str(devices), '--grace', '30', '--']
    done = subprocess.run(
      [
        'bash',
        'launch/local/multiprocess.sh',
        *words,
        f'--config={file}',
        f'--workdir={folder}',
      ],
      cwd=ROOT,
      env={
        **os.environ,
        'SA0_COMMAND': f'{sys.executable} -m sa0_jax.cli.main train',
        'SA0_CACHE': str(where / 'cache'),
        'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',  # hundreds of small programs
        'TF_CPP_MIN_LOG_LEVEL': '2',
      },
      capture_output=True,
      text=True,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    text = (folder / 'metrics.jsonl').read_text()
    return [line for line in map(json.loads, text.splitlines()) if 'loss' in line]

  return start


def cut(run: Path, folder: Path, step: int) -> Path:
  """A copy of a run whose later checkpoints are gone."""
  shutil.copytree(run, folder)
  for path in (folder / 'checkpoints').iterdir():
    if int(path.name) > step:
      shutil.rmtree(path)
  return folder


def test_two_processes_of_four_devices_are_one_of_eight(launch, tmp_path):
  one = launch(1, 8, tmp_path / 'one')
  assert [line['step'] for line in one] == [1, 2, 3]
  # Two go on where one was cut, and one where the two were.
  two = launch(2, 4, cut(tmp_path / 'one', tmp_path / 'two', 1))
  back = launch(1, 8, cut(tmp_path / 'two', tmp_path / 'back', 2))
  for run in (two, back):
    assert [line['step'] for line in run] == [1, 2, 3]
    for line, expected in zip(run, one, strict=True):
      for name in ('loss', 'psnr', 'gradient_norm'):
        assert line[name] == pytest.approx(expected[name], rel=TOLERANCE), (line['step'], name)
