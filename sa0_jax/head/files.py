"""Our own head file: a versioned .npz without pickles, checked array by array when read."""

import dataclasses
import os
from typing import Any

import numpy as np

from sa0_jax.archive import read_arrays, write_arrays
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
  checked_head(
    str(path), **{part.name: getattr(head, part.name) for part in dataclasses.fields(head)}
  )
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
      parts = {
        part: _take(arrays, f'{name}.{part}', dtype, source)
        for part, dtype in _LANDMARK_ARRAYS.items()
      }
      fields[name] = checked_landmarks(
        **parts,
        num_faces=len(fields['faces']) if fields['faces'].ndim else 0,
        num_points=_SCHEME_SIZES[name],
        source=f'{source}: {name!r}',
      )
  return checked_head(source, name=_word(arrays, 'name', source), **fields)


def checked_head(source: str, **fields: Any) -> HeadModel:
  """A head whose arrays fit each other and hold usable numbers.

  Args:
    source: what to call it in error messages, usually a path.
    **fields: the attributes of `HeadModel`, arrays of any shape.

  Raises:
    ValueError: the first thing that is wrong, with the array's name.
  """
  vertices, faces = (len(np.atleast_1d(fields[name])) for name in ('v_template', 'faces'))
  directions = {name: np.shape(fields[name])[-1:] or (0,) for name in ('shapedirs', 'exprdirs')}
  shapes = {
    'v_template': (vertices, 3),
    'faces': (faces, 3),
    'shapedirs': (vertices, 3, *directions['shapedirs']),
    'exprdirs': (vertices, 3, *directions['exprdirs']),
    'posedirs': (vertices, 3, 36),
    'joint_regressor': (5, vertices),
    'weights': (vertices, 5),
    'vt': (len(np.atleast_1d(fields['vt'])), 2),
    'ft': (faces, 3),
  }
  if fields.get('components') is not None:
    shapes['components'] = (vertices,)
  for name, shape in shapes.items():
    array = fields[name]
    if array.shape != shape:
      raise ValueError(f'{source}: {name!r} has the shape {array.shape}, expected {shape}')
    if array.dtype.kind == 'f' and not np.isfinite(array).all():
      raise ValueError(f'{source}: {name!r} has NaN or infinite values')
  if vertices == 0 or faces == 0:
    raise ValueError(f'{source}: the head has {vertices} vertices and {faces} faces')
  _check_range(fields['faces'], 0, vertices, 'faces', source)
  _check_range(fields['ft'], -1, max(len(fields['vt']), 1), 'ft', source)
  vt, weights = fields['vt'], fields['weights']
  if vt.size and (vt.min() < -1e-3 or vt.max() > 1 + 1e-3):
    raise ValueError(f"{source}: 'vt' leaves the unit square; UV wrapping is not supported")
  if np.abs(weights.sum(axis=1) - 1).max() > 1e-3 or weights.min() < -1e-3:
    raise ValueError(f"{source}: 'weights' must be positive with rows that sum to 1")
  if 'components' in shapes:
    _check_range(fields['components'], 0, len(fields['component_names']), 'components', source)
  for name, basis in (('shape_names', 'shapedirs'), ('expression_names', 'exprdirs')):
    named, total = len(fields.get(name, ())), fields[basis].shape[-1]
    if named not in (0, total):
      raise ValueError(f'{source}: {name!r} names {named} directions of {total}')
  return HeadModel(**fields)


def checked_landmarks(
  index: np.ndarray,
  face: np.ndarray,
  barycentric: np.ndarray,
  *,
  num_faces: int,
  num_points: int,
  source: str,
) -> LandmarkEmbedding:
  """A landmark embedding that fits its head.

  Args:
    index: number of each point in its scheme.
    face: face of each point.
    barycentric: weights of that face's corners.
    num_faces: number of faces of the head it belongs to.
    num_points: number of points in its scheme.
    source: how error messages begin.

  Raises:
    ValueError: shapes that differ, an index outside its range, or weights that do not sum to 1.
  """
  points = index.size
  if index.shape != (points,) or face.shape != (points,) or barycentric.shape != (points, 3):
    raise ValueError(
      f'{source} has indices, faces and weights of the shapes {index.shape}, {face.shape} and '
      f'{barycentric.shape}'
    )
  _check_range(index, 0, num_points, 'index', source)
  _check_range(face, 0, num_faces, 'face', source)
  if len(np.unique(index)) != points:
    raise ValueError(f'{source} has a point twice')
  with np.errstate(invalid='ignore', over='ignore'):
    total = barycentric.sum(axis=1)
  if not (np.abs(total - 1) < 1e-3).all():  # NaN fails the comparison too
    raise ValueError(f'{source} has barycentric weights that do not sum to 1')
  return LandmarkEmbedding(index, face, barycentric)


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
