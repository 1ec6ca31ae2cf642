"""Every number of the method, once. The other files are this one and their differences.

The library's dataclasses have the same defaults; a test holds one against the other.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """All settings, one group for each part of the method."""
  return ml_collections.ConfigDict({'refine': _refine()})


def _refine() -> dict:
  """Per-subject refinement, `sa0_jax.refine.config.RefineConfig` says what each is."""
  return {
    'steps': 10_000,
    'seed': 0,
    'resolution': 0,  # px; 0 takes the capture's own
    'uv_size': 256,
    'held_out': 0.0,
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
