"""Pairs of images: noise, and photographs that scikit-image's wheel carries."""

import cv2
import numpy as np
from skimage import data

SIZE = (190, 181)


def random_pair():
  rng = np.random.default_rng(0)
  smooth = cv2.GaussianBlur(rng.random((*SIZE, 3)), (0, 0), 2.0)
  return np.clip(smooth + 0.1 * rng.normal(size=smooth.shape), 0, 1), smooth


def _photograph(picture):
  """A photograph, and the same blurred, darkened and grainy."""
  target = picture[: SIZE[0], 100 : 100 + SIZE[1]] / 255.0
  rng = np.random.default_rng(1)
  image = 0.9 * cv2.GaussianBlur(target, (0, 0), 1.2) + 0.03 * rng.normal(size=target.shape)
  return np.clip(image, 0, 1), target


def pairs():
  """[h, w, 3] float32 by name."""
  found = {
    'random': random_pair(),
    'astronaut': _photograph(data.astronaut()),
    'cat': _photograph(data.chelsea()),
    'cameraman': _photograph(np.repeat(data.camera()[..., None], 3, axis=2)),
  }
  return {name: tuple(x.astype(np.float32) for x in pair) for name, pair in found.items()}


PAIRS = pairs()
