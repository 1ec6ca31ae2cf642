"""The published network, Stage 1 (SpatialAvatar-0): 149.8 M parameters, 86 M of them the encoder's.

    sa0 inspect --config=paper --for=h100:8

The argument names another encoder: `paper:dinov3_vits16`, `paper:dinov3_vitl16` (the paper's
ablation), `paper:dinov2_vitb14_reg` (ungated weights). Phase 1 as published: 200,000 steps of 48
targets, float32, encoder frozen.
"""

import ml_collections
from sa0_jax.configs import base


def get_config(encoder: str = 'dinov3_vitb16') -> ml_collections.ConfigDict:
  """Settings of Phase 1.

  Args:
    encoder: one of `sa0_jax.generator.vit.VIT_PRESETS`.
  """
  config = base.train(encoder)
  if config.generator.encoder.patch_size == 14:
    config.generator.image_size = 518  # 37 patches, as its positions were learned
  return config
