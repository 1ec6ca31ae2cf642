"""`sa0 clean`: clips and their report on disk."""

import dataclasses
import json

from sa0_jax.capture.capture import load_capture
from tests.refine.scenes import small_capture

WORDS = ('--config.min_face=16', '--config.min_frames=4', '--config.identity_change=1e9')


def test_clips_and_report_are_written(sa0, tmp_path):
  small_capture(12, 96).select([0, 1, 2, 3, 4, 9, 10, 11]).save(tmp_path / 'c')
  words = ('clean', tmp_path / 'c', '--out', tmp_path / 'clips', '--config.max_gap=3', *WORDS)
  code, output, _ = sa0(*words)
  assert code == 0
  assert output.splitlines() == [
    f'1 clips in {tmp_path / "clips"}, 5 of 8 frames',
    'split between frames 4 and 9: frames missing (4.0)',
    'dropped 3 frames: short clip',
    '4 frames were not tracked',
  ]
  assert len(load_capture(tmp_path / 'clips' / 'small_00')) == 5
  report = json.loads((tmp_path / 'clips' / 'small.clean.json').read_text())
  assert report['untracked_frames'] == [5, 6, 7, 8]
  code, output, _ = sa0(*words, '--json')
  assert code == 0
  assert json.loads(output) == report


def test_a_name_that_leaves_the_folder_stays_inside(sa0, tmp_path):
  """The name of a capture is a text in its file, and the file may be somebody else's."""
  capture = dataclasses.replace(small_capture(12, 96), name='../../gone/x')
  capture.save(tmp_path / 'c')
  code, _, _ = sa0('clean', tmp_path / 'c', '--out', tmp_path / 'a' / 'b' / 'clips', *WORDS)
  assert code == 0
  made = sorted(p.name for p in (tmp_path / 'a' / 'b' / 'clips').iterdir())
  assert made == ['_.._gone_x.clean.json', '_.._gone_x_00']
  assert sorted(p.name for p in tmp_path.iterdir()) == ['a', 'c']
