"""Footage, crops, mattes and kept stages."""

import numpy as np
import pytest

from sa0_jax.capture import image_files
from sa0_jax.capture.track import environment
from sa0_jax.capture.track.crop import Crop, choose_crop
from sa0_jax.capture.track.footage import open_footage
from sa0_jax.capture.track.matte import MatteConfig, cut_below_collar, refine_matte
from sa0_jax.capture.track.stages import StageStore, from_arrays, to_arrays
from sa0_jax.video import VideoReader, write_video


def _pictures(count=6, height=48, width=64):
  rng = np.random.default_rng(0)
  base = rng.integers(0, 255, (height // 8, width // 8, 3)).repeat(8, 0).repeat(8, 1)
  return [np.roll(base, 3 * i, axis=1).astype(np.uint8) for i in range(count)]


def test_a_video_comes_back(tmp_path):
  pictures = _pictures()
  assert write_video(tmp_path / 'a.mp4', pictures, 25.0) == 6
  footage = open_footage(tmp_path / 'a.mp4')
  frames = list(footage.frames())
  assert len(frames) == 6
  assert footage.fps == 25.0
  assert np.abs(frames[3].astype(int) - pictures[3]).mean() < 12
  assert VideoReader(tmp_path / 'a.mp4').size == (64, 48)


def test_a_truncated_video_is_one_clear_error(tmp_path):
  write_video(tmp_path / 'a.mp4', _pictures(60, 96, 128), 25.0)
  data = (tmp_path / 'a.mp4').read_bytes()
  (tmp_path / 'cut.mp4').write_bytes(data[: len(data) // 2])
  with pytest.raises(ValueError, match=r'cut\.mp4'):
    list(open_footage(tmp_path / 'cut.mp4').frames())


def test_video_frames_that_do_not_fit_leave_no_file(tmp_path):
  odd = [np.zeros((47, 64, 3), np.uint8)]
  with pytest.raises(ValueError, match='even sides'):
    write_video(tmp_path / 'a.mp4', odd, 25.0)
  with pytest.raises(ValueError, match='no frames'):
    write_video(tmp_path / 'a.mp4', [], 25.0)
  assert list(tmp_path.iterdir()) == []


def test_images_are_read_in_the_order_of_their_names(tmp_path):
  for name, value in (('b.png', 20), ('a.png', 10), ('notes.txt', 0)):
    if name.endswith('png'):
      image_files.write(tmp_path / name, np.full((8, 8, 3), value, np.uint8))
    else:
      (tmp_path / name).write_text('x')
  frames = list(open_footage(tmp_path).frames())
  assert [int(f[0, 0, 0]) for f in frames] == [10, 20]


def test_footage_that_is_none(tmp_path):
  with pytest.raises(FileNotFoundError, match='no such'):
    open_footage(tmp_path / 'missing.mp4')
  with pytest.raises(ValueError, match='no images'):
    open_footage(tmp_path)
  (tmp_path / 'text.mp4').write_text('not a video')
  with pytest.raises(ValueError, match='not a readable video'):
    open_footage(tmp_path / 'text.mp4')


@pytest.mark.parametrize('place', [(0.5, 0.5), (0.05, 0.1), (0.95, 0.9)])
def test_the_crop_is_inside_and_holds_the_face(place):
  width, height = 1920, 1080
  rng = np.random.default_rng(1)
  centre = np.clip(np.multiply(place, (width, height)), 90, [width - 90, height - 90])
  points = centre + rng.uniform(-80, 80, (5, 40, 2))
  crop = choose_crop(points, width, height)
  assert 0 <= crop.left <= width - crop.side
  assert 0 <= crop.top <= height - crop.side
  assert (points >= [crop.left, crop.top]).all()
  assert (points <= [crop.left + crop.side, crop.top + crop.side]).all()
  assert 2.0 * 160 < crop.side < 3.5 * 160


def test_a_picture_full_of_face_is_taken_whole():
  points = np.random.default_rng(0).uniform(150, 380, (3, 40, 2))
  assert choose_crop(points, 512, 512) == Crop(0, 0, 512)


def test_crop_keeps_pixels_when_nothing_is_resized():
  image = np.random.default_rng(0).integers(0, 255, (40, 60, 3)).astype(np.uint8)
  np.testing.assert_array_equal(Crop(5, 3, 32).apply(image, 32), image[3:35, 5:37])


def _disc(soft=1.0, size=160):
  y, x = np.mgrid[:size, :size] + 0.5
  distance = np.hypot(x - size / 2, y - size / 2)
  return np.clip((50 - distance) / soft + 0.5, 0, 1)


def test_refinement_finds_the_border_the_segmentation_blurs():
  alpha = _disc()
  wobble = 4 * np.sin(np.arctan2(*np.mgrid[-80:80, -80:80]) * 9)
  y, x = np.mgrid[:160, :160] + 0.5
  coarse = np.clip((50 + wobble - np.hypot(x - 80, y - 80)) / 10 + 0.5, 0, 1)
  image = 255 * (alpha[..., None] * [0.35, 0.2, 0.1] + (1 - alpha[..., None]) * [0.8, 0.85, 0.8])
  image += np.random.default_rng(0).normal(0, 2, image.shape)
  refined = refine_matte(
    image.clip(0, 255).astype(np.uint8), (255 * coarse).astype(np.uint8), MatteConfig(band=0.06)
  )
  assert np.abs(refined / 255.0 - alpha).mean() < 0.25 * np.abs(coarse - alpha).mean()


def test_where_colours_agree_the_segmentation_stands():
  coarse = _disc(10.0)
  image = np.full((160, 160, 3), 120, np.uint8)
  refined = refine_matte(image, (255 * coarse).astype(np.uint8))
  assert np.abs(refined / 255.0 - coarse).mean() < 0.02


def test_the_matte_fades_below_the_collar_and_only_there():
  matte = np.full((100, 100), 255, np.uint8)
  collar = np.stack([np.linspace(20, 80, 50), np.full(50, 60.0)], axis=1)
  cut = cut_below_collar(matte, collar)
  assert (cut[:55] == 255).all()
  assert (cut[62:] == 0).all()


def test_stages_are_kept_and_those_of_another_run_are_not(tmp_path):
  calls = []

  def compute():
    calls.append(1)
    return {'a': np.arange(3.0)}

  for _ in range(2):
    store = StageStore(tmp_path / 'work', {'config': 1})
    np.testing.assert_array_equal(store.run('fit', compute)['a'], np.arange(3.0))
  assert len(calls) == 1
  StageStore(tmp_path / 'work', {'config': 2}).run('fit', compute)
  assert len(calls) == 2
  (tmp_path / 'other').mkdir()
  (tmp_path / 'other' / 'thesis.txt').write_text('x')
  with pytest.raises(ValueError, match='other things'):
    StageStore(tmp_path / 'other', {})
  assert (tmp_path / 'other' / 'thesis.txt').exists()


@pytest.mark.parametrize('damage', ['cut', 'another', 'renamed', 'older'])
def test_a_damaged_stage_is_computed_again(tmp_path, damage):
  """Whole archives with other arrays inside, too: what reads them later asks for names."""
  store, path = StageStore(tmp_path / 'work', {}), tmp_path / 'work' / 'fit.npz'
  stage = {'a': np.arange(3.0), 'b': np.zeros((2, 0)), 'c': np.float32(1)}
  store.save('fit', stage)
  kept = store.load('fit')
  assert kept.keys() == stage.keys()
  assert all(np.array_equal(kept[name], value) for name, value in stage.items())
  with np.load(path) as file:
    arrays = dict(file)
  if damage == 'cut':
    path.write_bytes(path.read_bytes()[:-9])
  elif damage == 'another':
    np.savez(path, **(arrays | {'a': np.arange(4.0)}))
  elif damage == 'renamed':
    np.savez(path, x=arrays.pop('a'), **arrays)
  else:
    np.savez(path, **stage)  # without a digest
  assert StageStore(tmp_path / 'work', {}).load('fit') is None


def test_trees_come_back():
  tree = {'a': np.arange(3.0, dtype=np.float32), 'b': (np.ones((2, 2), np.float32),)}
  back = from_arrays(to_arrays(tree), tree)
  np.testing.assert_array_equal(back['a'], tree['a'])
  np.testing.assert_array_equal(back['b'][0], tree['b'][0])


def test_who_cannot_install_the_detector_is_told_what_replaces_it(monkeypatch):
  monkeypatch.setattr(environment.shutil, 'which', lambda name: None)
  with pytest.raises(RuntimeError, match=r'--landmarks FILE\.npz and --mattes PATH'):
    environment._suitable_python()
