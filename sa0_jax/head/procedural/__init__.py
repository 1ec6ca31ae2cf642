"""The built-in head: FLAME's arrays, made by the code in this package, without anybody's licence.

`load_procedural_head` and `load_procedural_semantics` read the shipped file; everything the file
is made from is here as well (`python -m sa0_jax.head.procedural.build`, needs scipy).
"""

import dataclasses
import functools

import numpy as np
from jaxtyping import Float

from sa0_jax.head.model import HeadModel
from sa0_jax.head.procedural import storage
from sa0_jax.head.procedural.anatomy import COMPONENT_NAMES
from sa0_jax.head.procedural.paint import default_colors
from sa0_jax.head.procedural.semantics import ProceduralSemantics

__all__ = ['ProceduralSemantics', 'load_procedural_head', 'load_procedural_semantics']


# How dark parts inside the mouth look in pictures: little light reaches them.
_MOUTH_SHADE = {'teeth_upper': 0.45, 'teeth_lower': 0.45, 'tongue': 0.4}
_LINING_SHADE = 0.15
_LAST_LINING_RING = 4


@functools.cache
def load_procedural_head() -> HeadModel:
  """The built-in head; read once, then the same object. Treat its arrays as read-only."""
  arrays = storage.read()
  head, labels = storage.head_of(arrays), storage.semantics_of(arrays)
  return dataclasses.replace(head, default_colors=_colors_in_pictures(labels))


def _colors_in_pictures(labels: ProceduralSemantics) -> Float[np.ndarray, 'v 3']:
  """Default colours, with the shade of the mouth on what lies inside it."""
  shade = np.ones(len(labels.template), np.float32)
  for name, value in _MOUTH_SHADE.items():
    shade[labels.component == COMPONENT_NAMES.index(name)] = value
  inside = (labels.mouth_ring >= 0) & (labels.mouth_ring <= _LAST_LINING_RING)
  shade[inside] = _LINING_SHADE
  return default_colors(labels) * shade[:, None]


@functools.cache
def load_procedural_semantics() -> ProceduralSemantics:
  """What the built-in head's vertices are; read once, then the same object."""
  return storage.semantics_of(storage.read())
