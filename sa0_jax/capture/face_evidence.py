"""What a tracked frame shows of the face: colours at fixed points of it, sharpness, size.

Points belong to the mesh, so that the same row is the same spot of skin in every frame: what
changes from frame to frame is light, an occluder, or the person.
"""

import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Bool, Float, UInt8

from sa0_jax.capture.capture import Capture
from sa0_jax.capture.hair import face_vertices
from sa0_jax.geometry.projection import project_points
from sa0_jax.head.lbs import pose_frames
from sa0_jax.head.model import HeadModel
from sa0_jax.head.uv_layout import UVLayout

_UV_SIZE = 64  # points are the texels of the face at this size
_FACE_PIXELS = 64  # width of the face when colours are taken: what is finer is averaged
_SHARPNESS_PIXELS = 160  # at most, when sharpness is measured
THUMBNAIL_SIZE = 24
_INSET = 0.85  # of the face, about its centre, inside which sharpness is measured
_SECOND = np.array([[1.0, -2.0, 1.0]])
_FACING = 0.35  # cosine between normal and ray from which a point counts as seen
_DARK = 0.02  # added before the logarithm: noise of black is no difference


@dataclasses.dataclass(frozen=True, eq=False)
class FaceEvidence:
  """What t frames show; m points of the face.

  Attributes:
    tone: [t, m, 3] logarithms of the colours, less the frame's median: exposure is taken out.
    seen: [t, m] points that face the camera, in the picture.
    covered: [t, m] points the matte says belong to somebody else, or to nothing.
    exposure: [t, 3] the medians.
    thumbnail: [t, 24, 24, 3] the whole picture, small, in [0, 1].
    sharpness: [t, 2] second derivatives of the face along x and y, root mean square over the mean
      brightness; to compare frames of one clip.
    box: [t, 4] around the face's points: left, top, right, bottom, px.
    inside: [t] share of the face's points that lie in the picture.
  """

  tone: Float[np.ndarray, 't m 3']
  seen: Bool[np.ndarray, 't m']
  covered: Bool[np.ndarray, 't m']
  exposure: Float[np.ndarray, 't 3']
  thumbnail: Float[np.ndarray, 't 24 24 3']
  sharpness: Float[np.ndarray, 't 2']
  box: Float[np.ndarray, 't 4']
  inside: Float[np.ndarray, ' t']


def face_evidence(
  capture: Capture, head: HeadModel, progress: Callable[[int, int], None] | None = None
) -> FaceEvidence:
  """Looks at the face in every frame of a capture.

  Args:
    capture: the frames.
    head: their head model.
    progress: called with the number of frames done and of all.

  Raises:
    ValueError: the head is another one than the capture's, or has no landmarks, so that nothing
      says where its face is.
  """
  capture.check_head(head)
  points = _FacePoints.of(head)
  vertices = pose_frames(head, capture.codes)
  with ThreadPoolExecutor() as pool:
    looks = pool.map(lambda t: _look(capture, t, points, vertices[t]), range(len(capture)))
    rows = []
    for row in looks:
      rows.append(row)
      if progress is not None:
        progress(len(rows), len(capture))
  return FaceEvidence(*(np.stack(column) for column in zip(*rows, strict=True)))


@dataclasses.dataclass(frozen=True, eq=False)
class _FacePoints:
  """Points of the face on the mesh."""

  corners: np.ndarray  # [m, 3] vertices of each point's triangle
  barycentric: np.ndarray  # [m, 3]

  @classmethod
  def of(cls, head: HeadModel) -> '_FacePoints':
    face = face_vertices(head)
    if not face.any():
      raise ValueError(
        f'head {head.name!r} has no landmarks, and nothing else says where its face is: install it '
        'again with `sa0 head install … --landmarks FILE`'
      )
    layout = UVLayout.from_head(head, _UV_SIZE)
    corners = head.faces[np.asarray(layout.face)]
    chosen = face[corners].all(axis=1)
    return cls(corners[chosen], np.asarray(layout.barycentric)[chosen])

  def place(self, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where they are, and which way they look."""
    triangle = vertices[self.corners]
    normal = np.cross(triangle[:, 1] - triangle[:, 0], triangle[:, 2] - triangle[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    return np.einsum('mk,mkc->mc', self.barycentric, triangle), normal


def _look(
  capture: Capture, frame: int, points: _FacePoints, vertices: np.ndarray
) -> tuple[np.ndarray | np.float64, ...]:
  """The fields of `FaceEvidence` for one frame."""
  import cv2  # here: importing it takes longer than the rest of this package

  image, matte = capture.source.load(frame)
  view = np.asarray(capture.camera.world_to_camera[frame], np.float64)
  world, normal = points.place(np.asarray(vertices, np.float64))
  pixel, place = project_points(world, capture.frame_camera(frame))
  normal = normal @ view[:3, :3].T
  size = np.array([capture.width, capture.height])
  within = ((pixel >= 0) & (pixel < size)).all(axis=1) & (place[:, 2] > 0)
  ray = place / np.linalg.norm(place, axis=1, keepdims=True)
  seen = within & (-np.sum(normal * ray, axis=1) > _FACING)
  box = np.concatenate([pixel.min(axis=0), pixel.max(axis=0)])

  scale = min(1.0, _FACE_PIXELS / max(box[2] - box[0], 1.0))
  small = tuple(np.maximum(np.round(size * scale), 1).astype(int).tolist())
  at = (pixel * (np.array(small) / size) - 0.5).astype(np.float32)
  color, alpha = (
    cv2.remap(
      cv2.resize(x, small, interpolation=cv2.INTER_AREA),
      at[None, :, 0],
      at[None, :, 1],
      cv2.INTER_LINEAR,
      borderMode=cv2.BORDER_REPLICATE,
    )[0]
    for x in (image, matte)
  )
  tone = np.log(_DARK + color.astype(np.float32) / 255.0)
  exposure = np.median(tone[seen], axis=0) if seen.any() else np.zeros(3, np.float32)
  return (
    tone - exposure,
    seen,
    alpha < 128,
    exposure,
    thumbnail(image),
    _sharpness(image, pixel[seen], box[2] - box[0]),
    box,
    within.mean(),
  )


def thumbnail(image: UInt8[np.ndarray, 'h w 3']) -> Float[np.ndarray, '24 24 3']:
  """The whole picture, small, in [0, 1]."""
  import cv2

  small = cv2.resize(image, (THUMBNAIL_SIZE, THUMBNAIL_SIZE), interpolation=cv2.INTER_AREA)
  return small.astype(np.float32) / np.float32(255.0)


def _sharpness(image: np.ndarray, pixel: np.ndarray, width: float) -> Float[np.ndarray, ' 2']:
  """Root mean square of ∂²/∂x² and ∂²/∂y² inside the face over the mean: exposure is taken out.

  Both, because a motion blurs along itself only. Not over the variance, which blurring lowers as
  well. Small faces are not enlarged: that would smooth them, blurred or not. The face's outline is
  left out: it is as sharp as the background.
  """
  import cv2

  if not len(pixel):
    return np.zeros(2)
  gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
  scale = min(1.0, _SHARPNESS_PIXELS / max(width, 1.0))
  size = tuple(max(round(side * scale), 2) for side in gray.shape[::-1])
  gray = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
  hull = cv2.convexHull((pixel * (np.array(size) / image.shape[1::-1])).astype(np.float32))[:, 0]
  centre = hull.mean(axis=0)
  face = np.zeros(gray.shape, np.uint8)
  cv2.fillConvexPoly(face, np.round(centre + _INSET * (hull - centre)).astype(np.int32), 1)
  if not face.any():
    return np.zeros(2)
  gray = gray.astype(np.float64)
  second = np.stack([cv2.filter2D(gray, -1, kernel)[face > 0] for kernel in (_SECOND, _SECOND.T)])
  return np.sqrt(np.mean(second**2, axis=1)) / max(float(np.mean(gray[face > 0])), 1.0)
