"""The fits: landmarks alone, then pictures."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sa0_jax.capture.track import appearance, observations
from sa0_jax.capture.track.footage import open_footage
from sa0_jax.capture.track.landmark_fit import (
  FitConfig,
  fit_landmarks,
  landmark_errors,
  project,
)
from sa0_jax.capture.track.photometric import PhotometricConfig
from sa0_jax.capture.track.shots import find_shots
from sa0_jax.capture.track.stages import StageStore
from sa0_jax.capture.track.track import TrackConfig, lower_border, track_footage
from sa0_jax.head.lbs import LandmarkArrays, pose_frames, pose_landmarks
from sa0_jax.head.procedural import load_procedural_head
from sa0_jax.head.procedural.sway import SWAY_PREFIX
from sa0_jax.video import write_video
from tests.capture import track_scene

pytest.importorskip('numba')


def _errors(parameters, capture):
  head = load_procedural_head()
  targets = observations.landmark_targets(head)
  observed = track_scene.seen(capture).landmarks[:, targets.columns, :2]
  arrays = LandmarkArrays.from_head(head, targets.embedding)
  size = (capture.width, capture.height)
  return np.asarray(landmark_errors(parameters, arrays, jnp.asarray(observed), size))


def test_the_scene_itself_has_no_landmark_error():
  capture = track_scene.filmed()
  errors = _errors(track_scene.parameters_in_camera(capture), capture)
  assert errors.max() < 0.05


def test_landmark_fit_finds_true_landmarks_and_jaw():
  capture = track_scene.filmed()
  head = load_procedural_head()
  targets = observations.landmark_targets(head)
  landmarks = track_scene.seen(capture).landmarks
  parameters, error = fit_landmarks(
    head, targets, landmarks, (capture.width, capture.height), FitConfig(steps=600)
  )
  assert error < 1.0  # px at 512; the prior and smoothness hold it off zero
  assert np.isclose(_errors(parameters, capture).mean(), error, atol=0.2)
  true = np.asarray(capture.codes.jaw)[:, 0]
  assert np.abs(np.asarray(parameters.codes.jaw)[:, 0] - true).mean() < 0.05  # rad
  # Hair is not theirs to tell: as codes of no size, it once drifted wherever the optimiser went.
  sways = [name.startswith(SWAY_PREFIX) for name in head.expression_names]
  assert sum(sways) > 0
  assert np.abs(np.asarray(parameters.codes.expression)[:, sways]).max() == 0.0


def test_fit_ignores_one_wild_landmark():
  capture = track_scene.filmed()
  head = load_procedural_head()
  targets = observations.landmark_targets(head)
  landmarks = track_scene.seen(capture).landmarks.copy()
  wild = targets.columns[7]
  landmarks[:, wild, :2] += 40.0
  config = FitConfig(steps=400)
  size = (capture.width, capture.height)
  parameters, _ = fit_landmarks(head, targets, landmarks, size, config)
  others = np.delete(_errors(parameters, capture), 7, axis=1)
  assert others.mean() < 2.0


def test_photometric_stage_brings_shaken_codes_back():
  capture = track_scene.filmed(frames=10)
  head = load_procedural_head()
  targets = observations.landmark_targets(head)
  true = track_scene.parameters_in_camera(capture)
  noise = np.random.default_rng(0)
  neck = true.codes.neck + jnp.asarray(noise.normal(0, 0.03, true.codes.neck.shape), jnp.float32)
  shaken = dataclasses.replace(true, codes=dataclasses.replace(true.codes, neck=neck))
  rough = dataclasses.replace(
    capture,
    codes=jax.tree.map(np.asarray, shaken.codes),
    camera=dataclasses.replace(
      capture.camera,
      world_to_camera=np.tile(np.diag([1, -1, -1, 1]).astype(np.float32), (10, 1, 1)),
    ),
  )
  seen = track_scene.seen(capture).landmarks[:, targets.columns, :2]
  config = PhotometricConfig(
    resolution=96, uv_size=48, visits=50, warm_up=200, landmark=0.0, prior=0.0003
  )
  inputs = appearance.Inputs(head, rough, seen, targets, FitConfig())
  result = appearance.refine_codes(inputs, shaken, config, StageStore(None, {}), 'photometric')

  def distance(parameters):
    # In the picture: depth and focal length trade off against each other.
    size = (capture.width, capture.height)
    there, here = (
      np.asarray(project(jnp.asarray(pose_frames(head, p.codes)), p.log_focal, size))
      for p in (true, parameters)
    )
    away = here - there
    # What is the same in every frame is a matter of the avatar, not of tracking.
    return np.linalg.norm(away - away.mean(axis=0), axis=-1).mean()

  assert distance(result) < 0.6 * distance(shaken)


def test_lower_border_is_the_neck():
  head = load_procedural_head()
  border = lower_border(head)
  height = np.asarray(head.v_template)[:, 1]
  assert height[border].max() < np.quantile(height, 0.1)


def _fake_detector(capture, blind=()):
  def detect(frames, *, video, progress=None):
    seen = track_scene.seen(capture)
    landmarks = seen.landmarks.copy()
    landmarks[list(blind)] = np.nan
    return observations.Observations(landmarks, seen.mattes)

  return detect


@pytest.fixture
def footage(tmp_path):
  """A folder of the subject's frames."""
  from sa0_jax.capture import image_files

  capture = track_scene.filmed()
  for row, frame in enumerate(capture.frames):
    image_files.write(tmp_path / 'frames' / f'{row:03d}.png', frame.pixels.image)
  return tmp_path / 'frames'


def _quick(**changes):
  capture = track_scene.filmed()
  return TrackConfig(
    resolution=capture.height,
    fit=FitConfig(steps=150),
    photometric=(PhotometricConfig(resolution=64, uv_size=32, visits=3, warm_up=10),),
    **changes,
  )


@pytest.fixture
def detected(monkeypatch):
  """Detectors replaced by the truth; `locate` sees the same landmarks."""

  def use(blind=()):
    capture = track_scene.filmed()
    seen = track_scene.seen(capture).landmarks
    monkeypatch.setattr(observations, 'detect', _fake_detector(capture, blind))
    monkeypatch.setattr(observations, 'locate', lambda frames, size: seen[: len(frames), :, :2])

  return use


def test_frames_without_a_face_are_reported_and_left_out(footage, detected):
  detected(blind=(2, 7))
  result = track_footage(footage, config=dataclasses.replace(_quick(), photometric=()))
  assert [failure.frame for failure in result.failures] == [2, 7]
  assert {failure.reason for failure in result.failures} == {'no face'}
  assert result.capture.ids.tolist() == [0, 1, 3, 4, 5, 6, 8, 9]
  assert result.report['tracked'] == 8
  assert result.report['frames'] == 10
  image = result.capture.frames[2].pixels.image
  np.testing.assert_array_equal(image, track_scene.filmed().frames[3].pixels.image)


def test_nobody_there_is_one_clear_error(footage, detected):
  detected(blind=range(10))
  with pytest.raises(ValueError, match='no face found'):
    track_footage(footage, config=_quick())


def test_an_interrupted_track_goes_on_to_the_same_bits(footage, detected, tmp_path, monkeypatch):
  detected()
  whole = track_footage(footage, config=_quick())
  work = tmp_path / 'work'
  saves = []
  original = StageStore.save

  def interrupted(self, name, arrays):
    original(self, name, arrays)
    saves.append(name)
    if saves.count('photometric_0.partial') == 2:
      raise KeyboardInterrupt

  monkeypatch.setattr(StageStore, 'save', interrupted)
  with pytest.raises(KeyboardInterrupt):
    track_footage(footage, config=_quick(), work=work)
  monkeypatch.setattr(StageStore, 'save', original)

  def refuse(*_, **__):
    raise AssertionError('detected again')

  monkeypatch.setattr(observations, 'detect', refuse)
  resumed = track_footage(footage, config=_quick(), work=work)
  for name in ('expression', 'neck', 'jaw', 'translation'):
    np.testing.assert_array_equal(
      getattr(resumed.capture.codes, name), getattr(whole.capture.codes, name)
    )
  resumed.remove_work()
  assert not work.exists()


def test_landmarks_from_elsewhere_are_used(footage, detected, tmp_path):
  detected()
  landmarks = track_scene.seen(track_scene.filmed()).landmarks
  np.savez(tmp_path / 'given.npz', landmarks=landmarks)
  config = dataclasses.replace(_quick(), photometric=())
  given = track_footage(
    footage, config=dataclasses.replace(config, landmarks=str(tmp_path / 'given.npz'))
  )
  seen = track_footage(footage, config=config)
  np.testing.assert_allclose(given.capture.codes.neck, seen.capture.codes.neck, atol=1e-6)
  np.savez(tmp_path / 'short.npz', landmarks=landmarks[:3])
  with pytest.raises(ValueError, match='landmarks'):
    track_footage(footage, config=_quick(landmarks=str(tmp_path / 'short.npz')))


def _refuse(*_, **__):
  raise AssertionError('MediaPipe was asked')


def test_landmarks_and_mattes_from_elsewhere_need_no_detector(footage, tmp_path, monkeypatch):
  from sa0_jax.capture import image_files

  for name in ('detect', 'locate', 'landmark_python'):
    monkeypatch.setattr(observations, name, _refuse)
  seen = track_scene.seen(track_scene.filmed())
  np.savez(tmp_path / 'given.npz', landmarks=seen.landmarks)
  for row, matte in enumerate(seen.mattes):
    image_files.write(tmp_path / 'mattes' / f'{row:03d}.png', matte)
  config = dataclasses.replace(
    _quick(landmarks=str(tmp_path / 'given.npz'), mattes=str(tmp_path / 'mattes')),
    photometric=(),
    cut_clothes=False,
    stride=3,
  )
  capture = track_footage(footage, config=config).capture
  assert capture.ids.tolist() == [0, 3, 6, 9]
  np.testing.assert_array_equal(track_scene.pixels(capture)[1], seen.mattes[::3])
  image_files.write(tmp_path / 'mattes' / '002.png', seen.mattes[2, ::2])
  with pytest.raises(ValueError, match='mattes: matte 2 is 128 x 64 px, its picture 128 x 128'):
    track_footage(footage, config=config)
  (tmp_path / 'mattes' / '002.png').unlink()
  image_files.write(tmp_path / 'mattes' / '000.png', seen.mattes[0])
  with pytest.raises(ValueError, match='mattes: needs one matte for each picture of'):
    track_footage(footage, config=config)
  with pytest.raises(FileNotFoundError, match='nowhere: no such'):
    track_footage(footage, config=dataclasses.replace(config, mattes=str(tmp_path / 'nowhere')))


def test_mattes_alone_from_elsewhere_are_used(footage, detected, tmp_path):
  detected()
  from sa0_jax.capture import image_files

  halves = np.zeros((10, 128, 128), np.uint8)
  halves[:, :64] = 200
  for row, matte in enumerate(halves):
    image_files.write(tmp_path / 'mattes' / f'{row:03d}.png', matte)
  config = dataclasses.replace(
    _quick(mattes=str(tmp_path / 'mattes')), photometric=(), cut_clothes=False
  )
  capture = track_footage(footage, config=config).capture
  np.testing.assert_array_equal(track_scene.pixels(capture)[1], halves)


def test_tracked_capture_projects_onto_the_pictures(footage, detected):
  """The capture's own camera and codes put the landmarks where they were seen."""
  detected()
  config = dataclasses.replace(_quick(), fit=FitConfig(steps=600), photometric=())
  result = track_footage(footage, config=config)
  head = load_procedural_head()
  targets = observations.landmark_targets(head)
  points = LandmarkArrays.from_head(head, targets.embedding)
  frame = result.capture.frames[3]
  world = np.asarray(pose_landmarks(points, jax.tree.map(jnp.asarray, frame.codes)))
  view = np.asarray(frame.camera.world_to_camera)
  camera = world @ view[:3, :3].T + view[:3, 3]
  fx, fy, cx, cy = np.asarray(frame.camera.intrinsics)
  pixels = np.stack(
    [fx * camera[:, 0] / camera[:, 2] + cx, fy * camera[:, 1] / camera[:, 2] + cy], axis=1
  )
  seen = track_scene.seen(track_scene.filmed()).landmarks[3, targets.columns, :2]
  assert np.linalg.norm(pixels - seen, axis=1).mean() < 0.5


def test_a_video_with_cuts_is_tracked_shot_by_shot(tmp_path, detected):
  """The longest shot, or the one that is asked for; frame numbers stay those of the video."""
  images = [frame.pixels.image for frame in track_scene.filmed().frames]
  frames = [*(255 - image for image in images[:6]), *images, *(255 - image for image in images[:4])]
  write_video(tmp_path / 'cut.mp4', iter(frames), 25.0)
  assert find_shots(open_footage(tmp_path / 'cut.mp4')).tolist() == [[0, 6], [6, 16], [16, 20]]
  detected()
  config = dataclasses.replace(_quick(), fit=FitConfig(steps=20), photometric=())
  result = track_footage(tmp_path / 'cut.mp4', config=config)
  assert result.capture.ids.tolist() == list(range(6, 16))
  assert result.report['span'] == (6, 16)
  with pytest.raises(ValueError, match='shot 3 of 3'):
    track_footage(tmp_path / 'cut.mp4', config=dataclasses.replace(config, shot=3))
