"""A picture that shows at a glance whether an import is right: the posed head over its frames."""

import numpy as np
from jaxtyping import Float, UInt8
from sa0_kernels import Camera

from sa0_jax.capture import image_files
from sa0_jax.capture.capture import Capture, Frame
from sa0_jax.geometry.projection import project_points
from sa0_jax.head.lbs import LandmarkArrays, pose_head, pose_landmarks
from sa0_jax.head.model import HeadModel
from sa0_jax.mesh_render import interpolate, rasterize_mesh, vertex_normals

_SKIN = np.array([150.0, 205.0, 235.0])  # RGB no face has
_OPAQUE = 0.65
_OUTSIDE = np.array([150.0, 40.0, 140.0])  # where the matte says that nothing belongs to the head
_POINTS = (255, 40, 40)
_SUBPIXEL_BITS = 4
_GAP = 4


def check_sheet(
  capture: Capture, head: HeadModel, *, frames: int = 6, tile: int = 256
) -> UInt8[np.ndarray, 'h w 3']:
  """Frames of a capture in one row, and below each the posed mesh and landmarks drawn over it.

  The mesh is drawn in daylight blue, landmarks as red points; what the matte leaves out is magenta.
  A wrong axis, scale or head model shows at once: the mesh is upside down, beside the face, of
  another size, or its mouth is not where the mouth is.

  Args:
    capture: the frames.
    head: its head model.
    frames: how many to show, evenly spread.
    tile: width of each, px.

  Raises:
    ImportError: numba is missing (extra `sa0-jax[cpu]`).
    ValueError: the capture belongs to another head model, or a picture cannot be read.
  """
  capture.check_head(head)
  embedding = head.landmarks68 if head.landmarks68 is not None else head.landmarks_mediapipe
  landmarks = None if embedding is None else LandmarkArrays.from_head(head, embedding)
  columns = []
  for position in np.unique(np.linspace(0, len(capture) - 1, frames).round().astype(int)):
    frame = capture.frames[int(position)]
    points = np.zeros((0, 3))
    if landmarks is not None:
      points = np.asarray(pose_landmarks(landmarks, frame.codes))
    columns.append(_column(frame, head, points, tile))
  gap = np.full((columns[0].shape[0], _GAP, 3), 255, np.uint8)
  joined = [part for column in columns for part in (column, gap)][:-1]
  return np.concatenate(joined, axis=1)


def _column(
  frame: Frame, head: HeadModel, points: Float[np.ndarray, 'm 3'], tile: int
) -> UInt8[np.ndarray, 'h w 3']:
  """One frame: as it is, and with the mesh over it."""
  import cv2  # here: it takes longer to import than the rest of the package

  size = (tile, max(1, round(tile * frame.camera.height / frame.camera.width)))
  image, matte = (image_files.resize(x, size) for x in frame.pixels)
  camera = frame.camera.resized(*size)
  weight = matte[..., None] / 255.0
  below = image * weight + (0.5 * image + 0.5 * _OUTSIDE) * (1 - weight)
  vertices = np.asarray(pose_head(head, frame.codes))
  buffers = rasterize_mesh(vertices, head.faces, camera)
  normals = interpolate(buffers, head.faces, vertex_normals(vertices, head.faces))
  seen = normals @ np.asarray(camera.world_to_camera)[:3, :3].T
  facing = np.clip(
    -seen[..., 2:] / np.maximum(np.linalg.norm(seen, axis=-1)[..., None], 1e-6), 0, 1
  )
  shaded = _SKIN * (0.25 + 0.75 * facing)
  hit = (buffers.face >= 0)[..., None]
  over = np.where(hit, (1 - _OPAQUE) * below + _OPAQUE * shaded, below)
  over = np.ascontiguousarray(np.clip(over, 0, 255).astype(np.uint8))
  radius = max(1, round(2**_SUBPIXEL_BITS * tile / 220))
  for x, y in np.round(_drawn(points, camera) * 2**_SUBPIXEL_BITS).astype(int).tolist():
    cv2.circle(over, (x, y), radius, _POINTS, -1, cv2.LINE_AA, _SUBPIXEL_BITS)
  return np.concatenate([image, np.full((_GAP, size[0], 3), 255, np.uint8), over])


def _drawn(points: Float[np.ndarray, 'm 3'], camera: Camera) -> Float[np.ndarray, 'm 2']:
  """Pixels as OpenCV draws them (centres at 0), points far outside or behind left out."""
  projected = project_points(points, camera)
  pixels = projected.pixels[projected.local[:, 2] > 1e-6] - 0.5
  return pixels[(np.abs(pixels) < 4 * max(camera.width, camera.height)).all(axis=1)]
