"""Unit quaternions (w, x, y, z) as rotations; the one convention of both packages."""

import jax.numpy as jnp
from jaxtyping import Array, Float

_EPSILON = 1e-12  # squared norm below which a quaternion has no direction


def normalize_quaternion(quats: Float[Array, '*batch 4']) -> Float[Array, '*batch 4']:
  """Scales quaternions to unit length; a zero quaternion gives zero, with a zero gradient.

  Args:
    quats: quaternions (w, x, y, z) of any length.

  Returns:
    The unit quaternions. Zero (and shorter than 1e-6) input has no direction: it comes back as
    zeros, with finite gradients, and callers decide what that means.
  """
  squared = jnp.sum(quats * quats, axis=-1, keepdims=True)
  valid = squared > _EPSILON
  inverse = jnp.where(valid, 1.0 / jnp.sqrt(jnp.where(valid, squared, 1.0)), 0.0)
  return quats * inverse


def quaternion_to_matrix(quats: Float[Array, '*batch 4']) -> Float[Array, '*batch 3 3']:
  """Rotation matrices of unit quaternions (w, x, y, z); the input must be normalised."""
  w, x, y, z = (quats[..., i] for i in range(4))
  rows = [
    [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
    [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
    [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
  ]
  return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


def quaternion_multiply(
  a: Float[Array, '*batch 4'], b: Float[Array, '*batch 4']
) -> Float[Array, '*batch 4']:
  """Hamilton product a ⊗ b: the rotation b followed by the rotation a."""
  aw, ax, ay, az = (a[..., i] for i in range(4))
  bw, bx, by, bz = (b[..., i] for i in range(4))
  return jnp.stack(
    [
      aw * bw - ax * bx - ay * by - az * bz,
      aw * bx + ax * bw + ay * bz - az * by,
      aw * by - ax * bz + ay * bw + az * bx,
      aw * bz + ax * by - ay * bx + az * bw,
    ],
    axis=-1,
  )
