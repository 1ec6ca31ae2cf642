r"""Phase 1 of `paper` alone: 200,000 steps of 48 targets, float32, encoder frozen.

    sa0 train --config=paper_phase1 --workdir=runs/phase1 \
      --config.phase1.data.datasets=data/sa0_monocular …

Paper: CelebV-HQ, 24.84 dB on a held-out slice. WORKDIR/phase1.npz is what `paper_phase2` starts
from.
"""

import ml_collections
from sa0_jax.configs import paper


def get_config(encoder: str = 'dinov3_vitb16') -> ml_collections.ConfigDict:
  """Settings of Phase 1.

  Args:
    encoder: one of `sa0_jax.generator.vit.VIT_PRESETS`.
  """
  config = paper.get_config(encoder)
  config.phase2.steps = 0
  return config
