"""What the page gets says the same as the library: taken apart again, it poses and binds alike."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

from sa0_jax.avatar.gaussians import local_attributes
from sa0_jax.head.lbs import pose_head
from sa0_jax.head.model import HeadArrays, HeadCodes
from sa0_jax.viewer.pack import ALIGNMENT, MAGIC, pack_avatar, playback_of

MICROMETRES = 1e-6


def unpack(data: bytes) -> tuple[dict, dict[str, np.ndarray]]:
  """The format as its description reads."""
  assert data[:8] == MAGIC
  length = int.from_bytes(data[8:12], 'little')
  start = 12 + length
  assert start % ALIGNMENT == 0
  header = json.loads(data[12:start])
  arrays = {}
  for name, entry in header['arrays'].items():
    assert entry['offset'] % ALIGNMENT == 0
    count = int(np.prod(entry['shape']))
    array = np.frombuffer(data, '<' + entry['dtype'], count, start + entry['offset'])
    arrays[name] = array.reshape(entry['shape'])
  return header, arrays


@pytest.fixture(scope='module')
def packed(avatar, capture):
  return unpack(pack_avatar(avatar, playback_of(capture, avatar.head)))


def unpacked_head(header, arrays) -> HeadArrays:
  """The packed head laid out for the library's own posing, without identity directions."""
  rows, vertices = len(header['expressions']) + 36, arrays['vertices']
  motion = np.zeros((rows, vertices.size), np.float32)
  motion[arrays['direction_index']] = arrays['directions'] * arrays['direction_scale'][:, None]
  motion = motion.reshape(rows, -1, 3).swapaxes(1, 2).reshape(rows, -1)
  return HeadArrays(
    template=jnp.asarray(vertices.T),
    shape_basis=jnp.zeros((1, vertices.size)),
    motion_basis=jnp.asarray(motion),
    joint_template=jnp.asarray(arrays['joints']),
    joint_shape_basis=jnp.zeros((1, 15)),
    joint_expression_basis=jnp.asarray(arrays['joint_directions']),
    weights=jnp.asarray(arrays['weights'].T),
  )


def test_the_head_poses_as_the_avatars_own(packed, avatar, capture):
  head = unpacked_head(*packed)
  for position in range(len(capture)):
    codes = capture.frame_codes(position)
    own = pose_head(avatar.head, dataclasses.replace(codes, shape=avatar.shape))
    page = pose_head(head, dataclasses.replace(codes, shape=jnp.zeros(1)))
    assert np.abs(np.asarray(own - page)).max() < 5 * MICROMETRES


def test_directions_that_move_nothing_are_left_out(packed, avatar):
  _, arrays = packed
  bases = np.concatenate([avatar.head.exprdirs, avatar.head.posedirs], axis=-1)
  moving = np.flatnonzero(np.abs(bases).max(axis=(0, 1)))
  assert len(moving) < bases.shape[-1]
  np.testing.assert_array_equal(arrays['direction_index'], moving)


def test_gaussians(packed, avatar):
  _, arrays = packed
  local = local_attributes(avatar.gaussians)
  np.testing.assert_array_equal(arrays['gaussian_face'], avatar.layout.face)
  np.testing.assert_array_equal(arrays['gaussian_position'], local.means)
  np.testing.assert_array_equal(arrays['gaussian_scale'], local.scales)
  assert np.abs(arrays['gaussian_rotation'] / 32767 - np.asarray(local.quats)).max() < 1.6e-5
  rgba = np.concatenate([np.asarray(local.colors), np.asarray(local.opacities)[:, None]], axis=1)
  assert np.abs(arrays['gaussian_rgba'] / 65535 - rgba).max() < 8e-6


def test_motion(packed, capture):
  header, arrays = packed
  assert header['motion'] == {'fps': 10.0, 'width': 96, 'height': 96}
  np.testing.assert_array_equal(arrays['motion_expression'], capture.codes.expression)
  names = ('rotation', 'neck', 'jaw', 'eyes', 'translation')
  pose = np.concatenate([getattr(capture.codes, name) for name in names], axis=1)
  np.testing.assert_array_equal(arrays['motion_pose'], pose)
  np.testing.assert_array_equal(arrays['motion_view'], capture.camera.world_to_camera)
  np.testing.assert_array_equal(arrays['motion_intrinsics'], capture.camera.intrinsics)


def test_sliders_and_presets_are_named_where_the_head_has_names(packed, avatar):
  header, _ = packed
  assert [e['name'] for e in header['expressions']] == list(avatar.head.expression_names)
  ranges = {e['name']: (e['low'], e['high']) for e in header['expressions']}
  assert ranges['mouthSmileLeft'] == (0.0, 1.0)
  assert ranges['smooth_060'] == (-2.5, 2.5)
  smile = next(p for p in header['presets'] if p['name'] == 'Smile')
  moved = {avatar.head.expression_names[index] for index, _ in smile['expression']}
  assert {'mouthSmileLeft', 'mouthSmileRight'} <= moved


def test_a_head_without_names_has_numbered_sliders_and_no_named_faces(avatar):
  nameless = dataclasses.replace(avatar.head, expression_names=())
  header, arrays = unpack(pack_avatar(dataclasses.replace(avatar, head=nameless)))
  assert header['expressions'][7]['name'] == 'expression 7'
  assert not any(e['named'] for e in header['expressions'])
  assert {p['name'] for p in header['presets']} >= {'Neutral', 'Open mouth'}
  assert 'Smile' not in {p['name'] for p in header['presets']}
  assert 'motion' not in header
  assert not any(name.startswith('motion') for name in arrays)


def test_equal_avatars_give_equal_bytes(avatar):
  assert pack_avatar(avatar) == pack_avatar(dataclasses.replace(avatar))


def test_a_capture_of_another_head_is_refused(avatar, capture):
  other = dataclasses.replace(capture, head_fingerprint='0' * 16)
  with pytest.raises(ValueError, match='was tracked with head model'):
    playback_of(other, avatar.head)


def test_codes_shared_by_all_frames_are_given_to_each(avatar, capture):
  motion = playback_of(capture, avatar.head)
  still = HeadCodes.neutral(avatar.head)
  _, arrays = unpack(pack_avatar(avatar, motion._replace(codes=still)))
  assert arrays['motion_pose'].shape == (len(capture), 18)
  assert not arrays['motion_expression'].any()
