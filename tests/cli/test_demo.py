"""`sa0 demo`, as small as it goes."""

import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

from sa0_jax.avatar.avatar import Avatar
from sa0_jax.capture import studio
from sa0_jax.capture.capture import load_capture
from sa0_jax.cli import demo
from sa0_jax.cli.main import main
from sa0_jax.generator.checkpoint import load_generator
from sa0_jax.generator.reconstruct import reconstruct
from sa0_jax.metrics.image import psnr
from sa0_jax.render import render
from sa0_jax.video import VideoReader
from tests.cli.conftest import FAST

pytest.importorskip('numba')

# Seed 1 is bald: there is no hair to grow.
TINY = ('--seed', '1', '--frames', '5', '--resolution', '64', *FAST, '--config.held_out=0.2')
KEYS = {
  'psnr', 'ssim', 'held_out_frames', 'num_gaussians', 'steps', 'iterations_per_second',
  'max_aspect_ratio', 'seconds_total', 'seconds_compile', 'peak_memory_mb',
}  # fmt: skip


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """One finished demo."""
  out = tmp_path_factory.mktemp('demo') / 'out'
  assert main(['demo', '--out', str(out), *TINY]) == 0
  return out


def test_writes_what_it_says(folder):
  assert {path.name for path in folder.iterdir()} == {
    'capture', 'one_shot.sa0', 'avatar.sa0', 'avatar.ply', 'preview.mp4', 'report.json'
  }  # fmt: skip
  report = json.loads((folder / 'report.json').read_text())
  assert report.keys() >= KEYS
  assert report['held_out_frames'] == 1
  assert report['steps'] == 6
  assert (report['width'], report['height']) == (64, 64)
  assert np.isfinite([report[key] for key in KEYS]).all()
  assert 0 < report['seconds_compile'] <= report['seconds_total']
  avatar = Avatar.load(folder / 'avatar.sa0')
  assert avatar.n == report['num_gaussians']
  assert avatar.name == load_capture(folder / 'capture').name == 'studio-1'


def test_makes_an_avatar_of_the_first_frame_alone(folder):
  one = json.loads((folder / 'report.json').read_text())['one_shot']
  assert one.keys() == {'source', 'num_gaussians', 'seconds', 'seconds_compile', 'psnr', 'ssim'}
  capture, avatar = load_capture(folder / 'capture'), Avatar.load(folder / 'one_shot.sa0')
  network = load_generator()
  # The network's own size: more than the test asks for.
  again = reconstruct(capture, [0], network, uv_size=network.config.uv_size)
  np.testing.assert_array_equal(avatar.gaussians.position, again.gaussians.position)
  assert avatar.n == one['num_gaussians']
  assert 0 <= one['seconds_compile'] <= one['seconds']
  frame = capture.frames[-1]
  matte = np.asarray(frame.matte)[..., None]
  filmed = jnp.asarray(frame.image * matte + 1 - matte)
  rendered = jnp.asarray(render(avatar, frame, background=(1.0, 1.0, 1.0)).rgb)
  assert one['psnr'] == pytest.approx(float(psnr(rendered, filmed)), abs=0.01)
  assert one['psnr'] > 15  # without a hat or long hair it is a likeness


def test_preview_shows_held_out_frames_then_the_swing(folder):
  video = VideoReader(folder / 'preview.mp4')
  pictures = list(video)
  video.close()
  assert len(pictures) == 1 + round(demo._SWING * video.fps)
  assert {picture.shape for picture in pictures} == {(64, 192, 3)}
  # The first picture's left half is the last frame filmed, over white.
  frame = load_capture(folder / 'capture').frames[-1]
  matte = frame.matte[..., None]
  filmed = 255 * (matte * frame.image + 1 - matte)
  assert np.abs(pictures[0][:, :64] - filmed).mean() < 8


def test_an_interrupted_demo_neither_films_nor_refines_again(folder, tmp_path, monkeypatch, capsys):
  out = tmp_path / 'demo'
  shutil.copytree(folder / 'capture', out / 'capture')
  words = ['demo', '--out', str(out), *TINY, '--config.checkpoint_every=3']

  def interrupt(*_):
    raise KeyboardInterrupt

  monkeypatch.setattr(studio, 'film_monocular', interrupt)
  with monkeypatch.context() as patch:
    patch.setattr('sa0_jax.cli.demo._write_preview', interrupt)
    assert main(words) == 130
  assert (out / 'checkpoints').is_dir()
  first = Avatar.load(out / 'avatar.sa0')
  assert main([*words, '--json']) == 0
  report = json.loads(capsys.readouterr().out)
  assert report['resumed_at_step'] == 3
  second = Avatar.load(out / 'avatar.sa0')
  np.testing.assert_array_equal(first.gaussians.position, second.gaussians.position)
  assert not (out / 'checkpoints').exists()


def test_another_subjects_folder_is_refused(folder, capsys):
  before = (folder / 'avatar.sa0').read_bytes()
  assert main(['demo', '--out', str(folder), *TINY, '--seed', '2']) == 1
  assert "holds 'studio-1'" in capsys.readouterr().err
  assert (folder / 'avatar.sa0').read_bytes() == before


@pytest.mark.parametrize(
  ('words', 'code', 'message'),
  [
    (['--frames', '0'], 2, 'no whole number above 0'),
    (['--seed', '-1'], 2, 'no whole number'),
    (['--resolution', '63'], 1, 'even number'),
    (['--frames', '2'], 1, 'at least 5'),
  ],
)
def test_numbers_out_of_range_are_named(tmp_path, capsys, words, code, message):
  assert main(['demo', '--out', str(tmp_path / 'demo'), *words]) == code
  assert message in capsys.readouterr().err
  assert not (tmp_path / 'demo').exists()
