"""Faces as their networks see them: crops that five points of the face put in place.

Each network has its own rule, which its weights were trained with; both are written again here
after their authors' code. Points are those of the 68-point scheme, px of the picture with pixel
centres at +0.5; inside, the authors' convention of pixel centres at whole numbers is kept.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

ARCFACE_SIZE = 112  # px: side of what ArcFace sees
DEEP3D_SIZE = 224  # px: side of what Deep3DFaceRecon sees
# Of the 68: outer and inner corner of either eye, tip of the nose, corners of the mouth.
FIVE_POINT_INDICES = (36, 39, 42, 45, 30, 48, 54)

# insightface, utils/face_align.py: `arcface_dst`, px of 112 x 112.
ARCFACE_TEMPLATE = (
  (38.2946, 51.6963),
  (73.5318, 51.5014),
  (56.0252, 71.7366),
  (41.5493, 92.3655),
  (70.7299, 92.2041),
)
# Deep3DFaceRecon: the same five points of its mean face (`lm3D`), x right, y up, z to the viewer.
DEEP3D_TEMPLATE = (
  (-0.31148657, 0.29036078, 0.13377953),
  (0.30979887, 0.28972036, 0.13179526),
  (0.0032535, -0.04617932, 0.55244243),
  (-0.25216928, -0.38133916, 0.22405732),
  (0.2484662, -0.38128236, 0.22235769),
)
_DEEP3D_FACTOR = 102.0  # px of the crop to a unit of that template
_CUBIC = -0.5  # Keys' parameter, as Pillow has it
_SMALLEST = 1.0  # px: spread of five points that are a face

Picture = UInt8[np.ndarray, 'h w 3']
Points = Float[np.ndarray, '5 2']


class Placement(NamedTuple):
  """Where Deep3DFaceRecon's crop lies.

  Attributes:
    size: width and height that the picture is resized to, px.
    corner: left and upper edge of the crop in the resized picture, px; may be negative.
  """

  size: tuple[int, int]
  corner: tuple[int, int]


def five_points(points: Float[np.ndarray, '*batch 7 2']) -> Float[np.ndarray, '*batch 5 2']:
  """Both eyes, the nose and the corners of the mouth, from left to right in the picture.

  Args:
    points: those of `FIVE_POINT_INDICES`, in that order; an eye is the middle of its corners.
  """
  eyes = [points[..., i : i + 2, :].mean(axis=-2) for i in (0, 2)]
  return np.stack([*eyes, points[..., 4, :], points[..., 5, :], points[..., 6, :]], axis=-2)


def similarity(
  points: Float[np.ndarray, 'n 2'], target: Float[np.ndarray, 'n 2']
) -> Float[np.ndarray, '2 3']:
  """The turn, scale and shift that bring points nearest to others, by least squares.

  No mirroring. In the plane Umeyama's estimate is a line through complex numbers.

  Raises:
    ValueError: the points are not finite, or lie in one place.
  """
  _check(points)
  here, there = (np.asarray(x, np.float64) @ np.array([1, 1j]) for x in (points, target))
  away = here - here.mean()
  factor = np.vdot(away, there - there.mean()) / np.vdot(away, away).real
  shift = there.mean() - factor * here.mean()
  return np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]])


def arcface_crop(picture: Picture, points: Points) -> Float[np.ndarray, '3 112 112']:
  """What ArcFace sees: RGB, (value − 127.5) / 127.5, black beyond the picture.

  The five points are brought to insightface's template; pixels are taken as its `norm_crop` does.

  Raises:
    ValueError: the points are no face.
  """
  import cv2

  matrix = similarity(points - 0.5, np.array(ARCFACE_TEMPLATE))
  size = (ARCFACE_SIZE, ARCFACE_SIZE)
  crop = cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_LINEAR, borderValue=(0.0, 0.0, 0.0))
  return np.moveaxis((crop.astype(np.float32) - 127.5) / 127.5, -1, 0)


def deep3d_placement(points: Points, width: int, height: int) -> Placement:
  """Where the crop of Deep3DFaceRecon lies: `align_img` of its code, with `POS`.

  Args:
    points: five, px of the picture.
    width, height: of the picture, px.

  Raises:
    ValueError: the points are no face, or the face is so large that nothing is left of the picture.
  """
  _check(points)
  template = np.concatenate([np.array(DEEP3D_TEMPLATE), np.ones((5, 1))], axis=1)
  upwards = np.stack([points[:, 0] - 0.5, height - 1 - (points[:, 1] - 0.5)], axis=1)
  # Rows of a weak perspective camera without demanding that they be perpendicular.
  rows = np.linalg.lstsq(template, upwards, rcond=None)[0].T
  scale = _DEEP3D_FACTOR / np.linalg.norm(rows[:, :3], axis=1).mean()
  across, up = rows[:, 3]
  size = (int(width * scale), int(height * scale))
  if min(size) < 1:
    raise ValueError('the five points of the face lie far beyond the picture')
  half = DEEP3D_SIZE / 2
  left = int(size[0] / 2 - half + (across - width / 2) * scale)
  upper = int(size[1] / 2 - half + (height / 2 - up) * scale)
  return Placement(size, (left, upper))


def deep3d_crop(picture: Picture, points: Points) -> Float[np.ndarray, '3 224 224']:
  """What Deep3DFaceRecon sees: RGB in [0, 1], black beyond the picture.

  The picture is resized as Pillow does it (bicubic, smoothed where it becomes smaller), then cut.

  Raises:
    ValueError: the points are no face.
  """
  height, width = picture.shape[:2]
  size, corner = deep3d_placement(points, width, height)
  across, down = (
    _cubic_weights(before, after, begin)
    for before, after, begin in zip((width, height), size, corner, strict=True)
  )
  crop = np.stack([down @ picture[..., c].astype(np.float64) @ across.T for c in range(3)])
  # Pillow hands on bytes.
  return (np.clip(np.round(crop), 0.0, 255.0) / 255.0).astype(np.float32)


def _cubic_weights(before: int, after: int, begin: int) -> Float[np.ndarray, 'out before']:
  """What each pixel of a row counts for those of the crop of the resized row."""
  step = before / after
  centre = (begin + np.arange(DEEP3D_SIZE) + 0.5) * step
  away = np.abs(np.arange(before) + 0.5 - centre[:, None]) / max(step, 1.0)
  near = ((_CUBIC + 2) * away - (_CUBIC + 3)) * away**2 + 1
  far = _CUBIC * (((away - 5) * away + 8) * away - 4)
  weights = np.where(away < 1, near, np.where(away < 2, far, 0.0))
  inside = (centre > 0) & (centre < before)
  total = weights.sum(axis=1)
  return np.where(inside[:, None], weights / np.where(inside, total, 1.0)[:, None], 0.0)


def _check(points: np.ndarray) -> None:
  if not np.isfinite(points).all() or np.ptp(points, axis=0).max() < _SMALLEST:
    raise ValueError('the five points of the face lie in one place, or nowhere')
