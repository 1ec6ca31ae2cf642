"""`sa0 studio`: sets of synthetic subjects from the command line."""

import json

import pytest

from sa0_jax.capture.capture import load_capture

pytest.importorskip('numba')

SMALL = ('--frames', 1, '--resolution', 16, '--hair', 'bald', '--workers', 1)


def test_a_set_is_made_continued_and_made_again_from_its_description(sa0, tmp_path):
  out = tmp_path / 'set'
  words = ('studio', '--subjects', 2, '--seed', 4, '--out', out, *SMALL, '--format', 'png')
  code, text, errors = sa0(*words, '--only', '0:1', '--json')
  assert code == 0, errors
  report = json.loads(text)
  assert (report['made'], report['kept'], report['pictures'], report['subjects']) == (1, 0, 1, 2)
  assert report['pictures_per_second'] > 0
  assert 'studio: 1/1 pictures' in errors
  code, text, _ = sa0(*words)
  assert code == 0
  assert '1 of 2 subjects filmed' in text
  assert '1 were there' in text
  again = tmp_path / 'again'
  assert sa0('studio', '--like', out, '--out', again, '--only', '1:2', '--workers', 1)[0] == 0
  assert not (again / 'studio-000004').exists()
  for part in ('images', 'mattes'):
    made = [folder / 'studio-000005' / part / '000000.png' for folder in (out, again)]
    assert made[0].read_bytes() == made[1].read_bytes()


def test_multiview_subjects_have_all_their_cameras(sa0, tmp_path):
  out = tmp_path / 'views'
  words = ('studio', '--subjects', 1, '--kind', 'multiview', '--cameras', 16, '--out', out)
  code, _, errors = sa0(*words, *SMALL)
  assert code == 0, errors
  capture = load_capture(out / 'studio-000000')
  assert sorted(capture.view_ids) == list(range(16))
  assert set(capture.ids) == {0}


def test_two_thousand_subjects_are_described_at_once(sa0, tmp_path):
  code, text, _ = sa0('studio', '--subjects', 2000, '--out', tmp_path / 'set', '--describe')
  assert code == 0
  assert '2000 subjects' in text
  assert [path.name for path in (tmp_path / 'set').iterdir()] == ['studio.json']


def test_mistakes_are_one_line(fails, tmp_path):
  out = tmp_path / 'set'
  assert '--subjects N' in fails('studio', '--out', out)
  assert 'multiview' in fails('studio', '--subjects', 1, '--cameras', 4, '--out', out)
  assert 'hair must be' in fails('studio', '--subjects', 1, '--hair', 'mohawk', '--out', out)
  assert 'frames must be' in fails('studio', '--subjects', 1, '--frames', 10**6, '--out', out)
  assert 'no such description' in fails('studio', '--like', tmp_path / 'x.json', '--out', out)
  assert 'leave out --kind' in fails('studio', '--like', 'x', '--kind', 'monocular', '--out', out)
  assert not out.exists()
  (tmp_path / 'file').write_text('')
  fails('studio', '--subjects', 1, '--out', tmp_path / 'file')
