r"""The smallest network with every part of the published one; for tests and for looking around.

    sa0 train --config=debug --workdir=runs/debug --config.phase1.data.datasets=data/sa0_monocular \
      --config.phase2.data.datasets=data/sa0_multiview
    sa0 inspect --config=debug
"""

import ml_collections
from sa0_jax.configs import tiny


def get_config() -> ml_collections.ConfigDict:
  """Settings of a few steps."""
  config = tiny.get_config()
  generator = config.generator
  generator.dpt.level_channels = (8, 8, 8, 8)
  generator.dpt.features = 8
  generator.dpt.out_channels = 6
  generator.unet.size = generator.uv_size = 32
  generator.avatar_uv_size = None
  generator.unet.channels = (8, 12)
  generator.unet.in_channels = 9
  generator.visibility = generator.hair_shell = False  # as published
  generator.unet.style_dim = 16
  generator.image_size = 64
  for phase in (config.phase1, config.phase2):
    phase.batch_size = 2
    phase.objective.background = 'black'
    phase.steps = 4
    phase.optimizer.warmup_steps = 0
  config.checkpoints.every = 2
  config.watch.log_every, config.watch.validation_batches = 1, 1
  return config
