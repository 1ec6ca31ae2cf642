"""Crops of faces, held against scikit-image's estimate, Pillow's resizing, and known points."""

import numpy as np
import pytest
from PIL import Image
from skimage.transform import SimilarityTransform

from sa0_jax.metrics.alignment import (
  ARCFACE_TEMPLATE,
  DEEP3D_TEMPLATE,
  arcface_crop,
  deep3d_crop,
  deep3d_placement,
  five_points,
  similarity,
)

SMALL, LARGE = 160, 420  # px: pictures in which a face becomes larger, and smaller


def ramps(width: int, height: int) -> np.ndarray:
  """Red rises to the right, green downwards, in steps that a byte holds exactly; blue is flat."""
  row, column = np.mgrid[:height, :width]
  return np.stack([column / 2, row / 2, np.full_like(row, 200.0)], axis=-1).astype(np.uint8)


def noise(size: int, seed: int = 0) -> np.ndarray:
  draws = np.random.default_rng(seed)
  coarse = draws.integers(0, 256, (size // 4, size // 4 + 3, 3)).astype(np.uint8)
  return np.asarray(
    Image.fromarray(coarse).resize((size, size - size // 20), Image.Resampling.BICUBIC)
  )


def face(size: int, turn: float = 0.2) -> np.ndarray:
  """Five points a third as wide as the picture."""
  template = np.array(ARCFACE_TEMPLATE) - 56
  cos, sin = np.cos(turn), np.sin(turn)
  return template @ np.array([[cos, sin], [-sin, cos]]) * size / 112 + size / 2


def test_eyes_are_the_middles_of_their_corners():
  points = np.arange(14.0).reshape(7, 2)
  expected = [[1, 2], [5, 6], [8, 9], [10, 11], [12, 13]]
  np.testing.assert_array_equal(five_points(points), expected)
  np.testing.assert_array_equal(five_points(np.stack([points, points])), [expected, expected])


@pytest.mark.parametrize('mirrored', [False, True])
def test_similarity_is_umeyamas(mirrored):
  draws = np.random.default_rng(3)
  for _ in range(20):
    target = draws.normal(size=(5, 2)) * 30 + 50
    points = draws.normal(size=(5, 2)) * 4 + target @ draws.normal(size=(2, 2))
    if mirrored:
      points = target * [-1, 1] + draws.normal(size=(5, 2))
    expected = SimilarityTransform.from_estimate(points, target).params[:2]
    np.testing.assert_allclose(similarity(points, target), expected, atol=1e-9)


def test_arcface_sees_the_points_at_its_template():
  """A linear picture says at each pixel of the crop where it was taken from."""
  points = face(300)
  crop = arcface_crop(ramps(300, 280), points)
  assert (crop.shape, crop.dtype) == ((3, 112, 112), np.float32)
  place = SimilarityTransform.from_estimate(points - 0.5, np.array(ARCFACE_TEMPLATE))
  there = np.array([[56, 56], [40, 50], [72, 60], [50, 95]])
  for (x, y), (column, row) in zip(there, place.inverse(there), strict=True):
    found = crop[:, y, x] * 127.5 + 127.5
    np.testing.assert_allclose(found, [column / 2, row / 2, 200], atol=0.75)


def test_arcface_sees_black_beyond_the_picture():
  crop = arcface_crop(np.full((64, 64, 3), 255, np.uint8), face(64) - [60, 0])
  assert crop.min() == -1
  assert crop.max() == 1


@pytest.mark.parametrize(('size', 'scale'), [(512, 170.0), (96, 20.0)])
def test_deep3d_finds_the_scale_and_place_of_its_own_template(size, scale):
  """Five points that its mean face projects to: the crop is centred at the face's origin."""
  origin = np.array([0.55, 0.45]) * size
  points = origin + np.array(DEEP3D_TEMPLATE)[:, :2] * [scale, -scale] + 0.5
  (width, height), (left, upper) = deep3d_placement(points, size, size)
  assert width == height == int(size * 102 / scale)
  centre = np.array([left, upper]) + 112
  # Both sizes and corners are cut to whole pixels.
  np.testing.assert_allclose(centre, (origin + np.array([0, 1])) * 102 / scale, atol=1.5)


def pillow(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
  """The authors' way: Pillow's bicubic resizing, then its crop."""
  size, (left, upper) = deep3d_placement(points, picture.shape[1], picture.shape[0])
  resized = Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC)
  return np.asarray(resized.crop((left, upper, left + 224, upper + 224)))


@pytest.mark.parametrize(('size', 'shift'), [(LARGE, 0), (SMALL, 0), (LARGE, -160), (SMALL, 70)])
def test_deep3d_sees_what_pillow_cuts(size, shift):
  picture, points = noise(size), (0.7 * face(size) + 0.15 * size) / [1, 1.1] + shift
  expected = pillow(picture, points).astype(float)
  crop = deep3d_crop(picture, points)
  assert (crop.shape, crop.dtype) == ((3, 224, 224), np.float32)
  away = np.abs(np.moveaxis(crop, 0, -1) * 255.0 - expected)
  # Pillow rounds twice, and clips what overshoots in one direction before it goes in the other.
  assert away.max() <= 4
  assert np.quantile(away, 0.999) <= 1
  beyond = (expected == 0).all(-1)
  assert (away[beyond] <= 1).all()
  assert beyond.any() == (shift != 0)


@pytest.mark.parametrize('crop', [arcface_crop, deep3d_crop])
@pytest.mark.parametrize('points', [np.full((5, 2), 9.0), np.full((5, 2), np.nan)])
def test_points_that_are_no_face_are_refused(crop, points):
  with pytest.raises(ValueError, match='lie in one place, or nowhere'):
    crop(np.zeros((64, 64, 3), np.uint8), points)


def test_a_face_far_larger_than_the_picture_is_refused():
  with pytest.raises(ValueError, match='far beyond the picture'):
    deep3d_crop(np.zeros((64, 64, 3), np.uint8), face(64) * 1e5)
