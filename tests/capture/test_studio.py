"""The studio's captures: valid, exact and the same for the same seed."""

import dataclasses
import functools

import numpy as np
import pytest
from sa0_kernels import Camera

from sa0_jax import mesh_render
from sa0_jax.capture.capture import Capture, Frame, load_capture
from sa0_jax.capture.studio import StudioConfig, film, sample_session
from sa0_jax.capture.studio.figure import FADE_END, FADE_START
from sa0_jax.capture.studio.subject import HAIR_STYLES
from sa0_jax.capture.studio.torso import COLLAR_DROP
from sa0_jax.head.lbs import pose_head
from sa0_jax.head.procedural import load_procedural_head, load_procedural_semantics

pytest.importorskip('numba')


@functools.cache
def _video(hair: str, resolution: int = 128) -> Capture:
  """A few frames of one person under different hair."""
  config = StudioConfig(seed=3, frames=4, fps=2.0, resolution=resolution, hair=hair)
  return film(config)


@functools.cache
def _views() -> Capture:
  return film(
    StudioConfig(seed=1, kind='multiview', frames=2, cameras=5, resolution=64, hair='crop')
  )


def _vertices(frame: Frame) -> np.ndarray:
  """The head as the codes say, by code the studio's picture has not seen."""
  return np.asarray(pose_head(load_procedural_head(), frame.codes))


def _project(points: np.ndarray, camera: Camera) -> np.ndarray:
  transform = np.asarray(camera.world_to_camera, np.float64)
  seen = points @ transform[:3, :3].T + transform[:3, 3]
  fx, fy, cx, cy = np.asarray(camera.intrinsics, np.float64)
  return np.stack([fx * seen[:, 0] / seen[:, 2] + cx, fy * seen[:, 1] / seen[:, 2] + cy], axis=1)


def _pixel(image: np.ndarray, point: np.ndarray) -> np.ndarray:
  return image[int(np.floor(point[1])), int(np.floor(point[0]))]


def _bare_coverage(frame: Frame) -> np.ndarray:
  """Share of each pixel that the bare head of the codes covers."""
  head = load_procedural_head()
  fine = mesh_render.supersampled(frame.camera, 4)
  hit = mesh_render.rasterize_mesh(_vertices(frame), head.faces, fine).face >= 0
  return mesh_render.box_filter(hit[..., None].astype(np.float32), 4)[..., 0]


def _dilated(mask: np.ndarray, by: int) -> np.ndarray:
  padded = np.pad(mask, by)
  height, width = mask.shape
  shifts = [(y, x) for y in range(2 * by + 1) for x in range(2 * by + 1)]
  return np.any([padded[y : y + height, x : x + width] for y, x in shifts], axis=0)


def test_same_seed_same_bits_other_seed_other_person() -> None:
  config = StudioConfig(seed=5, frames=2, resolution=48, fps=2.0, hair='bald')
  first, again = film(config), film(config)
  other = film(dataclasses.replace(config, seed=6))
  np.testing.assert_array_equal(first.source.images, again.source.images)
  np.testing.assert_array_equal(first.source.mattes, again.source.mattes)
  for part in dataclasses.fields(first.codes):
    np.testing.assert_array_equal(
      getattr(first.codes, part.name), getattr(again.codes, part.name), part.name
    )
  assert not np.array_equal(first.codes.shape, other.codes.shape)
  assert not np.array_equal(first.source.images, other.source.images)


def test_parts_of_a_session_are_drawn_independently() -> None:
  video = sample_session(StudioConfig(seed=2))
  views = sample_session(StudioConfig(seed=2, kind='multiview', hair='bob'))
  np.testing.assert_array_equal(video.subject.shape, views.subject.shape)
  assert video.subject.look.skin == views.subject.look.skin
  assert views.subject.look.hair.style == 'bob'
  assert video.performance == views.performance
  assert video.light == views.light


def test_capture_is_valid_and_comes_back_from_disk(tmp_path) -> None:
  capture = _video('crop')
  head = load_procedural_head()
  capture.check_head(head)
  assert capture.codes.shape.shape == (300,)
  assert capture.codes.expression.shape == (4, 100)
  assert capture.camera.world_to_camera.shape == (4, 4, 4)
  assert len(capture) == 4
  np.testing.assert_allclose(np.diff(capture.times), 0.5)
  capture.save(tmp_path / 'subject')
  loaded = load_capture(tmp_path / 'subject')
  np.testing.assert_array_equal(loaded.codes.expression, capture.codes.expression)
  np.testing.assert_array_equal(loaded.frames[2].pixels.image, capture.frames[2].pixels.image)
  np.testing.assert_array_equal(loaded.frames[2].pixels.matte, capture.frames[2].pixels.matte)


def test_progress_is_told_after_every_picture() -> None:
  calls: list[tuple[int, int]] = []
  config = StudioConfig(seed=5, kind='multiview', frames=2, cameras=2, resolution=16, hair='bald')
  film(config, lambda done, total: calls.append((done, total)))
  assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_features_are_where_codes_and_camera_say() -> None:
  capture, labels = _video('bald', 256), load_procedural_semantics()
  head = load_procedural_head()
  landmarks = head.require_landmarks('68')
  for frame in (capture.frames[0], capture.frames[3]):
    vertices, image = _vertices(frame), frame.image
    blink = frame.codes.expression[head.expression_names.index('eyeBlinkLeft')]
    assert blink < 0.5
    for component in (1, 2):
      pole = np.flatnonzero((labels.component == component) & (labels.eye_ring == 0))
      ring = np.flatnonzero((labels.component == component) & (labels.eye_ring == 7))
      pupil = _pixel(image, _project(vertices[pole], frame.camera)[0])
      # The white beside the iris, on the side that is farther from the nose.
      border = vertices[ring]
      centre = border.mean(axis=0)
      side = 1.0 if component == 1 else -1.0
      outer = border[np.argmax(side * border[:, 0])]
      white = _pixel(image, _project((centre + 1.5 * (outer - centre))[None], frame.camera)[0])
      assert pupil.mean() < 0.6 * white.mean()
    points = (vertices[head.faces[landmarks.face]] * landmarks.barycentric[..., None]).sum(axis=1)
    place = dict(zip(landmarks.index.tolist(), _project(points, frame.camera), strict=True))
    lip = _pixel(image, 0.5 * (place[57] + place[66]))
    chin = _pixel(image, 0.4 * place[57] + 0.6 * place[8])
    assert lip[0] / lip[1] > 1.06 * chin[0] / chin[1]


def test_matte_holds_the_head_and_hair_is_what_goes_beyond_it() -> None:
  labels, head = load_procedural_semantics(), load_procedural_head()
  areas = {}
  for hair in ('bald', 'long'):
    frame = _video(hair).frames[1]
    bare = _bare_coverage(frame)
    # The matte fades over the lowest part of the neck: compare above it.
    kept = labels.template[:, 1] > FADE_START + 1
    rows = _project(_vertices(frame)[kept & ~labels.collar], frame.camera)[:, 1]
    above = np.arange(frame.matte.shape[0])[:, None] < np.floor(np.quantile(rows, 0.98))
    whole = above & (bare == 1.0)
    assert (frame.matte[whole & ~_dilated(~(bare == 1.0), 1)] == 1.0).all()
    extra = above & (frame.matte > 0) & ~_dilated(bare > 0, 1)
    areas[hair] = extra.sum() / whole.sum()
  assert areas['bald'] == 0
  assert areas['long'] > 0.15
  assert head.name == 'procedural'


def test_matte_is_soft_at_the_edge_and_ends_at_the_collar() -> None:
  labels = load_procedural_semantics()
  frame = _video('bald').frames[0]
  matte = frame.pixels.matte
  soft = (matte > 0) & (matte < 255)
  assert 0.01 < soft.mean() < 0.2
  assert matte[:2].max() == 0
  # The throat's side of the collar, where its edge is lowest.
  below = (labels.template[:, 1] < FADE_END - COLLAR_DROP - 4) & (labels.template[:, 2] > -10)
  row = int(np.ceil(_project(_vertices(frame)[below], frame.camera)[:, 1].min()))
  assert row < matte.shape[0]
  assert matte[row:].max() == 0
  # The picture goes on where the matte ends: shoulders, then the background, never black.
  assert frame.image[row + 2 :].mean() > 0.02


def test_background_is_a_soft_gradient_without_edges() -> None:
  image = _video('bald').frames[0].image
  corner = image[:20, :20].mean(axis=2)
  assert 0.05 < corner.mean() < 0.95
  assert np.abs(np.diff(corner, axis=0)).max() < 0.02


def test_cameras_share_instants_and_see_the_head() -> None:
  capture = _views()
  assert len(capture) == 10
  np.testing.assert_array_equal(capture.ids, np.repeat([0, 1], 5))
  np.testing.assert_array_equal(capture.view_ids, np.tile(np.arange(5), 2))
  assert len(np.unique(capture.camera.world_to_camera[:5].reshape(5, -1), axis=0)) == 5
  for frame in capture.frames:
    at = _project(_vertices(frame).mean(axis=0, keepdims=True), frame.camera)[0]
    assert np.all(np.abs(at / 64 - 0.5) < 0.2)
    assert 0.1 < frame.matte.mean() < 0.7
  for start in (0, 5):
    for part in ('expression', 'neck', 'jaw', 'eyes'):
      rows = getattr(capture.codes, part)[start : start + 5]
      assert (rows == rows[0]).all()
  assert (capture.codes.expression[0] != capture.codes.expression[5]).any()


@pytest.mark.parametrize(
  ('change', 'word'),
  [
    ({'kind': 'stereo'}, 'kind'),
    ({'frames': 0}, 'frames'),
    ({'frames': 2.5}, 'frames'),
    ({'resolution': 8}, 'resolution'),
    ({'cameras': 1}, 'cameras'),
    ({'fps': 0.0}, 'fps'),
    ({'fps': float('nan')}, 'fps'),
    ({'supersampling': 0}, 'supersampling'),
    ({'seed': -1}, 'seed'),
    ({'hair': 'mohawk'}, 'hair'),
  ],
)
def test_bad_configs_are_named_in_one_line(unchecked_shapes, change, word) -> None:
  with pytest.raises(ValueError, match=f'StudioConfig: {word} must be') as caught:
    StudioConfig(**change)
  assert '\n' not in str(caught.value)


def test_styles_are_what_configs_accept() -> None:
  for style in HAIR_STYLES:
    assert StudioConfig(hair=style).hair == style
