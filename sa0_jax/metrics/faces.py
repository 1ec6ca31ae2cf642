"""Distances between what face networks, or our own tracker, say about two images.

CSIM, AED, APD and AKD are numbers of particular networks (ArcFace; Deep3DFaceRecon; 68 landmarks),
which are their owners' and not part of this project: here are only the formulas, for outputs that
users bring. What our own tracker gives is reported under names of its own; its numbers are no
substitutes for those four.
"""

import numpy as np
from jaxtyping import Float

NUM_EXPRESSION = 64  # expression coefficients of Deep3DFaceRecon
LANDMARK_SIZE = 512  # px: side of the images in which AKD is measured
_NUM_LANDMARKS = 68


def csim(a: Float[np.ndarray, 't d'], b: Float[np.ndarray, 't d']) -> Float[np.ndarray, ' t']:
  """Cosine of two ArcFace embeddings of each frame, in [−1, 1]; 1 for the same direction.

  Raises:
    ValueError: an embedding is zero.
  """
  a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
  lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
  if not lengths.all():
    raise ValueError('csim: an embedding is zero: the network saw no face there')
  return np.sum(a * b, axis=-1) / lengths


def aed(a: Float[np.ndarray, 't 64'], b: Float[np.ndarray, 't 64']) -> Float[np.ndarray, ' t']:
  """Average expression distance: mean |difference| of Deep3DFaceRecon's 64 coefficients."""
  return _mean_l1(a, b, NUM_EXPRESSION, 'aed')


def apd(a: Float[np.ndarray, 't 3'], b: Float[np.ndarray, 't 3']) -> Float[np.ndarray, ' t']:
  """Average pose distance: mean |difference| of Deep3DFaceRecon's three angles, radians."""
  return _mean_l1(a, b, 3, 'apd')


def akd(
  a: Float[np.ndarray, 't 68 2'], b: Float[np.ndarray, 't 68 2'], size: int = LANDMARK_SIZE
) -> Float[np.ndarray, ' t']:
  """Average keypoint distance: mean distance of 68 landmarks, px of 512 × 512 images.

  Args:
    a, b: landmarks, px.
    size: side of the images that these are pixels of.
  """
  return landmark_px(a, b) * (LANDMARK_SIZE / size)


def landmark_px(
  a: Float[np.ndarray, 't 68 2'], b: Float[np.ndarray, 't 68 2']
) -> Float[np.ndarray, ' t']:
  """Ours: mean distance of 68 points of the head model, projected; px of the images they are of.

  Raises:
    ValueError: not 68 points.
  """
  if a.shape != b.shape or a.shape[-2:] != (_NUM_LANDMARKS, 2):
    raise ValueError(f'68 landmarks [t, 68, 2] are needed, got {a.shape} and {b.shape}')
  return np.linalg.norm(np.asarray(a, np.float64) - np.asarray(b, np.float64), axis=-1).mean(-1)


def flame_expression_l1(
  a: Float[np.ndarray, 't e'], b: Float[np.ndarray, 't e']
) -> Float[np.ndarray, ' t']:
  """Ours: mean |difference| of FLAME-format expression codes of one head model."""
  return _mean_l1(a, b, a.shape[-1], 'flame_expression_l1')


def flame_pose_l1(
  a: Float[np.ndarray, 't 3 3'], b: Float[np.ndarray, 't 3 3']
) -> Float[np.ndarray, ' t']:
  """Ours: mean |difference| of the head's three Euler angles before the camera, radians.

  Args:
    a, b: rotations from the head to the camera. Their angles are taken of R = Rx Ry Rz and
      differences are wrapped to [−π, π], so that a turn across the back of the circle is small.
  """
  from scipy.spatial.transform import Rotation  # here: it takes long to import

  angles = [Rotation.from_matrix(np.asarray(x, np.float64)).as_euler('XYZ') for x in (a, b)]
  wrapped = (angles[0] - angles[1] + np.pi) % (2 * np.pi) - np.pi
  return np.abs(wrapped).mean(axis=-1)


def _mean_l1(a: np.ndarray, b: np.ndarray, count: int, name: str) -> np.ndarray:
  if a.shape != b.shape or a.shape[-1] != count:
    raise ValueError(f'{name}: {count} numbers a frame are needed, got {a.shape} and {b.shape}')
  return np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)).mean(axis=-1)
