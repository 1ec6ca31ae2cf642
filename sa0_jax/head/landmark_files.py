"""Landmark embeddings users have for FLAME: MediaPipe's, the static 51 and DECA's 68 points."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from sa0_jax.archive import read_arrays
from sa0_jax.head.files import checked_landmarks
from sa0_jax.head.model import LandmarkEmbedding
from sa0_jax.head.unpickle import as_array, read_pickle

_MAX_FILE_BYTES = 64 << 20


def read_landmarks(path: str | os.PathLike[str], num_faces: int) -> tuple[str, LandmarkEmbedding]:
  """Reads one landmark file of FLAME's world without executing it.

  Args:
    path: `mediapipe_landmark_embedding.npz`, `flame_static_embedding.pkl` (51 points) or DECA's
      `landmark_embedding.npy` (68 points; two more for the eyes are left out).
    num_faces: number of faces of the head they lie on.

  Returns:
    The field of `HeadModel` they belong in, 'landmarks68' or 'landmarks_mediapipe', and the points.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: the file is damaged, asks for anything but arrays, or holds no such landmarks.
  """
  source = str(path)
  size = os.stat(path).st_size
  if size > _MAX_FILE_BYTES:
    raise ValueError(f'{source}: {size} bytes is too large for landmarks')
  suffix = Path(path).suffix.lower()
  content: Any
  if suffix == '.npz':
    content = read_arrays(path, max_bytes=_MAX_FILE_BYTES)
  elif suffix == '.npy':
    content = _read_object_npy(Path(path).read_bytes(), source)
  else:
    content = read_pickle(Path(path).read_bytes(), source)
  if not isinstance(content, dict):
    raise ValueError(f'{source}: no landmarks: it holds no dictionary')

  def array(name: str) -> np.ndarray:
    if name not in content:
      raise ValueError(f'{source}: no landmarks known here: {name!r} is missing')
    value = content[name]
    value = value if isinstance(value, np.ndarray) else as_array(value, name, source)
    if value.dtype.kind not in 'iuf' or not np.isfinite(value).all():
      raise ValueError(f'{source}: {name!r} is not made of finite numbers')
    return value

  if 'full_lmk_faces_idx' in content:
    face = array('full_lmk_faces_idx').reshape(-1)
    weights = array('full_lmk_bary_coords')  # with a leading axis of one
    if weights.size != 3 * len(face):
      raise ValueError(f"{source}: 'full_lmk_bary_coords' has the shape {weights.shape}")
    face, weights = face[:68], weights.reshape(-1, 3)[:68]
  else:
    face, weights = array('lmk_face_idx').reshape(-1), array('lmk_b_coords')
  if 'landmark_indices' in content:
    scheme, index, points = 'landmarks_mediapipe', array('landmark_indices').reshape(-1), 478
  elif len(face) in (51, 68):  # the static 51 are points 17..67: all but the jaw's contour
    scheme, index, points = 'landmarks68', np.arange(68)[-len(face) :], 68
  else:
    raise ValueError(f'{source}: {len(face)} points are neither the static 51 nor the 68')
  embedding = checked_landmarks(
    _indices(index, 'landmark_indices', source),
    _indices(face, 'lmk_face_idx', source),
    _normalized(weights, source),
    num_faces=num_faces,
    num_points=points,
    source=source,
  )
  return scheme, embedding


def _read_object_npy(data: bytes, source: str) -> Any:
  """The dictionary NumPy wraps into an object array: an .npy header before a pickle."""
  # Magic, version, then the header's length in 2 bytes (version 1) or 4 (later).
  width = 2 if data[6:7] == b'\x01' else 4
  start = 8 + width + int.from_bytes(data[8 : 8 + width], 'little')
  if not data.startswith(b'\x93NUMPY') or start >= len(data):
    raise ValueError(f'{source}: not an .npy file of landmarks')
  if b"'descr': '|O'" not in data[:start]:
    raise ValueError(f'{source}: no landmarks: it holds no dictionary')
  return read_pickle(data[start:], source, object_array=True)


def _indices(values: np.ndarray, name: str, source: str) -> np.ndarray:
  """Whole numbers as int32; some of these files store them as floats."""
  if np.abs(values).max(initial=0) > np.iinfo(np.int32).max or (values != np.floor(values)).any():
    raise ValueError(f'{source}: {name!r} must hold indices')
  return values.astype(np.int32)


def _normalized(weights: np.ndarray, source: str) -> np.ndarray:
  """Barycentric weights that sum to exactly 1; files carry them rounded."""
  if weights.ndim != 2 or weights.shape[1] != 3:
    raise ValueError(f"{source}: 'lmk_b_coords' has the shape {weights.shape}, expected (m, 3)")
  weights = weights.astype(np.float64)
  total = weights.sum(axis=1, keepdims=True)
  if (np.abs(total - 1) > 0.02).any():
    raise ValueError(f'{source}: its barycentric weights do not sum to 1')
  return (weights / total).astype(np.float32)
