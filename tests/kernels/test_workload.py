"""The standard workload: every implementation against the reference in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sa0_kernels import Camera, bench
from sa0_kernels.workload import standard_workload


def test_scene_is_the_documented_one():
  scene = standard_workload(512)
  assert scene.means.shape == (58_173, 3)
  np.testing.assert_allclose(np.linalg.norm(scene.quats, axis=1), 1.0, atol=1e-6)
  camera = Camera.from_matrices(scene.world_to_camera, scene.intrinsics, width=512, height=512)
  points = scene.means @ scene.world_to_camera[:3, :3].T + scene.world_to_camera[:3, 3]
  rows = points[:, 1] / points[:, 2] * float(camera.intrinsics[1])
  assert 0.68 * 512 < rows.max() - rows.min() < 0.75 * 512


@pytest.fixture(scope='module')
def oracle():
  return bench.compute_oracle(256, channels=3)


@pytest.mark.parametrize('implementation', ['numba', 'xla', 'reference'])
def test_errors_against_the_float64_oracle(oracle, implementation):
  errors = bench.errors(implementation, oracle, bench.Case(256, 3))
  assert errors['image'] <= 6e-5
  for name, error in errors.items():
    assert error <= 2e-3, name


def test_xla_in_float64_meets_the_oracle(oracle):
  with jax.enable_x64(True):
    errors = bench.errors('xla', oracle, bench.Case(256, 3), jnp.float64)
  assert errors['image'] <= 1e-6
  for name, error in errors.items():
    assert error <= 1e-5, name
