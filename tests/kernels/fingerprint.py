"""Prints numba's thread count and a digest of images and gradients."""

import hashlib

import jax
import jax.numpy as jnp
import numba
import numpy as np
from sa0_kernels import ssim

from tests.kernels.scenes import random_scene


def main() -> None:
  """Several tiles, enough Gaussians that every thread gets some."""
  scene = random_scene(num_gaussians=3000, width=120, height=90, channels=5, seed=13)
  output = scene.render('numba')
  index, slope = jax.value_and_grad(lambda x: jnp.sum(ssim(x, 0.5 * x, implementation='numba')))(
    output.features
  )
  digest = hashlib.sha256()
  for array in jax.tree.leaves((output, scene.gradients('numba'), index, slope)):
    digest.update(np.ascontiguousarray(array))
  print(numba.config.NUMBA_NUM_THREADS, digest.hexdigest())


if __name__ == '__main__':
  main()
