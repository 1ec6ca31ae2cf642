"""Interrupted at any moment, a refinement ends with the bytes of an uninterrupted one."""

import dataclasses
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sa0_jax.capture.splits import Split
from sa0_jax.refine.checkpoint import CheckpointStore
from sa0_jax.refine.loop import refine_subjects
from sa0_jax.refine.step import initial_state
from tests.refine import interrupted
from tests.refine.scenes import CONFIG, small_capture, start_avatar

ROOT = pathlib.Path(__file__).resolve().parents[2]
PATIENCE = 120.0  # seconds until a process must have got somewhere


def capture_with(test=()):
  """The capture, with test frames of a split."""
  split = Split.of_parts([set(range(3)), set(), set(test)]) if test else None
  return dataclasses.replace(small_capture(), split=split)


def stopped_after(step, folder, test=()):
  """Runs until the progress report of a step, and dies there."""

  class Stop(Exception):
    pass

  def watch(progress):
    if progress.step == step:
      raise Stop

  with pytest.raises(Stop):
    refine_subjects(
      [start_avatar()], [capture_with(test)], CONFIG, checkpoints=folder, progress=watch
    )


def saved(avatar, folder) -> bytes:
  avatar.save(folder / 'x.sa0')
  return (folder / 'x.sa0').read_bytes()


@pytest.mark.parametrize('step', [3, 7, 9])
def test_a_resumed_run_ends_with_the_same_bytes(tmp_path, step):
  stopped_after(step, tmp_path / 'checkpoints')
  [resumed] = refine_subjects(
    [start_avatar()], [small_capture()], CONFIG, checkpoints=tmp_path / 'checkpoints'
  )
  assert resumed.report['resumed_at_step'] == step // CONFIG.checkpoint_every * 3
  [whole] = refine_subjects([start_avatar()], [small_capture()], CONFIG)
  assert whole.report['resumed_at_step'] == 0
  assert saved(resumed.avatar, tmp_path) == saved(whole.avatar, tmp_path)


def test_intervals_may_differ_between_the_parts_of_a_run(tmp_path):
  stopped_after(7, tmp_path / 'checkpoints')
  other = dataclasses.replace(CONFIG, steps_per_call=1, checkpoint_every=1)
  [resumed] = refine_subjects(
    [start_avatar()], [small_capture()], other, checkpoints=tmp_path / 'checkpoints'
  )
  assert resumed.report['resumed_at_step'] == 6
  [whole] = refine_subjects([start_avatar()], [small_capture()], CONFIG)
  assert saved(resumed.avatar, tmp_path) == saved(whole.avatar, tmp_path)


@pytest.mark.parametrize(
  ('changed', 'named'),
  [({'seed': 5}, 'seed'), ({'steps': 11}, 'steps'), ({'l1_weight': 0.5}, 'l1_weight')],
)
def test_a_checkpoint_of_other_settings_is_refused(tmp_path, changed, named):
  stopped_after(4, tmp_path)
  other = dataclasses.replace(CONFIG, **changed)
  with pytest.raises(ValueError, match=f'made by another run.*{named}'):
    refine_subjects([start_avatar()], [small_capture()], other, checkpoints=tmp_path)


def test_a_checkpoint_of_another_subject_is_refused(tmp_path):
  stopped_after(4, tmp_path)
  with pytest.raises(ValueError, match='made by another run'):
    refine_subjects([start_avatar(1)], [small_capture(seed=1)], CONFIG, checkpoints=tmp_path)
  with pytest.raises(ValueError, match='made by another run'):
    refine_subjects([start_avatar(1)], [small_capture()], CONFIG, checkpoints=tmp_path)


def test_a_checkpoint_of_another_split_is_refused(tmp_path):
  stopped_after(4, tmp_path, test={4})
  with pytest.raises(ValueError, match=r"made by another run.*'test': '4'.* then, .*'test': '3:5'"):
    stopped_after(4, tmp_path, test={3, 4})
  [resumed] = refine_subjects([start_avatar()], [capture_with({4})], CONFIG, checkpoints=tmp_path)
  assert resumed.report['resumed_at_step'] == 3


def test_the_store_keeps_the_newest_and_gives_back_every_bit(tmp_path):
  state = initial_state(CONFIG, jax.tree.map(lambda a: a[None], start_avatar().gaussians))
  store = CheckpointStore(tmp_path / 'c', {'who': 'me'})
  assert store.restore(state) is None
  for step in (2, 4, 6):
    store.save(dataclasses.replace(state, step=jnp.asarray(step, jnp.int32)))
  store.close()
  assert sorted(p.name for p in (tmp_path / 'c').iterdir()) == ['4', '6']
  again = CheckpointStore(tmp_path / 'c', {'who': 'me'}).restore(state)
  assert int(again.step) == 6
  for a, b in zip(*map(jax.tree.leaves, (again.optimizer, state.optimizer)), strict=True):
    np.testing.assert_array_equal(a, b)
  CheckpointStore(tmp_path / 'c', {'who': 'me'}).remove()
  assert not (tmp_path / 'c').exists()


def test_a_damaged_checkpoint_is_told_of_and_the_one_before_goes_on(tmp_path):
  rng = np.random.default_rng(0)
  gaussians = jax.tree.map(
    lambda a: jnp.asarray(rng.normal(size=(1, *a.shape)), a.dtype), start_avatar().gaussians
  )
  template = initial_state(CONFIG, gaussians)
  store = CheckpointStore(tmp_path, {'who': 'me'})
  for step in (2, 4):
    store.save(dataclasses.replace(template, step=jnp.asarray(step, jnp.int32)))
  store.close()
  arrays = max((tmp_path / '4').rglob('*'), key=lambda path: path.stat().st_size)
  whole = arrays.read_bytes()
  flipped = bytearray(whole)
  flipped[len(whole) // 2] ^= 1
  for damaged in (whole[: len(whole) // 2], bytes(flipped)):
    arrays.write_bytes(damaged)
    with pytest.raises(ValueError, match=r'4: a damaged checkpoint .* goes on from the one before'):
      CheckpointStore(tmp_path, {'who': 'me'}).restore(template)
  shutil.rmtree(tmp_path / '4')
  assert int(CheckpointStore(tmp_path, {'who': 'me'}).restore(template).step) == 2


@pytest.fixture(scope='module')
def uninterrupted(tmp_path_factory) -> bytes:
  """The avatar file of a run nobody disturbed."""
  folder = tmp_path_factory.mktemp('uninterrupted')
  small_capture().save(folder / 'capture')
  interrupted.main(folder, checkpoints=False)
  return (folder / 'avatar.sa0').read_bytes()


@pytest.fixture(scope='module')
def start(tmp_path_factory):
  """Starts a refinement in a process of its own."""
  cache = tmp_path_factory.mktemp('compiled')
  environment = {
    **os.environ,
    'PYTHONPATH': os.pathsep.join([str(ROOT), str(ROOT / 'kernels')]),
    'JAX_COMPILATION_CACHE_DIR': str(cache),  # so that only the first start compiles
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
  }

  def launch(folder, *arguments):
    command = [sys.executable, '-m', 'tests.refine.interrupted', folder, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)

  return launch


def kill_when(process, condition, delay=0.0):
  """Sends SIGKILL once a condition holds; fails when the process ends before."""
  begin = time.monotonic()
  while not condition():
    assert process.poll() is None, process.stderr.read()
    assert time.monotonic() - begin < PATIENCE, 'nothing happened'
    time.sleep(0.0005)
  time.sleep(delay)
  process.send_signal(signal.SIGKILL)
  process.communicate()
  return process.returncode == -signal.SIGKILL


def newest(folder) -> int:
  """The last step with a checkpoint that is whole; 0 without one."""
  return max(
    (int(p.name) for p in (folder / 'checkpoints').glob('*') if p.name.isdigit()), default=0
  )


def test_kill_9_at_any_moment_then_the_same_bytes(tmp_path, start, uninterrupted):
  small_capture().save(tmp_path / 'capture')
  delay = random.SystemRandom().uniform(0.0, 0.5)
  print(f'killed {delay:.3f} s after the first checkpoint')  # shown when the test fails
  assert kill_when(start(tmp_path), lambda: newest(tmp_path) > 0, delay)

  # Then while a checkpoint is being written: it stands there under a temporary name.
  done = newest(tmp_path)

  def writing():
    names = [p.name for p in (tmp_path / 'checkpoints').iterdir()]
    return newest(tmp_path) > done and any(not name.isdigit() for name in names)

  assert kill_when(start(tmp_path), writing)
  reached = newest(tmp_path)
  assert 0 < reached < interrupted.SETTINGS.steps
  assert not (tmp_path / 'avatar.sa0').exists()

  interrupted.main(tmp_path)
  assert (tmp_path / 'avatar.sa0').read_bytes() == uninterrupted


@pytest.mark.slow
def test_a_full_disk_loses_nothing(tmp_path, start, uninterrupted):
  """Files beyond a few kB cannot be written: the run fails, what was there stays usable."""
  small_capture().save(tmp_path / 'capture')
  assert kill_when(start(tmp_path), lambda: newest(tmp_path) > 0)
  (tmp_path / 'avatar.sa0').write_bytes(b'an older avatar')
  process = start(tmp_path, 10_000)
  _, errors = process.communicate(timeout=PATIENCE)
  assert process.returncode == 1, errors
  assert newest(tmp_path) > 0
  assert (tmp_path / 'avatar.sa0').read_bytes() == b'an older avatar'
  interrupted.main(tmp_path)
  assert (tmp_path / 'avatar.sa0').read_bytes() == uninterrupted
