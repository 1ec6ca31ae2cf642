"""The process that compiles the kernels computes the bits of those that load them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import sa0_kernels

pytest.importorskip('numba')

_PROGRAM = """
import hashlib, jax, numpy as np
from sa0_kernels import rasterize, ssim
from sa0_kernels.workload import standard_workload
from sa0_kernels.camera import Camera

scene = standard_workload(256)
camera = Camera(scene.world_to_camera, scene.intrinsics[[0, 1, 0, 1], [0, 1, 2, 2]], 256, 256)
arrays = (scene.means, scene.quats, scene.scales, scene.opacities, scene.features[:, :3])

def loss(arrays):
  image = rasterize(*arrays, camera, implementation='numba').features
  return (image ** 2).sum() + ssim(image, 1 - image, implementation='numba').mean()

value, gradient = jax.jit(jax.value_and_grad(loss))(tuple(map(np.float32, arrays)))
digest = hashlib.sha256()
for leaf in jax.tree.leaves((value, gradient)):
  digest.update(np.asarray(leaf).tobytes())
print(digest.hexdigest())
"""


def _run(cache: Path) -> str:
  paths = [str(Path(sa0_kernels.__file__).parents[1]), os.environ.get('PYTHONPATH', '')]
  environment = {**os.environ, 'NUMBA_CACHE_DIR': str(cache), 'PYTHONPATH': os.pathsep.join(paths)}
  environment.pop('JAX_COMPILATION_CACHE_DIR', None)
  done = subprocess.run(
    [sys.executable, '-c', _PROGRAM], env=environment, capture_output=True, text=True, check=False
  )
  assert done.returncode == 0, done.stderr
  return done.stdout.strip()


@pytest.mark.slow
def test_first_run_on_a_machine_gives_the_bits_of_the_second(tmp_path):
  first = _run(tmp_path)
  stored = sorted(p.name for p in tmp_path.rglob('*.nbi'))
  assert len(stored) == 10
  assert _run(tmp_path) == first
