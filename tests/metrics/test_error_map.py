"""Pictures of errors."""

import numpy as np

from sa0_jax.metrics.error_map import error_map


def test_error_maps_rise_from_black_to_white():
  target = np.zeros((1, 4, 3), np.uint8)
  rendered = np.repeat(np.array([[0, 10, 30, 255]], np.uint8)[..., None], 3, axis=2)
  drawn = error_map(rendered, target)[0].astype(int)
  assert drawn[0].tolist() == [0, 0, 0]
  assert drawn[1, 0] > 0 == drawn[1, 1]
  assert drawn[2, 0] > drawn[1, 0]
  assert drawn[3].tolist() == [255, 255, 255]


def test_stacks_are_each_picture_by_itself():
  rng = np.random.default_rng(0)
  rendered, target = (rng.integers(0, 256, (2, 5, 4, 3), dtype=np.uint8) for _ in range(2))
  each = [error_map(*pair) for pair in zip(rendered, target, strict=True)]
  np.testing.assert_array_equal(error_map(rendered, target), np.stack(each))
