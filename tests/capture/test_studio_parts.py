"""The studio's parts: motion, light, noise, hair and shading against what they must satisfy."""

import dataclasses
import functools

import numpy as np
import pytest

from sa0_jax.capture.studio import noise
from sa0_jax.capture.studio.cameras import make_cameras, sample_cameras
from sa0_jax.capture.studio.hair import Body, Hair, grow_hair
from sa0_jax.capture.studio.light import incident, light_directions, sample_light
from sa0_jax.capture.studio.performance import (
  MAX_EYE,
  MAX_JAW,
  Performance,
  perform,
  sample_performance,
)
from sa0_jax.capture.studio.skin_paint import skin_base
from sa0_jax.capture.studio.subject import HAIR_STYLES, Subject, sample_subject
from sa0_jax.capture.studio.torso import make_torso
from sa0_jax.head.model import HeadCodes, HeadModel
from sa0_jax.head.procedural import load_procedural_head, load_procedural_semantics
from sa0_jax.head.procedural.anatomy import to_millimetres
from sa0_jax.mesh_render import vertex_normals

pytest.importorskip('numba')


@functools.cache
def _subject(seed: int = 0) -> Subject:
  return sample_subject(seed, load_procedural_head())


def _curve(codes: HeadCodes, head: HeadModel, name: str) -> np.ndarray:
  return codes.expression[:, head.expression_names.index(name)]


@pytest.mark.parametrize('seed', [0, 1, 2])
def test_performances_stay_in_bounds_and_never_jump(seed: int) -> None:
  head = load_procedural_head()
  performance = sample_performance(np.random.default_rng(seed))
  codes = perform(performance, head, _subject().shape, np.arange(500) / 25)
  assert codes.expression.min() >= 0
  assert codes.expression.max() <= 1
  assert codes.jaw[:, 0].min() >= 0
  assert 0.1 < codes.jaw[:, 0].max() <= MAX_JAW
  assert np.abs(codes.jaw[:, 1:]).max() == 0
  assert np.abs(codes.eyes).max() <= MAX_EYE + 0.04
  turn = codes.rotation + codes.neck
  assert np.abs(turn[:, 1]).max() <= performance.yaw + 1e-6
  assert np.ptp(turn[:, 1]) > 0.5 * performance.yaw
  assert np.abs(codes.translation).max() <= performance.sway
  # At 25 frames a second: a blink closes in two frames, a saccade ends within two, all else flows.
  eyelids = [i for i, name in enumerate(head.expression_names) if name.startswith('eye')]
  others = np.setdiff1d(np.arange(100), eyelids)
  assert np.abs(np.diff(codes.expression[:, others], axis=0)).max() < 0.45
  assert np.abs(np.diff(codes.expression[:, eyelids], axis=0)).max() < 0.9
  assert np.abs(np.diff(codes.jaw, axis=0)).max() < 0.16
  assert np.abs(np.diff(turn, axis=0)).max() < 0.07
  assert np.abs(np.diff(codes.translation, axis=0)).max() < 0.002


def test_performances_blink_speak_and_look_with_their_lids() -> None:
  head = load_procedural_head()
  times = np.arange(1500) / 50
  codes = perform(Performance(seed=4), head, _subject().shape, times)
  blink = _curve(codes, head, 'eyeBlinkLeft')
  closings = np.flatnonzero((blink[1:] > 0.95) & (blink[:-1] <= 0.95))
  assert 5 <= len(closings) <= 20
  np.testing.assert_array_equal(blink, _curve(codes, head, 'eyeBlinkRight'))
  opened = blink < 0.2
  pitch = codes.eyes[:, 0]
  down = _curve(codes, head, 'eyeLookDownLeft') - _curve(codes, head, 'eyeLookUpLeft')
  assert np.corrcoef(pitch[opened], down[opened])[0, 1] > 0.99
  out = _curve(codes, head, 'eyeLookOutLeft') - _curve(codes, head, 'eyeLookInLeft')
  assert np.corrcoef(codes.eyes[opened, 1], out[opened])[0, 1] > 0.99
  # Eyes converge on the camera.
  assert (codes.eyes[:, 1] < codes.eyes[:, 4]).all()
  assert (codes.jaw[:, 0] > 0.08).mean() > 0.15
  assert (codes.jaw[:, 0] < 0.03).mean() > 0.05


def test_a_longer_clip_begins_like_a_shorter_one() -> None:
  head = load_procedural_head()
  long = perform(Performance(seed=7), head, _subject().shape, np.arange(200) / 25)
  short = perform(Performance(seed=7), head, _subject().shape, np.arange(60) / 25)
  for part in ('expression', 'neck', 'rotation', 'jaw', 'eyes', 'translation'):
    np.testing.assert_allclose(getattr(long, part)[:60], getattr(short, part), atol=1e-6)


def test_heads_without_the_names_are_refused() -> None:
  head = load_procedural_head()
  nameless = dataclasses.replace(head, expression_names=('',) * 100)
  with pytest.raises(ValueError, match='has no expression direction'):
    perform(Performance(seed=0), nameless, _subject().shape, np.arange(3) / 25)
  with pytest.raises(ValueError, match="'procedural' head, got 'other'"):
    sample_subject(0, dataclasses.replace(head, name='other'))


def test_noise_is_reproducible_centred_and_smooth() -> None:
  points = np.random.default_rng(0).uniform(-400, 400, (20000, 3)).astype(np.float32)
  values = noise.fractal(points, 10.0, 3, octaves=2)
  np.testing.assert_array_equal(values, noise.fractal(points, 10.0, 3, octaves=2))
  assert abs(values.mean()) < 0.01
  assert 0.15 < values.std() < 0.4
  assert abs(np.corrcoef(values, noise.fractal(points, 10.0, 4, octaves=2))[0, 1]) < 0.05
  # Gradient noise is zero at its lattice points, whatever the seed.
  lattice = np.stack(np.meshgrid(*[np.arange(-3, 4)] * 3), axis=-1).reshape(-1, 3) * 10.0
  assert np.abs(noise.fractal(lattice.astype(np.float32), 10.0, 9)).max() < 1e-5


def test_noise_slope_is_its_derivative() -> None:
  points = np.random.default_rng(1).uniform(-50, 50, (500, 3)).astype(np.float32)
  slope = noise.fractal_slope(points, (8.0, 12.0, 20.0), 5, octaves=2)
  for axis in range(3):
    step = np.zeros(3, np.float32)
    step[axis] = 0.05
    low, high = (
      noise.fractal(points + sign * step, (8.0, 12.0, 20.0), 5, octaves=2) for sign in (-1, 1)
    )
    # The kernel differentiates one-sidedly over 2 % of a cell.
    np.testing.assert_allclose(slope[:, axis], (high - low) / 0.1, atol=0.02)


def test_light_does_not_change_when_the_directions_turn() -> None:
  rig = sample_light(np.random.default_rng(2))
  directions = light_directions()
  angle = 0.37
  turn = np.array(
    [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
  )
  received = []
  for seen in (directions, directions @ turn.T):
    colors, shares = incident(rig, seen)
    key = np.array(rig.lights[0].direction)
    received.append((colors * np.maximum(seen @ key, 0)[:, None]).sum(axis=0))
    np.testing.assert_allclose(shares.sum(axis=0), 1.0)
  np.testing.assert_allclose(received[0], received[1], rtol=0.03)
  assert (received[0] > np.array(rig.lights[0].color)).all()


def test_skin_gets_darker_and_keeps_its_order_of_colours() -> None:
  look = _subject().look
  tones = np.array(
    [skin_base(dataclasses.replace(look.skin, melanin=m, blood=1.0)) for m in (0.0, 0.5, 1.0)]
  )
  assert (np.diff(tones, axis=0) < 0).all()
  assert (tones[:, 0] > tones[:, 1]).all()
  assert (tones[:, 1] > tones[:, 2]).all()
  assert tones[0].max() < 0.85
  assert tones[2].min() > 0.015


@functools.cache
def _body() -> Body:
  head, labels = load_procedural_head(), load_procedural_semantics()
  points = labels.template.astype(np.float64)
  neck = points[labels.skin & (points[:, 1] < -150)]
  torso = make_torso(neck, -163.0, _subject().look.clothing, 0)
  return Body(
    points,
    vertex_normals(points, head.faces),
    to_millimetres(torso.vertices.astype(np.float64)),
    torso.normals.astype(np.float64),
  )


def _hair(style: str) -> Hair | None:
  look = _subject().look
  look = dataclasses.replace(look, hair=dataclasses.replace(look.hair, style=style))
  return grow_hair(load_procedural_head(), load_procedural_semantics(), _body(), look)


@pytest.mark.parametrize('style', [style for style in HAIR_STYLES if style != 'bald'])
def test_hair_grows_on_the_scalp_and_leaves_it(style: str) -> None:
  hair, labels = _hair(style), load_procedural_semantics()
  assert hair is not None
  assert np.isfinite(hair.strands).all()
  strands = to_millimetres(hair.strands.astype(np.float64))
  grown = strands if style != 'bun' else strands[: len(strands) * 5 // 6]
  scalp = labels.template[(labels.hairline > -20) & labels.skin].astype(np.float64)
  some = grown[:: len(grown) // 60, 0]
  from_scalp = np.linalg.norm(some[:, None] - scalp[None], axis=2).min(axis=1)
  assert from_scalp.max() < 14
  # Above the scalp: tips stand off, or hang under the ears.
  tips = grown[:, -1]
  skin = labels.template[labels.skin].astype(np.float64)
  few = tips[:: len(tips) // 60]
  away = np.linalg.norm(few[:, None] - skin[None], axis=2).min(axis=1)
  assert away.mean() > 2.0
  lowest = np.quantile(strands[..., 1], 0.01)
  assert lowest < -140 if style == 'long' else lowest > -125
  assert hair.shares.min() >= 0
  assert hair.shares.max() <= 1
  assert (hair.widths > 0).all()
  np.testing.assert_allclose(np.linalg.norm(hair.normals, axis=2), 1, atol=1e-3)


def test_bald_subjects_have_no_hair() -> None:
  assert _hair('bald') is None


def test_strands_are_drawn_where_they_are_and_only_in_front() -> None:
  from sa0_jax.capture.studio import strand_kernels

  size = 64
  points = np.array([[[-0.2, -0.15, 1.0], [0.0, 0.1, 1.0], [0.22, 0.12, 1.2]]])
  widths = np.full((1, 3), 0.06, np.float32)
  intrinsics = np.array([100.0, 100.0, 32.0, 32.0])
  bands = strand_kernels.project_strands(points, widths, np.eye(4), intrinsics, 0.01)
  face = np.full((size, size), -1, np.int32)
  weights = np.zeros((size, size, 3), np.float32)
  depth = np.full((size, size), np.inf, np.float32)
  depth[:, 40:] = 0.5
  strand_kernels.draw_strands(bands.reshape(-1, 10), 7, face, weights, depth)
  corners = bands[0, :, :8].reshape(2, 4, 2)
  y, x = np.mgrid[:size, :size] + 0.5
  inside = np.zeros((2, size, size), bool)
  for number, quad in enumerate(corners):
    sides = []
    for a, b in zip(quad, np.roll(quad, -1, axis=0), strict=True):
      sides.append((b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0]))
    sides = np.array(sides)
    inside[number] = (sides >= 0).all(axis=0) | (sides <= 0).all(axis=0)
  expected = inside.any(axis=0)
  expected[:, 40:] = False
  np.testing.assert_array_equal(face >= 0, expected)
  hit = face >= 0
  assert set(np.unique(face[hit])) <= {7, 8}
  np.testing.assert_allclose(weights[hit].sum(axis=1), 1, atol=1e-6)
  first = face == 7
  # The share along the band grows from its first end to its last.
  assert np.corrcoef(y[first], weights[first][:, 2])[0, 1] > 0.95
  assert (depth[hit] <= 1.2).all()


def test_vertex_light_is_the_sum_it_says() -> None:
  from sa0_jax.capture.studio import shading_kernels

  rng = np.random.default_rng(3)
  normals = rng.normal(size=(40, 3))
  normals /= np.linalg.norm(normals, axis=1, keepdims=True)
  directions = light_directions(32)
  visibility = rng.random((40, 32))
  colors, shares = rng.random((32, 3)), rng.random((32, 3))
  wrap = np.array([0.2, 0.1, 0.0])
  arrays = [normals, visibility, directions.T, colors.T, shares.T, wrap]
  light, seen = shading_kernels.vertex_light(
    *(np.ascontiguousarray(array, np.float32) for array in arrays)
  )
  cosine = np.maximum((normals @ directions.T)[..., None] + wrap, 0) / (1 + wrap)
  np.testing.assert_allclose(
    light, np.einsum('vd,vdc,dc->vc', visibility, cosine, colors), rtol=1e-4
  )
  np.testing.assert_allclose(seen, visibility @ shares, rtol=1e-4)


def test_multi_view_rigs_spread_in_front_and_look_at_the_subject() -> None:
  rig = sample_cameras(np.random.default_rng(0), 16)
  cameras = make_cameras(rig, 64)
  assert len(set(rig.views)) == 16
  yaws = np.array([yaw for yaw, _ in rig.views])
  assert yaws.min() < -1.0
  assert yaws.max() > 1.0
  assert rig.views[0] == (0.0, 0.0)
  transform = np.asarray(cameras.world_to_camera, np.float64)
  target = transform[:, :3, :3] @ np.array(rig.target) + transform[:, :3, 3]
  np.testing.assert_allclose(target[:, :2], 0, atol=1e-6)
  np.testing.assert_allclose(target[:, 2], rig.distance, rtol=1e-5)
  position = np.linalg.inv(transform)[:, :3, 3]
  assert (position[:, 2] > 0.2).all()
