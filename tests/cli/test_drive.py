"""`sa0 drive` from every kind of source."""

import dataclasses
import json

import numpy as np
import pytest

from sa0_jax.capture.image_files import decode_color
from tests.drive.test_drive import _csv


def _pictures(folder) -> np.ndarray:
  files = sorted(folder.iterdir())
  return np.stack([decode_color(f.read_bytes(), str(f)) for f in files]).astype(np.float64)


@pytest.fixture
def drive(sa0, refined, tmp_path):
  """Drives the avatar at 48 px: drive(source, …) → pictures, report."""

  def run(source, *words):
    out = tmp_path / 'out'
    words = ['--with', source, '--out', out, '--size', 48, '--json', *words]
    code, output, errors = sa0('drive', refined, *words)
    assert code == 0, errors
    return _pictures(out), json.loads(output)

  return run


def test_by_a_capture(drive, capture_folder):
  pictures, report = drive(capture_folder)
  assert (len(pictures), report['frames'], report['fps']) == (5, 5, 25.0)
  assert report['neutral'] == 0  # the least open jaw of the five
  assert np.abs(pictures[0] - pictures[-1]).max() > 10
  one, _ = drive(capture_folder, '--neutral', '0', '--frames', '4:5')
  np.testing.assert_array_equal(one[0], pictures[4])


def test_by_a_recording_of_arkit(drive, tmp_path):
  path = _csv(tmp_path / 'a.csv', 3, JawOpen=[0, 1, 0], HeadYaw=[0, 0, 0.4])
  pictures, report = drive(path)
  assert report['neutral'] is None
  # The mouth opens below, the turned head differs everywhere.
  change = np.abs(pictures - pictures[0]).sum(axis=3)
  rows = change[1].sum(axis=1)
  assert rows[24:].sum() > 5 * rows[:24].sum()
  assert change[2].sum() > 0


def test_by_flame_codes(drive, tmp_path):
  rows = np.zeros((2, 106), np.float32)
  rows[1, 103] = 0.3
  np.savez(tmp_path / 'codes.npz', motion=rows)
  pictures, report = drive(tmp_path / 'codes.npz')
  assert (len(pictures), report['fps']) == (2, 25.0)
  assert np.abs(pictures[0] - pictures[1]).max() > 10


def test_by_a_video_that_is_tracked_first(drive, capture, tmp_path, monkeypatch):
  (tmp_path / 'clip.mp4').write_bytes(b'a video')
  asked = []

  def track(source, head, config=None, *, work=None, progress=None):
    asked.append((source, head.name))
    return capture

  monkeypatch.setattr('sa0_jax.capture.track.track.track', track)
  pictures, _ = drive(tmp_path / 'clip.mp4')
  assert asked == [(tmp_path / 'clip.mp4', 'procedural')]
  assert len(pictures) == 5


def test_mistakes(fails, refined, capture, capture_folder, tmp_path):
  words = ['drive', refined, '--out', tmp_path / 'v.mp4', '--with']
  assert 'no capture.json here' in fails(*words, tmp_path / 'nowhere')
  assert 'neither a frame' in fails(*words, capture_folder, '--neutral', 'x')
  assert 'there is no 9' in fails(*words, capture_folder, '--neutral', '9')
  assert 'selects none' in fails(*words, capture_folder, '--frames', '9:12')
  assert 'only .csv' in fails(*words, capture_folder, '--map', 'm.json')
  dataclasses.replace(capture, head_name='flame2020').save(tmp_path / 'c')
  assert "tracked with head model 'flame2020'" in fails(*words, tmp_path / 'c')
