"""Pictures of a track to look at: the posed mesh and its landmarks over the frames."""

import os
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, UInt8

from sa0_jax.capture.capture import Capture, Frame
from sa0_jax.capture.track.observations import LandmarkTargets
from sa0_jax.geometry.projection import project_points
from sa0_jax.head.lbs import LandmarkArrays, pose_head, pose_landmarks
from sa0_jax.head.model import HeadModel
from sa0_jax.video import write_video

_MESH = (90, 220, 120)  # RGB
_POINTS = (255, 70, 60)
_SUBPIXEL_BITS = 4
_BLEND = 0.45


def write_overlay(
  path: str | os.PathLike[str], capture: Capture, head: HeadModel, targets: LandmarkTargets
) -> None:
  """Writes a video of the frames over grey where the matte ends, with mesh and landmarks drawn in.

  Args:
    path: an .mp4 file.
    capture: tracked frames, of even size.
    head: its head model.
    targets: the landmarks to draw.

  Raises:
    ValueError: the capture belongs to another head model.
  """
  capture.check_head(head)
  write_video(path, overlay_frames(capture, head, targets), capture.fps)


def overlay_frames(
  capture: Capture, head: HeadModel, targets: LandmarkTargets
) -> Iterator[UInt8[np.ndarray, 'h w 3']]:
  """The pictures of `write_overlay`."""
  points = LandmarkArrays.from_head(head, targets.embedding)
  for frame in capture.frames:
    vertices = np.asarray(pose_head(head, frame.codes))
    landmarks = np.asarray(pose_landmarks(points, frame.codes))
    yield _draw(frame, head.faces, vertices, landmarks)


def _draw(
  frame: Frame, faces: np.ndarray, vertices: np.ndarray, landmarks: np.ndarray
) -> UInt8[np.ndarray, 'h w 3']:
  import cv2  # here: importing it takes longer than the rest of this package

  matte = frame.pixels.matte[..., None] / 255.0
  picture = np.ascontiguousarray((frame.pixels.image * matte + 128 * (1 - matte)).astype(np.uint8))
  drawn = picture.copy()
  pixels = _drawn(vertices, frame)[faces]
  edge, other = pixels[:, 1] - pixels[:, 0], pixels[:, 2] - pixels[:, 0]
  facing = edge[:, 0] * other[:, 1] - edge[:, 1] * other[:, 0] < 0  # image y points down
  for triangle in np.round(pixels[facing] * 2**_SUBPIXEL_BITS).astype(np.int32):
    cv2.polylines(drawn, [triangle], True, _MESH, 1, cv2.LINE_AA, _SUBPIXEL_BITS)
  picture = cv2.addWeighted(picture, 1 - _BLEND, drawn, _BLEND, 0)
  for x, y in np.round(_drawn(landmarks, frame) * 2**_SUBPIXEL_BITS).astype(int).tolist():
    radius = 2**_SUBPIXEL_BITS * frame.camera.height // 512
    cv2.circle(picture, (x, y), radius, _POINTS, -1, cv2.LINE_AA, _SUBPIXEL_BITS)
  return picture


def _drawn(points: Float[np.ndarray, 'p 3'], frame: Frame) -> Float[np.ndarray, 'p 2']:
  """Pixels as OpenCV draws them: centres at 0."""
  return project_points(points, frame.camera).pixels - 0.5
