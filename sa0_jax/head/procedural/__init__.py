"""The built-in head: FLAME's arrays, made by the code in this package, without anybody's licence.

`load_procedural_head` and `load_procedural_semantics` read the shipped file; everything the file
is made from is here as well (`python -m sa0_jax.head.procedural.build`, needs scipy).
"""

import dataclasses
import functools

from sa0_jax.head.model import HeadModel
from sa0_jax.head.procedural import storage
from sa0_jax.head.procedural.paint import default_colors
from sa0_jax.head.procedural.semantics import ProceduralSemantics

__all__ = ['ProceduralSemantics', 'load_procedural_head', 'load_procedural_semantics']


@functools.cache
def load_procedural_head() -> HeadModel:
  """The built-in head; read once, then the same object. Treat its arrays as read-only."""
  arrays = storage.read()
  head, labels = storage.head_of(arrays), storage.semantics_of(arrays)
  return dataclasses.replace(head, default_colors=default_colors(labels))


@functools.cache
def load_procedural_semantics() -> ProceduralSemantics:
  """What the built-in head's vertices are; read once, then the same object."""
  return storage.semantics_of(storage.read())
