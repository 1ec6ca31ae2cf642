"""Posing: what linear blend skinning must satisfy whatever the head."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy.spatial.transform import Rotation

from sa0_jax.head import lbs
from sa0_jax.head.model import JOINT_PARENTS, HeadCodes


def _random_codes(head, batch=(), seed=0, dtype=jnp.float32):
  generator = np.random.default_rng(seed)
  return jax.tree.map(
    lambda leaf: jnp.asarray(0.5 * generator.normal(size=leaf.shape), dtype),
    HeadCodes.neutral(head, batch),
  )


def _pose_by_definition(head, codes):
  """FLAME's equations one vertex at a time in float64: the reference."""
  codes = SimpleNamespace(
    **{part.name: np.asarray(getattr(codes, part.name)) for part in dataclasses.fields(codes)}
  )
  shaped = head.v_template + head.shapedirs @ codes.shape + head.exprdirs @ codes.expression
  joints = head.joint_regressor.astype(np.float64) @ shaped
  axes = [codes.rotation, codes.neck, codes.jaw, codes.eyes[:3], codes.eyes[3:]]
  rotations = Rotation.from_rotvec(axes).as_matrix()
  posed = shaped + head.posedirs @ (rotations[1:] - np.eye(3)).reshape(36)
  world = []
  for joint, parent in enumerate(JOINT_PARENTS):
    local = np.eye(4)
    local[:3, :3] = rotations[joint]
    local[:3, 3] = joints[joint] - (joints[parent] if parent >= 0 else 0)
    world.append(local if parent < 0 else world[parent] @ local)
  vertices = np.zeros_like(posed)
  for vertex, position in enumerate(posed):
    for joint in range(5):
      from_joint = np.append(position - joints[joint], 1.0)
      vertices[vertex] += head.weights[vertex, joint] * (world[joint] @ from_joint)[:3]
  return vertices + codes.translation, np.stack([w[:3, 3] for w in world]) + codes.translation


def test_posing_equals_the_definition(head):
  for seed in range(3):
    codes = _random_codes(head, seed=seed)
    vertices, joints = _pose_by_definition(head, codes)
    np.testing.assert_allclose(lbs.pose_head(head, codes), vertices, atol=1e-6)
    np.testing.assert_allclose(lbs.pose_joints(head, codes), joints, atol=1e-6)


def test_zero_codes_give_the_template(head):
  vertices = lbs.pose_head(head, HeadCodes.neutral(head))
  np.testing.assert_allclose(vertices, head.v_template, atol=1e-7)


@pytest.mark.parametrize(('num_shape', 'num_expression'), [(1, 1), (0, 3), (3, 0)])
def test_bases_of_any_size(make_head, num_shape, num_expression):
  head = make_head(20, num_shape, num_expression)
  codes = _random_codes(head)
  np.testing.assert_allclose(
    lbs.pose_head(head, codes), _pose_by_definition(head, codes)[0], atol=1e-6
  )


@pytest.mark.parametrize('batch', [(1,), (3,), (2, 3)])
def test_batches_equal_loops(head, batch):
  codes = _random_codes(head, batch)
  vertices = lbs.pose_head(head, codes)
  assert vertices.shape == (*batch, 60, 3)
  for index in np.ndindex(*batch):
    one = jax.tree.map(lambda leaf, index=index: leaf[index], codes)
    np.testing.assert_allclose(vertices[index], lbs.pose_head(head, one), atol=1e-7)


def test_parts_without_the_leading_axes_serve_every_frame(head):
  codes = _random_codes(head, (4,))
  shared = dataclasses.replace(codes, shape=codes.shape[0], jaw=codes.jaw[:1])
  assert shared.batch_shape == (4,)
  full = dataclasses.replace(
    codes,
    shape=jnp.broadcast_to(shared.shape, codes.shape.shape),
    jaw=jnp.broadcast_to(shared.jaw, codes.jaw.shape),
  )
  np.testing.assert_allclose(lbs.pose_head(head, shared), lbs.pose_head(head, full), atol=1e-7)
  np.testing.assert_allclose(lbs.pose_joints(head, shared), lbs.pose_joints(head, full), atol=1e-7)


def test_root_rotation_and_translation_move_the_head_rigidly(head):
  codes = _random_codes(head)
  still = dataclasses.replace(codes, rotation=jnp.zeros(3), translation=jnp.zeros(3))
  turn = Rotation.from_rotvec(np.asarray(codes.rotation)).as_matrix()
  root = np.asarray(lbs.pose_joints(head, still))[0]
  expected = (np.asarray(lbs.pose_head(head, still)) - root) @ turn.T + root + codes.translation
  np.testing.assert_allclose(lbs.pose_head(head, codes), expected, atol=1e-6)


def test_landmarks_lie_on_the_posed_surface(head):
  codes = _random_codes(head, (3,))
  vertices = np.asarray(lbs.pose_head(head, codes))
  for scheme in ('68', 'mediapipe'):
    embedding = head.require_landmarks(scheme)
    landmarks = lbs.LandmarkArrays.from_head(head, embedding)
    expected = np.einsum(
      'tmkc,mk->tmc', vertices[:, head.faces[embedding.face]], embedding.barycentric
    )
    np.testing.assert_allclose(lbs.pose_landmarks(landmarks, codes), expected, atol=1e-6)


def test_gradients_equal_finite_differences(head):
  with jax.enable_x64(True):
    embedding = head.require_landmarks('68')
    landmarks = jax.tree.map(
      lambda leaf: leaf.astype(jnp.float64), lbs.LandmarkArrays.from_head(head, embedding)
    )
    arrays = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), head.arrays)
    codes = _random_codes(head, dtype=jnp.float64)
    flat, unflatten = ravel_pytree(codes)
    generator = np.random.default_rng(3)
    parts = (
      (lbs.pose_head, arrays, generator.normal(size=(60, 3))),
      (lbs.pose_joints, arrays, generator.normal(size=(5, 3))),
      (lbs.pose_landmarks, landmarks, generator.normal(size=(68, 3))),
    )

    def projection(x):
      return sum(jnp.sum(weight * pose(part, unflatten(x))) for pose, part, weight in parts)

    steps = 1e-6 * jnp.eye(len(flat))
    batched = jax.jit(jax.vmap(projection))
    numeric = (batched(flat + steps) - batched(flat - steps)) / 2e-6
    np.testing.assert_allclose(jax.jit(jax.grad(projection))(flat), numeric, atol=1e-7)


def test_gradient_is_finite_at_the_neutral_pose(head):
  loss = jax.jit(jax.grad(lambda codes: jnp.sum(lbs.pose_head(head.arrays, codes) ** 2)))
  gradient = loss(HeadCodes.neutral(head))
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize('chunk', [1, 3, 64])
def test_pose_frames_equals_posing_at_once(head, chunk):
  codes = _random_codes(head, (7,))
  codes = dataclasses.replace(codes, shape=codes.shape[0])
  frames = lbs.pose_frames(head, codes, chunk=chunk)
  assert isinstance(frames, np.ndarray)
  np.testing.assert_allclose(frames, lbs.pose_head(head, codes), atol=1e-7)


def test_pose_frames_refuses_other_batches(head):
  with pytest.raises(ValueError, match='one leading axis of frames'):
    lbs.pose_frames(head, HeadCodes.neutral(head))
  with pytest.raises(ValueError, match='chunk must be at least 1'):
    lbs.pose_frames(head, HeadCodes.neutral(head, (2,)), chunk=0)


def test_codes_of_another_basis_are_refused(head, make_head):
  codes = HeadCodes.neutral(make_head(60, 5, 4))
  with pytest.raises(ValueError, match="5 shape coefficients, head 'synthetic' has 7"):
    lbs.pose_head(head, codes)
  codes = HeadCodes.neutral(make_head(60, 7, 9))
  landmarks = lbs.LandmarkArrays.from_head(head, head.landmarks68)
  with pytest.raises(ValueError, match='9 expression coefficients'):
    lbs.pose_landmarks(landmarks, codes)


def test_missing_landmarks_say_which_file_to_install(head):
  bare = dataclasses.replace(head, landmarks68=None, landmarks_mediapipe=None)
  with pytest.raises(ValueError, match=r'mediapipe_landmark_embedding\.npz'):
    bare.require_landmarks('mediapipe')
  with pytest.raises(ValueError, match=r'flame_static_embedding\.pkl'):
    bare.require_landmarks('68')
  with pytest.raises(ValueError, match='unknown'):
    head.require_landmarks('dlib')


def test_bases_are_arguments_of_the_compiled_program_not_constants(head):
  codes = HeadCodes.neutral(head)
  leaves, tree = jax.tree.flatten(head.arrays)

  def pose(leaves):
    return lbs.pose_head(jax.tree.unflatten(tree, leaves), codes)

  text = jax.jit(pose).lower(leaves).as_text()
  assert 'dense<"0x' not in text  # a large literal
  largest = head.arrays.motion_basis.size
  assert f'tensor<{head.num_expression + 36}x{largest // (head.num_expression + 36)}xf32>' in text


def test_arrays_made_while_tracing_are_kept_as_arrays(make_head):
  head = make_head(seed=5)
  codes = HeadCodes.neutral(head)
  traced = jax.jit(lambda codes: lbs.pose_head(head, codes))(codes)
  assert not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(head.arrays))
  np.testing.assert_allclose(lbs.pose_head(head, codes), traced, atol=1e-7)
