"""`sa0 refine`: complete results, resuming, and mistakes in one line."""

import dataclasses
import json
import shutil
import subprocess

import jax.numpy as jnp
import numpy as np
import pytest

from sa0_jax.avatar.avatar import Avatar
from sa0_jax.capture.capture import MemoryImages
from sa0_jax.capture.splits import Split
from sa0_jax.refine import checkpoint, loop
from sa0_jax.video import VideoReader
from tests.cli.conftest import FAST

REPORT_KEYS = {
  *('psnr', 'ssim', 'held_out_frames', 'num_gaussians', 'steps', 'iterations_per_second'),
  *('max_aspect_ratio', 'seconds_total', 'seconds_compile', 'peak_memory_mb'),
}


def test_writes_avatar_report_and_preview(refined):
  assert Avatar.load(refined).n > 100
  report = json.loads(refined.with_suffix('.report.json').read_text())
  assert set(report) >= REPORT_KEYS
  assert (report['steps'], report['held_out_frames']) == (6, 2)
  assert not refined.with_name('blob.sa0.checkpoints').exists()
  video = VideoReader(refined.with_suffix('.mp4'))
  assert video.size == (96, 48)
  frames = list(video)
  assert len(frames) == 2
  # On the left what was filmed: matted, over white.
  assert abs(frames[0][2, 2].astype(int) - 255).max() < 8
  assert abs(frames[0][30, 24].astype(int) - (195, 120, 90)).max() < 12


def test_the_split_of_a_data_set_is_honoured(sa0, capture, tmp_path):
  split = Split.of_parts([{1, 2, 3}, {4}, {0}])
  dataclasses.replace(capture, split=split).save(tmp_path / 'c')
  words = ['refine', tmp_path / 'c', '--out', tmp_path / 'a.sa0', *FAST]
  preview = ['--preview', tmp_path / 'a.mp4']
  code, _, errors = sa0(*words, '--config.held_out=none', *preview)
  assert code == 0
  assert '5 frames of 48 × 48, 0 held out (test frames of split.json), 4 not used' in errors
  report = json.loads((tmp_path / 'a.report.json').read_text())
  assert (report['held_out_by'], report['held_out_frames'], report['train_frames']) == (
    'split.json',
    1,
    3,
  )
  assert len(list(VideoReader(tmp_path / 'a.mp4'))) == 1
  code, _, errors = sa0(*words)
  assert code == 0
  assert '3:5 held out (held_out=0.4, split.json is not followed)' in errors


def test_progress_says_where_it_is(sa0, capture_folder, tmp_path):
  code, output, errors = sa0('refine', capture_folder, '--out', tmp_path / 'a.sa0', *FAST, '--json')
  assert code == 0
  assert set(json.loads(output)) >= REPORT_KEYS
  for part in ('step 6/6', 'it/s', 'PSNR', 'max aspect', 'left'):
    assert part in errors


def test_an_avatar_to_start_from(sa0, refined, capture_folder, tmp_path):
  code, _, _ = sa0(
    'refine', capture_folder, '--avatar', refined, '--out', tmp_path / 'b.sa0', *FAST
  )
  assert code == 0
  assert Avatar.load(tmp_path / 'b.sa0').n == Avatar.load(refined).n


@pytest.mark.parametrize('error', [KeyboardInterrupt, OSError(28, 'No space left on device')])
def test_interrupted_run_continues_to_the_same_bytes(
  sa0, capture_folder, tmp_path, monkeypatch, error
):
  words = ['refine', capture_folder, *FAST, '--out']
  assert sa0(*words, tmp_path / 'whole.sa0')[0] == 0
  advance = loop._advance

  def stopping(run, state, count, capacity):
    if int(state.step) >= 3:
      raise error
    return advance(run, state, count, capacity)

  with monkeypatch.context() as patch:
    patch.setattr(loop, '_advance', stopping)
    code, _, errors = sa0(*words, tmp_path / 'a.sa0')
  assert code == (130 if error is KeyboardInterrupt else 1)
  if error is KeyboardInterrupt:
    assert 'step 2 is kept' in errors
  else:
    assert 'the disk is full' in errors
  assert not (tmp_path / 'a.sa0').exists()
  assert (tmp_path / 'a.sa0.checkpoints').is_dir()
  code, _, errors = sa0(*words, tmp_path / 'a.sa0')
  assert code == 0
  assert 'resuming' in errors
  assert (tmp_path / 'a.sa0').read_bytes() == (tmp_path / 'whole.sa0').read_bytes()
  assert not (tmp_path / 'a.sa0.checkpoints').exists()


def test_checkpoints_of_other_settings_are_refused(
  sa0, fails, capture_folder, tmp_path, monkeypatch
):
  words = ['refine', capture_folder, '--out', tmp_path / 'a.sa0', *FAST]
  save = checkpoint.CheckpointStore.save

  def interrupted(store, state):
    save(store, state)
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(checkpoint.CheckpointStore, 'save', interrupted)
    assert sa0(*words)[0] == 130
  line = fails(*words, '--config.seed=5')
  assert 'another run' in line
  assert 'delete the folder' in line


def test_missing_capture(fails, tmp_path):
  line = fails('refine', tmp_path / 'nowhere', '--out', tmp_path / 'a.sa0')
  assert 'no capture.json here' in line
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
  ('words', 'message'),
  [
    (['--config.step=3'], "unknown name 'step'; did you mean 'steps'"),
    (['--config.steps=many'], "steps = 'many': expected int"),
    (['--config.rates.positions=1'], "did you mean 'rates.position'"),
    (['--config.held_out=1.5'], 'held_out is a fraction'),
    (['--config=refin'], "did you mean 'refine'"),
    (['--config=mine.py'], 'mine.py: no such configuration file'),
  ],
)
def test_wrong_configuration(fails, capture_folder, tmp_path, words, message):
  assert message in fails('refine', capture_folder, '--out', tmp_path / 'a.sa0', *words)


def test_truncated_and_foreign_avatars(fails, refined, capture_folder, tmp_path):
  whole = refined.read_bytes()
  (tmp_path / 'cut.sa0').write_bytes(whole[: len(whole) // 2])
  (tmp_path / 'text.sa0').write_text('not an avatar')
  np.savez(tmp_path / 'other.sa0.npz', x=np.zeros(3))
  (tmp_path / 'other.sa0.npz').rename(tmp_path / 'other.sa0')
  for name, message in (('cut', 'npz'), ('text', 'npz'), ('other', 'not an avatar')):
    line = fails(
      'refine', capture_folder, '--avatar', tmp_path / f'{name}.sa0', '--out', tmp_path / 'a.sa0'
    )
    assert f'{name}.sa0' in line
    assert message in line


def test_avatar_on_another_mesh(fails, refined, capture_folder, tmp_path):
  avatar = Avatar.load(refined)
  turned = dataclasses.replace(avatar.head, faces=avatar.head.faces[:, [1, 2, 0]])
  dataclasses.replace(avatar, head=turned).save(tmp_path / 'other.sa0')
  line = fails(
    'refine', capture_folder, '--avatar', tmp_path / 'other.sa0', '--out', tmp_path / 'a.sa0'
  )
  assert 'made on the mesh' in line


def test_capture_of_another_head(fails, capture, tmp_path):
  dataclasses.replace(capture, head_fingerprint='0' * 16).save(tmp_path / 'c')
  assert 'was tracked with head model' in fails(
    'refine', tmp_path / 'c', '--out', tmp_path / 'a.sa0', *FAST
  )


def test_black_matte(fails, capture, tmp_path):
  source = capture.source
  mattes = source.mattes.copy()
  mattes[3] = 0
  dataclasses.replace(capture, source=MemoryImages(source.images, mattes)).save(tmp_path / 'c')
  line = fails('refine', tmp_path / 'c', '--out', tmp_path / 'a.sa0', *FAST)
  assert 'frame 3: the matte is empty' in line
  assert not (tmp_path / 'a.sa0').exists()


def test_codes_that_are_not_finite(fails, capture, tmp_path):
  jaw = capture.codes.jaw.copy()
  jaw[2, 1] = np.nan
  codes = dataclasses.replace(capture.codes, jaw=jaw)
  dataclasses.replace(capture, codes=codes).save(tmp_path / 'c')
  line = fails('refine', tmp_path / 'c', '--out', tmp_path / 'a.sa0', *FAST)
  assert "'jaw' holds NaN or infinity (row 2)" in line


def test_damaged_image(fails, capture_folder, tmp_path):
  shutil.copytree(capture_folder, tmp_path / 'c')
  picture = tmp_path / 'c' / 'images' / '000001.png'
  picture.write_bytes(picture.read_bytes()[:40])
  line = fails('refine', tmp_path / 'c', '--out', tmp_path / 'a.sa0', *FAST)
  assert '000001.png' in line


def test_output_that_cannot_be_written_is_found_before_the_work(fails, capture_folder, tmp_path):
  assert 'is a folder' in fails('refine', capture_folder, '--out', tmp_path)
  (tmp_path / 'file').write_bytes(b'')
  fails('refine', capture_folder, '--out', tmp_path / 'file' / 'a.sa0')


@pytest.fixture
def small_disk(tmp_path):
  """A file system of 160 kB, where one can be mounted."""
  folder = tmp_path / 'disk'
  folder.mkdir()
  command = ['mount', '-t', 'tmpfs', '-o', 'size=160k', 'tmpfs', str(folder)]
  try:
    done = subprocess.run(command, capture_output=True, check=False)
  except FileNotFoundError:
    pytest.skip('there is no mount command')
  if done.returncode:
    pytest.skip('mounting a small file system is not allowed here')
  yield folder
  subprocess.run(['umount', str(folder)], check=True)


def test_full_disk_keeps_what_was_saved(fails, capture_folder, refined, small_disk):
  before = small_disk / 'a.sa0'
  before.write_bytes(b'an older avatar')
  (small_disk / 'filler').write_bytes(bytes(140_000))
  line = fails('refine', capture_folder, '--out', before, *FAST, '--config.checkpoint_every=0')
  assert f'{before}: the disk is full' in line
  assert before.read_bytes() == b'an older avatar'
  assert sorted(p.name for p in small_disk.iterdir() if 'checkpoints' not in p.name) == [
    'a.sa0',
    'filler',
  ]


def test_full_disk_at_a_checkpoint(fails, capture_folder, small_disk):
  (small_disk / 'filler').write_bytes(bytes(100_000))
  line = fails('refine', capture_folder, '--out', small_disk / 'a.sa0', *FAST)
  assert 'a.sa0.checkpoints: the disk is full' in line


def test_loss_that_is_not_finite(fails, capture_folder, tmp_path, monkeypatch):
  advance = loop._advance

  def broken(*arguments):
    state, metrics = advance(*arguments)
    return state, metrics._replace(loss=jnp.full_like(metrics.loss, jnp.nan))

  monkeypatch.setattr(loop, '_advance', broken)
  line = fails('refine', capture_folder, '--out', tmp_path / 'a.sa0', *FAST)
  assert 'the loss is not finite' in line
