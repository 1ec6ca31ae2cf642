"""A capture's frames on their way to the optimiser."""

import dataclasses

import jax
import numpy as np
import pytest

from sa0_jax.capture.capture import MemoryImages
from sa0_jax.capture.frames import load_frames, split_held_out
from sa0_jax.head.lbs import pose_head
from sa0_jax.head.registry import load_head
from tests.refine.scenes import SIZE, small_capture


def test_pixels_mesh_and_cameras_are_those_of_the_capture():
  capture, head = small_capture(), load_head()
  frames = load_frames(capture, head, 0)
  assert len(frames) == len(capture)
  for position, frame in enumerate(capture.frames):
    np.testing.assert_array_equal(frames.images[position], frame.pixels.image)
    np.testing.assert_allclose(frames.image(position), frame.image, atol=1e-7)
    np.testing.assert_allclose(frames.matte(position), frame.matte, atol=1e-7)
    np.testing.assert_allclose(frames.vertices[position], pose_head(head, frame.codes), atol=1e-6)
    np.testing.assert_array_equal(frames.camera(position).intrinsics, frame.camera.intrinsics)


def test_resizing_averages_pixels_and_scales_intrinsics():
  frames = load_frames(small_capture(), load_head(), SIZE // 2)
  whole = load_frames(small_capture(), load_head(), 0)
  assert frames.images.shape[1:] == (SIZE // 2, SIZE // 2, 3)
  blocks = np.asarray(whole.images, float).reshape(-1, SIZE // 2, 2, SIZE // 2, 2, 3).mean((2, 4))
  assert np.abs(blocks - frames.images).max() <= 0.51
  np.testing.assert_allclose(2 * np.asarray(frames.intrinsics), whole.intrinsics, rtol=1e-6)
  camera = frames.camera(0)
  assert (camera.width, camera.height) == (SIZE // 2, SIZE // 2)


def spoiled(**changes):
  """The small capture with some of its pixels or codes replaced."""
  return dataclasses.replace(small_capture(), **changes)


def test_an_empty_matte_is_named():
  source = small_capture().source
  mattes = source.mattes.copy()
  mattes[3] = 0
  capture = spoiled(source=MemoryImages(source.images, mattes), ids=np.arange(5) * 10)
  with pytest.raises(ValueError, match=r"capture 'small', frame 30: the matte is empty"):
    load_frames(capture, load_head(), 0)


@pytest.mark.parametrize('name', ['shape', 'jaw', 'expression', 'world_to_camera', 'intrinsics'])
def test_numbers_that_are_not_finite_are_named(name):
  capture = small_capture()
  owner = 'camera' if name in ('world_to_camera', 'intrinsics') else 'codes'
  array = np.array(getattr(getattr(capture, owner), name))
  array[-1] = np.nan
  changed = dataclasses.replace(getattr(capture, owner), **{name: array})
  with pytest.raises(ValueError, match=rf"capture 'small': {name} holds NaN or infinity"):
    load_frames(spoiled(**{owner: changed}), load_head(), 0)


def test_only_square_images_are_resized():
  capture = small_capture()
  source = MemoryImages(capture.source.images[:, :48], capture.source.mattes[:, :48])
  camera = dataclasses.replace(capture.camera, height=48)
  wide = spoiled(source=source, camera=camera)
  assert load_frames(wide, load_head(), 0).images.shape[1:3] == (48, SIZE)
  with pytest.raises(ValueError, match='only square images'):
    load_frames(wide, load_head(), 32)


def test_another_head_is_refused():
  with pytest.raises(ValueError, match="tracked with head model 'someone'"):
    load_frames(spoiled(head_name='someone'), load_head(), 0)


@pytest.mark.parametrize(
  ('frames', 'fraction', 'train'), [(10, 0.2, 8), (10, 0.0, 10), (5, 0.5, 3), (3, 0.01, 3)]
)
def test_the_end_is_held_out(frames, fraction, train):
  kept, tested = split_held_out(frames, fraction)
  assert len(kept) == train
  np.testing.assert_array_equal(np.concatenate([kept, tested]), np.arange(frames))


def test_something_must_be_left_to_train_on():
  with pytest.raises(ValueError, match='leaves nothing'):
    split_held_out(1, 0.9)


def test_frames_are_a_pytree():
  frames = load_frames(small_capture(), load_head(), 0)
  assert len(jax.tree.leaves(frames)) == 5
