"""The pinhole camera every renderer here takes."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sa0_kernels import pytree
from sa0_kernels.typing import ArrayLike


@pytree.register
@dataclasses.dataclass(frozen=True)
class Camera:
  """A pinhole camera, or a batch of them that share one image size.

  OpenCV axes: x right, y down, z forward; pixel (0, 0) has its centre at (0.5, 0.5).

  Attributes:
    world_to_camera: [*batch, 4, 4] column-vector transform, x_camera = world_to_camera @ x_world,
      in metres.
    intrinsics: [*batch, 4] fx, fy, cx, cy in pixels.
    width: image width in pixels (static).
    height: image height in pixels (static).
  """

  world_to_camera: Float[ArrayLike, '*batch 4 4']
  intrinsics: Float[ArrayLike, '*batch 4']
  width: int = dataclasses.field(metadata={'static': True})
  height: int = dataclasses.field(metadata={'static': True})

  @classmethod
  def from_matrices(
    cls, world_to_camera: Any, intrinsics: Any, *, width: int, height: int
  ) -> 'Camera':
    """Builds a camera from the matrices other tools write.

    Args:
      world_to_camera: [*batch, 3, 4] or [*batch, 4, 4], OpenCV axes, metres.
      intrinsics: [*batch, 3, 3] matrix without skew, or [*batch, 4] fx, fy, cx, cy, pixels.
      width: image width in pixels.
      height: image height in pixels.

    Raises:
      ValueError: a shape is none of these, a size is not positive, or the batch shapes differ.
    """
    if width < 1 or height < 1:
      raise ValueError(f'Camera: image size must be positive, got width={width}, height={height}')
    extrinsics = jnp.asarray(world_to_camera, jnp.result_type(float))
    if extrinsics.shape[-2:] not in ((3, 4), (4, 4)):
      raise ValueError(
        f'Camera: world_to_camera must be [..., 3, 4] or [..., 4, 4], got {extrinsics.shape}'
      )
    if extrinsics.shape[-2] == 3:
      last = jnp.broadcast_to(jnp.asarray([0.0, 0, 0, 1]), (*extrinsics.shape[:-2], 1, 4))
      extrinsics = jnp.concatenate([extrinsics, last.astype(extrinsics.dtype)], axis=-2)
    pinhole = jnp.asarray(intrinsics, jnp.result_type(float))
    if pinhole.shape[-2:] == (3, 3) and pinhole.ndim == extrinsics.ndim:
      pinhole = jnp.stack(
        [pinhole[..., 0, 0], pinhole[..., 1, 1], pinhole[..., 0, 2], pinhole[..., 1, 2]], axis=-1
      )
    if pinhole.shape[-1:] != (4,) or pinhole.shape[:-1] != extrinsics.shape[:-2]:
      raise ValueError(
        'Camera: intrinsics must be [..., 3, 3] or [..., 4] with the batch shape of '
        f'world_to_camera {extrinsics.shape[:-2]}, got {np.shape(intrinsics)}'
      )
    return cls(extrinsics, pinhole, int(width), int(height))

  @property
  def batch_shape(self) -> tuple[int, ...]:
    """Leading shape: () for one camera."""
    return self.intrinsics.shape[:-1]

  @property
  def position(self) -> Float[Array, '*batch 3']:
    """Camera centre in world coordinates, metres."""
    rotation, translation = self.world_to_camera[..., :3, :3], self.world_to_camera[..., :3, 3]
    return -jnp.einsum('...ji,...j->...i', rotation, translation)

  def resized(self, width: int, height: int) -> 'Camera':
    """The same view on an image of another size: intrinsics scale with the pixel grid."""
    factor = jnp.asarray([width / self.width, height / self.height] * 2, self.intrinsics.dtype)
    return Camera(self.world_to_camera, self.intrinsics * factor, width, height)
