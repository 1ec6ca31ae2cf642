"""A network for one GPU: DINOv3 ViT-S, 128² UV (16,101 Gaussians), 256² images.

    sa0 train --config=small --workdir=runs/small --config.phase1.data.datasets=data/sa0_monocular …
    sa0 inspect --config=small --for=a100

A quarter of the published one's pixels and Gaussians; the same losses and optimiser.
"""

import ml_collections
from sa0_jax.configs import base


def get_config(encoder: str = 'dinov3_vits16') -> ml_collections.ConfigDict:
  """Settings of both phases.

  Args:
    encoder: one of `sa0_jax.generator.vit.VIT_PRESETS` with patches of 16.
  """
  config = base.train(encoder)
  generator = config.generator
  generator.dpt.level_channels = (48, 96, 192, 384)
  generator.dpt.features = 128
  generator.dpt.out_channels = 64
  generator.unet.size = generator.uv_size = 128
  generator.unet.channels = (64, 128, 256, 256, 256)
  generator.unet.in_channels = 67
  generator.unet.style_dim = 256
  generator.image_size = 256
  config.phase1.batch_size, config.phase2.batch_size = 16, 4
  return config
