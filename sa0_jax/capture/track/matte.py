"""Mattes: a coarse person segmentation sharpened by colour, and cut softly below the collar."""

import dataclasses

import numpy as np
from jaxtyping import Float, UInt8


@dataclasses.dataclass(frozen=True)
class MatteConfig:
  """How mattes are refined; lengths are fractions of the image height.

  Attributes:
    band: half width of the unknown band around the segmentation's border.
    reach: how far colours of sure head and sure background are borrowed from.
    contrast: colour difference (0 to 1) under which colour says nothing and the segmentation
      decides.
    collar_fade: length over which the matte fades below the collar.
  """

  band: float = 0.03
  reach: float = 0.05
  contrast: float = 0.08
  collar_fade: float = 0.03


def refine_matte(
  image: UInt8[np.ndarray, 'h w 3'],
  probability: UInt8[np.ndarray, 'h w'],
  config: MatteConfig | None = None,
) -> UInt8[np.ndarray, 'h w']:
  """Sharpens a person segmentation at its border.

  Inside a band around the border the matte is the place of the pixel's colour on the line between
  the mean colours of sure background and sure head nearby (the compositing equation solved for
  alpha); where those two colours hardly differ the segmentation stands.

  Args:
    image: the picture.
    probability: segmentation, 255 = person.
    config: lengths and limits.
  """
  import cv2  # here: importing it takes longer than the rest of this package

  config = config or MatteConfig()
  height = image.shape[0]
  coarse = probability.astype(np.float32) / 255.0
  band = max(round(config.band * height), 1)
  kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * band + 1, 2 * band + 1))
  head = cv2.erode((coarse > 0.9).astype(np.uint8), kernel, borderValue=1).astype(np.float32)
  ground = cv2.erode((coarse < 0.1).astype(np.uint8), kernel, borderValue=1).astype(np.float32)
  color = image.astype(np.float32) / 255.0
  head_color = _local_mean(color, head, config.reach * height)
  ground_color = _local_mean(color, ground, config.reach * height)
  line = head_color - ground_color
  squared = np.sum(line * line, axis=-1)
  place = np.sum((color - ground_color) * line, axis=-1) / np.maximum(squared, 1e-6)
  place = np.clip(_steepen(place), 0.0, 1.0)
  trust = np.clip(np.sqrt(squared) / config.contrast - 1.0, 0.0, 1.0)
  alpha = trust * place + (1.0 - trust) * coarse
  alpha = np.where(head > 0, 1.0, np.where(ground > 0, 0.0, alpha))
  alpha = _fill_holes(alpha, ground)
  return np.round(alpha * 255.0).astype(np.uint8)


def _steepen(alpha: np.ndarray) -> np.ndarray:
  """Takes the spread of colours around their means out of the ends of the scale."""
  return (alpha - 0.15) / 0.6


def _local_mean(color: np.ndarray, mask: np.ndarray, sigma: float) -> np.ndarray:
  """Mean colour of the masked pixels nearby; farther ones where none are near."""
  import cv2

  height, width = mask.shape
  # The mean varies over `sigma`, so it is computed on a grid about that coarse.
  step = max(int(sigma / 3.0), 1)
  size = (-(-width // step), -(-height // step))
  total = cv2.resize(color * mask[..., None], size, interpolation=cv2.INTER_AREA)
  weight = cv2.resize(mask, size, interpolation=cv2.INTER_AREA)
  mean = np.zeros_like(total)
  found = np.zeros_like(weight)
  for scale in (1.0, 3.0, 9.0):
    reach = scale * sigma / step
    blurred = cv2.GaussianBlur(weight, (0, 0), reach, borderType=cv2.BORDER_REPLICATE)
    summed = cv2.GaussianBlur(total, (0, 0), reach, borderType=cv2.BORDER_REPLICATE)
    here = np.clip(blurred / 0.02, 0.0, 1.0) * (1.0 - found)
    mean += here[..., None] * summed / np.maximum(blurred, 1e-6)[..., None]
    found += here
  overall = total.sum(axis=(0, 1)) / max(float(weight.sum()), 1e-6)
  mean += (1.0 - found)[..., None] * overall
  return cv2.resize(mean, (width, height), interpolation=cv2.INTER_LINEAR)


def _fill_holes(alpha: np.ndarray, ground: np.ndarray) -> np.ndarray:
  """Closes see-through spots that are not connected with the background: jewellery, bright skin."""
  import cv2

  count, labels = cv2.connectedComponents((alpha < 0.9).astype(np.uint8), connectivity=4)
  outside = np.zeros(count, bool)
  outside[np.unique(labels[ground > 0])] = True
  hole = ~outside[labels] & (labels > 0)
  # Their soft rims belong to them.
  rim = cv2.dilate(hole.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
  reaches_outside = cv2.dilate((outside[labels] & (labels > 0)).astype(np.uint8), np.ones((5, 5)))
  return np.where(hole | (rim & (reaches_outside == 0)), 1.0, alpha)


def cut_below_collar(
  matte: UInt8[np.ndarray, 'h w'],
  collar: Float[np.ndarray, 'c 2'],
  config: MatteConfig | None = None,
) -> UInt8[np.ndarray, 'h w']:
  """Fades the matte out below the posed neck's lower end, where clothes begin.

  Args:
    matte: the matte.
    collar: [c, 2] pixel positions of the head mesh's lower border.
    config: length of the fade.
  """
  config = config or MatteConfig()
  height, width = matte.shape
  # The lowest border pixel of each column, carried on level to both sides.
  order = np.argsort(collar[:, 0], kind='stable')
  x, y = collar[order, 0], collar[order, 1]
  edges = np.linspace(x[0], x[-1], 33)
  bins = np.clip(np.searchsorted(edges, x, side='right') - 1, 0, 31)
  lowest = np.full(32, -np.inf)
  np.maximum.at(lowest, bins, y)
  filled = np.isfinite(lowest)
  centres = 0.5 * (edges[:-1] + edges[1:])
  curve = np.interp(np.arange(width) + 0.5, centres[filled], lowest[filled])
  fade = config.collar_fade * height
  rows = np.arange(height)[:, None] + 0.5
  keep = np.clip((curve[None] - rows) / fade, 0.0, 1.0)
  keep = keep * keep * (3.0 - 2.0 * keep)
  return np.round(matte * keep).astype(np.uint8)
