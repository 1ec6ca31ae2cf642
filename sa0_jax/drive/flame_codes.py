"""FLAME sequences as audio-to-motion models write them."""

import os
from pathlib import Path

import numpy as np

from sa0_jax import archive
from sa0_jax.drive.motion import Motion
from sa0_jax.head.model import HeadCodes, HeadModel

# Numbers of a frame: expression 100, root 3, jaw 3, and with 112 the eyes, left then right.
_EXPRESSION, _SIZES = 100, (106, 112)
_MAX_FRAMES = 1_000_000


def read_flame_codes(path: str | os.PathLike[str], head: HeadModel, fps: float = 25.0) -> Motion:
  """Reads a .npz file with one array [t, 106] or [t, 112] of any name (a leading 1 is dropped).

  A frame is expression (100), global rotation (3), jaw (3), and in the longer form the eyes (6);
  rotations are axis-angle vectors in radians. The root takes the global rotation.

  Args:
    path: the file.
    head: the avatar's head model. Expression codes only mean something in the basis they were made
      in: FLAME 2020 for the models known to write this.
    fps: what the file does not say.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it holds no such array, values that are not finite, or codes of another length than
      the head has expression directions.
  """
  if not Path(path).is_file():
    raise FileNotFoundError(f'{path}: no such file')
  arrays = archive.read_arrays(path, max_bytes=_MAX_FRAMES * 112 * 8)
  found = [
    a for a in arrays.values() if a.dtype.kind == 'f' and a.shape[-1:] and a.shape[-1] in _SIZES
  ]
  if len(found) != 1:
    raise ValueError(f'{path}: needs one array [t, 106] or [t, 112], has {len(found)}')
  rows = found[0][0] if found[0].ndim == 3 and len(found[0]) == 1 else found[0]
  if rows.ndim != 2 or not len(rows) or not np.isfinite(rows).all():
    raise ValueError(f'{path}: {rows.shape} is not [t, 106] or [t, 112], or holds NaN or infinity')
  if head.num_expression != _EXPRESSION:
    raise ValueError(
      f'{path}: has {_EXPRESSION} expression coefficients, head {head.name!r} has '
      f'{head.num_expression}'
    )
  rows = rows.astype(np.float32)
  still = np.zeros((len(rows), 3), np.float32)
  codes = HeadCodes(
    shape=np.zeros(head.num_shape, np.float32),
    expression=rows[:, :_EXPRESSION],
    rotation=rows[:, 100:103],
    neck=still,
    jaw=rows[:, 103:106],
    eyes=rows[:, 106:] if rows.shape[1] == 112 else np.zeros((len(rows), 6), np.float32),
    translation=still,
  )
  return Motion(codes, fps)
