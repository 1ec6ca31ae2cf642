"""Formulas of CSIM, AED, APD, AKD and of our own counterparts, on numbers worked out by hand."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sa0_jax.metrics import faces


def test_csim_is_a_cosine_whatever_the_lengths():
  a = np.array([[3.0, 4.0], [2.0, 0.0], [1.0, 0.0]])
  b = np.array([[8.0, 6.0], [0.0, 5.0], [-7.0, 0.0]])
  np.testing.assert_allclose(faces.csim(a, b), [0.96, 0.0, -1.0], atol=1e-12)


def test_csim_of_nothing_is_an_error():
  with pytest.raises(ValueError, match='saw no face'):
    faces.csim(np.zeros((1, 4)), np.ones((1, 4)))


def test_aed_and_apd_are_means_over_coefficients():
  a, b = np.zeros((2, 64)), np.zeros((2, 64))
  b[0, 3], b[1] = -6.4, 0.25
  np.testing.assert_allclose(faces.aed(a, b), [0.1, 0.25])
  turned = np.array([[0.3, -0.6, 0.0]])
  np.testing.assert_allclose(faces.apd(np.zeros((1, 3)), turned), [0.3])


@pytest.mark.parametrize(('metric', 'count'), [(faces.aed, 100), (faces.apd, 6)])
def test_other_codes_do_not_get_the_papers_names(metric, count, unchecked_shapes):
  with pytest.raises(ValueError, match=f'{metric.__name__}: '):
    metric(np.zeros((2, count)), np.zeros((2, count)))


def test_akd_is_in_pixels_of_512(unchecked_shapes):
  a = np.zeros((1, 68, 2))
  b = a.copy()
  b[0, :34] = (3.0, 4.0)
  np.testing.assert_allclose(faces.landmark_px(a, b), [2.5])
  np.testing.assert_allclose(faces.akd(a, b), [2.5])
  np.testing.assert_allclose(faces.akd(a, b, size=256), [5.0])
  with pytest.raises(ValueError, match='68 landmarks'):
    faces.akd(a[:, :67], b[:, :67])


def test_pose_distance_of_single_turns_and_across_the_back():
  still = Rotation.identity(3).as_matrix()
  axes = np.eye(3) * np.array([0.3, 0.6, 0.9])
  turned = Rotation.from_rotvec(axes).as_matrix()
  np.testing.assert_allclose(faces.flame_pose_l1(still, turned), [0.1, 0.2, 0.3], atol=1e-12)
  left, right = (Rotation.from_euler('X', [x]).as_matrix().reshape(1, 3, 3) for x in (3.1, -3.1))
  expected = (2 * np.pi - 6.2) / 3
  np.testing.assert_allclose(faces.flame_pose_l1(left, right), [expected], atol=1e-12)


def test_expression_distance_is_a_mean():
  np.testing.assert_allclose(
    faces.flame_expression_l1(np.zeros((1, 100)), np.full((1, 100), 0.2)), [0.2]
  )
