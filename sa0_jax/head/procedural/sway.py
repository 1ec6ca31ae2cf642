"""Directions that let hair hang and sway: the last of the built-in head's expression directions.

Hair is bound to the scalp's and the neck's triangles and would turn with them like a helmet. What
hangs beside the neck lags behind, falls to one side and stays there. These directions move the skin
that carries it; a face without long hair is left alone, for they are zero on the face, the ears and
what moves with the jaw.
"""

import numpy as np
from jaxtyping import Float

from sa0_jax.head.procedural.anatomy import smoothstep
from sa0_jax.head.procedural.hairline import hairline_distance
from sa0_jax.head.procedural.semantics import ProceduralSemantics

_HANGING = 30.0  # mm a unit moves hair 10 cm below where it begins to hang
_SCALP = 10.0  # mm a unit moves the scalp
_BELOW = 5.0  # mm under the eyes' height, where hair begins to hang free of the skull

SWAY_PREFIX = 'sway_'
_STRANDS = ('out', 'curl', 'wave', 'forward', 'curl_forward', 'lift', 'twist')
SWAY_NAMES = tuple(
  SWAY_PREFIX + name
  for name in (
    *(f'{side}_{how}' for side in ('left', 'right') for how in _STRANDS),
    *('top_up', 'top_left', 'top_forward', 'side_left_out', 'side_right_out', 'back_left'),
  )
)


def sway_directions(
  labels: ProceduralSemantics, weights: Float[np.ndarray, 'v 5']
) -> Float[np.ndarray, 'v 3 m']:
  """The directions in mm, float32, one for each of `SWAY_NAMES`.

  Args:
    labels: of the built-in head.
    weights: its skinning weights.
  """
  template = labels.template.astype(np.float64)
  x, y, z = template.T
  jaw = np.clip(1.0 - 3.0 * weights[:, 2], 0.0, 1.0)
  skin = labels.skin * (labels.ear_ring < 0) * jaw
  behind = 1.0 - smoothstep(z, 0.0, 35.0)
  drop = np.clip((-_BELOW - y) / 100.0, 0.0, 1.6)
  scalp = skin * smoothstep(hairline_distance(template), -4.0, 12.0)
  sideways, upwards, forwards = np.eye(3)
  directions = []
  for side in (1.0, -1.0):
    near = skin * behind * smoothstep(side * x, -10.0, 35.0)
    wave = 2.0 * drop * (drop - 0.5) * (drop - 1.2)
    strands = 2.0 * smoothstep(z, -50.0, 10.0) - 1.0  # those in front against those behind
    directions += [
      _HANGING * near * amount * axis[:, None]
      for amount, axis in (
        (drop, side * sideways),
        (drop**2, side * sideways),
        (wave, side * sideways),
        (drop, forwards),
        (drop**2, forwards),
        (drop, upwards),
        (drop * strands, side * sideways),
      )
    ]
  top = scalp * smoothstep(y, 30.0, 80.0)
  directions += [_SCALP * top * axis[:, None] for axis in (upwards, sideways, forwards)]
  for side in (1.0, -1.0):
    beside = scalp * smoothstep(side * x, 15.0, 60.0) * (1.0 - smoothstep(y, 60.0, 100.0))
    directions.append(_SCALP * beside * side * sideways[:, None])
  back = skin * (1.0 - smoothstep(z, -60.0, -20.0)) * smoothstep(-y, -30.0, 60.0)
  directions.append(_HANGING * back * sideways[:, None])
  return np.stack(directions, axis=-1).transpose(1, 0, 2).astype(np.float32)
