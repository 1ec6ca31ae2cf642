"""A plain folder: pictures, mattes, and one file of codes and cameras. For trackers of your own.

    images/                 one png or jpg a frame
    mattes/                 same names; not needed where pictures are RGBA
    codes.npz or codes.json

docs/importing.md lists the arrays of the codes file; they are already in our conventions, except
that cameras may be camera-to-world and have OpenGL axes.
"""

import functools
from pathlib import Path
from typing import Any

import numpy as np

from sa0_jax.capture.importers import conventions, readers
from sa0_jax.capture.importers.imported import (
  Found,
  Imported,
  ImportOptions,
  Tracks,
  finish,
  rate,
)
from sa0_jax.capture.importers.pictures import PictureFile, PictureSource, first_size, mattes_for
from sa0_jax.capture.splits import PARTS, Split
from sa0_jax.head.model import HeadModel

_FPS = 25.0
_ROTATIONS = {'rotation': 3, 'neck': 3, 'jaw': 3, 'eyes': 6, 'translation': 3}
_KNOWN = {
  'head',
  'names',
  'shape',
  'expression',
  *_ROTATIONS,
  'world_to_camera',
  'camera_to_world',
  'camera_axes',
  'intrinsics',
  'ids',
  'view_ids',
  'fps',
  *PARTS,
}
_MAX_NUMBER = 1 << 40


def find(path: Path, options: ImportOptions) -> list[Found]:
  """The folder as one capture.

  Raises:
    FileNotFoundError: it has no codes file.
    ValueError: the codes file is damaged or does not name its head model.
  """
  files = [path / name for name in ('codes.npz', 'codes.json') if (path / name).is_file()]
  if not files:
    raise FileNotFoundError(f'{path}: no codes.npz and no codes.json here')
  arrays = readers.read_numbers(files[0])
  unknown = sorted(set(arrays) - _KNOWN)
  if unknown:
    raise ValueError(f'{files[0]}: unknown array {unknown[0][:80]!r}; known: {sorted(_KNOWN)}')
  editions = (_text(arrays, 'head', str(files[0])),)
  load = functools.partial(_load, path, files[0], arrays, options)
  return [Found(path.resolve().name, editions, load)]


def _text(arrays: dict[str, np.ndarray], name: str, source: str) -> str:
  value = arrays.get(name)
  if value is None or value.dtype.kind != 'U' or value.size != 1:
    raise ValueError(f'{source}: {name!r} must be one word')
  return str(value.reshape(()))


def _load(
  folder: Path,
  path: Path,
  arrays: dict[str, np.ndarray],
  options: ImportOptions,
  head: HeadModel,
) -> Imported:
  source = str(path)
  notes: list[str] = []
  images = _images(folder, arrays, source)
  count = len(images)

  def rows(name: str, width: tuple[int | None, ...], default: Any = None) -> np.ndarray:
    """An array with a row a frame; one row serves all."""
    if name not in arrays and default is not None:
      return np.tile(np.asarray(default, np.float64), (count, *([1] * len(width))))
    if name not in arrays:
      raise ValueError(f'{source}: {name!r} is missing')
    value = arrays[name]
    if value.ndim == len(width):
      value = np.broadcast_to(value, (count, *value.shape))
    return readers.numbers(value, (count, *width), name, source)

  lens = arrays.get('intrinsics', np.zeros(0))
  if lens.shape[-2:] == (3, 3):
    intrinsics = rows('intrinsics', (3, 3))[:, [0, 1, 0, 1], [0, 1, 2, 2]]
  else:
    intrinsics = rows('intrinsics', (4,))
  codes = {name: rows(name, (size,), np.zeros(size)) for name, size in _ROTATIONS.items()}
  codes['expression'] = rows('expression', (None,))
  codes['shape'] = readers.numbers(arrays.get('shape'), (None,), 'shape', source)
  size = first_size(images[0])
  mattes: Any = None
  matte_folder = options.matte_folder if options.matte_folder is not None else folder / 'mattes'
  if matte_folder.is_dir():
    mattes = mattes_for(matte_folder, [image.path.stem for image in images])
  fps = options.fps
  if fps is None and 'fps' in arrays:
    fps = float(readers.numbers(arrays['fps'], (), 'fps', source))
    if not 0.01 <= fps <= 1000:
      raise ValueError(f"{source}: 'fps' must be 0.01 to 1000, got {fps}")
  tracks = Tracks(
    name=folder.resolve().name,
    source=source,
    codes=codes,
    world_to_camera=_views(arrays, rows, source),
    intrinsics=intrinsics,
    size=size,
    pixels=PictureSource(images, mattes, None, size),
    ids=_whole(arrays, 'ids', np.arange(count), source),
    view_ids=_whole(arrays, 'view_ids', np.zeros(count, np.int64), source),
    fps=rate(options, _FPS, notes) if fps is None else fps,
  )
  return finish(tracks, head, options, _split(arrays, count, source), tuple(notes))


def _views(arrays: dict[str, np.ndarray], rows: Any, source: str) -> np.ndarray:
  axes = _text(arrays, 'camera_axes', source) if 'camera_axes' in arrays else 'opencv'
  if ('world_to_camera' in arrays) == ('camera_to_world' in arrays):
    raise ValueError(f"{source}: give one of 'world_to_camera' and 'camera_to_world'")
  if 'camera_to_world' in arrays:
    poses = rows('camera_to_world', (4, 4))
    conventions.check_poses(poses, 'camera_to_world', source)
    return conventions.from_camera_poses(poses, axes)
  views = rows('world_to_camera', (4, 4))
  conventions.check_poses(views, 'world_to_camera', source)
  if axes == 'opencv':
    return views
  # The inverse of a rigid transform twice over, with the axes turned in between.
  return conventions.from_camera_poses(conventions.from_camera_poses(views, 'opencv'), axes)


def _images(folder: Path, arrays: dict[str, np.ndarray], source: str) -> tuple[PictureFile, ...]:
  where = folder / 'images'
  if 'names' not in arrays:
    found = tuple(PictureFile(path) for path in readers.images_in(where)) if where.is_dir() else ()
    if not found:
      raise FileNotFoundError(f'{where}: no images')
    return found
  names = arrays['names']
  if names.dtype.kind != 'U' or names.ndim != 1 or not names.size:
    raise ValueError(f"{source}: 'names' must be a list of file names")
  return tuple(PictureFile(readers.inside(where, str(name), source)) for name in names)


def _whole(
  arrays: dict[str, np.ndarray], name: str, default: np.ndarray, source: str
) -> np.ndarray:
  if name not in arrays:
    return default
  values = readers.numbers(arrays[name], (len(default),), name, source)
  if (values != np.round(values)).any() or (np.abs(values) > _MAX_NUMBER).any():
    raise ValueError(f'{source}: {name!r} must be whole numbers')
  return values.astype(np.int64)


def _split(arrays: dict[str, np.ndarray], count: int, source: str) -> Split | None:
  if not any(name in arrays for name in PARTS):
    return None
  parts = []
  for name in PARTS:
    given = arrays.get(name, np.zeros(0))
    values = readers.numbers(given, (None,), name, source) if given.size else np.zeros(0)
    if (values != np.round(values)).any() or not ((values >= 0) & (values < count)).all():
      raise ValueError(f'{source}: {name!r} must be frame positions, 0 to {count - 1}')
    parts.append({int(value) for value in values})
  if parts[0] & parts[2]:
    raise ValueError(f'{source}: frame {min(parts[0] & parts[2])} is in both train and test')
  return Split.of_parts(parts)
