"""INSTA's data sets and metrical-tracker's output: monocular, FLAME 2020.

    transforms*.json       cameras, camera-to-world, ALREADY with OpenCV axes; names of the pictures
    images/*.png           RGBA
    checkpoint/*.frame     codes: torch.save of NumPy arrays, read without PyTorch

metrical-tracker's folder has no transforms.json: cameras are then those of the .frame files and the
pictures those of input/ or source/. Rotations of jaw and eyes are the first two rows of a matrix;
the pose of the head is in the camera. Eyelids are two blendshapes FLAME does not have.
"""

import functools
from pathlib import Path
from typing import Any, NamedTuple

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
from sa0_jax.capture.importers.pictures import PictureFile, PictureSource, first_size, mattes_for
from sa0_jax.capture.importers.transforms import one_size, read_transforms
from sa0_jax.capture.splits import Split
from sa0_jax.head.model import HeadModel

EDITIONS = ('flame2020',)
TEST_FRAMES = 350  # from the end: the published split
_FPS = 25.0
_CODES = {'exp': None, 'shape': None, 'jaw': 6, 'eyes': 12}
_IMAGE_FOLDERS = ('images', 'input', 'source')


class _Shot(NamedTuple):
  """A frame: its picture, camera and number."""

  image: Path
  world_to_camera: np.ndarray
  intrinsics: np.ndarray
  number: int
  frame: dict[str, Any]
  parts: frozenset[str]


def find(path: Path, options: ImportOptions) -> list[Found]:
  """The subject in a folder, or those in its subfolders.

  Raises:
    FileNotFoundError: there are no .frame files.
  """
  found = find_subjects(path, _has_frames, EDITIONS, functools.partial(_load, options))
  if not found:
    raise FileNotFoundError(
      f'{path}: no checkpoint/*.frame here; they hold the jaw, the eyes and the shape, and are '
      "metrical-tracker's output"
    )
  return found


def _has_frames(folder: Path) -> bool:
  return folder.is_dir() and any(folder.glob('checkpoint/*.frame'))


def _load(options: ImportOptions, folder: Path, head: HeadModel) -> Imported:
  source, notes = str(folder), []
  with_cameras = any(folder.glob('transforms*.json'))
  shots, has_split, size = _from_transforms(folder) if with_cameras else _from_frames(folder)
  shots.sort(key=lambda shot: shot.number)
  rows = [_codes(shot.frame, f'{source}: frame {shot.number}') for shot in shots]
  if len({(len(row['exp']), len(row['shape'])) for row in rows}) > 1:
    raise ValueError(f'{source}: codes have several lengths')
  stacked = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
  shape, spread = conventions.mean_shape(head, stacked['shape'])
  if spread > 1e-3:
    notes.append(f'one shape code for the video, the mean: costs {spread:.2f} mm RMS')
  eyelids = np.abs(stacked['eyelids'])
  if eyelids.max() > 0:
    notes.append(
      'eyelids are left out: FLAME has no such blendshapes '
      f'(weight {eyelids.mean():.2f} on average, {eyelids.max():.2f} at most)'
    )
  eyes = [
    conventions.axis_angle_of_rotation_6d(stacked['eyes'][:, part], 'eyes', source)
    for part in (slice(0, 6), slice(6, 12))
  ]
  mattes = None
  if options.matte_folder is not None:
    mattes = mattes_for(options.matte_folder, [shot.image.stem for shot in shots])
  tracks = Tracks(
    name=folder.resolve().name,
    source=source,
    codes={
      'shape': shape,
      'expression': stacked['exp'],
      'jaw': conventions.axis_angle_of_rotation_6d(stacked['jaw'], 'jaw', source),
      'eyes': np.concatenate(eyes, axis=1),
    },
    world_to_camera=np.stack([shot.world_to_camera for shot in shots]),
    intrinsics=np.stack([shot.intrinsics for shot in shots]),
    size=size,
    pixels=PictureSource(tuple(PictureFile(s.image) for s in shots), mattes, None, size),
    ids=np.array([shot.number for shot in shots], np.int64),
    view_ids=np.zeros(len(shots), np.int64),
    fps=rate(options, _FPS, notes),
  )
  return finish(tracks, head, options, _split(shots, has_split, notes), tuple(notes))


def _split(shots: list[_Shot], has_split: bool, notes: list[str]) -> Split | None:
  if has_split:
    return Split.of_frames([shot.parts for shot in shots])
  return published_split(len(shots), notes)


def published_split(frames: int, notes: list[str]) -> Split | None:
  """The last 350 frames for testing, as the monocular data sets are published."""
  if frames <= TEST_FRAMES:
    notes.append(f'no split: the published one tests on the last {TEST_FRAMES} frames')
    return None
  return Split.last_for_test(frames, TEST_FRAMES)


def _from_transforms(folder: Path) -> tuple[list[_Shot], bool, tuple[int, int]]:
  """Frames of an INSTA folder; those without a .frame file are an error, as codes are missing."""
  entries, has_split = read_transforms(folder)
  size = one_size(entries)
  poses = np.stack([entry.pose() for entry in entries])
  conventions.check_poses(poses, 'transform_matrix', str(folder))
  views = conventions.from_camera_poses(poses, 'opencv')
  shots = []
  for entry, view in zip(entries, views, strict=True):
    image = readers.inside(folder, entry.text('file_path'), entry.source)
    found = readers.image_named(image)
    if found is None:
      raise FileNotFoundError(f'{image}: no such image')
    frame = readers.read_torch_frame(folder / 'checkpoint' / f'{image.stem}.frame')
    number = _number(image.stem, entry.source)
    shots.append(_Shot(found, view, np.array(entry.intrinsics()), number, frame, entry.parts))
  return shots, has_split, size


def _from_frames(folder: Path) -> tuple[list[_Shot], bool, tuple[int, int]]:
  """Frames of metrical-tracker's own output."""
  shots = []
  for path in sorted(folder.glob('checkpoint/*.frame')):
    frame, source = readers.read_torch_frame(path), str(path)
    camera = readers.require_table(frame.get('opencv'), f'{source}: opencv')

    def take(
      name: str, shape: tuple[int | None, ...], camera: Any = camera, source: str = source
    ) -> np.ndarray:
      return readers.numbers(readers.pickled_array(camera, name, source), shape, name, source)

    view = conventions.from_opencv(take('R', (3, 3))[None], take('t', (3,))[None])[0]
    matrix = take('K', (3, 3))
    intrinsics = matrix[[0, 1, 0, 1], [0, 1, 2, 2]]
    images = [readers.image_named(folder / name / f'{path.stem}.png') for name in _IMAGE_FOLDERS]
    found = next((image for image in images if image is not None), None)
    if found is None:
      raise FileNotFoundError(f'{folder}: no image {path.stem}.png in {", ".join(_IMAGE_FOLDERS)}')
    shots.append(_Shot(found, view, intrinsics, _number(path.stem, source), frame, frozenset()))
  return shots, False, first_size(PictureFile(shots[0].image))


def _number(stem: str, source: str) -> int:
  if not stem.isascii() or not stem.isdecimal() or len(stem) > 15:
    raise ValueError(f'{source}: frames are named by numbers, not {stem[:80]!r}')
  return int(stem)


def _codes(frame: dict[str, Any], source: str) -> dict[str, np.ndarray]:
  flame = readers.require_table(frame.get('flame'), f'{source}: flame')
  row = {
    name: readers.numbers(readers.pickled_array(flame, name, source), (size,), name, source)
    for name, size in _CODES.items()
  }
  row['eyelids'] = np.zeros(2)
  if 'eyelids' in flame:
    values = readers.pickled_array(flame, 'eyelids', source)
    row['eyelids'] = readers.numbers(values, (2,), 'eyelids', source)
  return row
