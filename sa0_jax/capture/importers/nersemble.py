"""NeRSemble v2 and its benchmark: 16 cameras, mp4 videos, FLAME 2023 codes.

    {participant}/calibration/camera_params.json       world_2_cam {serial: 4 × 4 OpenCV},
                                                       intrinsics 3 × 3, for all or by serial
    {participant}/sequences/{sequence}/images/cam_{serial}.mp4
    {participant}/sequences/{sequence}/alpha_maps/cam_{serial}.mp4         benchmark
    {participant}/sequences/{sequence}/tracking/flame2023_tracking.npz     benchmark

The benchmark's meshes are scaled, turned about the ORIGIN by Euler angles XYZ and moved; our root
joint turns about itself, so the difference goes into the translation, and the scale into the
cameras. Version 2 itself has neither mattes nor codes: track it with VHAP and import that.
"""

import dataclasses
import functools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from sa0_jax.capture.capture import ImagePair
from sa0_jax.capture.importers import conventions, readers
from sa0_jax.capture.importers.imported import (
  Found,
  Imported,
  ImportOptions,
  Tracks,
  finish,
  rate,
)
from sa0_jax.head.lbs import pose_joints
from sa0_jax.head.model import HeadCodes, HeadModel
from sa0_jax.video import VideoReader

EDITIONS = ('flame2023', 'flame2023_open')
CALIBRATED_SIZE = (2200, 3208)  # width, height the intrinsics of version 2 are for
_TRACKING = 'flame2023_tracking.npz'
_FPS = 24.3
_CODES = {'expression': None, 'neck': 3, 'jaw': 3, 'eyes': 6, 'rotation': 3, 'translation': 3}
_MAX_FRAMES = 1 << 20


class _Cameras(NamedTuple):
  serials: tuple[str, ...]
  world_to_camera: np.ndarray  # [c, 4, 4]
  intrinsics: np.ndarray  # [c, 4]
  size: tuple[int, int]


def find(path: Path, options: ImportOptions) -> list[Found]:
  """The sequences of a participant's folder, or the one sequence whose folder is given.

  Raises:
    FileNotFoundError: there are none.
  """
  sequences = [path] if (path / 'images').is_dir() else []
  if (path / 'sequences').is_dir():
    sequences = sorted(p for p in (path / 'sequences').iterdir() if (p / 'images').is_dir())
  if not sequences:
    raise FileNotFoundError(
      f'{path}: neither a participant (sequences/*/images/cam_*.mp4) nor a sequence of NeRSemble'
    )
  found = []
  for sequence in sequences:
    participant = sequence.resolve().parent.parent
    name = f'{participant.name}_{sequence.resolve().name}'
    load = functools.partial(_load, sequence.resolve(), participant, options)
    found.append(Found(name, EDITIONS, load))
  return found


def _load(sequence: Path, participant: Path, options: ImportOptions, head: HeadModel) -> Imported:
  notes = ['color_calibration.json is not applied: pictures stay as filmed']
  videos = {p.stem.removeprefix('cam_'): p for p in sorted(sequence.glob('images/cam_*.mp4'))}
  if not videos:
    raise FileNotFoundError(f'{sequence / "images"}: no cam_*.mp4')
  alphas = options.matte_folder if options.matte_folder is not None else sequence / 'alpha_maps'
  missing = [path.name for path in videos.values() if not (alphas / path.name).is_file()]
  if missing:
    raise FileNotFoundError(
      f'{alphas}: no matte video {missing[0]}; give --mattes FOLDER, or track the sequence with '
      'VHAP, which makes mattes, and import that'
    )
  codes, frames, scale = _read_tracking(sequence / 'tracking' / _TRACKING, head)
  cameras = _read_cameras(participant / 'calibration' / 'camera_params.json', videos)
  count, views = len(frames), len(cameras.serials)
  if scale != 1.0:
    notes.append(f'the scale {scale:.4f} of the meshes is undone in cameras and translations')
  instant, view = np.repeat(np.arange(count), views), np.tile(np.arange(views), count)
  views_scaled = cameras.world_to_camera.copy()
  views_scaled[:, :3, 3] /= scale
  moving = {name: values[instant] for name, values in codes.items() if name != 'shape'}
  tracks = Tracks(
    name=f'{participant.name}_{sequence.name}',
    source=str(sequence),
    codes={'shape': codes['shape'], **moving},
    world_to_camera=views_scaled[view],
    intrinsics=cameras.intrinsics[view],
    size=cameras.size,
    pixels=VideoFrames(
      tuple(videos[serial] for serial in cameras.serials),
      tuple(alphas / videos[serial].name for serial in cameras.serials),
      cameras.size,
      tuple(zip(view.tolist(), frames[instant].tolist(), strict=True)),
    ),
    ids=frames[instant],
    view_ids=view,
    fps=rate(options, _FPS, notes),
  )
  return finish(tracks, head, options, None, tuple(notes))


def _read_tracking(path: Path, head: HeadModel) -> tuple[dict[str, np.ndarray], np.ndarray, float]:
  """Codes in our conventions, video frame numbers, and the scale of the meshes."""
  if not path.is_file():
    raise FileNotFoundError(
      f'{path}: no codes; the benchmark has them, version 2 of the data set does not: track the '
      'sequence with VHAP and import that'
    )
  source, arrays = str(path), readers.read_npz(path)

  def take(name: str, shape: tuple[int | None, ...]) -> np.ndarray:
    if name not in arrays:
      raise ValueError(f'{source}: {name!r} is missing')
    return readers.numbers(arrays[name], shape, name, source)

  frames = np.atleast_1d(take('frames', (None,)))
  if (frames != np.round(frames)).any() or frames.min(initial=0) < 0:
    raise ValueError(f"{source}: 'frames' are not frame numbers")
  if not 0 < len(frames) <= _MAX_FRAMES or frames.max() > 1 << 40:
    raise ValueError(f'{source}: {len(frames)} frames')
  count = len(frames)
  given = {name: take(name, (None, size))[:count] for name, size in _CODES.items()}
  for name, values in given.items():
    if len(values) != count:
      raise ValueError(f'{source}: {name!r} has {len(values)} rows for {count} frames')
  shape = take('shape', (None,))
  scale = float(take('scale', ())) if 'scale' in arrays else 1.0
  if not 1e-3 < scale < 1e3:
    raise ValueError(f'{source}: the scale {scale} of the meshes is out of range')
  rotation = conventions.matrices_of_euler_xyz(given['rotation'])
  if 'rotation_matrices' in arrays:
    stated = take('rotation_matrices', (count, 3, 3))
    if np.abs(stated - rotation).max() > 1e-2:
      raise ValueError(f"{source}: 'rotation' and 'rotation_matrices' contradict each other")
  codes = {name: given[name] for name in ('expression', 'neck', 'jaw', 'eyes')}
  codes['shape'] = shape
  codes['rotation'] = conventions.axis_angle_of_matrices(rotation)
  # Theirs: x ↦ R·x + t. Ours: x ↦ R·(x − j) + j + t', about the root joint j of the frame.
  joint = _root_joints(codes, head, source)
  codes['translation'] = (
    given['translation'] / scale - joint + np.einsum('tij,tj->ti', rotation, joint)
  )
  order = np.argsort(frames, kind='stable')
  codes = {name: v if name == 'shape' else v[order] for name, v in codes.items()}
  return codes, frames[order].astype(np.int64), scale


def _root_joints(codes: dict[str, np.ndarray], head: HeadModel, source: str) -> np.ndarray:
  """Where the root joint of the unposed head is in each frame: it follows shape and expression."""
  if len(codes['shape']) > head.num_shape or codes['expression'].shape[1] > head.num_expression:
    raise ValueError(f'{source}: longer codes than head {head.name!r} has directions')
  rest = HeadCodes.neutral(head, (len(codes['expression']),))
  shape = np.zeros(head.num_shape, np.float32)
  shape[: len(codes['shape'])] = codes['shape']
  expression = np.zeros(rest.expression.shape, np.float32)
  expression[:, : codes['expression'].shape[1]] = codes['expression']
  rest = dataclasses.replace(rest, shape=shape, expression=expression)
  return np.asarray(pose_joints(head, rest), np.float64)[:, 0]


def _read_cameras(path: Path, videos: dict[str, Path]) -> _Cameras:
  source = str(path)
  table = readers.require_table(readers.read_json(path), source)
  poses = readers.take(table, 'world_2_cam', dict, source)
  lenses = table.get('intrinsics')
  serials = tuple(serial for serial in sorted(videos) if serial in poses)
  if not serials:
    raise ValueError(f'{source}: none of the videos has a camera here')
  views = np.stack([readers.numbers(poses[s], (4, 4), f'world_2_cam {s}', source) for s in serials])
  conventions.check_poses(views, 'world_2_cam', source)
  sizes = {_video_size(videos[serial]) for serial in serials}
  if len(sizes) > 1:
    raise ValueError(f'{videos[serials[0]].parent}: videos have several sizes')
  size = sizes.pop()
  rows = []
  for serial in serials:
    lens = lenses.get(serial) if isinstance(lenses, dict) else lenses
    matrix = readers.numbers(lens, (3, 3), f'intrinsics {serial}', source)
    rows.append(_for_size(matrix[[0, 1, 0, 1], [0, 1, 2, 2]], size, source))
  return _Cameras(serials, views, np.stack(rows), size)


def _for_size(lens: np.ndarray, size: tuple[int, int], source: str) -> np.ndarray:
  """Intrinsics for videos of a size: they are for that size, or for the full one.

  The principal point lies near the middle of the picture it is meant for, which tells the two
  apart; smaller videos have the same proportions.
  """
  center = lens[2:]
  for calibrated in (size, CALIBRATED_SIZE):
    if (np.abs(center / np.array(calibrated) - 0.5) < 0.15).all():
      factor = np.array(size) / np.array(calibrated)
      if abs(factor[0] / factor[1] - 1) > 0.01:
        break
      return lens * np.tile(factor, 2)
  raise ValueError(
    f'{source}: intrinsics fit neither the videos ({size[0]} x {size[1]}) nor '
    f'{CALIBRATED_SIZE[0]} x {CALIBRATED_SIZE[1]} px'
  )


def _video_size(path: Path) -> tuple[int, int]:
  reader = VideoReader(path)
  try:
    return reader.size
  finally:
    reader.close()


class VideoFrames:
  """Frames of several videos and their matte videos, cheap in the order of the videos.

  A video is decoded forwards; asking for an earlier frame starts it anew.
  """

  in_order = True

  def __init__(
    self,
    images: tuple[Path, ...],
    mattes: tuple[Path, ...],
    size: tuple[int, int],
    places: tuple[tuple[int, int], ...],
  ):
    """Opens nothing yet.

    Args:
      images: the videos.
      mattes: as many; their first channel counts.
      size: width, height of all.
      places: video and frame number of each position.
    """
    self._films = [(_Film(a, size), _Film(b, size)) for a, b in zip(images, mattes, strict=True)]
    self._places = places
    self._lock = threading.Lock()

  def __len__(self) -> int:
    return len(self._places)

  def load(self, position: int) -> ImagePair:
    """Decodes one frame.

    Raises:
      ValueError: a video is damaged, or has no such frame.
    """
    video, number = self._places[position]
    image, matte = self._films[video]
    with self._lock:
      return ImagePair(image.frame(number), np.ascontiguousarray(matte.frame(number)[..., 0]))


class _Film:
  """One video and where its decoding stands."""

  def __init__(self, path: Path, size: tuple[int, int]):
    self._path = path
    self._size = size
    self._reader: VideoReader | None = None
    self._frames: Iterator[Any] = iter(())
    self._next = 0
    self._last: UInt8[np.ndarray, 'h w 3'] | None = None

  def frame(self, number: int) -> UInt8[np.ndarray, 'h w 3']:
    if self._reader is None or number < self._next - 1:
      if self._reader is not None:
        self._reader.close()
      self._reader = VideoReader(self._path)
      if self._reader.size != self._size:
        raise ValueError(
          f'{self._path}: is {self._reader.size[0]} x {self._reader.size[1]} px, '
          f'expected {self._size[0]} x {self._size[1]}'
        )
      self._frames, self._next, self._last = iter(self._reader), 0, None
    while self._next <= number:
      try:
        self._last = next(self._frames)
      except StopIteration:
        raise ValueError(f'{self._path}: has {self._next} frames, no frame {number}') from None
      self._next += 1
    assert self._last is not None
    return self._last
