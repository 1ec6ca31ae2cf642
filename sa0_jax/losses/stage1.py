"""How the terms of Stage 1 add up (SpatialAvatar-0, METHOD §5)."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float


@dataclasses.dataclass(frozen=True)
class LossWeights:
  """Weight of each term; the paper gives orders of magnitude, which are the defaults.

  Attributes:
    l1: mean absolute pixel error.
    ms_ssim: 1 − MS-SSIM.
    lpips: LPIPS.
    face_box: L1 inside the dilated face box over its area.
    position_tv: UV total variation of local positions.
    scale_tv: UV total variation of log-scales.
    jacobian: log-penalty on the geometry's derivative by the view direction.
    residual: L1 of the residual head's corrections; only counts in Phase 2.
  """

  l1: float = 1.0
  ms_ssim: float = 1.0
  lpips: float = 1.0
  face_box: float = 1.0
  position_tv: float = 1e-2
  scale_tv: float = 1e-2
  jacobian: float = 1e-1
  residual: float = 1e-2

  def __post_init__(self) -> None:
    for name, weight in dataclasses.asdict(self).items():
      if not 0.0 <= weight < math.inf:
        raise ValueError(f'LossWeights: {name} must be zero or positive, got {weight}')


def total(
  terms: Mapping[str, Float[Array, '']], weights: LossWeights, phase: Literal[1, 2]
) -> Float[Array, '']:
  """The weighted sum of the loss terms.

  Args:
    terms: each term by its name in `LossWeights`. Those of weight zero may be left out, and so may
      'residual' in Phase 1, where it never counts.
    weights: the weights.
    phase: 1 (monocular-temporal) or 2 (multi-view-spatial).

  Raises:
    ValueError: a term that counts is missing, one has an unknown name, or there is no such phase.
  """
  if phase not in (1, 2):
    raise ValueError(f'total: Stage 1 has phases 1 and 2, got {phase}')
  factors = dataclasses.asdict(weights)
  unknown = sorted(set(terms) - set(factors))
  if unknown:
    raise ValueError(f'total: unknown loss terms {unknown}, known are {list(factors)}')
  if phase == 1:
    factors['residual'] = 0.0
  counted = [name for name, factor in factors.items() if factor]
  missing = [name for name in counted if name not in terms]
  if missing:
    raise ValueError(
      f'total: loss terms {missing} are missing in Phase {phase}; give them, or weight 0'
    )
  # In the table's order, whatever the caller's: sums of floats depend on it.
  return sum((factors[name] * terms[name] for name in counted), start=jnp.zeros(()))
