"""The smallest network with every part of the published one; for tests and for looking around.

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
  generator.unet.channels = (8, 12)
  generator.unet.in_channels = 9
  generator.unet.style_dim = 16
  generator.image_size = 64
  config.batch_size = 2
  config.steps = 10
  return config
