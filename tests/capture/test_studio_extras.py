"""Beards, glasses, backgrounds and cameras: where they belong, and nothing where not asked for."""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
import pytest

from sa0_jax.capture.studio import StudioConfig, film, sample_session, varied
from sa0_jax.capture.studio.backgrounds import BACKGROUNDS, Background, paint_background
from sa0_jax.capture.studio.beard import Beard, grow_beard, pose_beard
from sa0_jax.capture.studio.extras import add_beard, add_glasses
from sa0_jax.capture.studio.glasses import Glasses, make_glasses, pose_glasses
from sa0_jax.capture.studio.hair import Body
from sa0_jax.capture.studio.light import sample_light
from sa0_jax.capture.studio.performance import sample_performance
from sa0_jax.capture.studio.posing import pose_figures
from sa0_jax.capture.studio.sensor import Sensor, expose
from sa0_jax.capture.studio.sheet import people_sheet
from sa0_jax.capture.studio.subject import GLASSES_STYLES, Subject, sample_subject
from sa0_jax.geometry.rotations import axis_angle_to_matrix
from sa0_jax.head.lbs import pose_head
from sa0_jax.head.model import HeadCodes
from sa0_jax.head.procedural import load_procedural_head, load_procedural_semantics
from sa0_jax.head.procedural.anatomy import to_millimetres
from sa0_jax.mesh_render import vertex_normals

pytest.importorskip('numba')

# Somebody for whom neither is drawn.
_PLAIN_SEED = 2


def _subject(seed: int, beard: str = 'none', glasses: str = 'none') -> Subject:
  head = load_procedural_head()
  subject = add_beard(sample_subject(seed, head), head, beard, np.random.SeedSequence(seed))
  return add_glasses(subject, head, glasses, np.random.SeedSequence(seed + 1))


def _codes(subject: Subject, **parts: np.ndarray) -> HeadCodes:
  neutral = HeadCodes.neutral(load_procedural_head())
  return dataclasses.replace(neutral, shape=subject.shape, **parts)


def _resting(subject: Subject) -> np.ndarray:
  return np.asarray(pose_head(load_procedural_head(), _codes(subject)))


@functools.cache
def _bearded(style: str) -> tuple[Beard, np.ndarray, Subject]:
  head, labels, subject = load_procedural_head(), load_procedural_semantics(), _subject(2, style)
  resting = _resting(subject)
  shaped = to_millimetres(resting.astype(np.float64))
  far = np.full((1, 3), -9e3)
  body = Body(shaped, vertex_normals(shaped, head.faces), far, far)
  beard = grow_beard(head, labels, body, subject.look)
  assert beard is not None
  return beard, resting, subject


def _worn(style: str, seed: int) -> tuple[Glasses, np.ndarray, Subject]:
  subject = _subject(seed, glasses=style)
  resting = _resting(subject)
  shaped = to_millimetres(resting.astype(np.float64))
  glasses = make_glasses(load_procedural_semantics(), shaped, subject.look.glasses)
  assert glasses is not None
  return glasses, resting, subject


@functools.cache
def _profile(beard: str, glasses: str) -> tuple[np.ndarray, np.ndarray]:
  """Image and matte of a person seen obliquely."""
  config = StudioConfig(
    seed=8, kind='multiview', frames=1, cameras=5, resolution=112, hair='bald', beard=beard,
    glasses=glasses,
  )  # fmt: skip
  capture = film(config)
  pixels = capture.frames[1].pixels
  return pixels.image.astype(int), pixels.matte.astype(int)


def test_earlier_parts_of_a_seed_are_what_they_were() -> None:
  """The streams that were there before others were added."""
  head = load_procedural_head()
  identity, motion, light, _ = np.random.SeedSequence(9).spawn(4)
  plain, full = sample_session(StudioConfig(seed=9)), sample_session(varied(seed=9))
  subject = sample_subject(9, head, identity)
  for session in (plain, full):
    np.testing.assert_array_equal(session.subject.shape, subject.shape)
    assert session.performance == sample_performance(np.random.default_rng(motion))
    assert session.light == sample_light(np.random.default_rng(light))
    assert session.subject.look.hair == subject.look.hair
  assert plain.subject.look == subject.look
  assert (plain.background, plain.sensor) == (None, None)
  assert full.background is not None
  assert full.sensor is not None


def test_who_has_neither_beard_nor_glasses_looks_the_same_in_any_set() -> None:
  plain = StudioConfig(seed=_PLAIN_SEED, frames=1, resolution=32, hair='bald')
  drawn = dataclasses.replace(plain, beard='drawn', glasses='drawn')
  look = sample_session(drawn).subject.look
  assert (look.beard, look.glasses) == (None, None)
  np.testing.assert_array_equal(film(plain).source.images, film(drawn).source.images)


def test_beards_are_mens_and_glasses_a_fifth_or_more_wear() -> None:
  head = load_procedural_head()
  row = head.shape_names.index('male_female')
  subjects = [sample_session(varied(seed=seed)).subject for seed in range(150)]
  beards = [s for s in subjects if s.look.beard is not None]
  assert 0.10 < len(beards) / len(subjects) < 0.40
  assert min(s.shape[row] for s in beards) > 0.25
  assert len({s.look.beard.style for s in beards}) >= 4
  share = np.mean([s.look.glasses is not None for s in subjects])
  assert 0.14 < share < 0.40


@pytest.mark.parametrize('style', ['moustache', 'full'])
def test_beards_turn_and_shift_with_the_head(style) -> None:
  beard, resting, _ = _bearded(style)
  turn = np.asarray(axis_angle_to_matrix(jnp.array([0.2, -0.7, 0.1])), np.float64)
  shift = np.array([0.02, -0.01, 0.05])
  points, tangents = pose_beard(beard, resting, resting @ turn.T + shift)
  np.testing.assert_allclose(points, beard.hair.strands @ turn.T + shift, atol=2e-6)
  np.testing.assert_allclose(np.linalg.norm(tangents, axis=2), 1, atol=1e-5)


def test_beards_follow_the_jaw_and_keep_their_length() -> None:
  beard, resting, subject = _bearded('full')
  opened = _codes(subject, jaw=np.array([0.3, 0, 0], np.float32))
  posed = np.asarray(pose_head(load_procedural_head(), opened))
  points, _ = pose_beard(beard, resting, posed)
  roots = (posed[beard.corners] * beard.weights[..., None]).sum(axis=1)
  np.testing.assert_allclose(points[:, 0], roots, atol=1e-4)
  moved = np.linalg.norm(points[:, 0] - beard.hair.strands[:, 0], axis=1)
  assert moved.max() > 0.015
  assert moved.min() < 0.002
  before = np.linalg.norm(np.diff(beard.hair.strands, axis=1), axis=2).sum(axis=1)
  after = np.linalg.norm(np.diff(points, axis=1), axis=2).sum(axis=1)
  assert np.abs(after / before - 1).max() < 0.05


def test_strands_grow_outwards_where_their_style_has_them() -> None:
  template = load_procedural_semantics().template
  for style, lowest in (('moustache', -75.0), ('full', -150.0)):
    beard, _, _ = _bearded(style)
    roots = (template[beard.corners] * beard.weights[..., None]).sum(axis=1)
    assert lowest < roots[:, 1].min()
    assert roots[:, 1].max() < -15
    away = (beard.hair.strands[:, 1] - beard.hair.strands[:, 0]) * beard.hair.normals[:, 0]
    assert (away.sum(axis=1) > 0).mean() > 0.97
  # Women's faces and bald looks grow none unless asked.
  assert _subject(2).look.beard is None


@pytest.mark.parametrize('style', GLASSES_STYLES)
def test_glasses_clear_the_eyes_and_sit_on_ears_and_nose(style) -> None:
  labels = load_procedural_semantics()
  for seed in (1, 3):
    glasses, resting, _ = _worn(style, seed)
    for part in (1, 2):
      eye = resting[labels.component == part]
      middle = 0.5 * (eye.min(axis=0) + eye.max(axis=0))
      distance = np.linalg.norm(glasses.vertices - middle, axis=1)
      assert distance.min() > 0.017
    tops = [resting[labels.ear_loops[side].ravel()].max(axis=0) for side in (0, 1)]
    behind = glasses.vertices[:, 2] < resting[labels.ear_loops[0].ravel()][:, 2].max()
    for side, top in zip((1, -1), tops, strict=True):
      hooks = glasses.vertices[behind & (side * glasses.vertices[:, 0] > 0)]
      assert len(hooks)
      assert abs(hooks[:, 1].max() - top[1]) < 0.012
    # Left and right are mirror images but for the asymmetry of the face.
    assert abs(glasses.vertices[:, 0].mean()) < 0.003
    edges = np.linalg.norm(np.diff(glasses.vertices[glasses.faces], axis=1), axis=2)
    assert edges.max() < 0.02


def test_glasses_move_rigidly_with_the_skull() -> None:
  glasses, resting, subject = _worn('rectangle', 3)
  head, labels = load_procedural_head(), load_procedural_semantics()
  codes = _codes(
    subject,
    expression=np.zeros((1, head.num_expression), np.float32),
    rotation=np.array([[0.1, 0.2, -0.1]], np.float32),
    neck=np.array([[-0.2, 0.5, 0.1]], np.float32),
    jaw=np.array([[0.25, 0, 0]], np.float32),
    eyes=np.zeros((1, 6), np.float32),
    translation=np.array([[0.01, 0.02, -0.03]], np.float32),
  )
  [pose] = pose_figures(head, codes)
  crown = (labels.component == 0) & (labels.template[:, 1] > 60)
  joined = np.concatenate([resting[crown][:40], glasses.vertices[::20]])
  moved = np.concatenate(
    [pose.vertices[crown][:40], pose_glasses(glasses, pose.transforms[1])[::20]]
  )
  before = np.linalg.norm(joined[:, None] - joined[None], axis=2)
  after = np.linalg.norm(moved[:, None] - moved[None], axis=2)
  np.testing.assert_allclose(after, before, atol=1e-5)


@pytest.mark.parametrize(('beard', 'glasses'), [('full', 'none'), ('none', 'rectangle')])
def test_what_sticks_out_of_the_face_is_in_the_matte(beard, glasses) -> None:
  (image, matte), (bare_image, bare) = _profile(beard, glasses), _profile('none', 'none')
  assert (matte >= bare - 1).all()
  out = (bare == 0) & (matte > 40)
  assert out.sum() > 8
  # Above the shoulders, whose cloth is in no matte, pixels change only where something was added.
  above = np.zeros_like(out)
  above[:70] = True
  assert (matte[above & (np.abs(image - bare_image).max(axis=2) > 12)] > 0).all()
  assert (image != bare_image).any(axis=2)[out].all()


@pytest.mark.parametrize('kind', BACKGROUNDS)
def test_backgrounds_are_reproducible_and_differ_from_view_to_view(kind) -> None:
  place = Background(kind, 0.2, 11)
  first = paint_background(place, 0, 48)
  assert first.shape == (48, 48, 3)
  assert first.min() > 0
  assert first.max() <= 1
  assert first.std() > 0.003
  np.testing.assert_array_equal(first, paint_background(place, 0, 48))
  assert not np.array_equal(first, paint_background(place, 1, 48))
  # Twice the size is the same picture, finer.
  large = paint_background(place, 0, 96).reshape(48, 2, 48, 2, 3).mean(axis=(1, 3))
  assert np.abs(large - first).mean() < 0.35 * max(first.std(), 0.02)


_PERFECT = Sensor(0.0, 1.0, (1.0, 1.0, 1.0), 1.0, 1.0, 0.0, 0.0, 0.0, 0, 1)


def test_a_perfect_sensor_changes_nothing_and_each_fault_does_what_it_says() -> None:
  linear = np.tile(np.linspace(0.05, 0.6, 64, dtype=np.float32)[None, :, None], (64, 1, 3))
  matte = (np.arange(64)[:, None] < 32).astype(np.float32) * np.ones((1, 64), np.float32)
  plain, same = expose(_PERFECT, linear, matte, 0)
  np.testing.assert_array_equal(same, matte)
  curve = 1.055 * linear ** (1 / 2.4) - 0.055
  assert np.abs(plain / 255 - curve).max() < 0.005

  def shot(number: int = 0, **faults) -> tuple[np.ndarray, np.ndarray]:
    return expose(dataclasses.replace(_PERFECT, **faults), linear, matte, number)

  noisy, other = shot(shot=0.02, read=0.005)[0], shot(1, shot=0.02, read=0.005)[0]
  np.testing.assert_array_equal(noisy, shot(shot=0.02, read=0.005)[0])
  assert (noisy != other).any()
  assert 0.5 < (noisy - plain.astype(float)).std() < 6
  assert abs((noisy - plain.astype(float)).mean()) < 0.5
  assert shot(balance=(1.2, 1.0, 0.8))[0][..., 0].mean() > plain[..., 0].mean() + 5
  assert shot(exposure=0.5)[0].mean() < plain.mean() - 20
  assert shot(vignette=0.5)[0][0, 63].mean() < plain[0, 63].mean() - 20
  soft = shot(blur=4.0)[1]
  assert 0 < soft[31, 30] < 1
  assert abs(soft.sum() / matte.sum() - 1) < 1e-3
  assert (shot(quality=30)[0] != plain).any()
  assert np.abs(shot(quality=95)[0].astype(int) - plain).max() < 8


def test_a_sheet_has_a_column_a_person_and_a_row_a_moment() -> None:
  people = [varied(seed=seed, resolution=24, hair='bald') for seed in (2, 3)]
  sheet = people_sheet(people, [0, 2])
  assert sheet.shape == (48, 48, 3)
  assert (sheet[:24] != sheet[24:]).any()
  assert (sheet[:, :24] != sheet[:, 24:]).any()
