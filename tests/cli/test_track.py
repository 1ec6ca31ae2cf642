"""`sa0 track`: what it writes, and where."""

import json

import pytest

from sa0_jax.capture.capture import load_capture
from sa0_jax.capture.track import track
from sa0_jax.capture.track.stages import StageStore
from sa0_jax.capture.track.track import Failure, TrackResult
from tests.cli.conftest import FAST

REPORT = {'frames': 6, 'tracked': 5, 'landmark_error_px': 2.5, 'shots': [], 'span': None}


@pytest.fixture
def tracked(capture, monkeypatch):
  """The tracker replaced by one that is done."""

  asked = []

  def track_footage(source, head, config, *, work, progress):
    asked.append(config)
    return TrackResult(capture, (Failure(3, 'no face'),), dict(REPORT), StageStore(work, {}))

  monkeypatch.setattr(track, 'track_footage', track_footage)
  return asked


def test_the_reports_of_tracking_and_of_refining_stand_side_by_side(sa0, tracked, tmp_path):
  """The commands of the README: capture and avatar have one name."""
  subject = tmp_path / 'subject'
  code, output, _ = sa0('track', tmp_path / 'clip.mp4', '--out', subject)
  assert code == 0
  assert '5 of 6 frames tracked' in output
  assert 'left out frame 3: no face' in output
  assert len(load_capture(subject)) == 5
  written = {path.name for path in tmp_path.iterdir()}
  assert written == {'subject', 'subject.track.json', 'subject.overlay.mp4'}
  code, _, _ = sa0('refine', subject, '--out', tmp_path / 'subject.sa0', *FAST)
  assert code == 0
  assert json.loads((tmp_path / 'subject.track.json').read_text()) == REPORT
  assert 'psnr' in json.loads((tmp_path / 'subject.report.json').read_text())


def test_what_the_detector_would_see_may_come_from_elsewhere(sa0, tracked, tmp_path):
  words = ['--landmarks', 'seen.npz', '--mattes', 'mattes']
  assert sa0('track', tmp_path / 'clip.mp4', '--out', tmp_path / 'subject', *words)[0] == 0
  assert (tracked[0].landmarks, tracked[0].mattes) == ('seen.npz', 'mattes')
