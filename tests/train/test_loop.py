"""The loop: runs that are cut and gone on with have the bits of those that are not."""

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from sa0_jax.data.config import BuildConfig, DataConfig
from sa0_jax.data.pipeline import Process
from sa0_jax.data.prepared import PreparedData
from sa0_jax.generator.checkpoint import load_generator
from sa0_jax.train import loop as loop_lib
from sa0_jax.train.checkpoint import CheckpointConfig, saved_position
from sa0_jax.train.config import TrainConfig, WatchConfig
from sa0_jax.train.loop import Session, train
from sa0_jax.train.phases import phases
from sa0_jax.train.validate import held_out
from sa0_jax.train.weights import find, read_generator
from tests.data.scenes import prepare, save_captures
from tests.structure.sources import ROOT
from tests.train.runs import config_file, settings

STEPS = 2  # of each phase
PEOPLE = 3  # the last is held out


@pytest.fixture(scope='module')
def datasets(tmp_path_factory) -> tuple[str, str]:
  """A monocular data set and a multi-view one."""
  where, size = tmp_path_factory.mktemp('data'), settings().generator.image_size
  splits = {'train': ['p0', 'p1'], 'val': ['p2']}
  clips = save_captures(where / 'clips', PEOPLE, size=size)
  stages = save_captures(where / 'stages', PEOPLE, instants=2, views=3, size=size)
  one = prepare(clips, where, splits, BuildConfig()).path
  two = prepare(stages, where, splits, BuildConfig(name='sa0_multiview')).path
  return str(one), str(two)


@pytest.fixture(scope='module')
def config(datasets) -> TrainConfig:
  base = settings()

  def phase(one, folders):
    data = DataConfig(folders, threads=2)
    return dataclasses.replace(one, steps=STEPS, data=data)

  return dataclasses.replace(
    base,
    phase1=phase(base.phase1, datasets[:1]),
    phase2=phase(base.phase2, datasets),
    checkpoints=CheckpointConfig(every=1, keep=9),
    watch=WatchConfig(
      log_every=1, pictures_every=0, validate_every=0, validation_batches=1, tensorboard=False
    ),
  )


@pytest.fixture(scope='module')
def whole(config, tmp_path_factory) -> Path:
  """A run that nobody disturbs."""
  folder = tmp_path_factory.mktemp('whole')
  result = train(config, folder, Session(say=lambda text: None))
  assert result.finished
  assert result.step == 2 * STEPS
  assert set(result.scores) == {'sa0_monocular', 'sa0_multiview'}
  assert all(10 < scores.psnr < 60 for scores in result.scores.values())
  return folder


def saved(folder: Path, step: int) -> dict[str, np.ndarray]:
  """All arrays of a checkpoint, as orbax alone reads them, and the position of the data."""
  import orbax.checkpoint as ocp

  with ocp.StandardCheckpointer() as reader:
    tree = reader.restore(folder / 'checkpoints' / str(step) / 'state')
  leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
  return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def same(one: Path, two: Path, step: int = 2 * STEPS) -> None:
  first, second = saved(one, step), saved(two, step)
  assert first.keys() == second.keys()
  assert any('optimizer' in name for name in first)
  for name, value in first.items():
    np.testing.assert_array_equal(value, second[name], err_msg=name)


def lines(folder: Path) -> list[dict]:
  return [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]


def test_both_phases_leave_what_they_promise(whole, config):
  logged = [line for line in lines(whole) if 'loss' in line]
  assert [line['step'] for line in logged] == [1, 2, 3, 4]
  assert [line['phase'] for line in logged] == [1, 1, 2, 2]
  assert all(np.isfinite(line['loss']) for line in logged)
  assert logged[2]['loss/anchor'] == 0  # Phase 2 begins where it is anchored
  assert logged[3]['loss/anchor'] > 0
  one, two = saved(whole, STEPS), saved(whole, 2 * STEPS)
  anchored = {name: value for name, value in two.items() if "['anchor']" in name}
  assert anchored
  for name, value in anchored.items():
    np.testing.assert_array_equal(value, one[name.replace('anchor', 'trainable')])
  assert load_generator(whole / 'generator.npz').config == config.generator
  assert json.loads((whole / 'config.json').read_text())['phase2']['anchor'] == 1e-3
  again = (whole / 'generator.npz').stat().st_mtime_ns
  assert train(config, whole, Session(say=lambda text: None)).finished  # nothing is left to do
  assert [line['step'] for line in lines(whole) if 'loss' in line] == [1, 2, 3, 4]
  assert (whole / 'generator.npz').stat().st_mtime_ns >= again


def test_a_checkpoint_holds_the_network_of_the_file(whole):
  """Without the data, the optimiser and the run's devices."""
  found = read_generator(whole / 'checkpoints', 'latest')
  expected = load_generator(whole / 'generator.npz')
  assert (found.position.step, found.position.phase) == (2 * STEPS, 2)
  assert found.generator.config == expected.config
  jax.tree.map(np.testing.assert_array_equal, found.generator, expected)
  scores = [saved_position(whole / 'checkpoints', step).score for step in (STEPS, 2 * STEPS)]
  best = find(whole / 'checkpoints', 'best')
  assert best.score == max(scores)


@pytest.mark.slow
@pytest.mark.parametrize('steps', [1, STEPS, STEPS + 1])
def test_a_run_that_was_stopped_goes_on_with_the_same_bits(steps, whole, config, tmp_path):
  """In a phase, at the boundary of phases, and in the second one."""
  stop, said = threading.Event(), []

  def progress(text: str) -> None:
    if text.startswith(f'step {steps}/'):
      stop.set()

  result = train(config, tmp_path, Session(said.append, progress, stop=stop))
  assert not result.finished
  assert 'saved: the same command goes on' in said[-1]
  said.clear()
  assert train(config, tmp_path, Session(said.append)).finished
  assert said[0] == f'going on from step {result.step} of {2 * STEPS}'
  same(whole, tmp_path)


_KILLED = """
import os, signal, sys
from sa0_jax.train import loop
from sa0_jax.config import from_config_dict, load_config
from sa0_jax.train.config import TrainConfig

def progress(text):
  if text.startswith('step 3/'):
    os.kill(os.getpid(), signal.SIGKILL)

config = from_config_dict(TrainConfig, load_config(sys.argv[1]))
loop.train(config, sys.argv[2], loop.Session(progress=progress))
"""


def test_a_run_that_was_killed_goes_on_with_the_same_bits(whole, config, tmp_path):
  folder = tmp_path / 'run'
  done = subprocess.run(
    [sys.executable, '-c', _KILLED, str(config_file(config, tmp_path)), str(folder)],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
  said = []
  assert train(config, folder, Session(said.append)).finished
  assert said[0].startswith('going on from step ')
  same(whole, folder)
  steps = [line['step'] for line in lines(folder) if 'loss' in line]
  assert steps == [1, 2, 3, 4]  # each once


def test_another_run_is_not_gone_on_with(whole, config):
  other = dataclasses.replace(config, seed=1)
  with pytest.raises(ValueError, match=r'made by another run .*seed: 0 then, 1 now'):
    train(other, whole, Session(say=lambda text: None))


def test_a_data_set_is_drawn_as_it_was_filmed_wherever_it_lies(config, datasets, tmp_path):
  """Folders used to be read by their names: elsewhere, sixteen cameras were scored as a video."""
  folders = tuple(
    str(shutil.copytree(one, tmp_path / name / Path(one).name))
    for one, name in zip(datasets, ('sa0_multiview', 'mine'), strict=True)
  )
  watch = dataclasses.replace(config.watch, datasets=folders)
  sets, notes = held_out(dataclasses.replace(config, watch=watch), phases(config)[0], Process())
  assert [one.name for one in sets] == ['sa0_monocular', 'sa0_multiview']
  assert not notes


def test_phases_must_share_a_head_model(config, datasets, tmp_path):
  """Phase 2 would pose the wrong mesh, after days of Phase 1."""
  folder = shutil.copytree(datasets[1], tmp_path / 'sa0_multiview' / Path(datasets[1]).name)
  manifest = folder / 'sa0_build.json'
  table = json.loads(manifest.read_text())
  table['head']['fingerprint'] = 'another'
  manifest.write_text(json.dumps(table))
  data = dataclasses.replace(config.phase2.data, datasets=(str(folder),))
  mixed = dataclasses.replace(config, phase2=dataclasses.replace(config.phase2, data=data))
  with pytest.raises(ValueError, match='they cannot be mixed'):
    train(mixed, tmp_path / 'run', Session(say=lambda text: None))


@pytest.mark.slow
def test_a_loss_that_is_not_finite_names_step_frames_and_checkpoint(config, tmp_path, monkeypatch):
  made = loop_lib.make_feed

  def broken(mesh, head):
    feed, count = made(mesh, head), iter(range(100))

    def later(frames):
      batch = feed(frames)
      if next(count) < 1:
        return batch
      return batch._replace(targets=batch.targets._replace(image=batch.targets.image * np.nan))

    return later

  monkeypatch.setattr(loop_lib, 'make_feed', broken)
  with pytest.raises(FloatingPointError) as error:
    train(config, tmp_path, Session(say=lambda text: None))
  message = str(error.value)
  assert message.startswith('step 2: loss nan')
  assert 'the last good checkpoint is 1 in' in message
  assert f'{config.phase1.data.datasets[0]} rows ' in message


@pytest.mark.slow
def test_room_for_more_gaussians_is_made_and_bits_stay(whole, config, tmp_path):
  """With a buffer that is far too small at first."""
  goal = dataclasses.replace(config.phase1.objective, capacity=64)
  small = dataclasses.replace(config, phase1=dataclasses.replace(config.phase1, objective=goal))
  said = []
  train(small, tmp_path, Session(said.append))
  needs = [text for text in said if 'instances: compiling again' in text]
  if not needs:
    pytest.skip('this rasterizer has no buffer to overflow')
  same(whole, tmp_path)


def test_lpips_without_its_files_is_one_line(config, tmp_path):
  weights = dataclasses.replace(config.phase1.objective.weights, lpips=1.0)
  goal = dataclasses.replace(config.phase1.objective, weights=weights)
  needs = dataclasses.replace(config, phase1=dataclasses.replace(config.phase1, objective=goal))
  with pytest.raises(ValueError, match='LPIPS term needs weights that are not ours to ship'):
    train(needs, tmp_path)


@pytest.mark.slow
def test_a_full_disk_ends_the_run_and_loses_nothing(whole, config, tmp_path, monkeypatch):
  from sa0_jax.train import checkpoint

  usage = shutil.disk_usage
  calls = iter(range(100))

  def full(path):
    found = usage(path)
    return found if next(calls) < 2 else found._replace(free=0)

  monkeypatch.setattr(checkpoint.shutil, 'disk_usage', full)
  with pytest.raises(OSError, match='No space left'):
    train(config, tmp_path, Session(say=lambda text: None))
  monkeypatch.setattr(checkpoint.shutil, 'disk_usage', usage)
  said = []
  assert train(config, tmp_path, Session(said.append)).finished
  assert said[0].startswith('going on from step ')
  same(whole, tmp_path)


@pytest.mark.slow
def test_data_that_cannot_be_read_ends_the_run_and_loses_nothing(
  whole, config, tmp_path, monkeypatch
):
  """A thread of the data fails, in Phase 2: the run ends with what it said."""
  read = PreparedData.read

  def broken(self, row):
    if 'sa0_multiview' in str(self.path) and self.split == 'train':
      raise ValueError(f'{self.path}: record {row} is damaged')
    return read(self, row)

  monkeypatch.setattr(PreparedData, 'read', broken)
  with pytest.raises(ValueError, match=r'sa0_multiview.*record \d+ is damaged'):
    train(config, tmp_path, Session(say=lambda text: None))
  monkeypatch.setattr(PreparedData, 'read', read)
  said = []
  assert train(config, tmp_path, Session(said.append)).finished
  assert said[0].startswith(f'going on from step {STEPS}')
  same(whole, tmp_path)


@pytest.mark.slow
def test_sigterm_saves_and_says_so_by_its_code(whole, config, tmp_path):
  """The command line, the signal, the exit code, the same command again."""
  folder = tmp_path / 'run'
  words = [
    sys.executable,
    '-m',
    'sa0_jax.cli.main',
    'train',
    f'--config={config_file(config, tmp_path)}',
  ]
  process = subprocess.Popen(
    [*words, f'--workdir={folder}'], cwd=ROOT, stderr=subprocess.PIPE, text=True
  )
  metrics = folder / 'metrics.jsonl'
  end = time.monotonic() + 300
  while process.poll() is None and time.monotonic() < end:
    if metrics.exists() and metrics.read_text().count('\n') >= 1:
      process.send_signal(signal.SIGTERM)
      break
    time.sleep(0.05)
  _, error = process.communicate(timeout=300)
  assert process.returncode in (0, 75), error[-2000:]
  assert process.returncode == 75 or 'held out' in error  # it may have been done already
