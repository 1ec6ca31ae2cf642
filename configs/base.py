"""Every number of the method, once. The other files are this one and their differences.

The library's dataclasses have the same defaults; a test holds one against the other.
"""

import dataclasses

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """All settings, one group for each part of the method."""
  return ml_collections.ConfigDict({'clean': clean(), 'refine': refine(), 'train': train()})


def train(encoder: str = 'dinov3_vitb16') -> ml_collections.ConfigDict:
  """Stage 1, `sa0_jax.train.config.TrainConfig` says what each is.

  Args:
    encoder: one of `sa0_jax.generator.vit.VIT_PRESETS`.
  """
  settings = {
    'generator': _generator(encoder),
    'phase1': _phase1(),
    'phase2': _phase2(),
    'weights': {'generator': '', 'encoder': '', 'lpips_backbone': '', 'lpips_linear': ''},
    'fsdp': 1,
    'checkpoints': {'every': 1000, 'keep': 3, 'keep_every': 20_000, 'best': 1},
    'watch': {
      'log_every': 50,
      'pictures_every': 2000,
      'validate_every': 2000,
      'validation_batches': 16,
      'datasets': (),  # those the phases learn from
      'split': 'val',
      'tensorboard': True,
    },
    'seed': 0,
  }
  return ml_collections.ConfigDict(settings)


def _phase1() -> dict:
  """Monocular-temporal, `sa0_jax.train.config.PhaseConfig` says what each is."""
  return {
    'steps': 200_000,
    'batch_size': 48,
    'accumulate': 1,
    'dtype': 'float32',
    'train_encoder': False,
    'anchor': 0.0,
    'objective': _objective(1),
    'optimizer': {
      'rate': 2.5e-4,
      'schedule': 'linear',
      'warmup_steps': 0,
      'decay_steps': 160_000,
      'final_fraction': 0.1,
      'clip_norm': 5.0,
      'weight_decay': 0.0,
      'layer_decay': 1.0,
      'beta1': 0.9,
      'beta2': 0.999,
      'epsilon': 1e-8,
    },
    'data': _data(),
  }


def _phase2() -> dict:
  """Multi-view-spatial; its steps, warm-up and weight decay are ours, the paper has none."""
  phase = _phase1()
  phase |= {
    'steps': 40_000,
    'batch_size': 12,
    'dtype': 'bfloat16',
    'train_encoder': True,
    'anchor': 1e-3,
    'objective': _objective(2),
  }
  phase['optimizer'] |= {
    'rate': 1e-4,
    'schedule': 'cosine',
    'warmup_steps': 1000,
    'decay_steps': 39_000,
    'final_fraction': 0.0,
    'weight_decay': 0.01,
    'layer_decay': 0.65,
  }
  return phase


def _objective(phase: int) -> dict:
  """The loss, `sa0_jax.train.objective.ObjectiveConfig` says what each is."""
  return {
    'weights': {
      'l1': 1.0,
      'ms_ssim': 1.0,
      'lpips': 1.0,
      'face_box': 1.0,
      'position_tv': 1e-2,
      'scale_tv': 1e-2,
      'jacobian': 1e-1,
      'residual': 1e-2,
    },
    'phase': phase,
    'background': 'black',
    'jacobian_estimator': 'hutchinson',
    'capacity': None,
    'implementation': None,
  }


def _data() -> dict:
  """What is learnt from, `sa0_jax.data.config.DataConfig` says what each is."""
  return {
    'datasets': (),  # folders made by `sa0 prepare`
    'weights': (),
    'split': 'train',
    'sampler': {
      'temperature_start': 2.0,
      'temperature_end': 0.5,
      'anneal_share': 0.25,
      'direction_weight': 1.0,
      'expression_weight': 1.0,
      'cross_time': 0.25,
      'candidates': 256,
    },
    'threads': None,
    'prefetch': 2,
  }


def _generator(encoder: str) -> dict:
  """The network, `sa0_jax.generator.generator.GeneratorConfig` says what each is."""
  return {
    'encoder': _vit(encoder),
    'dpt': {
      'level_channels': (96, 192, 384, 768),
      'features': 256,
      'out_channels': 256,
      'output_stride': 4,
      'readout': 'project',
      'concat_rgb': False,
    },
    'unet': {
      'size': 256,
      'channels': (64, 128, 256, 512, 512, 512),
      'in_channels': 259,  # of the dense features, and RGB
      'out_channels': 32,
      'style_dim': 512,
      'mapping_layers': 2,
      'noise': False,
      'remat': False,
    },
    'decoder': {
      'channels': 32,
      'hidden': 64,
      'layers': 2,
      'output_std': 1e-3,
      'colors_from_rgb': True,
    },
    'residual': {'channels': 32, 'hidden': 128},
    'use_residual': True,
    'uv_size': 256,
    'avatar_uv_size': None,
    'image_size': 512,
    'pool': 'mean',
    'visibility': False,
    'hair_shell': False,
    'position_bound': 30.0,
    'hold': False,
    'dtype': 'float32',
  }


def refine() -> ml_collections.ConfigDict:
  """Per-subject refinement, `sa0_jax.refine.config.RefineConfig` says what each is."""
  settings = {
    'steps': 10_000,
    'seed': 0,
    'resolution': 0,  # px; 0 takes the capture's own
    'uv_size': 256,
    'held_out': None,  # the test frames of split.json, where the capture has one
    'background': (1.0, 1.0, 1.0),
    'random_background': True,
    'l1_weight': 0.8,
    'ssim_weight': 0.2,
    'color_prior': 1e-3,
    'rates': {
      'position': 2e-2,
      'scale': 1.7e-2,
      'rotation': 1e-2,
      'opacity': 5e-2,
      'color': 2e-2,
      'final_fraction': 0.01,
    },
    'anti_spike': {
      'start': 500,
      'freeze': True,
      'clamp': True,
      'penalty': True,
      'log_scale_min': -6.0,
      'log_scale_max': 2.0,
      'spread': 3.0,
      'threshold': 1.8,
      'weight': 0.5,
    },
    'checkpoint_every': 1000,
    'steps_per_call': 50,
    'implementation': None,
  }
  return ml_collections.ConfigDict(settings)


def _vit(name: str) -> dict:
  """A published vision transformer by name, or 'tiny'.

  Raises:
    ValueError: none of that name.
  """
  # Here: importing flax takes a second, and most commands do without.
  from sa0_jax.generator.vit import VIT_PRESETS

  if name not in VIT_PRESETS:
    raise ValueError(f'no encoder {name!r}: it is one of {", ".join(VIT_PRESETS)}')
  return dataclasses.asdict(VIT_PRESETS[name])


def clean() -> ml_collections.ConfigDict:
  """Clip hygiene, `sa0_jax.capture.hygiene.HygieneConfig` says what each is."""
  settings = {
    'max_gap': 5,
    'scene_change': 0.12,
    'scene_ratio': 4.0,
    'identity_change': 0.115,
    'turn_rate': 12.0,
    'move_rate': 10.0,
    'min_face': 48.0,
    'min_inside': 0.9,
    'min_sharpness': 0.55,
    'max_occlusion': 0.2,
    'occlusion_tone': 0.35,
    'min_frames': 12,
  }
  return ml_collections.ConfigDict(settings)
