"""Cleaning a clip: each fault that is put into it is found, named, and nothing else is."""

import dataclasses

import cv2
import numpy as np
import pytest

from sa0_jax.capture.capture import Capture, MemoryImages
from sa0_jax.capture.face_evidence import face_evidence
from sa0_jax.capture.hygiene import HygieneConfig, clean
from sa0_jax.capture.splits import Split
from sa0_jax.head.registry import load_head
from tests.refine.scenes import small_capture

FRAMES, SIZE = 30, 96
CONFIG = HygieneConfig(min_face=16.0, min_frames=4)


def filmed() -> Capture:
  return small_capture(FRAMES, SIZE)


def changed(capture: Capture, change, rows) -> Capture:
  """Some of the images changed."""
  images = capture.source.images.copy()
  for row in rows:
    images[row] = change(images[row])
  return dataclasses.replace(capture, source=MemoryImages(images, capture.source.mattes))


def cleaned(capture: Capture, **thresholds):
  return clean(capture, load_head(), dataclasses.replace(CONFIG, **thresholds))


def kept(result) -> list[int]:
  return [int(i) for clip in result.clips for i in clip.ids]


def test_a_good_clip_stays_whole():
  result = cleaned(filmed())
  assert (result.splits, result.dropped, result.untracked) == ((), (), ())
  assert [clip.name for clip in result.clips] == ['small_00']
  assert kept(result) == list(range(FRAMES))


def test_test_frames_stay_test_frames():
  result = cleaned(dataclasses.replace(filmed(), split=Split.last_for_test(FRAMES, 7)))
  assert result.clips[0].split.test.tolist() == list(range(FRAMES - 7, FRAMES))


def test_another_person_begins_another_clip():
  both = changed(filmed(), lambda image: np.roll(image, 1, axis=-1), range(12, FRAMES))
  # Two shots differ in sharpness: that is another test's.
  result = cleaned(both, min_sharpness=0.0)
  assert [(s.before, s.after) for s in result.splits] == [(11, 12)]
  assert result.splits[0].reason in ('other person', 'scene change')
  assert [len(clip) for clip in result.clips] == [12, 18]
  # The background is black in both: the face alone tells as well.
  assert cleaned(both, scene_change=np.inf).splits[0].reason == 'other person'
  assert (
    len(cleaned(both, scene_change=np.inf, identity_change=np.inf, min_sharpness=0.0).clips) == 1
  )


def test_another_background_begins_another_clip():
  capture = filmed()
  mattes = capture.source.mattes[..., None] / 255.0

  def paste(color):
    mixed = mattes * capture.source.images + (1 - mattes) * np.array(color)
    return np.round(mixed).astype(np.uint8)

  images = np.concatenate([paste((20, 40, 30))[:10], paste((200, 180, 220))[10:]])
  moved = dataclasses.replace(capture, source=MemoryImages(images, capture.source.mattes))
  assert [(s.before, s.after, s.reason) for s in cleaned(moved).splits] == [(9, 10, 'scene change')]


def test_a_change_of_exposure_is_no_other_person():
  darker = changed(filmed(), lambda image: (0.6 * image).astype(np.uint8), range(15, FRAMES))
  assert cleaned(darker).splits == ()


def test_missing_frames_split_and_are_counted():
  capture = filmed()
  ids = np.arange(FRAMES) * 2  # every other frame of the footage was taken
  ids[8:] += 2  # one is missing
  ids[20:] += 20  # ten are
  result = cleaned(dataclasses.replace(capture, ids=ids))
  assert len(result.untracked) == 11
  split = result.splits[0]
  assert (split.before, split.after, split.reason, split.value) == (40, 62, 'frames missing', 10)
  assert [len(clip) for clip in result.clips] == [20, 10]


def test_a_head_that_jumps_is_two_clips():
  capture = filmed()
  rotation = capture.codes.rotation.copy()
  rotation[14:, 1] += 1.0
  codes = dataclasses.replace(capture.codes, rotation=rotation)
  result = cleaned(dataclasses.replace(capture, codes=codes), identity_change=np.inf)
  assert [(s.after, s.reason) for s in result.splits] == [(14, 'jump')]


def test_blurred_frames_are_dropped():
  blurred = changed(filmed(), lambda image: cv2.GaussianBlur(image, (0, 0), 3.0), (5, 6))
  result = cleaned(blurred, identity_change=np.inf)
  assert [(d.frame, d.reason) for d in result.dropped] == [(5, 'blurred'), (6, 'blurred')]
  assert kept(result) == [i for i in range(FRAMES) if i not in (5, 6)]


def test_occluded_frames_are_dropped():
  capture = filmed()
  box = face_evidence(capture, load_head()).box[17]
  left, top, right, bottom = np.round(box).astype(int)

  def hide(image):
    image = image.copy()
    image[(top + bottom) // 2 : bottom, left:right] = (30, 25, 20)
    return image

  result = cleaned(changed(capture, hide, (17,)))
  assert [(d.frame, d.reason) for d in result.dropped] == [(17, 'occluded')]
  # A matte that leaves the hand out says the same.
  mattes = capture.source.mattes.copy()
  mattes[3, (top + bottom) // 2 : bottom] = 0
  hidden = dataclasses.replace(capture, source=MemoryImages(capture.source.images, mattes))
  assert [d.reason for d in cleaned(hidden).dropped] == ['occluded']


def test_small_and_cut_faces_are_dropped():
  assert {d.reason for d in cleaned(filmed(), min_face=200.0).dropped} == {'small face'}
  capture = filmed()
  intrinsics = capture.camera.intrinsics.copy()
  intrinsics[4, 2] += SIZE / 2
  beside = dataclasses.replace(
    capture, camera=dataclasses.replace(capture.camera, intrinsics=intrinsics)
  )
  result = cleaned(beside, move_rate=np.inf, identity_change=np.inf)
  assert [(d.frame, d.reason) for d in result.dropped] == [(4, 'outside the picture')]


def test_what_is_too_short_is_left_out():
  result = cleaned(filmed().select(np.r_[0:2, 12:30]), min_frames=4)
  assert [(d.frame, d.reason) for d in result.dropped] == [(0, 'short clip'), (1, 'short clip')]
  report = result.report()
  assert report['dropped'] == {'short clip': 2}
  assert (report['kept'], report['untracked']) == (18, 10)
  assert report['clips'] == [{'name': 'small_00', 'frames': 18, 'first': 12, 'last': 29}]


def test_what_is_no_video_is_refused():
  capture = filmed()
  with pytest.raises(ValueError, match='several cameras'):
    cleaned(dataclasses.replace(capture, view_ids=np.arange(FRAMES) % 2))
  with pytest.raises(ValueError, match='order'):
    cleaned(capture.select(np.arange(FRAMES)[::-1]))
  with pytest.raises(ValueError, match='one frame is no video'):
    cleaned(capture.select([3]))
  with pytest.raises(ValueError, match='no landmarks'):
    clean(capture, dataclasses.replace(load_head(), landmarks68=None, landmarks_mediapipe=None))
  with pytest.raises(ValueError, match='min_sharpness'):
    HygieneConfig(min_sharpness=-1.0)
