"""`sa0 reconstruct`."""

import json
import threading

import numpy as np
import pytest

from sa0_jax.avatar.avatar import Avatar
from sa0_jax.capture.track.stages import StageStore
from sa0_jax.capture.track.track import TrackResult
from sa0_jax.generator.checkpoint import save_generator
from tests.generator.tiny import generator
from tests.refine.scenes import small_capture


@pytest.fixture(scope='module')
def files(tmp_path_factory):
  folder = tmp_path_factory.mktemp('reconstruct')
  small_capture().save(folder / 'subject')
  save_generator(folder / 'g.npz', generator())
  return folder


def test_a_capture_becomes_an_avatar(sa0, files, tmp_path):
  out = tmp_path / 'x.sa0'
  words = ('--checkpoint', str(files / 'g.npz'), '--out', str(out), '--json')
  code, output, _ = sa0('reconstruct', str(files / 'subject'), '--sources', '0,2', *words)
  assert code == 0
  report = json.loads(output)
  assert report['sources'] == [0, 2]
  assert report['num_gaussians'] == Avatar.load(out).n > 100


@pytest.mark.parametrize(
  ('words', 'message'),
  [
    (['subject', '--sources', '0,9'], 'source frame 9 of 5'),
    (['nobody.png'], 'nobody.png: no such image, and no capture folder'),
    (['g.npz'], 'g.npz: not an image'),
    (['a.png', '--sources', '0'], '--sources picks frames of a capture'),
    (['a.png'] * 5, '5 images were given, the generator takes 1 to 4'),
  ],
)
def test_what_cannot_be_done_is_one_line(sa0, files, tmp_path, words, message):
  (files / 'a.png').write_bytes(b'')
  words = [str(files / w) if '.' in w or w == 'subject' else w for w in words]
  out = tmp_path / 'x.sa0'
  code, _, error = sa0(
    'reconstruct', *words, '--checkpoint', str(files / 'g.npz'), '--out', str(out)
  )
  assert code == 1
  assert message in error
  assert len(error.strip().splitlines()) == 1
  assert not out.exists()


def test_another_checkpoint_is_refused(sa0, files, tmp_path):
  np.savez(tmp_path / 'other.npz', x=np.zeros(3))
  words = ('--checkpoint', str(tmp_path / 'other.npz'), '--out', str(tmp_path / 'x.sa0'))
  code, _, error = sa0('reconstruct', str(files / 'subject'), *words)
  assert code == 1
  assert 'not a generator file' in error


def test_images_without_a_face_are_named(sa0, files, tmp_path, monkeypatch):
  """What failed was said of a temporary folder."""

  def no_face(footage, head, config, progress):
    raise ValueError(f'{footage.label}: no face found (looked at 1 frames)')

  monkeypatch.setattr('sa0_jax.capture.track.track.track_footage', no_face)
  monkeypatch.setattr('sa0_jax.generator.reconstruct.compile_ahead', lambda *_: None)
  (tmp_path / 'wall.png').write_bytes(b'')
  words = ('--checkpoint', str(files / 'g.npz'), '--out', str(tmp_path / 'x.sa0'))
  code, _, error = sa0('reconstruct', str(tmp_path / 'wall.png'), *words)
  assert code == 1
  assert error.strip().endswith(f'{tmp_path / "wall.png"}: no face found (looked at 1 frames)')


def test_images_are_tracked_while_what_follows_is_compiled(sa0, files, tmp_path, monkeypatch):
  capture, order = small_capture(frames=2), []

  def track(footage, head, config, progress):
    assert ahead.wait(60)  # a tracker that waited for the compiler would never get here
    order.append('tracked')
    return TrackResult(capture, (), {}, StageStore(None, {}))

  def compile_ahead(generator, head, size, count, uv_size):
    order.append((size, count, uv_size))
    ahead.set()

  ahead = threading.Event()
  monkeypatch.setattr('sa0_jax.capture.track.track.track_footage', track)
  monkeypatch.setattr('sa0_jax.generator.reconstruct.compile_ahead', compile_ahead)
  images = [tmp_path / 'a.png', tmp_path / 'b.png']
  for image in images:
    image.write_bytes(b'')
  words = ('--checkpoint', str(files / 'g.npz'), '--uv-size', '48')
  code, _, error = sa0('reconstruct', *map(str, images), *words, '--out', str(tmp_path / 'x.sa0'))
  assert code == 0, error
  assert order == [(512, 2, 48), 'tracked']
  assert Avatar.load(tmp_path / 'x.sa0').n > 100
