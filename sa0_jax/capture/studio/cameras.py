"""Where the cameras stand: one portrait lens, or an arc of them in front of the subject."""

import dataclasses

import numpy as np
from jaxtyping import Float
from sa0_kernels import Camera

from sa0_jax.mesh_render import look_at_camera


@dataclasses.dataclass(frozen=True)
class CameraRig:
  """Cameras around a subject at the origin.

  Attributes:
    distance: metres from the point they look at.
    focal: focal length in image heights: 2.2 is a portrait lens.
    target: world point in the middle of every picture, metres.
    views: (yaw, pitch) of each camera in radians; 0, 0 is in front, positive yaw sees the
      subject's left side, positive pitch looks down.
  """

  distance: float
  focal: float
  target: tuple[float, float, float]
  views: tuple[tuple[float, float], ...]


# Heights of the rows of a multi-view rig, from below to above, radians; half of the cameras stand
# at eye level.
_ROWS = (-0.32, 0.0, 0.0, 0.36)
# Largest yaw of a multi-view camera, radians: a little beyond profile is no use to a face.
_SPREAD = 1.25


def sample_cameras(rng: np.random.Generator, count: int) -> CameraRig:
  """Draws a rig: one camera about in front, or an arc.

  Args:
    rng: where the randomness comes from.
    count: how many cameras; 1 for a video.
  """
  target = (0.0, float(rng.uniform(-0.008, 0.004)), 0.0)
  if count == 1:
    view = (float(rng.normal(0, 0.05)), float(rng.normal(0.0, 0.03)))
    return CameraRig(float(rng.uniform(0.88, 0.96)), 2.2, target, (view,))
  # One camera straight ahead, the others in turn left and right of it, ever farther out.
  views = [(0.0, 0.0)]
  for number in range(1, count):
    reach = (number + 1) // 2 / (count // 2)
    side = 1.0 if number % 2 else -1.0
    views.append((side * _SPREAD * reach, _ROWS[(number + number // 4) % len(_ROWS)]))
  return CameraRig(0.95, 2.2, target, tuple(views))


def make_cameras(rig: CameraRig, resolution: int) -> Camera:
  """The cameras of a rig, NumPy, [c, …].

  Args:
    rig: where they stand.
    resolution: side of their square images, px.
  """
  cameras = [
    look_at_camera(
      list(rig.target), distance=rig.distance, yaw=yaw, pitch=pitch, focal=rig.focal,
      size=(resolution, resolution),
    )
    for yaw, pitch in rig.views
  ]  # fmt: skip
  return Camera(
    np.stack([np.asarray(camera.world_to_camera, np.float32) for camera in cameras]),
    np.stack([np.asarray(camera.intrinsics, np.float32) for camera in cameras]),
    resolution,
    resolution,
  )


def backdrop_image(
  camera: Camera, colors: tuple[tuple[float, ...], tuple[float, ...]]
) -> Float[np.ndarray, 'h w 3']:
  """A studio background: a soft bright spot behind the head that falls off to the corners.

  Args:
    camera: whose picture it fills.
    colors: linear RGB of the spot and of the corners.
  """
  y = (np.arange(camera.height) + 0.5) / camera.height - 0.55
  x = (np.arange(camera.width) + 0.5) / camera.width - 0.5
  spot = np.exp(-3.2 * (x[None] ** 2 + y[:, None] ** 2))[..., None]
  near, far = np.asarray(colors[0]), np.asarray(colors[1])
  return (far + spot * (near - far)).astype(np.float32)
