"""The real detector, in its own environment; and a real video where there is one."""

import os

import numpy as np
import pytest

from sa0_jax.capture.track import observations
from sa0_jax.capture.track.track import TrackConfig, track_footage
from tests.capture import track_scene

pytest.importorskip('numba')


@pytest.mark.mediapipe
def test_the_detector_sees_a_studio_face_where_it_is():
  capture = track_scene.filmed(frames=4, resolution=256)
  images, mattes = track_scene.pixels(capture)
  seen = observations.detect(list(images), video=True)
  assert seen.found.all()
  true = track_scene.seen(capture)
  # Its idea of a landmark is not ours to the millimetre; a wrong axis or scale would be far off.
  away = np.linalg.norm(seen.landmarks[..., :2] - true.landmarks[..., :2], axis=-1)
  assert away.mean() < 8.0
  # Above the chin a person is a head.
  chin = int(true.landmarks[..., 1].max(axis=1).min())
  assert np.abs(seen.mattes[:, :chin] / 255.0 - mattes[:, :chin] / 255.0).mean() < 0.02


@pytest.mark.mediapipe
def test_the_detector_sees_nobody_in_noise():
  noise = np.random.default_rng(0).integers(0, 255, (2, 128, 128, 3)).astype(np.uint8)
  assert not observations.detect(list(noise), video=False).found.any()


@pytest.mark.mediapipe
def test_faces_are_located_in_pictures_of_any_size():
  image = track_scene.pixels(track_scene.filmed(frames=4, resolution=256))[0][0]
  wide = np.zeros((300, 700, 3), np.uint8)
  wide[20:276, 400:656] = image
  small, large = observations.locate([image, wide], 320)
  np.testing.assert_allclose(large - small, np.tile([400.0, 20.0], (478, 1)), atol=12.0)


@pytest.mark.real_clip
@pytest.mark.mediapipe
def test_a_real_clip_is_tracked():
  clip = os.environ.get('SA0_TEST_CLIP')
  if not clip:
    pytest.skip('SA0_TEST_CLIP names no video')
  result = track_footage(clip, config=TrackConfig(max_frames=16, photometric=()))
  assert not result.failures
  assert result.report['landmark_error_px'] < 3.5
