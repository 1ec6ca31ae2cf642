r"""A network that trains on two CPU cores: its own encoder from scratch, 192² images.

    sa0 train --config=tiny --workdir=runs/tiny --config.phase1.data.datasets=data/sa0_monocular \
      --config.phase2.data.datasets=data/sa0_multiview
    sa0 inspect --config=tiny

No weights of others are needed: the encoder is trained along, and LPIPS, whose weights are not
shipped, does not count.
"""

import ml_collections
from sa0_jax.configs import base


def get_config() -> ml_collections.ConfigDict:
  """Settings of both phases."""
  config = base.train('tiny')
  generator = config.generator
  generator.dpt.level_channels = (16, 24, 32, 48)
  generator.dpt.features = 32
  generator.dpt.out_channels = 16
  generator.unet.size = 64
  generator.uv_size = 128
  generator.avatar_uv_size = 256  # as published
  generator.unet.channels = (32, 48, 64, 96)
  generator.unet.in_channels = 20
  generator.visibility = generator.hair_shell = generator.hold = True
  generator.unet.style_dim = 64
  generator.image_size = 192
  for phase in (config.phase1, config.phase2):
    phase.train_encoder = True
    phase.objective.weights.lpips = 0.0
    phase.objective.background = 'random'
    phase.batch_size = 4
    phase.dtype = 'float32'  # bfloat16 is slower on a CPU
  phase1, phase2 = config.phase1, config.phase2
  phase1.steps = phase1.optimizer.decay_steps = 1300
  phase1.optimizer.rate = 2e-3
  phase2.steps = 450
  phase2.optimizer.rate = 2e-4
  phase2.optimizer.warmup_steps = 50
  phase2.optimizer.decay_steps = 400
  config.checkpoints.every = 200
  config.checkpoints.keep_every = 0
  watch = config.watch
  watch.log_every, watch.pictures_every, watch.validate_every = 20, 400, 400
  return config
