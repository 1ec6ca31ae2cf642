r"""Phase 2 of `paper` alone, from the weights of a Phase 1: AdamW, bfloat16, 12 targets, anchored.

    sa0 train --config=paper_phase2 --workdir=runs/phase2 \
      --config.weights.generator=runs/phase1/phase1.npz \
      --config.phase2.data.datasets=data/sa0_multiview …

Paper: NeRSemble v2, 24.94 dB on the held-out slice of CelebV-HQ, 22.73 without anchor and other
times.
"""

import ml_collections
from sa0_jax.configs import paper


def get_config(encoder: str = 'dinov3_vitb16') -> ml_collections.ConfigDict:
  """Settings of Phase 2.

  Args:
    encoder: one of `sa0_jax.generator.vit.VIT_PRESETS`.
  """
  config = paper.get_config(encoder)
  config.phase1.steps = 0
  return config
