"""`sa0 import`: from the files of other tools to captures that the other commands read."""

import dataclasses
import json

import cv2
import numpy as np
import pytest

from sa0_jax.archive import folder_name
from sa0_jax.capture.capture import load_capture
from sa0_jax.capture.importers import FORMATS as IMPORTERS
from sa0_jax.capture.splits import read_split
from sa0_jax.cli.import_ import FORMATS
from sa0_jax.head.files import save_head
from sa0_jax.head.registry import load_head

pytest.importorskip('numba')


@pytest.fixture
def flame(tmp_path, monkeypatch, sa0):
  """A head called flame2020, installed as users install one."""
  monkeypatch.setenv('SA0_HOME', str(tmp_path / 'home'))
  save_head(dataclasses.replace(load_head(), name='theirs'), tmp_path / 'head.npz')
  assert sa0('head', 'install', tmp_path / 'head.npz', '--name', 'flame2020')[0] == 0


@pytest.fixture
def subject(tmp_path, capture):
  """The capture of these tests as an IMavatar folder."""
  folder = tmp_path / 'data' / 'bala'
  (folder / 'image').mkdir(parents=True)
  size = capture.width
  frames = []
  for frame in capture.frames:
    view = np.asarray(frame.camera.world_to_camera)[:3].copy()
    view[:, 3] *= 4
    view[1:] *= -1
    codes = frame.codes
    pose = [*codes.rotation, *codes.neck, *codes.jaw, *codes.eyes]
    frames.append(
      {
        'file_path': f'./image/{frame.id}',
        'world_mat': view.tolist(),
        'expression': [0.0] * 50,
        'pose': [float(x) for x in pose],
      }
    )
    pixels = np.dstack([frame.pixels.image[..., ::-1], frame.pixels.matte])
    cv2.imwrite(str(folder / 'image' / f'{frame.id}.png'), pixels)
  lens = (np.asarray(capture.camera.intrinsics)[0] / size).tolist()
  table = {'frames': frames, 'shape_params': [0.0] * 100, 'intrinsics': lens}
  (folder / 'flame_params.json').write_text(json.dumps(table))
  return folder


def test_a_subject(flame, subject, capture, tmp_path, sa0):
  out = tmp_path / 'out'
  code, text, _ = sa0('import', 'splattingavatar', subject, '--out', out, '--check')
  assert code == 0
  assert f'wrote {out}: 5 frames, 48 x 48 px, head flame2020' in text
  assert 'no split: the published one' in text
  assert '25 frames per second are assumed' in text
  made = load_capture(out)
  np.testing.assert_allclose(made.camera.world_to_camera, capture.camera.world_to_camera, atol=1e-6)
  np.testing.assert_array_equal(made.frames[2].pixels.matte, capture.frames[2].pixels.matte)
  picture = cv2.imread(str(tmp_path / 'out.check.jpg'))
  assert picture.shape == (2 * 256 + 4, 5 * 256 + 4 * 4, 3)
  assert read_split(out, 5) is None


def test_several_subjects_and_json(flame, subject, tmp_path, sa0, fails):
  other = subject.with_name('cam i')
  subject.rename(subject.with_name('x'))
  subject.with_name('x').rename(other)
  (subject / 'image').mkdir(parents=True)
  for path in other.rglob('*.*'):
    (subject / path.relative_to(other)).write_bytes(path.read_bytes())
  words = ('import', 'splattingavatar', subject.parent, '--out', tmp_path / 'set')
  code, text, _ = sa0(*words, '--json', '--stride', 2)
  results = json.loads(text)
  assert code == 0
  assert [(r['name'], r['frames'], r['size']) for r in results] == [
    ('bala', 3, [48, 48]),
    ('cam i', 3, [48, 48]),
  ]
  assert len(load_capture(tmp_path / 'set' / 'cam_i')) == 3
  # One that is damaged does not cost the others.
  (subject / 'image' / '2.png').write_bytes(b'')
  line = fails(*words)
  assert '1 of 2 captures could not be imported; the first, bala:' in line
  assert 'not a readable image' in line
  assert len(load_capture(tmp_path / 'set' / 'cam_i')) == 5
  assert len(load_capture(tmp_path / 'set' / 'bala')) == 3  # what was there stays
  code, text, _ = sa0(*words, '--only', 'cam i')
  assert code == 0
  assert f'wrote {tmp_path / "set" / "cam_i"}: 5 frames' in text


def test_interruption_says_what_is_done(flame, subject, tmp_path, sa0, monkeypatch):
  def interrupt(*_):
    raise KeyboardInterrupt

  monkeypatch.setattr('sa0_jax.capture.importers.save_imported', interrupt)
  code, _, errors = sa0('import', 'splattingavatar', subject, '--out', tmp_path / 'out')
  assert code == 130
  assert 'interrupted; 0 of 1 captures are done' in errors
  assert not (tmp_path / 'out').exists()


def test_mistakes_are_one_line(flame, subject, tmp_path, fails, sa0):
  out = tmp_path / 'out'
  line = fails('import', 'splattingavatar', subject, '--out', out, '--head', 'procedural')
  assert "belong to the head model flame2020, not to 'procedural'" in line
  assert 'no such folder' in fails('import', 'vhap', tmp_path / 'x', '--out', out)
  line = fails('import', 'splattingavatar', subject, '--out', out, '--only', 'malte')
  assert "no 'malte' here; there are: bala" in line
  line = fails('import', 'splattingavatar', subject, '--out', out, '--split', 'test')
  assert 'has no split' in line
  (tmp_path / 'taken').mkdir()
  (tmp_path / 'taken' / 'photo.png').write_bytes(b'dear')
  line = fails('import', 'splattingavatar', subject, '--out', tmp_path / 'taken')
  assert 'exists and is no capture' in line
  assert not out.exists()
  assert sa0('import', 'fbx', subject, '--out', out)[0] == 2
  edition = ('--head', 'procedural', '--edition', 'procedural')
  assert sa0('import', 'splattingavatar', subject, '--out', out, *edition)[0] == 0


def test_the_command_knows_every_format():
  assert tuple(IMPORTERS) == FORMATS


def test_names_become_folders():
  assert folder_name('074_EMO-1') == '074_EMO-1'
  assert folder_name('../../etc/passwd') == '_.._etc_passwd'
  assert folder_name('..') == '_'
  assert folder_name('a b\0c') == 'a_b_c'
