"""The demo's refinement: a short run at 256 x 256, a minute on two cores.

    sa0 demo --out demo

How it does: docs/refine_tuning.md.
"""

import ml_collections
from sa0_jax.configs import base


def get_config() -> ml_collections.ConfigDict:
  """Settings of the demo's refinement."""
  config = base.refine()
  config.steps = 1200
  config.uv_size = 128  # 16,101 Gaussians
  config.held_out = 0.2
  config.checkpoint_every = 250
  return config
