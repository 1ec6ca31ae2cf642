"""`sa0 prepare` and `sa0 bench data`: what users type and read."""

import json
import shutil

import pytest

from sa0_jax.cli import prepare as command
from tests.data.scenes import save_captures


@pytest.fixture(scope='module')
def made(tmp_path_factory):
  return save_captures(tmp_path_factory.mktemp('made'), 3, instants=4)


@pytest.fixture
def captures(made, tmp_path):
  return shutil.copytree(made, tmp_path / 'captures')


def test_from_captures_to_a_data_set(sa0, captures, tmp_path):
  words = ['prepare', 'sa0_monocular', '--captures', captures, '--data_dir', tmp_path / 'data']
  code, output, errors = sa0(*words, '--hold-out', 0.3, '--json')
  assert code == 0, errors
  report = json.loads(output)
  assert report['splits']['train']['frames'] == 8
  assert report['splits']['val']['subjects'] == 1
  assert len((captures / 'val.txt').read_text().split()) == 1
  assert 'prepare: 12/12 frames' in errors
  code, output, _ = sa0(*words)  # again: it is there
  assert code == 0
  assert 'train: 8 frames of 2 clips of 2 subjects' in output
  measured = ['--image-size', 32, '--batches', 2, '--dataset', tmp_path / 'data' / 'sa0_monocular']
  code, output, _ = sa0('bench', 'data', *measured, '--json')
  assert code == 0
  assert json.loads(output)['images_per_second'] > 0
  code, output, _ = sa0('bench', 'data', *measured)
  assert 'images/s of 32² px' in output
  assert 'steps of 48 people in 0.5 s need' in output


def test_bad_frames_are_shown(sa0, captures, tmp_path):
  (captures / 'train.txt').write_text('p0\n')
  (captures / 'val.txt').write_text('p1\n')
  (captures / 'p0' / 'images' / '000001.jpg').write_bytes(b'')
  words = ['prepare', 'sa0_monocular', '--captures', captures, '--data_dir', tmp_path / 'data']
  code, _, errors = sa0(*words)
  assert code == 1
  assert 'p0, frame 101: images/000001.jpg: not a readable image' in errors
  code, output, _ = sa0(*words, '--max-bad-share', 0.5)
  assert code == 0
  assert 'left out 1 frames:\n    p0, frame 101: ' in output
  assert '1 subjects are in no split file' in output


def test_mistakes(fails, sa0, captures, tmp_path):
  words = ['prepare', 'sa0_monocular', '--captures', captures, '--data_dir', tmp_path / 'data']
  assert 'train.txt: no such split file' in fails(*words)
  assert 'leave --train and --val out' in fails(
    *words, '--hold-out', 0.3, '--val', captures / 'v.txt'
  )
  assert sa0('prepare', 'mine', *words[2:])[0] == 2
  assert 'belongs into sa0_monocular' in fails(
    'prepare', 'sa0_multiview', *words[2:], '--hold-out', 0.3
  )


def test_an_interrupted_build_says_that_it_goes_on(sa0, captures, tmp_path, monkeypatch):
  count = command._Counted.__call__

  def interrupted(self, done, total):
    count(self, done, total)
    if done >= 4:
      raise KeyboardInterrupt

  words = ['prepare', 'sa0_monocular', '--captures', captures, '--data_dir', tmp_path / 'data']
  words += ['--hold-out', 0.3, '--frames-per-shard', 4]
  with monkeypatch.context() as patch:
    patch.setattr(command._Counted, '__call__', interrupted)
    code, _, errors = sa0(*words)
  assert code == 130
  assert 'finished shards are kept; the same command continues' in errors
  code, output, _ = sa0(*words)
  assert code == 0
  assert '8 frames' in output
