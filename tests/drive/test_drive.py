"""Driving: signs by what moves where, neutral offsets by algebra, files as others write them."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

from sa0_jax.drive.arkit import arkit_codes, load_map, read_arkit_csv
from sa0_jax.drive.flame_codes import read_flame_codes
from sa0_jax.drive.motion import Motion, neutral_of, relative_to
from sa0_jax.geometry.rotations import axis_angle_to_matrix
from sa0_jax.head.lbs import pose_head
from sa0_jax.head.model import HeadCodes
from sa0_jax.head.registry import load_head


@pytest.fixture(scope='module')
def head():
  return load_head()


def _moved(head, **weights) -> np.ndarray:
  """[v, 3] what single weights do to the mesh."""
  rows = {name: np.array([value]) for name, value in weights.items()}
  codes = arkit_codes(rows, head, load_map())
  posed = np.asarray(pose_head(head, HeadCodes(*(jnp.asarray(a) for a in _leaves(codes)))))
  return posed[0] - head.v_template


def _leaves(codes):
  return [getattr(codes, f.name) for f in dataclasses.fields(HeadCodes)]


def _part(head, name):
  return head.components == head.component_names.index(name)


def test_the_map_knows_every_arkit_shape(head):
  shapes = load_map()
  named = {n for n in head.expression_names if not n.startswith(('smooth', 'sway'))}
  assert named | {'jawOpen', 'HeadYaw', 'HeadPitch', 'HeadRoll'} == set(shapes)
  assert len(named | {'jawOpen'}) == 52


def test_jaw_open_lowers_the_lower_teeth_alone(head):
  moved = _moved(head, jawOpen=1.0)
  assert moved[_part(head, 'teeth_lower'), 1].mean() < -0.01
  assert np.abs(moved[_part(head, 'teeth_upper')]).max() < 1e-5


@pytest.mark.parametrize(
  ('shape', 'eye', 'axis', 'sign'),
  [
    ('eyeLookUpLeft', 'left_eye', 1, 1),
    ('eyeLookDownRight', 'right_eye', 1, -1),
    ('eyeLookOutLeft', 'left_eye', 0, 1),  # x is the subject's left
    ('eyeLookInLeft', 'left_eye', 0, -1),
    ('eyeLookOutRight', 'right_eye', 0, -1),
    ('eyeLookInRight', 'right_eye', 0, 1),
  ],
)
def test_eyes_look_where_their_shape_says(head, shape, eye, axis, sign):
  part = _part(head, eye)
  pupil = np.flatnonzero(part)[np.argmax(head.v_template[part, 2])]
  moved = _moved(head, **{shape: 1.0})
  assert sign * moved[pupil, axis] > 0.002
  other = _part(head, 'right_eye' if eye == 'left_eye' else 'left_eye')
  assert np.abs(moved[other]).max() < 1e-5


@pytest.mark.parametrize(
  ('name', 'axis', 'sign'), [('HeadYaw', 0, -1), ('HeadPitch', 1, 1), ('HeadRoll', 0, -1)]
)
def test_the_head_turns_right_looks_up_and_tilts_right(head, name, axis, sign):
  """As Unreal's rotators count: positive yaw to the right, pitch up, roll to the right shoulder."""
  point = np.argmax(head.v_template[:, 1 if name == 'HeadRoll' else 2])  # crown or nose
  assert sign * _moved(head, **{name: 0.2})[point, axis] > 0.01


def _csv(path, rows=130, fps=60, **curves):
  shapes = [n[:1].upper() + n[1:] for n in load_map() if not n.startswith('Head')]
  names = [*shapes, 'HeadYaw', 'HeadPitch', 'HeadRoll', 'LeftEyeYaw']
  lines = [','.join(['Timecode', 'BlendShapeCount', *names])]
  for i in range(rows):
    code = f'10:00:{i // fps:02d}:{i % fps:02d}.000'
    lines.append(','.join([code, '61', *(str(curves.get(n, [0] * rows)[i]) for n in names)]))
  path.write_text('\n'.join(lines) + '\n')
  return path


def test_a_recording_of_live_link_face(head, tmp_path):
  ramp = np.linspace(0, 1, 190)
  motion = read_arkit_csv(
    _csv(tmp_path / 'a.csv', 190, 60, JawOpen=ramp, EyeBlinkLeft=ramp, HeadYaw=0.3 * ramp), head
  )
  assert (len(motion), motion.fps) == (190, 60.0)
  np.testing.assert_allclose(motion.codes.jaw[:, 0], 0.35 * ramp, atol=1e-6)
  blink = head.expression_names.index('eyeBlinkLeft')
  np.testing.assert_allclose(motion.codes.expression[:, blink], ramp, atol=1e-6)
  assert np.count_nonzero(motion.codes.expression.any(axis=0)) == 1
  np.testing.assert_allclose(motion.codes.neck[-1], [0, -0.3, 0], atol=1e-6)


def test_heads_without_names_get_jaw_and_gaze(head, tmp_path):
  nameless = dataclasses.replace(head, expression_names=())
  path = _csv(tmp_path / 'a.csv', JawOpen=np.ones(130), EyeBlinkLeft=np.ones(130))
  motion = read_arkit_csv(path, nameless)
  assert motion.codes.jaw[0, 0] == pytest.approx(0.35)
  assert not motion.codes.expression.any()
  own = {'jawOpen': {'expression': {'7': 0.5}, 'jaw': [0.1, 0, 0]}}
  text = {'format': 'sa0-arkit-map', 'version': 1, 'shapes': own}
  (tmp_path / 'm.json').write_text(json.dumps(text))
  motion = read_arkit_csv(path, nameless, tmp_path / 'm.json')
  assert motion.codes.expression[0, 7] == pytest.approx(0.5)
  own['jawOpen']['expression'] = {'grin': 1.0}
  (tmp_path / 'm.json').write_text(json.dumps(text))
  with pytest.raises(ValueError, match="no expression direction 'grin'"):
    read_arkit_csv(path, nameless, tmp_path / 'm.json')


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('', 'no ARKit recording'),
    ('a,b\n1,2\n', 'no ARKit recording'),
    (None, 'a line that has not'),
  ],
)
def test_other_csv_files_are_refused(head, tmp_path, text, message):
  path = _csv(tmp_path / 'a.csv')
  path.write_text(path.read_text() + '1,2,3\n' if text is None else text)
  with pytest.raises(ValueError, match=message):
    read_arkit_csv(path, head)


def test_numbers_that_are_none_are_refused(head, tmp_path):
  for word in ('nan', '-inf', '1e38'):  # the last is a number; what follows from it is none
    path = _csv(tmp_path / 'a.csv', JawOpen=[word] * 130)
    with pytest.raises(ValueError, match='JawOpen: holds a number that is no weight'):
      read_arkit_csv(path, head)
  path = _csv(tmp_path / 'a.csv', JawOpen=['x'] * 130)
  with pytest.raises(ValueError, match='JawOpen: could not convert'):
    read_arkit_csv(path, head)


@pytest.mark.parametrize('size', [106, 112])
def test_flame_sequences(head, tmp_path, size):
  rows = np.random.default_rng(0).normal(size=(1, 9, size)).astype(np.float32)
  np.savez(tmp_path / 'a.npz', motion=rows)
  motion = read_flame_codes(tmp_path / 'a.npz', head)
  assert (len(motion), motion.fps) == (9, 25.0)
  np.testing.assert_array_equal(motion.codes.expression, rows[0, :, :100])
  np.testing.assert_array_equal(motion.codes.rotation, rows[0, :, 100:103])
  np.testing.assert_array_equal(motion.codes.jaw, rows[0, :, 103:106])
  wanted = rows[0, :, 106:] if size == 112 else np.zeros((9, 6))
  np.testing.assert_array_equal(motion.codes.eyes, wanted)


def test_other_arrays_are_refused(head, tmp_path):
  for arrays in ({'a': np.zeros((3, 50))}, {'a': np.zeros((3, 106)), 'b': np.zeros((3, 112))}):
    np.savez(tmp_path / 'a.npz', **arrays)
    with pytest.raises(ValueError, match='needs one array'):
      read_flame_codes(tmp_path / 'a.npz', head)
  np.savez(tmp_path / 'a.npz', a=np.full((3, 106), np.nan))
  with pytest.raises(ValueError, match='NaN'):
    read_flame_codes(tmp_path / 'a.npz', head)


def _motion(head, frames=12, seed=0) -> Motion:
  rng = np.random.default_rng(seed)
  zero = HeadCodes.neutral(head, (frames,))
  parts = {f.name: np.array(getattr(zero, f.name)) for f in dataclasses.fields(HeadCodes)}
  for name in ('expression', 'rotation', 'neck', 'eyes', 'translation'):
    parts[name] = rng.normal(0, 0.2, parts[name].shape).astype(np.float32)
  parts['jaw'][:, 0] = rng.uniform(0.05, 0.3, frames)
  return Motion(HeadCodes(**parts), 25.0)


def test_the_neutral_frame_drives_neutral(head):
  motion = _motion(head)
  frame = neutral_of(motion, head)
  relative = relative_to(motion, frame)
  for field in dataclasses.fields(HeadCodes):
    if field.name != 'shape':
      np.testing.assert_allclose(getattr(relative.codes, field.name)[frame], 0.0, atol=1e-6)
  assert (relative.codes.jaw[:, 0] >= 0).all()
  with pytest.raises(ValueError, match='there is no 12'):
    relative_to(motion, 12)


def test_a_bias_of_the_driver_does_not_reach_the_subject(head):
  """A tracker that adds the same to every frame changes nothing, the choice of neutral included."""
  motion = _motion(head)
  biased = dataclasses.replace(motion.codes, expression=motion.codes.expression + 0.7)
  one = relative_to(motion, neutral_of(motion, head))
  other = dataclasses.replace(motion, codes=biased)
  assert neutral_of(other, head) == neutral_of(motion, head)
  other = relative_to(other, neutral_of(other, head))
  np.testing.assert_allclose(other.codes.expression, one.codes.expression, atol=1e-6)


def test_rotations_compose_to_the_drivers(head):
  motion = _motion(head)
  relative = relative_to(motion, 3)
  first, turned, own = (
    np.asarray(axis_angle_to_matrix(jnp.asarray(codes.neck)))
    for codes in (motion.codes, relative.codes, motion.codes)
  )
  np.testing.assert_allclose(first[3] @ turned, own, atol=1e-5)


def test_the_neutral_has_open_eyes(head):
  """Where a driver looks down for most of a clip, an avatar once stared in all the rest."""
  motion = _motion(head, 40)
  motion.codes.jaw[:] = 0.0
  motion.codes.expression[:] = 0.0
  blinks = [head.expression_names.index(f'eyeBlink{side}') for side in ('Left', 'Right')]
  motion.codes.expression[:28, blinks] = 0.9
  motion.codes.jaw[28:, 0] = 0.001 * np.arange(12) + 0.001  # and the mouth a little less closed
  frame = neutral_of(motion, head)
  assert frame >= 28
  assert relative_to(motion, frame).codes.expression[:28, blinks].min() > 0.8


def test_the_neutral_has_a_closed_mouth_and_the_usual_face(head):
  motion = _motion(head, 20)
  motion.codes.jaw[:, 0] = 0.3
  motion.codes.jaw[5:10, 0] = 0.01
  motion.codes.expression[:] = 0.1
  motion.codes.expression[5:9, head.expression_names.index('mouthSmileLeft')] = 2.0
  motion.codes.expression[9] = 5.0
  assert 5 <= neutral_of(motion, head) < 9
