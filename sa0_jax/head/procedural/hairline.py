"""Where hair grows on the template: signed fields in authored millimetres."""

import numpy as np
from jaxtyping import Float

# Height of the hairline at each depth z: nape, behind the ear, sideburn, temple.
_SIDE_Z = (-120, -95, -70, -45, -28, -14, 0, 10, 20, 30, 42, 60, 130)
_SIDE_Y = (-88, -86, -78, -52, -18, 8, 2, -20, -10, 24, 42, 50, 50)
# Height of the hairline over the forehead at each distance from the midline.
_FOREHEAD_X = (0, 12, 25, 36, 45, 52, 60, 90)
_FOREHEAD_Y = (67, 68, 67, 61, 50, 36, 10, -60)


def hairline_distance(template: Float[np.ndarray, 'n 3']) -> Float[np.ndarray, ' n']:
  """Height above the hairline in mm: positive on the scalp, negative on face and neck."""
  side = np.interp(template[:, 2], _SIDE_Z, _SIDE_Y)
  forehead = np.interp(np.abs(template[:, 0]), _FOREHEAD_X, _FOREHEAD_Y)
  front = np.clip((template[:, 2] - 24.0) / 24.0, 0, 1)
  return template[:, 1] - (side + front * (np.maximum(forehead, side) - side))
