"""The screen-space aspect penalty: closed form against an eigenvalue solver."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sa0_kernels import Camera
from scipy.spatial.transform import Rotation

from sa0_jax.losses.aspect import aspect_loss, log_aspect

FOCAL, SIZE = 90.0, 48


def camera() -> Camera:
  view = np.eye(4, dtype=np.float32)
  view[2, 3] = 1.5
  return Camera(jnp.asarray(view), jnp.asarray([FOCAL, FOCAL, SIZE / 2, SIZE / 2]), SIZE, SIZE)


def gaussians(*arrays):
  """Means, quats and scales as the losses take them."""
  return tuple(jnp.asarray(a, jnp.float32) for a in arrays)


def scene(n=200, seed=0):
  """Gaussians in view: means, quats, scales from round to needles of 1 : 100."""
  rng = np.random.default_rng(seed)
  return gaussians(
    rng.uniform(-0.3, 0.3, size=(n, 3)),
    rng.normal(size=(n, 4)),
    np.exp(rng.uniform(np.log(1e-3), np.log(1e-1), size=(n, 3))),
  )


def log_aspect_by_eigenvalues(means, quats, scales):
  """½ log(λmax / λmin) of J W Σ Wᵀ Jᵀ in float64, one Gaussian at a time."""
  values = []
  for mean, quat, scale in zip(
    *(np.asarray(a, np.float64) for a in (means, quats, scales)), strict=True
  ):
    x, y, z = mean[0], mean[1], mean[2] + 1.5
    jacobian = FOCAL / z * np.array([[1, 0, -x / z], [0, 1, -y / z]])
    axes = Rotation.from_quat(quat, scalar_first=True).as_matrix() * scale
    low, high = np.linalg.eigvalsh(jacobian @ axes @ axes.T @ jacobian.T)
    values.append(0.5 * np.log(high / low))
  return np.array(values)


def test_closed_form_equals_eigenvalues():
  arrays = scene()
  got, inside = log_aspect(*arrays, camera())
  expected = log_aspect_by_eigenvalues(*arrays)
  assert np.asarray(inside).all()
  assert expected.max() > 3.5  # the scene holds needles
  np.testing.assert_allclose(got, expected, atol=2e-3)


def test_round_gaussians_on_the_axis_have_aspect_one():
  scales = [[0.1] * 3, [0.1, 0.1, 0.001], [0.1, 0.05, 0.1]]
  got, _ = log_aspect(*gaussians(np.zeros((3, 3)), [[1, 0, 0, 0]] * 3, scales), camera())
  np.testing.assert_allclose(got, [0.0, 0.0, np.log(2)], atol=1e-3)


def test_centres_outside_the_image_are_told_apart():
  means = [[0, 0, 0], [2, 0, 0], [0, -2, 0], [0, 0, -5]]
  _, inside = log_aspect(*gaussians(means, np.ones((4, 4)), np.full((4, 3), 0.1)), camera())
  assert inside.tolist() == [True, False, False, False]


@pytest.mark.parametrize('threshold', [0.0, 1.0, 2.0])
def test_loss_is_the_mean_excess(threshold):
  arrays = scene()
  expected = np.maximum(log_aspect_by_eigenvalues(*arrays) - threshold, 0).mean()
  assert float(aspect_loss(*arrays, camera(), threshold)) == pytest.approx(expected, rel=1e-3)


def test_gaussians_behind_the_camera_cost_nothing():
  means, quats, scales = scene(20)
  behind = means - jnp.asarray([0.0, 0, 10])
  loss, gradient = jax.value_and_grad(aspect_loss, 2)(behind, quats, scales, camera(), 0.0)
  assert loss == 0
  assert not np.asarray(gradient).any()


def test_a_step_against_the_gradient_makes_needles_rounder():
  means, quats, scales = scene()
  log_scale = jnp.log(scales)

  def loss(log_scale):
    return aspect_loss(means, quats, jnp.exp(log_scale), camera(), 2.0)

  before, gradient = jax.value_and_grad(loss)(log_scale)
  assert loss(log_scale - 20.0 * gradient) < 0.9 * before
  excess = log_aspect_by_eigenvalues(means, quats, scales) - 2.0
  moved = np.asarray(gradient).any(axis=1)
  np.testing.assert_array_equal(moved[np.abs(excess) > 0.01], (excess > 0)[np.abs(excess) > 0.01])


def test_points_lines_and_planes_are_finite():
  scales = [[0, 0, 0], [0.1, 0, 0], [0.1, 0.1, 0], [1e-20, 1e-20, 1e-20], [10, 1e-9, 1]]
  arrays = gaussians(np.zeros((5, 3)), [[0.3, 0.5, -0.7, 0.2]] * 5, scales)

  def loss(means, quats, scales):
    return aspect_loss(means, quats, scales, camera(), 0.5)

  value, gradients = jax.value_and_grad(loss, (0, 1, 2))(*arrays)
  for leaf in (value, *gradients):
    assert np.isfinite(np.asarray(leaf)).all()
