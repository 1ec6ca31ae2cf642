"""Our own face metrics: zero for the same, of the right size for what differs."""

import dataclasses

import numpy as np
import pytest

from sa0_jax.capture.track import observations
from sa0_jax.capture.track.observations import Observations
from sa0_jax.evaluate import run, tracked
from sa0_jax.evaluate.run import evaluate
from sa0_jax.evaluate.tracked import METRICS, ClipTracks
from sa0_jax.head.procedural import load_procedural_head
from tests.capture import track_scene
from tests.evaluate.scenes import NAMES, avatars, config, work

FRAMES, SIZE = 4, 128


@pytest.fixture(autouse=True)
def quick(monkeypatch):
  monkeypatch.setattr(tracked, '_FIT', dataclasses.replace(tracked._FIT, steps=300))


def scene():
  """A captured head; its cameras look at the middle and have one focal length."""
  return track_scene.filmed().select(range(0, 2 * FRAMES, 2))


def observed(landmarks) -> Observations:
  """What a detector says; mattes are not looked at."""
  return Observations(landmarks, np.zeros((len(landmarks), 1, 1), np.uint8))


def changed(capture, **codes):
  """The capture with something added to its codes."""
  added = {name: getattr(capture.codes, name) + value for name, value in codes.items()}
  return dataclasses.replace(capture, codes=dataclasses.replace(capture.codes, **added))


def measured(monkeypatch, rendered, filmed, camera=None, shapes=None) -> list[dict]:
  """Rows of a clip whose pictures show these landmarks."""
  picture, waiting = np.zeros((SIZE, SIZE, 3), np.uint8), [0]

  def detect(pictures, *, video):
    assert not video
    at = np.arange(waiting[0], waiting[0] + len(pictures) // 2)
    waiting[0] = int(at[-1]) + 1
    pairs = np.stack([rendered[at], filmed[at]], axis=1)
    return observed(pairs.reshape(-1, *rendered.shape[1:]))

  monkeypatch.setattr(observations, 'detect', detect)
  monkeypatch.setattr(tracked, '_BATCH', 3)  # two calls
  shape = np.asarray(scene().codes.shape)
  clip = ClipTracks(load_procedural_head(), camera or scene().camera, *(shapes or (shape, shape)))
  rows = [{'frame': i} for i in range(FRAMES)]
  for row in rows:
    clip.add(row, picture, picture)
  clip.finish()
  return rows


def mean(rows, name) -> float:
  return float(np.mean([row[name] for row in rows]))


def test_the_same_face_has_no_distance(monkeypatch):
  seen = track_scene.seen(scene()).landmarks
  for row in measured(monkeypatch, seen, seen):
    assert [row[name] for name in METRICS] == [0.0, 0.0, 0.0]


def test_what_differs_is_measured(monkeypatch):
  filmed = track_scene.seen(scene()).landmarks
  turned = track_scene.seen(changed(scene(), rotation=np.float32([0.0, 0.15, 0.0]))).landmarks
  rows = measured(monkeypatch, turned, filmed)
  assert mean(rows, 'flame_pose_l1') == pytest.approx(0.15 / 3, rel=0.25)
  assert mean(rows, 'flame_expression_l1') < 0.02
  assert mean(rows, 'landmark_px') > 0.5

  smile = np.zeros(scene().codes.expression.shape[-1], np.float32)
  names = load_procedural_head().expression_names
  smile[[names.index('mouthSmileLeft'), names.index('mouthSmileRight')]] = 0.8
  smiling = track_scene.seen(changed(scene(), expression=smile)).landmarks
  rows = measured(monkeypatch, smiling, filmed)
  assert mean(rows, 'flame_expression_l1') == pytest.approx(np.mean(smile), rel=0.6)
  assert mean(rows, 'flame_pose_l1') < 0.006


def test_cameras_may_look_beside_the_middle_and_differ(monkeypatch):
  """Cropped studio pictures; the numbers are those of the whole ones."""
  filmed = track_scene.seen(scene()).landmarks
  turned = track_scene.seen(changed(scene(), rotation=np.float32([0.0, 0.15, 0.0]))).landmarks
  expected = measured(monkeypatch, turned, filmed)
  camera = scene().camera
  intrinsics = np.array(camera.intrinsics)
  intrinsics[:, 2:] += np.float32([9.0, -4.0])
  intrinsics[:, 0] *= 1.5  # stretched pixels
  moved = dataclasses.replace(camera, intrinsics=intrinsics)

  def as_seen(landmarks):
    middle, stretch = 0.5 * SIZE, np.float32([1.5, 1.0])
    places = (landmarks[..., :2] - middle) * stretch + middle + np.float32([9.0, -4.0])
    return np.concatenate([places, landmarks[..., 2:] * 1.5], axis=-1).astype(np.float32)

  rows = measured(monkeypatch, as_seen(turned), as_seen(filmed), moved)
  for row, other in zip(rows, expected, strict=True):
    for name in METRICS:
      assert row[name] == pytest.approx(other[name], rel=0.02, abs=1e-4)


def test_frames_without_a_face_have_no_numbers(monkeypatch):
  seen = track_scene.seen(scene()).landmarks
  rendered = seen.copy()
  rendered[2] = np.nan
  rows = measured(monkeypatch, rendered, seen)
  assert ['landmark_px' in row for row in rows] == [i != 2 for i in range(FRAMES)]
  rows = measured(monkeypatch, np.full_like(seen, np.nan), seen)
  assert all(row == {'frame': i} for i, row in enumerate(rows))


def test_two_people_have_no_common_points(monkeypatch):
  seen = track_scene.seen(scene()).landmarks
  shape = np.asarray(scene().codes.shape)
  [row, *_] = measured(monkeypatch, seen, seen, shapes=(shape + 0.1, shape))
  assert row.keys() == {'frame', 'flame_expression_l1', 'flame_pose_l1'}


def test_an_evaluation_has_them_in_its_rows(tmp_path, monkeypatch):
  monkeypatch.setattr(run, 'pixel_metrics', lambda *_: ())  # not compiled for this
  looks = []

  def detect(pictures, *, video):
    looks.append(len(pictures))
    seen = track_scene.seen(scene()).landmarks[:1]
    return observed(np.repeat(seen, len(pictures), axis=0))

  monkeypatch.setattr(observations, 'detect', detect)
  todo = dataclasses.replace(work(tmp_path, NAMES[:1]), track=True)
  [result] = evaluate(avatars(), todo, config('per-subject'))
  assert all(row['landmark_px'] == 0.0 for row in result['frames'])
  assert sum(looks) == 2 * len(result['frames'])
  assert evaluate(avatars(), todo, config('per-subject')) == [result]
  assert sum(looks) == 2 * len(result['frames'])  # gone on with, not made again


@pytest.mark.mediapipe
def test_the_real_detector_tells_frames_apart():
  capture = track_scene.filmed(resolution=256).select([0, 5])
  images, mattes = track_scene.pixels(capture)
  share = mattes[..., None] / np.float32(255)
  pictures = np.round(images * share + 255 * (1 - share)).astype(np.uint8)
  shape = np.asarray(capture.codes.shape)
  clip = ClipTracks(load_procedural_head(), capture.camera, shape, shape)
  same, other = {}, {}
  clip.add(same, pictures[0], pictures[0])
  clip.add(other, pictures[0], pictures[1])
  clip.finish()
  assert [same[name] for name in METRICS] == [0.0, 0.0, 0.0]
  moved = np.linalg.norm(np.subtract(*track_scene.seen(capture).landmarks[..., :2]), axis=-1)
  assert other['landmark_px'] == pytest.approx(moved[moved > 0].mean(), rel=0.35)
