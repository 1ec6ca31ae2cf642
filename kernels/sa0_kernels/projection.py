"""EWA projection of 3D Gaussians to ellipses (Zwicker et al. 2001, Kerbl et al. 2023)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from sa0_kernels.quaternions import normalize_quaternion, quaternion_to_matrix


class Projection(NamedTuple):
  """Image-space Gaussians.

  Attributes:
    xy: [n, 2] centres in pixels; the first pixel's centre is at 0.5.
    covariance: [n, 3] entries xx, xy, yy of the 2D covariance, low-pass blur included, px².
    depth: [n] camera-space z, metres.
    valid: [n] all inputs finite, the rotation defined, scales not negative. Other Gaussians carry
      harmless placeholder values with zero gradients.
    visible: [n] valid and in front of the near plane.
  """

  xy: Float[Array, 'n 2']
  covariance: Float[Array, 'n 3']
  depth: Float[Array, ' n']
  valid: Bool[Array, ' n']
  visible: Bool[Array, ' n']


class ProjectionView(NamedTuple):
  """The camera and the constants of one projection."""

  world_to_camera: Float[Array, '4 4']
  intrinsics: Float[Array, ' 4']
  width: int
  height: int
  blur: float = 0.3
  near: float = 0.01
  frustum_margin: float = 0.3


def valid_gaussians(
  means: Float[Array, 'n 3'], quats: Float[Array, 'n 4'], scales: Float[Array, 'n 3']
) -> Bool[Array, ' n']:
  """Which Gaussians have a finite position, a rotation and non-negative finite scales."""
  finite = jnp.isfinite(means).all(-1) & jnp.isfinite(quats).all(-1) & jnp.isfinite(scales).all(-1)
  return finite & (jnp.sum(quats * quats, -1) > 1e-12) & (scales >= 0).all(-1)


def frustum_limits(
  view: ProjectionView,
) -> tuple[Float[Array, ' 2'], Float[Array, ' 2']]:
  """Bounds of x/z and y/z inside which the Jacobian is evaluated (as in gsplat)."""
  focal, centre = view.intrinsics[:2], view.intrinsics[2:]
  size = jnp.asarray([view.width, view.height], focal.dtype)
  margin = view.frustum_margin * 0.5 * size / focal
  return -(centre / focal + margin), (size - centre) / focal + margin


def project_gaussians(
  means: Float[Array, 'n 3'],
  quats: Float[Array, 'n 4'],
  scales: Float[Array, 'n 3'],
  view: ProjectionView,
) -> Projection:
  """Projects Gaussians: Σ₂ = J W Σ Wᵀ Jᵀ + blur·I.

  Differentiable in means, quats (normalised here), scales, camera pose and intrinsics.

  Args:
    means: [n, 3] centres in world coordinates, metres.
    quats: [n, 4] rotations (w, x, y, z), any length but zero.
    scales: [n, 3] standard deviations along the rotated axes, metres.
    view: the camera and constants.

  Returns:
    The image-space Gaussians.
  """
  valid = valid_gaussians(means, quats, scales)
  rotation, translation = view.world_to_camera[:3, :3], view.world_to_camera[:3, 3]
  ok = valid[:, None]
  # Sums written out: a product of matrices would round to TF32 on a GPU, half a pixel at this size.
  camera_means = jnp.sum(jnp.where(ok, means, 0.0)[:, None] * rotation, axis=-1) + translation
  visible = valid & (camera_means[:, 2] > view.near)
  # Invisible Gaussians get a placeholder in front of the camera: no division by zero, and `where`
  # sends their gradients to zero instead of NaN.
  seen = visible[:, None]
  camera_means = jnp.where(seen, camera_means, jnp.asarray([0.0, 0.0, 1.0], means.dtype))
  quats = jnp.where(seen, quats, jnp.asarray([1.0, 0.0, 0.0, 0.0], quats.dtype))
  scales = jnp.where(seen, scales, 0.0)

  focal = view.intrinsics[:2]
  inverse_depth = 1.0 / camera_means[:, 2:]
  slope = camera_means[:, :2] * inverse_depth
  low, high = jax.lax.stop_gradient(frustum_limits(view))
  clamped = jnp.clip(slope, low, high)
  diagonal = focal * inverse_depth  # ∂(u, v)/∂(x, y)
  last = -diagonal * clamped  # ∂(u, v)/∂z
  jacobian_world = diagonal[:, :, None] * rotation[:2] + last[:, :, None] * rotation[2]

  axes = quaternion_to_matrix(normalize_quaternion(quats)) * scales[:, None, :]
  half = jnp.sum(jacobian_world[..., None] * axes[:, None], axis=2)
  covariance = jnp.stack(
    [
      jnp.sum(half[:, 0] * half[:, 0], -1) + view.blur,
      jnp.sum(half[:, 0] * half[:, 1], -1),
      jnp.sum(half[:, 1] * half[:, 1], -1) + view.blur,
    ],
    axis=-1,
  )
  xy = focal * slope + view.intrinsics[2:]
  return Projection(xy, covariance, camera_means[:, 2], valid, visible)


def conic_from_covariance(covariance: Float[Array, 'n 3']) -> Float[Array, 'n 3']:
  """Inverse of 2×2 covariances (xx, xy, yy): A, B, C of the exponent ½(A x² + C y²) + B x y."""
  xx, xy, yy = covariance[:, 0], covariance[:, 1], covariance[:, 2]
  determinant = xx * yy - xy * xy
  return jnp.stack([yy, -xy, xx], axis=-1) / determinant[:, None]
