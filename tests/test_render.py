"""The renderer: batches are the single images, and what does not fit together is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sa0_jax.head.model import HeadCodes
from sa0_jax.render import Renderer, render
from tests.export import scenes


@pytest.fixture(scope='module')
def avatar():
  return scenes.textured_avatar()


@pytest.fixture(scope='module')
def codes(avatar):
  neutral = HeadCodes.neutral(avatar.head, (3,))
  jaw = jnp.asarray([[0.0, 0, 0], [0.2, 0, 0], [0.3, 0.1, 0]], jnp.float32)
  return dataclasses.replace(neutral, jaw=jaw)


def _row(codes: HeadCodes, i: int) -> HeadCodes:
  return jax.tree.map(lambda leaf: leaf[i], codes)


def test_a_batch_of_frames_is_its_frames(avatar, codes):
  renderer, camera = Renderer(avatar), scenes.camera()
  batch = renderer(codes, camera)
  assert batch.rgb.shape == (3, 64, 64, 3)
  assert batch.alpha.shape == (3, 64, 64)
  for i in range(3):
    np.testing.assert_allclose(batch.rgb[i], renderer(_row(codes, i), camera).rgb, atol=1e-4)
  assert np.abs(batch.rgb[0] - batch.rgb[2]).max() > 0.1


def test_one_frame_before_many_cameras_and_as_many_of_both(avatar, codes):
  renderer, one = Renderer(avatar), scenes.camera()
  shifts = jnp.asarray([-0.05, 0.0, 0.05])
  cameras = dataclasses.replace(
    one,
    world_to_camera=jnp.stack([one.world_to_camera.at[0, 3].add(shift) for shift in shifts]),
    intrinsics=jnp.stack([one.intrinsics] * 3),
  )
  around, pairs = renderer(_row(codes, 1), cameras), renderer(codes, cameras)
  np.testing.assert_allclose(around.rgb[1], renderer(_row(codes, 1), one).rgb, atol=1e-4)
  np.testing.assert_allclose(pairs.rgb[1], around.rgb[1], atol=1e-4)
  assert np.abs(around.rgb[0] - around.rgb[2]).max() > 0.1


def test_batches_that_do_not_fit_together_are_refused(avatar, codes):
  cameras = jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), scenes.camera())
  with pytest.raises(ValueError, match='do not fit together'):
    Renderer(avatar)(codes, cameras)


def test_render_takes_codes_and_a_camera(avatar, codes):
  with pytest.raises(ValueError, match='have no camera'):
    render(avatar, _row(codes, 0))
  frame = render(avatar, _row(codes, 0), scenes.camera(), background=(0.0, 0.0, 0.0))
  assert frame.rgb[0, 0].max() == 0.0
