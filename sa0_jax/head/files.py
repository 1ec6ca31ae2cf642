"""Our own head file: a versioned .npz without pickles, checked array by array when read."""

import os
from typing import Any

import numpy as np

from sa0_jax.head.archive import read_arrays, write_arrays
from sa0_jax.head.model import HeadModel, LandmarkEmbedding

FORMAT = 'sa0-head'
VERSION = 1

_ARRAYS = {
  'v_template': np.float32,
  'faces': np.int32,
  'shapedirs': np.float32,
  'exprdirs': np.float32,
  'posedirs': np.float32,
  'joint_regressor': np.float32,
  'weights': np.float32,
  'vt': np.float32,
  'ft': np.int32,
}
_LANDMARKS = ('landmarks68', 'landmarks_mediapipe')
_LANDMARK_ARRAYS = {'index': np.int32, 'face': np.int32, 'barycentric': np.float32}
_NAMES = ('shape_names', 'expression_names', 'component_names')
_SCHEME_SIZES = {'landmarks68': 68, 'landmarks_mediapipe': 478}


def save_head(head: HeadModel, path: str | os.PathLike[str]) -> None:
  """Writes a head to one .npz file, which appears only once it is whole.

  Args:
    head: the head; it is validated first, so that what is written can be read.
    path: the file to write, conventionally `<name>.npz`; its folder must exist.

  Raises:
    ValueError: the head's arrays contradict each other.
    OSError: the file cannot be written (a full disk, a missing folder); nothing is left behind.
  """
  validate_head(head, str(path))
  arrays: dict[str, np.ndarray] = {
    'format': np.array(FORMAT),
    'version': np.array(VERSION),
    'name': np.array(head.name),
  }
  arrays |= {name: getattr(head, name).astype(dtype) for name, dtype in _ARRAYS.items()}
  arrays |= {name: np.array(getattr(head, name), dtype=np.str_) for name in _NAMES}
  if head.components is not None:
    arrays['components'] = head.components.astype(np.int32)
  for name in _LANDMARKS:
    embedding = getattr(head, name)
    if embedding is not None:
      for part, dtype in _LANDMARK_ARRAYS.items():
        arrays[f'{name}.{part}'] = getattr(embedding, part).astype(dtype)
  write_arrays(path, arrays)


def load_head_file(path: str | os.PathLike[str]) -> HeadModel:
  """Reads a file written by `save_head`.

  The file is data: nothing in it is executed, sizes are checked before memory is taken, and every
  array is validated.

  Args:
    path: the .npz file.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is no head file, comes from a newer version, or an array in it is not what it
      must be; the message names the array.
  """
  arrays = read_arrays(path)
  source = str(path)
  if _word(arrays, 'format', source) != FORMAT:
    raise ValueError(f'{source}: not a head file: install FLAME models with `sa0 head install`')
  version = arrays.get('version', np.array(0))
  if version.shape != () or version.dtype.kind != 'i' or not 1 <= version <= VERSION:
    raise ValueError(
      f'{source}: head file version {version.tolist()!r}, this program reads up to {VERSION}: '
      'update it, or install the head again'
    )
  fields: dict[str, Any] = {
    name: _take(arrays, name, dtype, source) for name, dtype in _ARRAYS.items()
  }
  for name in _NAMES:
    fields[name] = tuple(_take(arrays, name, np.str_, source).ravel().tolist())
  if 'components' in arrays:
    fields['components'] = _take(arrays, 'components', np.int32, source)
  for name in _LANDMARKS:
    if f'{name}.index' in arrays:
      fields[name] = LandmarkEmbedding(
        **{
          part: _take(arrays, f'{name}.{part}', dtype, source)
          for part, dtype in _LANDMARK_ARRAYS.items()
        }
      )
  head = HeadModel(name=_word(arrays, 'name', source), **fields)
  validate_head(head, source)
  return head


def validate_head(head: HeadModel, source: str) -> None:
  """Checks that a head's arrays fit each other and hold usable numbers.

  Args:
    head: the head.
    source: what to call it in error messages, usually a path.

  Raises:
    ValueError: the first thing that is wrong, with the array's name.
  """
  vertices, faces = len(head.v_template), len(head.faces)
  shapes = {
    'v_template': (vertices, 3),
    'faces': (faces, 3),
    'shapedirs': (vertices, 3, head.shapedirs.shape[-1] if head.shapedirs.ndim else 0),
    'exprdirs': (vertices, 3, head.exprdirs.shape[-1] if head.exprdirs.ndim else 0),
    'posedirs': (vertices, 3, 36),
    'joint_regressor': (5, vertices),
    'weights': (vertices, 5),
    'vt': (len(head.vt), 2),
    'ft': (faces, 3),
  }
  for name, shape in shapes.items():
    array = getattr(head, name)
    if array.shape != shape:
      raise ValueError(f'{source}: {name!r} has the shape {array.shape}, expected {shape}')
    if array.dtype.kind == 'f' and not np.isfinite(array).all():
      raise ValueError(f'{source}: {name!r} has NaN or infinite values')
  if vertices == 0 or faces == 0:
    raise ValueError(f'{source}: the head has {vertices} vertices and {faces} faces')
  _check_range(head.faces, 0, vertices, 'faces', source)
  _check_range(head.ft, -1, max(len(head.vt), 1), 'ft', source)
  if head.vt.size and (head.vt.min() < -1e-3 or head.vt.max() > 1 + 1e-3):
    raise ValueError(f"{source}: 'vt' leaves the unit square; UV wrapping is not supported")
  if np.abs(head.weights.sum(axis=1) - 1).max() > 1e-3 or head.weights.min() < -1e-3:
    raise ValueError(f"{source}: 'weights' must be positive with rows that sum to 1")
  if head.components is not None:
    if head.components.shape != (vertices,):
      raise ValueError(
        f"{source}: 'components' has the shape {head.components.shape}, expected ({vertices},)"
      )
    _check_range(head.components, 0, len(head.component_names), 'components', source)
  for name, directions in (
    ('shape_names', head.num_shape),
    ('expression_names', head.num_expression),
  ):
    if len(getattr(head, name)) not in (0, directions):
      raise ValueError(
        f'{source}: {name!r} names {len(getattr(head, name))} directions of {directions}'
      )
  for name in _LANDMARKS:
    if getattr(head, name) is not None:
      validate_landmarks(getattr(head, name), faces, _SCHEME_SIZES[name], f'{source}: {name!r}')


def validate_landmarks(
  embedding: LandmarkEmbedding, num_faces: int, num_points: int, source: str
) -> None:
  """Checks one landmark embedding.

  Args:
    embedding: the points.
    num_faces: number of faces of the head it belongs to.
    num_points: number of points in its scheme.
    source: how error messages begin.

  Raises:
    ValueError: shapes that differ, an index outside its range, or weights that do not sum to 1.
  """
  points = len(embedding.index)
  if embedding.face.shape != (points,) or embedding.barycentric.shape != (points, 3):
    raise ValueError(
      f'{source} has {points} indices, faces of shape {embedding.face.shape} and weights of shape '
      f'{embedding.barycentric.shape}'
    )
  _check_range(embedding.index, 0, num_points, 'index', source)
  _check_range(embedding.face, 0, num_faces, 'face', source)
  if len(np.unique(embedding.index)) != points:
    raise ValueError(f'{source} has a point twice')
  # NaN fails the comparison too.
  if not (np.abs(embedding.barycentric.sum(axis=1) - 1) < 1e-3).all():
    raise ValueError(f'{source} has barycentric weights that do not sum to 1')


def _check_range(array: np.ndarray, low: int, high: int, name: str, source: str) -> None:
  if array.size and (array.min() < low or array.max() >= high):
    raise ValueError(
      f'{source}: {name!r} has values from {array.min()} to {array.max()}, '
      f'allowed are {low} to {high - 1}'
    )


def _word(arrays: dict[str, np.ndarray], name: str, source: str) -> str:
  array = arrays.get(name)
  if array is None or array.dtype.kind != 'U' or array.shape != ():
    raise ValueError(f'{source}: not a head file: {name!r} is missing')
  return str(array)


def _take(arrays: dict[str, np.ndarray], name: str, dtype: type, source: str) -> np.ndarray:
  """The array of that name with exactly that type."""
  if name not in arrays:
    raise ValueError(f'{source}: {name!r} is missing')
  array = arrays[name]
  if array.dtype.kind != np.dtype(dtype).kind or (dtype is not np.str_ and array.dtype != dtype):
    raise ValueError(f'{source}: {name!r} holds {array.dtype}, expected {np.dtype(dtype)}')
  return array
