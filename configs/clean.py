"""Clip hygiene: where a tracked video is split, and which of its frames are left out.

    sa0 clean CAPTURE --out CLIPS

`sa0_jax.capture.hygiene.HygieneConfig` says what each threshold is.
"""

import ml_collections
from sa0_jax.configs import base


def get_config() -> ml_collections.ConfigDict:
  """Thresholds."""
  return base.clean()
