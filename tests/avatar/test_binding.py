"""Triangle frames are proper rotations, and what is bound to them moves rigidly with them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sa0_kernels import Camera
from scipy.spatial.transform import Rotation

from sa0_jax.avatar.binding import bind, to_local, triangle_frames
from sa0_jax.avatar.gaussians import local_attributes
from sa0_jax.head.registry import load_head
from tests.avatar.scenes import random_bound


def random_mesh(num_faces=40, seed=0):
  """Separate triangles in front of the origin, [3f, 3] vertices and [f, 3] faces."""
  rng = np.random.default_rng(seed)
  centers = rng.uniform(-0.1, 0.1, size=(num_faces, 1, 3))
  vertices = (centers + 0.02 * rng.normal(size=(num_faces, 3, 3))).reshape(-1, 3)
  return vertices.astype(np.float32), np.arange(3 * num_faces).reshape(-1, 3).astype(np.int32)


def matrices(quats):
  """[n, 3, 3] of quaternions (w, x, y, z), by another library."""
  return Rotation.from_quat(np.asarray(quats), scalar_first=True).as_matrix()


def test_frames_equal_the_published_formula():
  """METHOD: a0 along the first edge, a1 the normal, a2 = a0 × a1; one triangle at a time."""
  vertices, faces = random_mesh()
  frames = triangle_frames(jnp.asarray(vertices), jnp.asarray(faces))
  for index, face in enumerate(faces):
    v0, v1, v2 = vertices[face].astype(np.float64)
    a0 = (v1 - v0) / np.linalg.norm(v1 - v0)
    normal = np.cross(a0, v2 - v0)
    a1 = normal / np.linalg.norm(normal)
    a2 = np.cross(a0, a1)
    scale = 0.5 * (np.linalg.norm(v1 - v0) + abs(a2 @ (v2 - v0)))
    np.testing.assert_allclose(frames.center[index], (v0 + v1 + v2) / 3, atol=1e-7)
    np.testing.assert_allclose(
      frames.rotation[index], np.stack([a0, a1, a2], axis=1), atol=2e-5, err_msg=str(index)
    )
    np.testing.assert_allclose(frames.scale[index], scale, rtol=1e-5)


def test_frames_are_proper_rotations_with_outward_normals():
  """The printed a2 = a1 × a0 would have determinant −1."""
  head = load_head()
  frames = triangle_frames(jnp.asarray(head.v_template), jnp.asarray(head.faces))
  rotation = np.asarray(frames.rotation, np.float64)
  gram = np.einsum('fji,fjk->fik', rotation, rotation)
  np.testing.assert_allclose(gram, np.broadcast_to(np.eye(3), gram.shape), atol=1e-3)
  np.testing.assert_allclose(np.linalg.det(rotation), 1.0, atol=1e-3)
  # The face looks along +z: triangles at the nose's tip have outward normals there.
  tip = np.argmax(head.v_template[:, 2])
  assert (rotation[(head.faces == tip).any(axis=1), 2, 1] > 0).all()


def test_scale_follows_the_size_of_the_triangle():
  vertices, faces = random_mesh()
  small = triangle_frames(jnp.asarray(vertices), jnp.asarray(faces))
  large = triangle_frames(jnp.asarray(3.0 * vertices), jnp.asarray(faces))
  np.testing.assert_allclose(large.scale, 3.0 * np.asarray(small.scale), rtol=1e-5)
  np.testing.assert_allclose(large.rotation, small.rotation, atol=1e-5)


def test_bind_equals_the_published_formula():
  vertices, faces = random_mesh()
  face = np.random.default_rng(1).integers(0, len(faces), 100).astype(np.int32)
  bound = random_bound(100)
  frames = triangle_frames(jnp.asarray(vertices), jnp.asarray(faces))
  world = bind(bound, frames, jnp.asarray(face))
  local = local_attributes(bound)
  rotation, scale = np.asarray(frames.rotation)[face], np.asarray(frames.scale)[face][:, None]
  offset = np.einsum('nij,nj->ni', rotation, local.means)
  center = np.asarray(frames.center)[face]
  np.testing.assert_allclose(world.means, scale * offset + center, atol=1e-6)
  np.testing.assert_allclose(matrices(world.quats), rotation @ matrices(local.quats), atol=2e-5)
  np.testing.assert_allclose(world.scales, scale * np.asarray(local.scales), rtol=1e-6)
  np.testing.assert_array_equal(world.opacities, local.opacities)
  np.testing.assert_array_equal(world.colors, local.colors)
  np.testing.assert_allclose(np.linalg.norm(world.quats, axis=1), 1.0, atol=1e-5)


def test_to_local_undoes_bind():
  vertices, faces = random_mesh()
  face = jnp.asarray(np.arange(100) % len(faces), jnp.int32)
  bound = random_bound(100)
  frames = triangle_frames(jnp.asarray(vertices), jnp.asarray(faces))
  again = to_local(bind(bound, frames, face).means, frames, face)
  np.testing.assert_allclose(again, bound.position, atol=2e-4)


def motion(seed=3):
  """A rotation matrix and a translation."""
  rng = np.random.default_rng(seed)
  return Rotation.random(rng=rng).as_matrix(), rng.normal(size=3)


def test_gaussians_move_rigidly_with_the_mesh():
  vertices, faces = random_mesh()
  face = jnp.asarray(np.arange(60) % len(faces), jnp.int32)
  rotation, translation = motion()
  bound = random_bound(60)
  moved_vertices = (vertices @ rotation.T + translation).astype(np.float32)
  still = bind(bound, triangle_frames(jnp.asarray(vertices), jnp.asarray(faces)), face)
  moved = bind(bound, triangle_frames(jnp.asarray(moved_vertices), jnp.asarray(faces)), face)
  np.testing.assert_allclose(moved.means, still.means @ rotation.T + translation, atol=5e-6)
  np.testing.assert_allclose(matrices(moved.quats), rotation @ matrices(still.quats), atol=5e-4)
  np.testing.assert_allclose(moved.scales, still.scales, rtol=1e-3)


def test_turning_head_and_camera_together_leaves_the_image():
  vertices, faces = random_mesh()
  face = jnp.asarray(np.arange(200) % len(faces), jnp.int32)
  rotation, translation = motion()
  rigid = np.eye(4)
  rigid[:3, :3], rigid[:3, 3] = rotation, translation
  view = np.eye(4)
  view[2, 3] = 0.5
  bound = random_bound(200)

  def image(vertices, world_to_camera):
    camera = Camera(
      jnp.asarray(world_to_camera, jnp.float32), jnp.asarray([80.0, 80, 24, 20]), 48, 40
    )
    frames = triangle_frames(jnp.asarray(vertices, jnp.float32), jnp.asarray(faces))
    return np.asarray(bind(bound, frames, face).rasterize(camera).features)

  still = image(vertices, view)
  moved = image(vertices @ rotation.T + translation, view @ np.linalg.inv(rigid))
  assert still.max() > 0.3
  np.testing.assert_allclose(moved, still, atol=2e-3)
  assert np.abs(moved - still).mean() < 1e-4


DEGENERATE = {
  'a point': [[0.1, 0.2, 0.3]] * 3,
  'first edge of no length': [[0, 0, 0], [0, 0, 0], [0, 0.01, 0]],
  'second edge of no length': [[0, 0, 0], [0.01, 0, 0], [0, 0, 0]],
  'a line': [[0, 0, 0], [0.01, 0, 0], [0.02, 0, 0]],
  'nearly a line': [[0, 0, 0], [0.01, 0, 0], [0.02, 1e-12, 0]],
}


@functools.partial(jax.jit, static_argnums=2)
def _image_and_gradients(vertices, bound, size):
  faces = jnp.asarray([[0, 1, 2], [3, 4, 5]], jnp.int32)
  view = jnp.eye(4).at[2, 3].set(0.3)
  camera = Camera(view, jnp.asarray([60.0, 60, 8, 8]), size, size)

  def image(vertices, bound):
    world = bind(bound, triangle_frames(vertices, faces), jnp.asarray([0, 1, 0, 1], jnp.int32))
    return jnp.sum(world.rasterize(camera, None, 'xla').features), world

  return jax.value_and_grad(image, (0, 1), has_aux=True)(vertices, bound)


@pytest.mark.parametrize('name', list(DEGENERATE))
def test_degenerate_triangles_are_finite_in_value_and_gradient(name):
  """Eye corners, and the seams of lips and ears."""
  vertices = jnp.asarray([*DEGENERATE[name], [0, 0, 0], [0.01, 0, 0], [0, 0.01, 0]], jnp.float32)
  (value, world), gradients = _image_and_gradients(vertices, random_bound(4), 16)
  assert value > 0
  for leaf in jax.tree.leaves((world, gradients)):
    assert np.isfinite(np.asarray(leaf)).all()
