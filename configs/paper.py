r"""The published network and both phases, Stage 1 (SpatialAvatar-0): 149.8 M parameters.

    sa0 train --config=paper --workdir=runs/paper --config.phase1.data.datasets=data/sa0_monocular \
      --config.phase2.data.datasets=data/sa0_multiview --config.weights.encoder=dinov3/ \
      --config.weights.lpips_backbone=alexnet.pth --config.weights.lpips_linear=alex.pth
    sa0 inspect --config=paper --for=h100:8

The argument names another encoder: `paper:dinov3_vits16`, `paper:dinov3_vitl16` (the paper's
ablation), `paper:dinov2_vitb14_reg` (ungated weights). The paper trained both phases in 14 days on
one H100 NVL and reports 24.94 dB on held-out CelebV-HQ; nobody has run this configuration to its
end. On one card of 24 GB: --config.phase1.accumulate=48 --config.phase2.accumulate=12
--config.generator.encoder.remat=true --config.generator.unet.remat=true.
"""

import ml_collections
from sa0_jax.configs import base


def get_config(encoder: str = 'dinov3_vitb16') -> ml_collections.ConfigDict:
  """Settings of both phases.

  Args:
    encoder: one of `sa0_jax.generator.vit.VIT_PRESETS`.
  """
  config = base.train(encoder)
  if config.generator.encoder.patch_size == 14:
    config.generator.image_size = 518  # 37 patches, as its positions were learned
  return config
