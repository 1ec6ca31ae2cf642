"""Where two pictures differ, as a picture."""

import numpy as np
from jaxtyping import Float, UInt8

ERROR_GAIN = 4.0  # a mean difference of a quarter of the range is the brightest


def error_map(
  rendered: UInt8[np.ndarray, '*n h w 3'], target: UInt8[np.ndarray, '*n h w 3']
) -> UInt8[np.ndarray, '*n h w 3']:
  """Mean absolute difference of the channels, times four: black, red, yellow, white."""
  difference = np.abs(rendered.astype(np.float32) - target.astype(np.float32)).mean(-1) / 255.0
  return _heat(np.minimum(ERROR_GAIN * difference, 1.0))


def _heat(value: Float[np.ndarray, '*n h w']) -> UInt8[np.ndarray, '*n h w 3']:
  channels = [np.clip(3.0 * value - step, 0.0, 1.0) for step in range(3)]
  return np.round(255.0 * np.stack(channels, axis=-1)).astype(np.uint8)
