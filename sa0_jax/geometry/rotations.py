"""Rotations in their four common forms, differentiable at every rotation.

Axis-angle vectors (radians), 3×3 matrices acting on column vectors, unit quaternions (w, x, y, z)
and the six-number form networks regress. Quaternion functions have their one definition in
`sa0_kernels.quaternions` and are re-exported here.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from sa0_kernels.quaternions import (
  normalize_quaternion,
  quaternion_multiply,
  quaternion_to_matrix,
)

__all__ = [
  'axis_angle_to_matrix',
  'matrix_to_axis_angle',
  'matrix_to_quaternion',
  'matrix_to_rotation_6d',
  'normalize_quaternion',
  'quaternion_multiply',
  'quaternion_to_axis_angle',
  'quaternion_to_matrix',
  'rotation_6d_to_matrix',
]

# Below this squared angle the power series below are exact to float64; above it the closed forms
# lose nothing. One threshold serves both precisions.
_SERIES_LIMIT = 0.02


def _sinc_squared_argument(squared: Float[Array, '*batch']) -> Float[Array, '*batch']:
  """sin(√x)/√x, smooth through x = 0.

  As a function of the squared angle it is analytic, so gradients of any order stay finite where
  the angle itself, a square root, has none.
  """
  small = squared < _SERIES_LIMIT
  angle = jnp.sqrt(jnp.where(small, 1.0, squared))
  x = jnp.where(small, squared, 0.0)
  series = 1.0 - x / 6 * (1.0 - x / 20 * (1.0 - x / 42 * (1.0 - x / 72 * (1.0 - x / 110))))
  return jnp.where(small, series, jnp.sin(angle) / angle)


def axis_angle_to_matrix(axis_angle: Float[Array, '*batch 3']) -> Float[Array, '*batch 3 3']:
  """Rotation matrices of axis-angle vectors (Rodrigues' formula).

  R = I + A·K + B·K² with K the cross-product matrix, A = sin θ / θ and B = ½ (sin ½θ / ½θ)², which
  equals (1 − cos θ)/θ² without its cancellation.

  Args:
    axis_angle: unit axis times the angle in radians; zero is the identity.

  Returns:
    The matrices. First and second derivatives are finite everywhere, at zero too.
  """
  x, y, z = (axis_angle[..., i] for i in range(3))
  squared = x * x + y * y + z * z
  a = _sinc_squared_argument(squared)
  b = 0.5 * jnp.square(_sinc_squared_argument(0.25 * squared))
  rows = [
    [1 - b * (y * y + z * z), b * x * y - a * z, b * x * z + a * y],
    [b * x * y + a * z, 1 - b * (x * x + z * z), b * y * z - a * x],
    [b * x * z - a * y, b * y * z + a * x, 1 - b * (x * x + y * y)],
  ]
  return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


def matrix_to_quaternion(matrix: Float[Array, '*batch 3 3']) -> Float[Array, '*batch 4']:
  """Unit quaternions (w, x, y, z) of rotation matrices, with w ≥ 0.

  The matrix gives the ten products 4·q_i·q_j linearly. The row of that symmetric table with the
  largest diagonal, at least 1, is the quaternion up to a safe division, so the result and its
  gradient are accurate at every rotation, half turns included.

  Args:
    matrix: rotation matrices; small departures from orthonormality are tolerated.

  Returns:
    Unit quaternions. At half turns, where w = 0, q and −q are the same rotation and either sign
    may come back.
  """
  m00, m01, m02 = (matrix[..., 0, i] for i in range(3))
  m10, m11, m12 = (matrix[..., 1, i] for i in range(3))
  m20, m21, m22 = (matrix[..., 2, i] for i in range(3))
  products = [
    [1 + m00 + m11 + m22, m21 - m12, m02 - m20, m10 - m01],
    [m21 - m12, 1 + m00 - m11 - m22, m10 + m01, m02 + m20],
    [m02 - m20, m10 + m01, 1 - m00 + m11 - m22, m12 + m21],
    [m10 - m01, m02 + m20, m12 + m21, 1 - m00 - m11 + m22],
  ]
  table = jnp.stack([jnp.stack(row, axis=-1) for row in products], axis=-2)
  diagonal = jnp.stack([products[i][i] for i in range(4)], axis=-1)
  largest = jnp.argmax(diagonal, axis=-1)[..., None, None]
  quats = normalize_quaternion(jnp.take_along_axis(table, largest, axis=-2)[..., 0, :])
  return jnp.where(quats[..., :1] < 0, -quats, quats)


def quaternion_to_axis_angle(quats: Float[Array, '*batch 4']) -> Float[Array, '*batch 3']:
  """Axis-angle vectors of unit quaternions (w, x, y, z), angle in [0, π].

  Args:
    quats: unit quaternions; q and −q give the same vector.

  Returns:
    The vectors, with finite gradients everywhere, at the identity too. At half turns the axis is
    defined up to its sign.
  """
  quats = jnp.where(quats[..., :1] < 0, -quats, quats)
  w, vector = quats[..., :1], quats[..., 1:]
  squared = jnp.sum(vector * vector, axis=-1, keepdims=True)
  small = squared < 0.25 * _SERIES_LIMIT
  sine = jnp.sqrt(jnp.where(small, 1.0, squared))
  closed = 2.0 * jnp.arctan2(sine, jnp.where(small, 1.0, w)) / sine
  # arcsin(√x)/√x: the quaternion is unit, so its vector part alone gives a small angle.
  x = jnp.where(small, squared, 0.0)
  series = 2.0 * (
    1 + x / 6 * (1 + x * 9 / 20 * (1 + x * 25 / 42 * (1 + x * 49 / 72 * (1 + x * 81 / 110))))
  )
  return vector * jnp.where(small, series, closed)


@jax.jit  # by itself it is fifty small programs
def matrix_to_axis_angle(matrix: Float[Array, '*batch 3 3']) -> Float[Array, '*batch 3']:
  """Axis-angle vectors (radians, angle in [0, π]) of rotation matrices.

  Goes through the quaternion, whose accuracy does not fade near 0 or π as that of the trace and
  the antisymmetric part does. At half turns the axis is defined up to its sign.
  """
  return quaternion_to_axis_angle(matrix_to_quaternion(matrix))


def rotation_6d_to_matrix(rotation_6d: Float[Array, '*batch 6']) -> Float[Array, '*batch 3 3']:
  """Rotation matrices of the continuous six-number form (Zhou et al., CVPR 2019).

  The six numbers are the first two ROWS of the matrix, as PyTorch3D and the trackers built on it
  write them (the paper uses columns: transpose the result to read those). Gram–Schmidt makes them
  orthonormal and the third row is their cross product.

  Args:
    rotation_6d: any six numbers; the two halves must be neither zero nor parallel.

  Returns:
    Proper rotation matrices.
  """
  first = _normalize(rotation_6d[..., :3])
  second = rotation_6d[..., 3:]
  second = _normalize(second - jnp.sum(first * second, axis=-1, keepdims=True) * first)
  return jnp.stack([first, second, jnp.cross(first, second)], axis=-2)


def matrix_to_rotation_6d(matrix: Float[Array, '*batch 3 3']) -> Float[Array, '*batch 6']:
  """The first two rows of rotation matrices: the inverse of `rotation_6d_to_matrix`."""
  return jnp.concatenate([matrix[..., 0, :], matrix[..., 1, :]], axis=-1)


def _normalize(vectors: Float[Array, '*batch 3']) -> Float[Array, '*batch 3']:
  """Unit vectors; zero stays zero with a zero gradient."""
  squared = jnp.sum(vectors * vectors, axis=-1, keepdims=True)
  valid = squared > 0
  return vectors * jnp.where(valid, 1.0 / jnp.sqrt(jnp.where(valid, squared, 1.0)), 0.0)
