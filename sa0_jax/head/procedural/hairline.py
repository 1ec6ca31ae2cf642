"""Where hair grows on the template: signed fields in authored millimetres."""

import numpy as np
from jaxtyping import Float

# Height of the hairline at each depth z: nape, behind the ear, sideburn, temple, forehead.
_HAIRLINE_Z = (-120, -95, -70, -45, -28, -14, 0, 10, 20, 32, 46, 62, 80, 95, 130)
_HAIRLINE_Y = (-88, -86, -78, -52, -18, 8, 2, -22, -14, 20, 40, 58, 69, 72, 72)


def hairline_distance(template: Float[np.ndarray, 'n 3']) -> Float[np.ndarray, ' n']:
  """Height above the hairline in mm: positive on the scalp, negative on face and neck."""
  return template[:, 1] - np.interp(template[:, 2], _HAIRLINE_Z, _HAIRLINE_Y)
