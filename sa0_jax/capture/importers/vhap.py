"""VHAP's export, the format of GaussianAvatars: FLAME 2023, one or many cameras.

    transforms_{train,val,test}.json   or transforms.json
    images/  fg_masks/                 as the frames name them
    flame_param/{timestep:05d}.npz     translation, rotation, neck_pose, jaw_pose, eyes_pose, shape,
                                       expr, and where tracked static_offset, dynamic_offset

Cameras are camera-to-world with OpenGL axes. A capture has no place for per-vertex offsets: the
static one is folded into the shape code as far as the identity directions can say it.
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
from sa0_jax.capture.importers.pictures import PictureFile, PictureSource, mattes_for
from sa0_jax.capture.importers.transforms import Entry, one_size, read_transforms
from sa0_jax.capture.splits import Split
from sa0_jax.head.model import HeadModel
from sa0_jax.head.teeth import TEETH_VERTICES

EDITIONS = ('flame2023', 'flame2023_open')
_FPS = 25.0
_CODES = {
  'rotation': ('rotation', 3),
  'neck': ('neck_pose', 3),
  'jaw': ('jaw_pose', 3),
  'eyes': ('eyes_pose', 6),
  'translation': ('translation', 3),
}
_MAX_CAMERA = 1 << 20


def find(path: Path, options: ImportOptions) -> list[Found]:
  """The export in a folder, or those in its subfolders.

  Raises:
    FileNotFoundError: there is none.
  """
  load = functools.partial(_load, options)
  found = find_subjects(path, _is_export, EDITIONS, load)
  if not found:
    raise FileNotFoundError(f'{path}: no transforms.json and no transforms_train.json here')
  return found


def _is_export(folder: Path) -> bool:
  return any((folder / f'transforms{end}.json').is_file() for end in ('', '_train', '_test'))


def _load(options: ImportOptions, folder: Path, head: HeadModel) -> Imported:
  entries, has_split = read_transforms(folder)
  entries.sort(key=lambda e: (e.whole('timestep_index'), _camera(e)))
  source = str(folder)
  params: dict[str, dict[str, np.ndarray]] = {}
  offsets: dict[bytes, np.ndarray] = {}
  for entry in entries:
    name = entry.text('flame_param_path')
    if name not in params:
      path = readers.inside(folder, name, entry.source)
      row = params[name] = _read_params(path, head)
      if 'static_offset' in row:  # the same in every file, 120 kB each
        known = offsets.setdefault(row['static_offset'].tobytes(), row['static_offset'])
        row['static_offset'] = known
  rows = [params[entry.text('flame_param_path')] for entry in entries]
  notes: list[str] = []
  shape = _identity(list(params.values()), head, notes, source)
  codes = {name: np.stack([row[name] for row in rows]) for name in (*_CODES, 'expression')}
  size = one_size(entries)
  tracks = Tracks(
    name=folder.resolve().name,
    source=source,
    codes={'shape': shape, **codes},
    world_to_camera=conventions.from_camera_poses(_poses(entries, source), 'opengl'),
    intrinsics=np.array([entry.intrinsics() for entry in entries]),
    size=size,
    pixels=_pixels(folder, entries, options, size),
    ids=np.array([entry.whole('timestep_index') for entry in entries], np.int64),
    view_ids=np.array([_camera(entry) for entry in entries], np.int64),
    fps=rate(options, _FPS, notes),
  )
  split = None
  if has_split:
    split = Split.of_frames([entry.parts for entry in entries])
  return finish(tracks, head, options, split, tuple(notes))


def _camera(entry: Entry) -> int:
  return entry.whole('camera_index', _MAX_CAMERA) if 'camera_index' in entry.fields else 0


def _poses(entries: list[Entry], source: str) -> np.ndarray:
  poses = np.stack([entry.pose() for entry in entries])
  conventions.check_poses(poses, 'transform_matrix', source)
  return poses


def _pixels(
  folder: Path, entries: list[Entry], options: ImportOptions, size: tuple[int, int]
) -> PictureSource:
  def file(entry: Entry, field: str) -> PictureFile:
    return PictureFile(readers.inside(folder, entry.text(field), entry.source))

  images = tuple(file(entry, 'file_path') for entry in entries)
  mattes: Any = None
  if options.matte_folder is not None:
    mattes = mattes_for(options.matte_folder, [image.path.stem for image in images])
  elif all('fg_mask_path' in entry.fields for entry in entries):
    mattes = tuple(file(entry, 'fg_mask_path') for entry in entries)
  return PictureSource(images, mattes, None, size)


def _read_params(path: Path, head: HeadModel) -> dict[str, np.ndarray]:
  """One timestep's codes, by our names; offsets stay as they are."""
  source, arrays = str(path), readers.read_npz(path)

  def take(name: str, shape: tuple[int | None, ...]) -> np.ndarray:
    if name not in arrays:
      raise ValueError(f'{source}: {name!r} is missing')
    return readers.numbers(arrays[name], shape, name, source)

  row = {ours: take(theirs, (size,)) for ours, (theirs, size) in _CODES.items()}
  row['expression'], row['shape'] = take('expr', (None,)), take('shape', (None,))
  for name in ('static_offset', 'dynamic_offset'):
    if name in arrays:
      offset = take(name, (None, 3))
      if len(offset) not in (len(head.v_template), len(head.v_template) - TEETH_VERTICES):
        raise ValueError(
          f'{source}: {name!r} is for {len(offset)} vertices, head {head.name!r} has '
          f'{len(head.v_template)}'
        )
      if name == 'static_offset':
        row[name] = offset
      else:
        row[name] = np.sqrt((offset**2).sum(axis=1).mean(keepdims=True))  # its RMS is all we say
  return row


def _identity(
  rows: list[dict[str, np.ndarray]], head: HeadModel, notes: list[str], source: str
) -> np.ndarray:
  """The shape code of all frames, offsets folded in."""
  lengths = {(len(row['shape']), len(row['expression'])) for row in rows}
  if len(lengths) > 1:
    raise ValueError(f'{source}: codes have several lengths')
  shape, spread = conventions.mean_shape(head, np.stack([row['shape'] for row in rows]))
  if spread > 1e-3:
    notes.append(f'one shape code for all frames, the mean: costs {spread:.2f} mm RMS')
  offsets = [row['static_offset'] for row in rows if 'static_offset' in row]
  if offsets:
    if len({len(offset) for offset in offsets}) > 1:
      raise ValueError(f'{source}: static_offset has several lengths')
    code, left = conventions.fold_offsets(head, np.mean(offsets, axis=0))
    shape = np.pad(shape, (0, max(0, head.num_shape - len(shape))))
    shape[: head.num_shape] += code
    notes.append(f'static_offset folded into the shape code; {left:.2f} mm RMS of it is left out')
  moving = [float(row['dynamic_offset'][0]) for row in rows if 'dynamic_offset' in row]
  if moving and max(moving) > 0:
    rms = 1e3 * float(np.sqrt(np.mean(np.square(moving))))
    notes.append(f'dynamic_offset is left out: {rms:.2f} mm RMS')
  return shape
