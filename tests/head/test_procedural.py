"""The shipped procedural head: its arrays, its topology and what its directions move."""

import dataclasses
import functools
import subprocess
import sys
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
import pytest

from sa0_jax.head.lbs import pose_head
from sa0_jax.head.model import HeadCodes, HeadModel
from sa0_jax.head.procedural import load_procedural_head, load_procedural_semantics
from sa0_jax.head.procedural.anatomy import (
  COMPONENT_NAMES,
  EYE_CENTER,
  EYE_RADIUS,
  IRIS_RADIUS,
  JOINT_POSITIONS,
  to_metres,
  to_millimetres,
)
from sa0_jax.head.procedural.measure import self_intersections, triangle_areas, uv_cover
from sa0_jax.head.procedural.rings import (
  LID_INNER_EDGE,
  LID_LASH_EDGE,
  MOUTH_CONTACT,
  MOUTH_SEAM,
)
from sa0_jax.head.procedural.sway import SWAY_NAMES


@pytest.fixture(scope='module')
def head() -> HeadModel:
  return load_procedural_head()


def _posed_mm(
  head: HeadModel, expression: Mapping[str, float] | None = None, jaw: float = 0.0
) -> np.ndarray:
  codes = HeadCodes.neutral(head)
  code = np.zeros(head.num_expression, np.float32)
  for name, value in (expression or {}).items():
    sides = [name] if name in head.expression_names else [name + 'Left', name + 'Right']
    for side in sides:
      code[head.expression_names.index(side)] = value
  codes = dataclasses.replace(
    codes, expression=jnp.asarray(code), jaw=jnp.asarray([jaw, 0, 0], jnp.float32)
  )
  return to_millimetres(np.asarray(pose_head(head, codes), np.float64))


def test_arrays_have_flames_shapes(head: HeadModel) -> None:
  v, f, t = len(head.v_template), len(head.faces), len(head.vt)
  assert head.name == 'procedural'
  assert head.shapedirs.shape == (v, 3, 300)
  assert head.exprdirs.shape == (v, 3, 100)
  assert head.posedirs.shape == (v, 3, 36)
  assert head.joint_regressor.shape == (5, v)
  assert head.weights.shape == (v, 5)
  assert head.ft.shape == (f, 3)
  assert t < 32768
  for name in (
    'v_template',
    'shapedirs',
    'exprdirs',
    'posedirs',
    'joint_regressor',
    'weights',
    'vt',
  ):
    array = getattr(head, name)
    assert array.dtype == np.float32, name
    assert np.isfinite(array).all(), name
  assert head.component_names == COMPONENT_NAMES
  assert len(head.shape_names) == 300
  assert len(head.expression_names) == 100
  assert len(set(head.shape_names)) == 300
  assert len(set(head.expression_names)) == 100


def test_every_direction_moves_something_and_none_explodes(head: HeadModel) -> None:
  for basis in (head.shapedirs, head.exprdirs):
    largest = np.linalg.norm(basis, axis=1).max(0) * 1e3
    assert largest.min() > 0.02
    assert largest[: -len(SWAY_NAMES)].max() < 40.0
    assert largest.max() < 80.0  # hair that sways, at the collar


def test_topology_is_an_oriented_manifold_without_loose_vertices(head: HeadModel) -> None:
  faces = head.faces
  assert np.array_equal(np.unique(faces), np.arange(len(head.v_template)))
  edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
  assert len(np.unique(edges, axis=0)) == len(edges)  # no edge runs twice the same way
  open_edges = set(map(tuple, edges.tolist())) - set(map(tuple, edges[:, ::-1].tolist()))
  borders = {a for a, _ in open_edges}
  labels = load_procedural_semantics()
  skin_borders = [v for v in borders if labels.component[v] == 0]
  assert all(labels.collar[v] or labels.lid_ring[v] == 0 for v in skin_borders)


def test_faces_look_outwards(head: HeadModel) -> None:
  labels = load_procedural_semantics()
  p = head.v_template
  for component, center in ((0, [0.0, 0, 0]), (1, EYE_CENTER), (2, EYE_CENTER * [-1, 1, 1])):
    rows = (labels.component[head.faces] == component).all(1)
    for ring in (labels.mouth_ring, labels.ear_ring, labels.lid_ring, labels.nostril_ring):
      rows &= (ring[head.faces] < 0).any(1)
    corners = p[head.faces[rows]]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    outward = corners.mean(1) - to_metres(np.array(center))
    assert ((normal * outward).sum(1) > 0).mean() > 0.97


def test_template_is_exactly_symmetric(head: HeadModel) -> None:
  labels = load_procedural_semantics()
  pair = labels.pair
  assert np.array_equal(pair[pair], np.arange(len(pair)))
  assert np.array_equal(head.v_template[pair] * np.float32([-1, 1, 1]), head.v_template)
  faces = head.faces[labels.component[head.faces[:, 0]] <= 2]
  mirrored = {tuple(np.roll(t, -np.argmin(t)).tolist()) for t in pair[faces][:, ::-1]}
  assert mirrored == {tuple(np.roll(t, -np.argmin(t)).tolist()) for t in faces}


def test_weights_and_joints(head: HeadModel) -> None:
  assert head.weights.min() >= 0
  np.testing.assert_allclose(head.weights.sum(1), 1, atol=1e-6)
  np.testing.assert_allclose(head.joint_regressor.sum(1), 1, atol=1e-5)
  joints = head.joint_regressor.astype(np.float64) @ head.v_template.astype(np.float64)
  np.testing.assert_allclose(joints, to_metres(JOINT_POSITIONS), atol=2e-5)


def test_names_cover_arkit_except_the_joints(head: HeadModel) -> None:
  single = 'jawForward jawLeft jawRight mouthClose mouthFunnel mouthPucker mouthLeft mouthRight'
  single += ' mouthRollLower mouthRollUpper mouthShrugLower mouthShrugUpper browInnerUp cheekPuff'
  single += ' tongueOut'
  sided = 'eyeBlink eyeLookDown eyeLookIn eyeLookOut eyeLookUp eyeSquint eyeWide mouthSmile'
  sided += ' mouthFrown mouthDimple mouthStretch mouthPress mouthLowerDown mouthUpperUp browDown'
  sided += ' browOuterUp cheekSquint noseSneer'
  wanted = single.split() + [n + side for n in sided.split() for side in ('Left', 'Right')]
  assert len(wanted) == 51
  assert set(head.expression_names[:51]) == set(wanted)
  named = [name for name in head.shape_names if not name.startswith('smooth_')]
  assert len(named) >= 30
  assert list(head.shape_names[: len(named)]) == named


def test_blink_closes_the_lids(head: HeadModel) -> None:
  labels = load_procedural_semantics()
  closed = _posed_mm(head, {'eyeBlink': 1.0})
  for eye in (0, 1):
    for ring in (LID_INNER_EDGE, LID_LASH_EDGE):
      loop = labels.lid_loops[eye, ring]
      upper, lower = loop[1:16], loop[:16:-1]
      assert np.linalg.norm(closed[upper] - closed[lower], axis=1).max() < 0.5


@pytest.mark.parametrize('amount', [0.25, 0.5, 0.75, 1.0])
def test_lids_never_cut_into_the_eyeball(head: HeadModel, amount: float) -> None:
  labels = load_procedural_semantics()
  posed = _posed_mm(head, {'eyeBlink': amount})
  for eye, side in ((0, 1), (1, -1)):
    rows = labels.lid_loops[eye][LID_INNER_EDGE:7].ravel()
    distance = np.linalg.norm(posed[rows] - EYE_CENTER * [side, 1, 1], axis=1)
    assert distance.min() > EYE_RADIUS - 0.1


def test_jaw_opens_the_lips_but_not_the_upper_teeth(head: HeadModel) -> None:
  labels = load_procedural_semantics()
  neutral, opened = _posed_mm(head), _posed_mm(head, jaw=0.3)
  seam = labels.mouth_loops[MOUTH_CONTACT]
  gap = opened[seam[0]] - opened[seam[32]]
  assert gap[1] > 15
  assert np.linalg.norm(neutral[seam[0]] - neutral[seam[32]]) < 0.5
  upper = labels.component == 3
  np.testing.assert_allclose(opened[upper], neutral[upper], atol=1e-3)
  lower = labels.component == 4
  assert (opened[lower] - neutral[lower])[:, 1].max() < -4
  still = neutral[:, 1] > 20
  np.testing.assert_allclose(opened[still], neutral[still], atol=0.2)


@pytest.mark.parametrize(
  ('name', 'region', 'axis', 'sign'),
  [
    ('browInnerUp', (10, 20, 88), 1, 1),
    ('browDownLeft', (22, 19, 85), 1, -1),
    ('mouthSmileLeft', (26, -68, 89), 1, 1),
    ('mouthFrownLeft', (26, -68, 89), 1, -1),
    ('mouthPucker', (0, -68, 103), 2, 1),
    ('cheekPuff', (50, -57, 55), 0, 1),
    ('noseSneerLeft', (14, -36, 98), 1, 1),
    ('jawLeft', (0, -104, 90), 0, 1),
    ('mouthLeft', (0, -68, 103), 0, 1),
    ('tongueOut', (0, -76, 81), 2, 1),
  ],
)
def test_expressions_move_what_they_name(
  head: HeadModel, name: str, region: tuple[float, float, float], axis: int, sign: int
) -> None:
  labels = load_procedural_semantics()
  direction = head.exprdirs[:, :, head.expression_names.index(name)] * 1e3
  near = np.linalg.norm(labels.template - np.float32(region), axis=1).argsort()[:12]
  assert (sign * direction[near, axis]).mean() > 0.8
  largest = np.linalg.norm(direction, axis=1)
  far = np.linalg.norm(labels.template - np.float32([0, -40, 70]), axis=1) > 125
  assert largest[far].max() < 0.35 or name.startswith('jaw')


@functools.cache
def _cover(side: int) -> tuple[np.ndarray, np.ndarray]:
  head = load_procedural_head()
  return uv_cover(head.vt, head.ft, side)


def test_atlas_has_no_overlap_and_fills_the_square(head: HeadModel) -> None:
  assert head.vt.min() > 0
  assert head.vt.max() < 1
  steps = head.vt.astype(np.float64) * 65536
  assert np.array_equal(steps, np.round(steps))
  assert triangle_areas(head.vt.astype(np.float64), head.ft).min() > 0
  count, _ = _cover(1024)
  assert count.max() <= 1
  _, owner = _cover(256)
  assert (owner >= 0).mean() > 0.8


def test_charts_keep_their_distance(head: HeadModel) -> None:
  """No two charts come within 1.5 texels of a 256² map: checked on a grid six times as fine."""
  labels = load_procedural_semantics()
  _, owner = _cover(1536)
  ear = (labels.ear_ring[head.faces] >= 0).all(1)
  left = labels.template[head.faces].mean(1)[:, 0] > 0
  chart = labels.component[head.faces[:, 0]] + np.where(ear, np.where(left, 10, 20), 0)
  cells = np.where(owner >= 0, chart[owner], -1)
  reach = 9  # grid cells, 1.5 texels
  for axis in (0, 1):
    for shift in range(1, reach + 1):
      a = np.take(cells, range(shift, cells.shape[axis]), axis)
      b = np.take(cells, range(cells.shape[axis] - shift), axis)
      assert not ((a >= 0) & (b >= 0) & (a != b)).any()


def test_atlas_spends_its_texels_where_they_show(head: HeadModel) -> None:
  labels = load_procedural_semantics()
  _, owner = _cover(256)
  faces = owner[owner >= 0]
  middle = labels.template[head.faces].mean(1)
  face = (middle[:, 2] > 15) & (middle[:, 1] > -122) & (middle[:, 1] < 76)
  face &= (labels.component[head.faces] == 0).all(1)
  face &= ~((labels.mouth_ring[head.faces] >= 0) & (labels.mouth_ring[head.faces] < 6)).all(1)
  assert face[faces].mean() > 0.55
  component = labels.component[head.faces[faces, 0]]
  share = np.bincount(component, minlength=6) / owner.size
  assert share[1] > 0.012
  assert share[2] > 0.012
  assert share[3] + share[4] > 0.02


def test_neutral_head_does_not_cut_itself(head: HeadModel) -> None:
  assert len(self_intersections(_posed_mm(head), head.faces)) == 0


@pytest.mark.parametrize(
  ('expression', 'jaw', 'limit'),
  [
    ({'eyeBlink': 1.0}, 0.0, 260),  # closed lids lie on each other
    ({'eyeBlink': 0.5}, 0.0, 150),
    ({'mouthSmile': 1.0}, 0.15, 10),
    ({'mouthPucker': 1.0}, 0.0, 20),
    ({'mouthRollUpper': 0.8, 'mouthRollLower': 0.8}, 0.0, 20),
    ({'mouthStretch': 1.0}, 0.05, 30),
    ({'browDown': 1.0, 'noseSneer': 1.0, 'mouthUpperUp': 1.0}, 0.0, 10),
    ({}, 0.45, 15),
  ],
)
def test_expressions_hardly_cut_the_head(
  head: HeadModel, expression: dict[str, float], jaw: float, limit: int
) -> None:
  assert len(self_intersections(_posed_mm(head, expression, jaw), head.faces)) <= limit


def test_an_opening_mouth_keeps_a_round_shape(head: HeadModel) -> None:
  """The jaw's correctives: the mouth narrows a little, its corners are no slits."""
  labels = load_procedural_semantics()
  seam = labels.mouth_loops[MOUTH_SEAM]
  closed, opened = _posed_mm(head)[seam], _posed_mm(head, jaw=0.4)[seam]
  width = opened[16, 0] - opened[48, 0]
  assert 0.78 < width / (closed[16, 0] - closed[48, 0]) < 0.95
  gap = np.linalg.norm(opened[:17] - opened[32:15:-1], axis=1)
  assert gap[0] > 25
  assert gap[14] > 0.28 * gap[0]  # two steps from the corner
  without = dataclasses.replace(head, posedirs=np.zeros_like(head.posedirs))
  assert _posed_mm(without, jaw=0.4)[seam][16, 0] > opened[16, 0] + 2


def test_closing_the_lips_over_an_open_jaw(head: HeadModel) -> None:
  labels = load_procedural_semantics()
  seam = labels.mouth_loops[MOUTH_SEAM]
  posed = _posed_mm(head, {'mouthClose': 1.0}, jaw=0.35)[seam]
  assert np.linalg.norm(posed[:17] - posed[32:15:-1], axis=1).max() < 0.6


def test_landmarks_are_on_the_surface_and_symmetric(head: HeadModel) -> None:
  embedding = head.landmarks68
  assert embedding is not None
  assert np.array_equal(embedding.index, np.arange(68))
  assert embedding.barycentric.min() >= 0
  np.testing.assert_allclose(embedding.barycentric.sum(1), 1, atol=1e-6)
  corners = head.v_template[head.faces[embedding.face]]
  points = (corners * embedding.barycentric[:, :, None]).sum(1) * 1e3
  assert points[36, 0] < 0 < points[45, 0]  # 36 is the subject's right eye
  for right, left in ((0, 16), (17, 26), (36, 45), (39, 42), (31, 35), (48, 54), (37, 44)):
    np.testing.assert_allclose(points[right] * [-1, 1, 1], points[left], atol=0.7)
  assert points[30, 2] == points[:, 2].max()  # the tip of the nose


def test_mediapipe_points_lie_where_the_face_mesh_has_them(head: HeadModel) -> None:
  embedding = head.landmarks_mediapipe
  assert embedding is not None
  assert np.array_equal(embedding.index, np.arange(478))
  np.testing.assert_allclose(embedding.barycentric.sum(1), 1, atol=1e-6)
  labels = load_procedural_semantics()
  corners = labels.template[head.faces[embedding.face]].astype(np.float64)
  p = (corners * embedding.barycentric[:, :, None]).sum(1)
  # The subject's right eye, nose, mouth, face oval and irises.
  assert p[33, 0] < p[133, 0] < 0 < p[362, 0] < p[263, 0]
  assert (
    p[10, 1] > p[151, 1] > p[9, 1] > p[168, 1] > p[1, 1] > p[2, 1] > p[0, 1] > p[17, 1] > p[152, 1]
  )
  assert p[4, 2] > p[[6, 2, 0, 152], 2].max()
  for center, rim, side in ((468, (469, 470, 471, 472), -1), (473, (474, 475, 476, 477), 1)):
    np.testing.assert_allclose(p[center, :2], EYE_CENTER[:2] * [side, 1], atol=0.3)
    radius = np.linalg.norm(p[list(rim), :2] - p[center, :2], axis=1)
    np.testing.assert_allclose(radius, IRIS_RADIUS, atol=0.2)
  upper = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
  lower = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291)
  for row in (upper, lower):
    assert (np.diff(p[list(row), 0]) > 0).all()
  middle = embedding.index[np.abs(p[:, 0]) < 1e-4]
  assert len(middle) == 28


def test_loading_is_quick_and_needs_no_scipy() -> None:
  program = (
    'import sys, time; import sa0_jax.head.model; t = time.perf_counter();'
    'from sa0_jax.head.procedural import load_procedural_head as load; head = load();'
    'print(time.perf_counter() - t); assert "scipy" not in sys.modules; assert load() is head'
  )
  result = subprocess.run(
    [sys.executable, '-c', program], capture_output=True, text=True, check=True
  )
  assert float(result.stdout) < 2.0  # 0.2 s on a quiet machine
