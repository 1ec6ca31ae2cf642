"""The same batches whoever makes them, from any step on; bounded memory; damage is named."""

import dataclasses
import shutil
import threading
from pathlib import Path

import jax
import numpy as np
import pytest

from sa0_jax.capture.capture import load_capture
from sa0_jax.config import from_config_dict, load_config, with_overrides
from sa0_jax.data import pipeline
from sa0_jax.data.batches import FrameBatch, batch_bytes
from sa0_jax.data.config import DataConfig
from sa0_jax.data.pipeline import Process, Run, host_bytes, make_batches, mixed_draws, on_devices
from sa0_jax.data.prepared import open_prepared
from sa0_jax.processes import worker_pool
from sa0_jax.train.config import TrainConfig
from tests.data.scenes import SIZE, batch_hash, batches_of_part

RUN = Run(batch_size=4, image_size=SIZE, steps=5, seed=11)


@pytest.fixture(scope='module')
def data(monocular, multiview):
  """Both sets, three to one."""
  return DataConfig((monocular, str(Path(multiview).parent)), (3.0, 1.0), threads=0, prefetch=0)


@pytest.fixture(scope='module')
def hashes(data):
  return [batch_hash(batch) for batch in make_batches(data, RUN)]


@pytest.mark.parametrize(('threads', 'prefetch'), [(0, 2), (2, 1), (4, 4), (None, 2)])
def test_threads_do_not_change_batches(data, hashes, threads, prefetch):
  workers = dataclasses.replace(data, threads=threads, prefetch=prefetch)
  assert [batch_hash(batch) for batch in make_batches(workers, RUN)] == hashes
  assert len(set(hashes)) == RUN.steps


@pytest.fixture(scope='module')
def two_processes():
  with worker_pool(2) as pool:
    yield pool


@pytest.mark.parametrize('phase', [1, 2])
def test_parts_of_processes_are_the_whole_batch(data, two_processes, phase):
  run = dataclasses.replace(RUN, phase=phase)
  jobs = [two_processes.submit(batches_of_part, data, run, index, 2) for index in range(2)]
  parts = [job.result() for job in jobs]
  for whole, *halves in zip(make_batches(data, run), *parts, strict=True):
    joined = jax.tree.map(lambda *leaves: np.concatenate(leaves), *halves)
    assert batch_hash(joined) == batch_hash(whole)


@pytest.mark.parametrize('devices', [False, True])
def test_a_restored_iterator_goes_on(data, hashes, devices):
  def start():
    batches = make_batches(dataclasses.replace(data, threads=2, prefetch=3), RUN)
    return iter(on_devices(batches, jax.device_put) if devices else batches)

  iterator = start()
  states = []
  for step in range(3):
    states.append(iterator.get_state())
    assert batch_hash(next(iterator)) == hashes[step]
  states.append(iterator.get_state())
  for step, state in enumerate(states):
    again = start()
    again.set_state(state)
    assert [batch_hash(batch) for batch in again] == hashes[step:]


def test_data_sets_are_drawn_by_weight(data):
  datasets = [open_prepared(folder, 'train') for folder in data.datasets]
  weighted = dataclasses.replace(data, weights=(0.7, 0.3))
  draws = mixed_draws(datasets, weighted, RUN)
  # What is drawn from which set is known before anything is drawn.
  picked = np.array([draws.parents[0][number] for number in range(100_000)])
  assert np.mean(picked == 0) == pytest.approx(0.7, abs=0.01)
  for start in range(0, 100_000, 1000):
    assert np.mean(picked[start : start + 1000] == 0) == pytest.approx(0.7, abs=0.01)


def test_batches_hold_what_draws_name(data, captures):
  batch = next(iter(make_batches(data, RUN)))
  assert isinstance(batch, FrameBatch)
  assert batch.images.shape == (4, 5, SIZE, SIZE, 3)
  assert sorted(batch.dataset.tolist()) == [0, 0, 0, 1]
  seen = 0
  for person in np.flatnonzero(batch.dataset == 0):
    for frame in np.flatnonzero(batch.rows[person] >= 0):
      subject, position = divmod(int(batch.rows[person, frame]), 7)
      capture = load_capture(captures / f'p{subject}')
      pixels = capture.frames[position].pixels
      np.testing.assert_array_equal(batch.images[person, frame], pixels.image)
      np.testing.assert_array_equal(batch.mattes[person, frame], pixels.matte)
      np.testing.assert_array_equal(batch.codes.shape[person, frame], capture.codes.shape)
      np.testing.assert_array_equal(batch.codes.jaw[person, frame], capture.codes.jaw[position])
      view = batch.camera.world_to_camera[person, frame]
      np.testing.assert_array_equal(view, capture.camera.world_to_camera[position])
      seen += 1
  assert seen >= 6
  np.testing.assert_array_equal(batch.mask, batch.rows[:, 1:] >= 0)


def test_padding_is_black_and_finite(data):
  padded = 0
  for batch in make_batches(data, RUN):
    absent = batch.rows < 0
    padded += absent.sum()
    assert not batch.images[absent].any()
    assert not batch.mattes[absent].any()
    first = np.broadcast_to(batch.codes.expression[:, 1:2], batch.codes.expression.shape)
    np.testing.assert_array_equal(batch.codes.expression[absent], first[absent])
    for leaf in jax.tree.leaves(batch):
      assert np.isfinite(leaf).all()
  assert padded


def test_images_come_at_the_size_of_the_network(data):
  small = next(iter(make_batches(data, dataclasses.replace(RUN, image_size=16))))
  large = next(iter(make_batches(data, dataclasses.replace(RUN, image_size=96))))
  assert small.images.shape[2:4] == (16, 16)
  assert (small.camera.width, large.camera.width) == (16, 96)
  np.testing.assert_allclose(small.camera.intrinsics * 6, large.camera.intrinsics, rtol=1e-6)
  np.testing.assert_allclose(small.face_box * 6, large.face_box, rtol=1e-6)


def test_memory_is_bounded(data, monkeypatch):
  """No more batches exist at once than `host_bytes` counts."""
  alive, most, lock = 0, 0, threading.Lock()
  load = pipeline.Loader.__call__

  def counted(loader, draws):
    nonlocal alive, most
    with lock:
      alive += 1
      most = max(most, alive)
    return load(loader, draws)

  monkeypatch.setattr(pipeline.Loader, '__call__', counted)
  run = dataclasses.replace(RUN, steps=30)
  workers = dataclasses.replace(data, threads=2, prefetch=3)
  for _ in make_batches(workers, run):
    with lock:
      alive -= 1  # the last one is about to be dropped
  assert most * batch_bytes(4, SIZE) <= host_bytes(workers, run)
  assert batch_bytes(4, SIZE) == pytest.approx(
    sum(leaf.nbytes for leaf in next(iter(make_batches(data, RUN)))[:2])
  )


def test_a_damaged_record_is_named(monocular, tmp_path):
  folder = shutil.copytree(monocular, tmp_path / 'data')
  shard = folder / 'sa0_monocular-train.array_record-00001-of-00005'
  content = shard.read_bytes()
  image = open_prepared(folder, 'train').encoded(6)['image']
  assert content.count(image) == 1
  shard.write_bytes(content.replace(image, bytes(len(image))))
  config = DataConfig((str(folder),), threads=2, prefetch=2)
  with pytest.raises(ValueError, match=r"record 6 of split 'train' is damaged"):
    list(make_batches(config, dataclasses.replace(RUN, steps=20)))


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ({'datasets': (), 'weights': ()}, 'no data sets are named'),
    ({'split': 'val'}, "has no split 'val', there are train"),
    ({'datasets': ('nowhere', 'there')}, 'no data set here'),
  ],
)
def test_what_cannot_be_read(data, values, message):
  with pytest.raises((ValueError, FileNotFoundError), match=message):
    make_batches(dataclasses.replace(data, **values), RUN)


def test_images_must_be_square(monocular, tmp_path):
  folder = shutil.copytree(monocular, tmp_path / 'data')
  manifest = folder / 'sa0_build.json'
  manifest.write_text(manifest.read_text().replace('"height": 32', '"height": 24'))
  with pytest.raises(ValueError, match='32 x 24 px; networks take square ones'):
    make_batches(DataConfig((str(folder),)), RUN)


def test_the_command_line_names_data_sets():
  changed = {
    'phase1.data.datasets': 'a/sa0_monocular,b/sa0_multiview',
    'phase1.data.weights': '3,1',
  }
  config = with_overrides(TrainConfig, load_config('debug'), changed | {'phase1.data.threads': '4'})
  data = from_config_dict(TrainConfig, config).phase1.data
  assert data == DataConfig(('a/sa0_monocular', 'b/sa0_multiview'), (3.0, 1.0), threads=4)


def test_batches_must_divide(data):
  with pytest.raises(ValueError, match='batch_size=4 cannot be divided among 3 processes'):
    make_batches(data, RUN, Process(0, 3))


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ({'weights': (1.0,)}, '0 datasets and 1 weights'),
    ({'datasets': ('a',), 'weights': (0.0,)}, 'weights must be positive'),
    ({'split': 'train[:3]'}, 'split is a name'),
    ({'prefetch': 17}, 'prefetch is 0 to 16'),
    ({'threads': -1}, 'threads must not be negative'),
  ],
)
def test_settings_that_make_no_sense(values, message):
  with pytest.raises(ValueError, match=message):
    DataConfig(**values)
