"""Pictures of an evaluation: source, driving frame, result, and where they differ."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from sa0_jax.metrics.error_map import error_map

Picture = UInt8[np.ndarray, 'h w 3']


def comparison_row(
  source: Picture | None, rendered: Picture, target: Picture, *, compared: bool
) -> UInt8[np.ndarray, 'h columns 3']:
  """Side by side: source, driving frame, result, and the error map where they are to be equal."""
  parts = [] if source is None else [source]
  parts += [target, rendered]
  if compared:
    parts.append(error_map(rendered, target))
  return np.concatenate(parts, axis=1)


def grid(rows: Sequence[Picture]) -> UInt8[np.ndarray, 'rows w 3']:
  """Rows of one width under each other."""
  return np.concatenate(list(rows), axis=0)
