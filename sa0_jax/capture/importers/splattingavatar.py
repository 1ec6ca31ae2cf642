"""IMavatar's and SplattingAvatar's data sets: monocular, FLAME 2020, fewer codes.

    flame_params.json   intrinsics [fx, fy, cx, cy] in image widths and heights, with signs that do
                        not count; shape_params (100); frames: file_path, world_mat 3 × 4,
                        expression (50), pose (15): root, neck, jaw, eyes
    image/ or images/   on white
    mask/               optional mattes of the same names

Meshes are multiplied by 4. world_mat has +Y up and +Z backward: its second and third rows change
sign.
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
  find_subjects,
  finish,
  rate,
)
from sa0_jax.capture.importers.insta import published_split
from sa0_jax.capture.importers.mattes import WHITE
from sa0_jax.capture.importers.pictures import PictureFile, PictureSource, first_size, mattes_for
from sa0_jax.head.model import HeadModel

EDITIONS = ('flame2020',)
FILE_NAME = 'flame_params.json'
_SCALE = 4.0
_FPS = 25.0
_IMAGE_FOLDERS = ('image', 'images')
_MASK_FOLDERS = ('mask', 'masks')


def find(path: Path, options: ImportOptions) -> list[Found]:
  """The subject in a folder, or those in its subfolders.

  Raises:
    FileNotFoundError: there is no flame_params.json.
  """
  load = functools.partial(_load, options)
  found = find_subjects(path, lambda folder: (folder / FILE_NAME).is_file(), EDITIONS, load)
  if not found:
    raise FileNotFoundError(f'{path}: no {FILE_NAME} here')
  return found


def _load(options: ImportOptions, folder: Path, head: HeadModel) -> Imported:
  path, notes = folder / FILE_NAME, []
  source = str(path)
  table = readers.require_table(readers.read_json(path), source)
  frames = readers.take(table, 'frames', list, source)
  if not frames:
    raise ValueError(f'{source}: no frames')

  def field(name: str, shape: tuple[int | None, ...]) -> np.ndarray:
    rows = []
    for i, frame in enumerate(frames):
      where = f'{source}: frame {i}'
      value = readers.require_table(frame, where).get(name)
      rows.append(readers.numbers(value, shape, name, where))
    if len({row.shape for row in rows}) > 1:
      raise ValueError(f'{source}: {name!r} has several lengths')
    return np.stack(rows)

  pose, views = field('pose', (15,)), field('world_mat', (3, 4))
  flip = np.array([1.0, -1.0, -1.0])
  images = tuple(PictureFile(_image(folder, frame, i, source)) for i, frame in enumerate(frames))
  size = first_size(images[0])
  lens = np.abs(readers.numbers(table.get('intrinsics'), (4,), 'intrinsics', source))
  mattes = _mattes(folder, images, options)
  if mattes is None:
    notes.append(
      'mattes are derived from the white background where a picture has no alpha channel: '
      'light outlines may be missing'
    )
  tracks = Tracks(
    name=folder.resolve().name,
    source=source,
    codes={
      'shape': readers.numbers(table.get('shape_params'), (None,), 'shape_params', source),
      'expression': field('expression', (None,)),
      'rotation': pose[:, :3],
      'neck': pose[:, 3:6],
      'jaw': pose[:, 6:9],
      'eyes': pose[:, 9:],
    },
    world_to_camera=conventions.from_opencv(
      flip[:, None] * views[:, :, :3], flip * views[:, :, 3], _SCALE
    ),
    intrinsics=np.tile(lens * np.array([*size, *size]), (len(frames), 1)),
    size=size,
    pixels=PictureSource(images, mattes, WHITE, size),
    ids=np.array([_number(image.path, i) for i, image in enumerate(images)], np.int64),
    view_ids=np.zeros(len(frames), np.int64),
    fps=rate(options, _FPS, notes),
  )
  return finish(tracks, head, options, published_split(len(frames), notes), tuple(notes))


def _number(path: Path, position: int) -> int:
  """The number in the picture's name; its place in the list where it has none."""
  stem = path.stem
  usable = stem.isascii() and stem.isdecimal() and len(stem) < 16
  return int(stem) if usable else position


def _image(folder: Path, frame: Any, position: int, source: str) -> Path:
  where = f'{source}: frame {position}'
  name = readers.take(frame, 'file_path', str, where)
  path = readers.inside(folder, name, where)
  candidates = [path]
  if path.parent != folder:
    # The published folders are called either way, whatever the file says.
    candidates += [path.parent.with_name(other) / path.name for other in _IMAGE_FOLDERS]
  for candidate in candidates:
    found = readers.image_named(candidate)
    if found is not None:
      return found
  raise FileNotFoundError(f'{path}: no such image')


def _mattes(folder: Path, images: tuple[PictureFile, ...], options: ImportOptions) -> Any:
  names = [image.path.stem for image in images]
  if options.matte_folder is not None:
    return mattes_for(options.matte_folder, names)
  for name in _MASK_FOLDERS:
    if (folder / name).is_dir():
      return mattes_for(folder / name, names)
  return None
