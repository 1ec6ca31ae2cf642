"""Constants of the procedural head that the builder and the loaded model share. Only NumPy here.

The head is authored in millimetres: x = the subject's left, y up, z forward, origin between the
pupils in x and y and in the plane of the ear canals in z. `to_metres` leads to the model's frame.
"""

import numpy as np
from jaxtyping import Float

# Run-time type checkers tell 2 from 2.0; tables of numbers hold both.
Number = int | float
Vector = tuple[Number, Number, Number]

MODEL_NAME = 'procedural'

# This authored point becomes the origin of the model's frame: inside the head, between the ears.
ORIGIN = np.array([0.0, -25.0, 35.0])

MIRROR = np.array([-1.0, 1.0, 1.0])

# Left eyeball: centre of rotation and radius of the white. The radius is 0.5 mm over a real one's
# because a simple sphere must also fill the corners.
EYE_CENTER = np.array([31.5, 0.0, 67.8])
EYE_RADIUS = 12.6
IRIS_RADIUS, PUPIL_RADIUS = 5.85, 2.1
# How far the cornea stands out of the sphere: less than a real one, so that lids clear it.
CORNEA_BULGE = 0.2

# Left ear: middle of its attachment.
EAR_CENTER = np.array([68.0, -20.0, -12.0])

# root, neck, jaw (between the condyles), left eye, right eye.
JOINT_POSITIONS = np.array(
  [[0, -175, -32], [0, -112, -28], [0, -13, 6], EYE_CENTER, EYE_CENTER * MIRROR], np.float64
)

COMPONENT_NAMES = ('skin', 'left_eye', 'right_eye', 'teeth_upper', 'teeth_lower', 'tongue')

NUM_SHAPE = 300
NUM_EXPRESSION = 100


def to_metres(points: Float[np.ndarray, '*n 3']) -> Float[np.ndarray, '*n 3']:
  """Authored millimetres to the model's metres."""
  return (points - ORIGIN) * 1e-3


def to_millimetres(points: Float[np.ndarray, '*n 3']) -> Float[np.ndarray, '*n 3']:
  """The model's metres to authored millimetres."""
  return points * 1e3 + ORIGIN


def smoothstep(
  value: Float[np.ndarray, '*n'],
  start: Number | Float[np.ndarray, '*n'],
  end: Number | Float[np.ndarray, '*n'],
) -> Float[np.ndarray, '*n']:
  """0 before start, 1 after end, 3t² − 2t³ between; start may be the larger."""
  t = np.clip((value - start) / (end - start), 0.0, 1.0)
  return t * t * (3.0 - 2.0 * t)
