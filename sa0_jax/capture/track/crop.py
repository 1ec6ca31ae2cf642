"""The square around the head that a tracker works in."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

# A face mesh spans brow to chin; the square holds hair, neck and some shoulder as well.
_SIDE = 2.6  # face heights
_UP = 0.1  # the square's centre lies this many face heights above the face's
_ALMOST_ALL = 0.85  # a square this near to the largest possible one becomes that


class Crop(NamedTuple):
  """A square in the source picture: left, top and side, px."""

  left: int
  top: int
  side: int

  def apply(self, image: UInt8[np.ndarray, 'h w 3'], resolution: int) -> UInt8[np.ndarray, 'r r 3']:
    """The square, resized."""
    import cv2  # here: importing it takes longer than the rest of this package

    part = image[self.top : self.top + self.side, self.left : self.left + self.side]
    if part.shape[0] == resolution:
      return np.ascontiguousarray(part)
    method = cv2.INTER_AREA if self.side > resolution else cv2.INTER_CUBIC
    return cv2.resize(part, (resolution, resolution), interpolation=method)


def choose_crop(points: Float[np.ndarray, 't m 2'], width: int, height: int) -> Crop:
  """The square that holds a head and its motion, inside the picture.

  Args:
    points: face landmarks in some frames, px.
    width: of the picture.
    height: of the picture.
  """
  low, high = points.min(axis=1), points.max(axis=1)
  face = float(np.median(np.maximum(high[:, 1] - low[:, 1], 0.8 * (high[:, 0] - low[:, 0]))))
  centres = 0.5 * (low + high)
  motion = float((centres.max(axis=0) - centres.min(axis=0)).max())
  largest = min(width, height)
  side = min(round(_SIDE * face + motion), largest)
  if side > _ALMOST_ALL * largest:
    side = largest
  side = max(side, min(16, largest))
  centre = 0.5 * (centres.min(axis=0) + centres.max(axis=0)) - [0.0, _UP * face]
  left = int(np.clip(round(centre[0] - 0.5 * side), 0, width - side))
  top = int(np.clip(round(centre[1] - 0.5 * side), 0, height - side))
  return Crop(left, top, side)
