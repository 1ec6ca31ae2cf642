"""Where points of the world lie in a picture, in NumPy and float64."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from sa0_kernels import Camera

_NEAREST = 1e-6  # metres; points behind the camera are divided by this, and mean nothing


class ProjectedPoints(NamedTuple):
  """Points as a camera sees them.

  Attributes:
    pixels: [*batch, m, 2] px, pixel centres at +0.5.
    local: [*batch, m, 3] in the camera's axes, metres.
  """

  pixels: Float[np.ndarray, '*batch m 2']
  local: Float[np.ndarray, '*batch m 3']


def project_points(points: Float[np.ndarray, '*batch m 3'], camera: Camera) -> ProjectedPoints:
  """Projects points by a camera, or each batch of points by a camera of its own.

  Args:
    points: world, metres.
    camera: with the same batch axes.
  """
  view = np.asarray(camera.world_to_camera, np.float64)
  focal, centre = np.split(np.asarray(camera.intrinsics, np.float64)[..., None, :], 2, axis=-1)
  turned = np.asarray(points, np.float64) @ np.swapaxes(view[..., :3, :3], -1, -2)
  local = turned + view[..., None, :3, 3]
  pixels = local[..., :2] / np.maximum(local[..., 2:], _NEAREST) * focal + centre
  return ProjectedPoints(pixels, local)
