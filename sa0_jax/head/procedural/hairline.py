"""Where hair grows on the template: signed fields in authored millimetres."""

import numpy as np
from jaxtyping import Float

from sa0_jax.head.procedural.anatomy import smoothstep

# Height of the hairline at each depth z: nape, behind the ear, sideburn, temple.
_SIDE_Z = (-120, -95, -70, -45, -28, -14, 0, 10, 20, 30, 42, 60, 130)
_SIDE_Y = (-88, -86, -78, -52, -18, 8, 2, -20, -10, 24, 42, 50, 50)
# Height of the hairline over the forehead at each distance from the midline.
_FOREHEAD_X = (0, 14, 26, 36, 44, 52, 60, 75, 90)
_FOREHEAD_Y = (67, 68, 66.5, 62, 55, 45, 36, 22, 10)


def hairline_distance(template: Float[np.ndarray, 'n 3']) -> Float[np.ndarray, ' n']:
  """Height above the hairline in mm: positive on the scalp, negative on face and neck."""
  side = np.interp(template[:, 2], _SIDE_Z, _SIDE_Y)
  forehead = np.interp(np.abs(template[:, 0]), _FOREHEAD_X, _FOREHEAD_Y)
  front = smoothstep(template[:, 2], 18.0, 56.0)
  return template[:, 1] - (side + front * (np.maximum(forehead, side) - side))
