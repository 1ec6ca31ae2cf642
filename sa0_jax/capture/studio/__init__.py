"""Synthetic subjects: procedural heads with skin and hair, lit and rendered as meshes.

`film(StudioConfig(seed=3))` gives a Capture. Parts of a session (subject, performance, light,
cameras) are frozen dataclasses: draw one with `sample_session`, change it, film it with
`film_monocular` or `film_multiview`.
"""

from sa0_jax.capture.studio.config import StudioConfig
from sa0_jax.capture.studio.filming import (
  Session,
  Stock,
  film,
  film_monocular,
  film_multiview,
  sample_session,
)

__all__ = [
  'Session',
  'Stock',
  'StudioConfig',
  'film',
  'film_monocular',
  'film_multiview',
  'sample_session',
]
