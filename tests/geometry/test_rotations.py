"""Rotations: round trips, agreement with scipy, and derivatives where the formulas are singular."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sa0_jax.geometry import rotations

_TO_MATRIX = jax.jit(rotations.axis_angle_to_matrix)
_TO_AXIS_ANGLE = jax.jit(rotations.matrix_to_axis_angle)
ANGLES = [0.0, 1e-20, 1e-8, 1e-4, 0.1, 0.1414, 0.1415, 1.0, 3.0, 3.14, 3.141592]


def _directions(count: int = 50) -> np.ndarray:
  vectors = np.random.default_rng(0).normal(size=(count, 3))
  axes = np.concatenate([np.eye(3), -np.eye(3), vectors])
  return axes / np.linalg.norm(axes, axis=-1, keepdims=True)


@pytest.mark.parametrize('angle', ANGLES)
def test_axis_angle_to_matrix_equals_scipy(angle):
  vectors = _directions() * angle
  expected = Rotation.from_rotvec(vectors).as_matrix()
  actual = _TO_MATRIX(jnp.asarray(vectors, jnp.float32))
  np.testing.assert_allclose(actual, expected, atol=5e-7)


@pytest.mark.parametrize('angle', ANGLES)
def test_axis_angle_round_trip_keeps_precision(angle):
  vectors = _directions() * angle
  matrix = jnp.asarray(Rotation.from_rotvec(vectors).as_matrix(), jnp.float32)
  back = _TO_AXIS_ANGLE(matrix)
  # Near a half turn −v is the same rotation; compare the one that is closer.
  error = np.minimum(
    np.abs(back - vectors).max(-1),
    np.abs(back + vectors).max(-1) if angle > 3.14 else np.inf,
  )
  assert error.max() < 2e-6


def test_tiny_rotations_survive_the_matrix_relative_to_float32():
  vectors = _directions() * 1e-5
  back = _TO_AXIS_ANGLE(_TO_MATRIX(jnp.asarray(vectors, jnp.float32)))
  np.testing.assert_allclose(back, vectors, rtol=1e-5, atol=1e-11)


def test_series_and_closed_form_meet_in_float64():
  with jax.enable_x64(True):
    limit = np.sqrt(rotations._SERIES_LIMIT)
    for angle in (limit * (1 - 1e-12), limit * (1 + 1e-12), 2 * limit):
      vectors = _directions() * angle
      expected = Rotation.from_rotvec(vectors).as_matrix()
      actual = _TO_MATRIX(jnp.asarray(vectors))
      np.testing.assert_allclose(actual, expected, atol=2e-15)
      np.testing.assert_allclose(_TO_AXIS_ANGLE(jnp.asarray(expected)), vectors, atol=5e-15)


def test_derivatives_at_zero_are_the_generators():
  jacobian = jax.jit(jax.jacfwd(rotations.axis_angle_to_matrix))(jnp.zeros(3))
  generators = np.zeros((3, 3, 3))
  for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
    generators[k, j, i], generators[j, k, i] = 1, -1
  np.testing.assert_allclose(jacobian, generators, atol=1e-7)
  hessian = jax.jit(jax.hessian(rotations.axis_angle_to_matrix))(jnp.zeros(3))
  # Second order of exp(K): ½(K_i K_j + K_j K_i).
  basis = np.moveaxis(generators, -1, 0)
  expected = 0.5 * np.einsum('iab,jbc->acij', basis, basis)
  expected = expected + np.swapaxes(expected, -1, -2)
  np.testing.assert_allclose(hessian, expected, atol=1e-6)


@pytest.mark.parametrize(
  'function',
  [
    rotations.axis_angle_to_matrix,
    lambda v: rotations.matrix_to_axis_angle(rotations.axis_angle_to_matrix(v)),
    lambda v: rotations.matrix_to_quaternion(rotations.axis_angle_to_matrix(v)),
    lambda v: rotations.rotation_6d_to_matrix(
      rotations.matrix_to_rotation_6d(rotations.axis_angle_to_matrix(v))
    ),
  ],
  ids=['matrix', 'axis_angle', 'quaternion', 'rotation_6d'],
)
def test_gradients_equal_finite_differences(function):
  angles = np.array([0.0, 1e-6, 0.1, 0.15, 1.5, 3.0, 3.1415])
  with jax.enable_x64(True):
    step = 1e-6
    vectors = (angles[:, None, None] * _directions(4)).reshape(-1, 3)
    jacobian = jax.jit(jax.vmap(jax.jacrev(function)))(jnp.asarray(vectors))
    assert np.isfinite(jacobian).all()
    batched = jax.jit(function)
    for i in range(3):
      offset = step * np.eye(3)[i]
      numeric = (batched(vectors + offset) - batched(vectors - offset)) / (2 * step)
      np.testing.assert_allclose(jacobian[..., i], numeric, atol=2e-8)


def test_matrices_are_proper_rotations_and_quaternions_agree():
  vectors = np.random.default_rng(2).uniform(-3, 3, size=(500, 3))
  matrix = _TO_MATRIX(jnp.asarray(vectors, jnp.float32))
  identity = jnp.einsum('nij,nkj->nik', matrix, matrix, precision='highest')
  np.testing.assert_allclose(identity, np.broadcast_to(np.eye(3), (500, 3, 3)), atol=2e-6)
  np.testing.assert_allclose(np.linalg.det(matrix), 1.0, atol=2e-6)
  quats = jax.jit(rotations.matrix_to_quaternion)(matrix)
  np.testing.assert_allclose(np.linalg.norm(quats, axis=-1), 1.0, atol=1e-6)
  assert (quats[:, 0] >= 0).all()
  np.testing.assert_allclose(rotations.quaternion_to_matrix(quats), matrix, atol=2e-6)
  six = rotations.matrix_to_rotation_6d(matrix)
  np.testing.assert_allclose(rotations.rotation_6d_to_matrix(six), matrix, atol=2e-6)


def test_half_turns_about_every_axis():
  axes = _directions()
  matrix = jnp.asarray(2 * np.einsum('ni,nj->nij', axes, axes) - np.eye(3), jnp.float32)
  quats = jax.jit(rotations.matrix_to_quaternion)(matrix)
  np.testing.assert_allclose(rotations.quaternion_to_matrix(quats), matrix, atol=1e-6)
  vectors = _TO_AXIS_ANGLE(matrix)
  np.testing.assert_allclose(jnp.linalg.norm(vectors, axis=-1), np.pi, atol=1e-6)
  gradient = jax.jit(jax.grad(lambda m: rotations.matrix_to_axis_angle(m).sum()))(matrix)
  assert np.isfinite(gradient).all()


def test_rotation_6d_scales_and_shears_its_input_away():
  matrix = rotations.axis_angle_to_matrix(jnp.asarray([0.3, -1.0, 0.4]))
  a, b = matrix[0], matrix[1]
  skewed = jnp.concatenate([2.5 * a, 0.7 * b + 1.3 * a])
  np.testing.assert_allclose(rotations.rotation_6d_to_matrix(skewed), matrix, atol=1e-6)


def test_batches_of_any_shape_equal_single_calls():
  vectors = jnp.asarray(np.random.default_rng(1).normal(size=(2, 3, 3)), jnp.float32)
  matrices = rotations.axis_angle_to_matrix(vectors)
  assert matrices.shape == (2, 3, 3, 3)
  np.testing.assert_array_equal(matrices[1, 2], rotations.axis_angle_to_matrix(vectors[1, 2]))
  assert rotations.matrix_to_axis_angle(matrices).shape == (2, 3, 3)
  assert rotations.matrix_to_quaternion(jnp.zeros((0, 3, 3))).shape == (0, 4)
