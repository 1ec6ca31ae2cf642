"""Constants of the structural similarity index (Wang et al. 2004)."""

import dataclasses

import numpy as np

RADIUS = 5
_SIGMA = 1.5


def _window() -> tuple[float, ...]:
  x = np.arange(-RADIUS, RADIUS + 1)
  weights = np.exp(-0.5 * (x / _SIGMA) ** 2)
  return tuple(float(w) for w in weights / weights.sum())


# 11 taps of the separable Gaussian window with σ = 1.5, summing to 1.
WINDOW = _window()


@dataclasses.dataclass(frozen=True)
class SsimConfig:
  """Which SSIM.

  Attributes:
    border: 'same' pads with zeros and averages over every pixel (the loss of Kerbl et al. 2023);
      'valid' averages only where the window lies inside the image (the published metric).
    data_range: difference between the largest and the smallest possible value.
  """

  border: str = 'same'
  data_range: float = 1.0

  def __post_init__(self) -> None:
    if self.border not in ('same', 'valid'):
      raise ValueError(f"SsimConfig: border must be 'same' or 'valid', got {self.border!r}")
    if self.data_range <= 0:
      raise ValueError(f'SsimConfig: data_range must be positive, got {self.data_range}')

  @property
  def margin(self) -> int:
    """Pixels left out of the mean at each border."""
    return RADIUS if self.border == 'valid' else 0

  @property
  def stabilizers(self) -> tuple[float, float]:
    """C1 and C2."""
    return (0.01 * self.data_range) ** 2, (0.03 * self.data_range) ** 2
