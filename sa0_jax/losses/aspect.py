"""How elongated Gaussians look on screen (SpatialAvatar-0, anti-spike regularisation)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float
from sa0_kernels import Camera
from sa0_kernels.projection import Projection, ProjectionView, project_gaussians

# px²: far under a pixel; keeps the ratio of what projects to a line or a point finite.
_EPSILON = 1e-8


def _project(
  means: Float[Array, 'n 3'],
  quats: Float[Array, 'n 4'],
  scales: Float[Array, 'n 3'],
  camera: Camera,
) -> Projection:
  view = ProjectionView(
    jnp.asarray(camera.world_to_camera),
    jnp.asarray(camera.intrinsics),
    camera.width,
    camera.height,
    blur=0.0,
  )
  return project_gaussians(means, quats, scales, view)


def _half_log_ratio(covariance: Float[Array, 'n 3']) -> Float[Array, ' n']:
  """½ log(λmax / λmin) of 2×2 covariances, in closed form: the log of the aspect ratio.

  λmin comes from λmax λmin = det, not from a difference: a needle's would cancel.
  """
  xx, xy, yy = covariance[:, 0] + _EPSILON, covariance[:, 1], covariance[:, 2] + _EPSILON
  middle = 0.5 * (xx + yy)
  radius = jnp.sqrt(0.25 * (xx - yy) ** 2 + xy * xy + _EPSILON**2)
  largest = middle + radius
  determinant = jnp.maximum(xx * yy - xy * xy, _EPSILON**2)
  return jnp.log(largest) - 0.5 * jnp.log(determinant)


def log_aspect(
  means: Float[Array, 'n 3'],
  quats: Float[Array, 'n 4'],
  scales: Float[Array, 'n 3'],
  camera: Camera,
) -> tuple[Float[Array, ' n'], Bool[Array, ' n']]:
  """Logarithm of each Gaussian's aspect ratio on screen, before the low-pass blur.

  Returns:
    [n] ½ log(λmax / λmin), and [n] whether the Gaussian's centre lies inside the image.
  """
  projection = _project(means, quats, scales, camera)
  size = jnp.asarray([camera.width, camera.height], means.dtype)
  inside = projection.visible & ((projection.xy >= 0) & (projection.xy <= size)).all(-1)
  return _half_log_ratio(projection.covariance), inside


def aspect_loss(
  means: Float[Array, 'n 3'],
  quats: Float[Array, 'n 4'],
  scales: Float[Array, 'n 3'],
  camera: Camera,
  threshold: float,
) -> Float[Array, '']:
  """Mean over Gaussians of ReLU(½ log(λmax / λmin) − threshold)."""
  projection = _project(means, quats, scales, camera)
  excess = jax.nn.relu(_half_log_ratio(projection.covariance) - threshold)
  return jnp.mean(jnp.where(projection.visible, excess, 0.0))
