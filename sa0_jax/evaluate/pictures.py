"""Pictures of an evaluation: source, driving frame, result, and where they differ."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

Picture = UInt8[np.ndarray, 'h w 3']

ERROR_GAIN = 4.0  # a mean difference of a quarter of the range is the brightest


def error_map(rendered: Picture, target: Picture) -> Picture:
  """Mean absolute difference of the channels, times four: black, red, yellow, white."""
  difference = np.abs(rendered.astype(np.float32) - target.astype(np.float32)).mean(-1) / 255.0
  return _heat(np.minimum(ERROR_GAIN * difference, 1.0))


def _heat(value: Float[np.ndarray, 'h w']) -> Picture:
  channels = [np.clip(3.0 * value - step, 0.0, 1.0) for step in range(3)]
  return np.round(255.0 * np.stack(channels, axis=-1)).astype(np.uint8)


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
