"""What drives an avatar: codes over time, wherever they came from, and retargeting them."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from sa0_kernels import Camera
from sa0_kernels.typing import ArrayLike

from sa0_jax.avatar.avatar import Avatar
from sa0_jax.capture.capture import Capture
from sa0_jax.geometry.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from sa0_jax.head.model import HeadCodes, HeadModel
from sa0_jax.mesh_render import portrait_camera
from sa0_jax.render import neutral_extent

_CLOSED_SHARE = 0.25
_OPEN_LIDS = 0.75  # quantile over all frames: above blinks and looks down, below wide eyes
_AWAKE = 0.25  # of the way from there to shut
_LIDS = (37, 38, 43, 44, 41, 40, 47, 46)  # upper lids, then the lower ones below them (68 points)


@dataclasses.dataclass(frozen=True, eq=False)
class Motion:
  """Codes over time.

  Attributes:
    codes: NumPy codes [t, …] of the avatar's head model; their shape code means nothing here.
    fps: frames per second.
    world_to_camera: [t, 4, 4] the camera in each frame, metres, or None where it stands still:
      many trackers leave the head's motion in it.
  """

  codes: HeadCodes
  fps: float
  world_to_camera: Float[np.ndarray, 't 4 4'] | None = None

  def __len__(self) -> int:
    return len(self.codes.expression)


def capture_motion(capture: Capture) -> Motion:
  """The motion in a capture; of several cameras the first frame's counts."""
  first = np.flatnonzero(capture.view_ids == capture.view_ids[0])
  codes, camera = capture.frame_codes(first), capture.frame_camera(first)
  return Motion(codes, capture.fps, np.asarray(camera.world_to_camera, np.float32))


def neutral_of(motion: Motion, head: HeadModel) -> int:
  """The frame a driver's neutral is read from.

  Of the frames whose lids are about where open lids are in this motion, the quarter
  with the least open jaw; of these the one whose expression is nearest to their median: eyes open,
  mouth closed, the habitual face of the driver, whatever the tracker's bias. Lids come first, for
  many look down for half of a clip, and an avatar whose neutral that were would stare.

  Args:
    motion: the driver's.
    head: its head model; one without the 68 landmarks leaves lids out.
  """
  expression = np.asarray(motion.codes.expression)
  lids = expression @ _lid_opening(head)
  usual = np.quantile(lids, _OPEN_LIDS)
  away = np.abs(lids - usual)
  awake = _least(away, np.mean(away <= _AWAKE * (usual - lids.min())))
  calm = awake[_least(np.linalg.norm(motion.codes.jaw[awake], axis=1), _CLOSED_SHARE)]
  distance = np.linalg.norm(expression[calm] - np.median(expression[calm], axis=0), axis=1)
  return int(calm[np.argmin(distance)])


def _least(values: Float[np.ndarray, ' n'], share: float) -> Int[np.ndarray, ' k']:
  """Where the smallest of some values are; three at least: two are as near to their median."""
  return np.argsort(values, kind='stable')[: max(3, round(share * len(values)))]


def _lid_opening(head: HeadModel) -> Float[np.ndarray, ' e']:
  """How far each expression direction opens the lids: metres along y, mean over both eyes."""
  lids = None if head.landmarks68 is None else head.landmarks68.select(_LIDS)
  if lids is None:
    return np.zeros(head.num_expression, np.float32)
  corners = head.faces[lids.face]  # [4 upper, then 4 lower, 3]
  heights = np.einsum('pc,pce->pe', lids.barycentric, head.exprdirs[corners, 1])
  return (heights[:4] - heights[4:]).mean(axis=0).astype(np.float32)


def relative_to(motion: Motion, frame: int) -> Motion:
  """A motion as departures from one of its frames (neutral-offset retargeting).

  Expression, jaw and translation are differences; the jaw's opening never gets negative. Rotations
  of root, neck and eyes are what turns the neutral pose into the frame's, Rₙᵀ R. Cameras become
  the motion of the head before the neutral frame's camera, Wₙ⁻¹ W. An avatar's own neutral is the
  zero code, so this is all of retargeting.

  Args:
    motion: the driver's.
    frame: its neutral frame, such as `neutral_of` gives.

  Raises:
    ValueError: there is no such frame.
  """
  if not 0 <= frame < len(motion):
    raise ValueError(f'drive: the motion has {len(motion)} frames, there is no {frame}')
  codes = motion.codes

  def turned(vectors: ArrayLike) -> np.ndarray:
    parts = np.asarray(vectors, np.float32).reshape(len(vectors), -1, 3)
    matrices = np.asarray(axis_angle_to_matrix(jnp.asarray(parts)))
    relative = np.einsum('kba,tkbc->tkac', matrices[frame], matrices)
    return np.asarray(matrix_to_axis_angle(jnp.asarray(relative))).reshape(vectors.shape)

  jaw = codes.jaw - codes.jaw[frame]
  jaw = np.concatenate([np.maximum(jaw[:, :1], 0.0), jaw[:, 1:]], axis=1)
  views = motion.world_to_camera
  if views is not None:
    views = (np.linalg.inv(views[frame].astype(np.float64)) @ views).astype(np.float32)
  return dataclasses.replace(
    motion,
    codes=dataclasses.replace(
      codes,
      expression=codes.expression - codes.expression[frame],
      rotation=turned(codes.rotation),
      neck=turned(codes.neck),
      jaw=jaw,
      eyes=turned(codes.eyes),
      translation=codes.translation - codes.translation[frame],
    ),
    world_to_camera=views,
  )


def portrait_drive(avatar: Avatar, motion: Motion, size: int) -> list[tuple[HeadCodes, Camera]]:
  """Codes and cameras of a portrait of the avatar that moves so.

  The camera frames the avatar's neutral head from the front; where the motion has cameras, relative
  as `relative_to` makes them, the head moves before it as they say.

  Args:
    avatar: the avatar.
    motion: departures from neutral.
    size: side of the square images, px.
  """
  camera = portrait_camera(neutral_extent(avatar), yaw=0.0, pitch=0.0, size=size)
  front = np.asarray(camera.world_to_camera, np.float32)
  drive = []
  for frame in range(len(motion)):
    view = front if motion.world_to_camera is None else front @ motion.world_to_camera[frame]
    parts = {
      f.name: jnp.asarray(getattr(motion.codes, f.name)[frame], jnp.float32)
      for f in dataclasses.fields(HeadCodes)
      if f.name != 'shape'
    }
    codes = HeadCodes(shape=avatar.shape, **parts)
    drive.append((codes, dataclasses.replace(camera, world_to_camera=jnp.asarray(view))))
  return drive
