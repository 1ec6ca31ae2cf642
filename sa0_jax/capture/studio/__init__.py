"""Synthetic subjects: procedural heads with skin and hair, lit and rendered as meshes.

`film(StudioConfig(seed=3))` gives a Capture. Parts of a session (subject, performance, light,
cameras) are frozen dataclasses: draw one with `sample_session`, change it, film it with
`film_monocular` or `film_multiview`. Many subjects: `build_set(StudioSet(((0, 2000),)), 'set/')`.
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
from sa0_jax.capture.studio.sets import (
  BuildReport,
  StudioSet,
  build_set,
  describe_set,
  read_set,
  varied,
)

__all__ = [
  'BuildReport',
  'Session',
  'Stock',
  'StudioConfig',
  'StudioSet',
  'build_set',
  'describe_set',
  'film',
  'film_monocular',
  'film_multiview',
  'read_set',
  'sample_session',
  'varied',
]
