"""L1 in the face box against a loop over pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sa0_jax.losses.face_box import dilate_box, face_box_l1
from sa0_jax.losses.photometric import l1

GRADIENT = jax.jit(jax.value_and_grad(face_box_l1))


def images(shape=(3, 8, 10, 3), seed=0):
  rng = np.random.default_rng(seed)
  return tuple(jnp.asarray(rng.random(shape), jnp.float32) for _ in range(2))


def by_loop(image, target, box):
  total, area = 0.0, 0
  for i in range(image.shape[0]):
    for j in range(image.shape[1]):
      if box[0] <= j + 0.5 < box[2] and box[1] <= i + 0.5 < box[3]:
        total += np.abs(np.asarray(image[i, j], np.float64) - np.asarray(target[i, j])).mean()
        area += 1
  return total / area if area else 0.0


BOXES = [[1.2, 2.0, 6.5, 5.51], [-4.0, -1.0, 3.0, 99.0], [4.6, 4.6, 5.4, 5.4]]


def test_is_the_mean_inside_each_box():
  image, target = images()
  expected = [by_loop(image[k], target[k], BOXES[k]) for k in range(3)]
  assert expected[2] == 0.0  # between pixel centres: nothing inside
  got = jax.jit(face_box_l1)(image, target, jnp.asarray(BOXES))
  assert float(got) == pytest.approx(np.mean(expected), rel=1e-6)


def test_a_box_over_everything_is_plain_l1():
  image, target = images((8, 10, 3))
  got = face_box_l1(image, target, jnp.asarray([0.0, 0.0, 10.0, 8.0]))
  assert float(got) == pytest.approx(float(l1(image, target)), rel=1e-6)


def test_nothing_outside_matters_not_even_nan():
  image, target = images((8, 10, 3))
  box = jnp.asarray([2.0, 2.0, 5.0, 4.0])
  value, gradient = GRADIENT(image, target, box)
  spoilt = target.at[0, 0].set(jnp.nan)
  again, gradient_again = GRADIENT(image, spoilt, box)
  assert value == again
  np.testing.assert_array_equal(gradient, gradient_again)
  inside = np.zeros((8, 10), bool)
  inside[2:4, 2:5] = True
  np.testing.assert_array_equal((np.asarray(gradient) != 0).all(-1), inside)
  np.testing.assert_allclose(np.abs(gradient)[inside], 1 / (6 * 3), rtol=1e-6)


@pytest.mark.parametrize(
  'box', [[3.0, 3.0, 3.0, 3.0], [6.0, 6.0, 2.0, 2.0], [50.0, 0.0, 60.0, 8.0]]
)
def test_empty_boxes_contribute_nothing(box):
  value, gradient = GRADIENT(*images((8, 10, 3)), jnp.asarray(box))
  assert float(value) == 0.0
  np.testing.assert_array_equal(gradient, np.zeros((8, 10, 3)))


def test_dilation_keeps_the_centre_and_scales_the_sides():
  box = jnp.asarray([[100.0, 120.0, 200.0, 160.0], [0.0, 0.0, 2.0, 2.0]])
  grown = np.asarray(dilate_box(box))
  np.testing.assert_allclose(grown[0], [67.5, 107.0, 232.5, 173.0], rtol=1e-6)
  np.testing.assert_allclose(grown[1], [-0.65, -0.65, 2.65, 2.65], rtol=1e-5)
  np.testing.assert_allclose(dilate_box(box, 1.0), box, rtol=1e-6)


def test_dilation_is_cut_at_the_border():
  box = jnp.asarray([10.0, 20.0, 90.0, 60.0])
  np.testing.assert_allclose(dilate_box(box, 2.0, (96, 64)), [0.0, 0.0, 96.0, 64.0])


def test_dilation_refuses_what_is_no_factor():
  with pytest.raises(ValueError, match='factor must be positive'):
    dilate_box(jnp.zeros(4), 0.0)
