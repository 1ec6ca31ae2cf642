"""A network that trains on two CPU cores: its own encoder from scratch, 64² UV, 128² images.

    sa0 inspect --config=tiny

No weights of others are needed: the encoder is trained along, and LPIPS, whose weights are not
shipped, does not count.
"""

import ml_collections
from sa0_jax.configs import base


def get_config() -> ml_collections.ConfigDict:
  """Settings of Phase 1."""
  config = base.train('tiny')
  generator = config.generator
  generator.dpt.level_channels = (16, 24, 32, 48)
  generator.dpt.features = 32
  generator.dpt.out_channels = 16
  generator.unet.size = generator.uv_size = 64
  generator.unet.channels = (32, 48, 64, 96)
  generator.unet.in_channels = 19
  generator.unet.style_dim = 64
  generator.image_size = 128
  generator.train_encoder = True
  config.objective.weights.lpips = 0.0
  config.optimizer.rate = 2e-3
  config.optimizer.decay_steps = 1300
  config.batch_size = 4
  config.steps = 1300
  return config
