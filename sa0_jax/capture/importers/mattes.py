"""Mattes for pictures that come without one, on a plain background.

What is left of a matte once a picture has been composited on black or white is only that the
background is plain. So the head is what differs from it: dark hair on black, and highlights on
white, are told from the background by what surrounds them (holes are filled), and lost where they
form the outline. Give real mattes where there are any.
"""

import numpy as np
from jaxtyping import UInt8

BLACK, WHITE = 0, 255
_TOLERANCE = 14  # levels a JPEG of quality 95 strays from a plain background
_SMALLEST_PART = 0.05  # of the largest: smaller parts are compression noise
_SOFTNESS = 0.8  # px of blur at 512 px: the outline of the field's mattes is about two px wide


def matte_of_plain(image: UInt8[np.ndarray, 'h w 3'], background: int) -> UInt8[np.ndarray, 'h w']:
  """The matte of a picture on plain black or white.

  Args:
    image: RGB.
    background: `BLACK` or `WHITE`.

  Returns:
    255 on the head and on holes in it, 0 on the background, a soft edge between. All 0 where the
    picture is nothing but background.
  """
  import cv2  # here: it takes longer to import than the rest of the package

  strength = image.max(axis=2) if background == BLACK else 255 - image.min(axis=2)
  # The median drops the specks that compression leaves around edges.
  mask = (cv2.medianBlur(strength, 3) > _TOLERANCE).astype(np.uint8)
  mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
  count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
  if count < 2:
    return np.zeros(mask.shape, np.uint8)
  areas = stats[:, cv2.CC_STAT_AREA].copy()
  areas[0] = 0
  mask = (areas >= _SMALLEST_PART * areas.max())[labels].astype(np.uint8)
  mask = _without_holes(mask)
  # Towards the inside: what lies outside the mask is background for certain.
  sigma = _SOFTNESS * max(mask.shape) / 512
  soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), max(sigma, 0.3))
  return np.round(255 * np.clip(2 * soft - 1, 0, 1)).astype(np.uint8)


def _without_holes(mask: UInt8[np.ndarray, 'h w']) -> UInt8[np.ndarray, 'h w']:
  """Background that does not touch the border of the picture belongs to the head.

  The lower border does not count: hair there is cut off by the picture, and a neck on a black
  shirt would leak.
  """
  import cv2

  count, labels = cv2.connectedComponents(1 - mask, connectivity=4)
  outside = np.zeros(count, bool)
  for line in (labels[0], labels[:, 0], labels[:, -1]):
    outside[line] = True
  outside[labels[mask > 0]] = False
  return (~outside[labels]).astype(np.uint8)
