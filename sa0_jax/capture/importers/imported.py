"""What every importer is given and gives back, and the checks they share."""

import dataclasses
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from sa0_kernels import Camera

from sa0_jax.capture.capture import Capture, ImageSource
from sa0_jax.capture.importers import conventions
from sa0_jax.capture.importers.pictures import ResizedSource
from sa0_jax.capture.splits import PARTS, Split
from sa0_jax.head.model import HeadCodes, HeadModel

ALL = 'all'
_CODE_SIZES = {'rotation': 3, 'neck': 3, 'jaw': 3, 'eyes': 6, 'translation': 3}
_MAX_SIDE = (1 << 15) - 1


@dataclasses.dataclass(frozen=True)
class ImportOptions:
  """What to import of a data set, and what the data set itself does not say.

  Attributes:
    split: 'all' frames, with the published split written beside them, or those of one part:
      'train', 'val', 'test'.
    only: names of the videos or sequences to import; empty for all.
    mattes: folder of mattes to use instead of what the data set has, one image a frame with the
      frame's name.
    edition: head model the codes were made with, where it is not the usual one of the format.
    fps: frames per second, where the data set does not say.
    stride: take every N-th frame.
    max_side: pictures larger than this are made smaller, px; 0 leaves them.

  Raises:
    FileNotFoundError: there is no such folder of mattes.
    ValueError: a value is out of range.
  """

  split: str = ALL
  only: tuple[str, ...] = ()
  mattes: str | os.PathLike[str] | None = None
  edition: str | None = None
  fps: float | None = None
  stride: int = 1
  max_side: int = 0

  def __post_init__(self) -> None:
    if self.split not in (ALL, *PARTS):
      raise ValueError(f'split must be one of {ALL}, {", ".join(PARTS)}, got {self.split!r}')
    if self.fps is not None and not 0.01 <= self.fps <= 1000:
      raise ValueError(f'fps must be 0.01 to 1000, got {self.fps!r}')
    if self.stride < 1 or self.max_side < 0:
      raise ValueError(f'stride must be 1 or more and max_side 0 or more, got {self}')
    if self.matte_folder is not None and not self.matte_folder.is_dir():
      raise FileNotFoundError(f'{self.mattes}: no such folder of mattes')

  @property
  def matte_folder(self) -> Path | None:
    """`mattes` as a path."""
    return None if self.mattes is None else Path(self.mattes)


@dataclasses.dataclass(frozen=True, eq=False)
class Imported:
  """A capture and what its import did.

  Attributes:
    capture: the frames, pixels still where they were, and their split where the data set has one.
    notes: what was assumed, folded in or left out, a line each, with sizes.
  """

  capture: Capture
  notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Found:
  """A capture that can be imported.

  Attributes:
    name: of the video, sequence or subject.
    editions: head models its codes can belong to; empty where only the files say.
    load: reads it for a head model.
  """

  name: str
  editions: tuple[str, ...]
  load: Callable[[HeadModel], Imported]


def find_subjects(
  path: Path,
  is_subject: Callable[[Path], bool],
  editions: tuple[str, ...],
  load: Callable[[Path, HeadModel], Imported],
) -> list[Found]:
  """The subject in a folder, or those in its subfolders, by the names of the folders.

  Args:
    path: the folder.
    is_subject: whether a folder holds one.
    editions: head models the codes can belong to.
    load: reads the subject of a folder.
  """
  folders = [path] if is_subject(path) else sorted(p for p in path.iterdir() if is_subject(p))
  return [
    Found(folder.resolve().name, editions, functools.partial(load, folder)) for folder in folders
  ]


@dataclasses.dataclass(frozen=True, eq=False)
class Tracks:
  """Frames in our conventions, as an importer has converted them.

  Attributes:
    name: what to call the capture.
    source: the file they come from, for messages.
    codes: arrays by the names of `HeadCodes`; `shape` [s], the others [t, …]; what is missing is
      zero.
    world_to_camera: OpenCV, metres.
    intrinsics: fx, fy, cx, cy, px.
    size: width, height.
    pixels: the pictures.
    ids: frame numbers in the source.
    view_ids: which camera.
    fps: frames per second; `ids` divided by it are the times.
  """

  name: str
  source: str
  codes: dict[str, np.ndarray]
  world_to_camera: Float[np.ndarray, 't 4 4']
  intrinsics: Float[np.ndarray, 't 4']
  size: tuple[int, int]
  pixels: ImageSource
  ids: Int[np.ndarray, ' t']
  view_ids: Int[np.ndarray, ' t']
  fps: float


def finish(
  tracks: Tracks,
  head: HeadModel,
  options: ImportOptions,
  split: Split | None,
  notes: tuple[str, ...] = (),
) -> Imported:
  """Makes the capture, checks that it can be right, and takes the frames that were asked for.

  Raises:
    ValueError: the codes do not fit the head, the head is behind a camera, or no frame is left.
  """
  frames = len(tracks.ids)
  if not frames:
    raise ValueError(f'{tracks.source}: no frames')
  if not all(0 < side <= _MAX_SIDE for side in tracks.size):
    raise ValueError(f'{tracks.source}: pictures of {tracks.size[0]} x {tracks.size[1]} px')
  conventions.check_poses(tracks.world_to_camera, 'the camera', tracks.source)
  if (tracks.intrinsics[:, :2] <= 0).any():
    raise ValueError(f'{tracks.source}: a focal length is not positive')
  codes = _head_codes(tracks, head)
  capture = Capture(
    name=tracks.name,
    head_name=head.name,
    head_fingerprint=head.fingerprint,
    codes=codes,
    camera=Camera(
      tracks.world_to_camera.astype(np.float32), tracks.intrinsics.astype(np.float32), *tracks.size
    ),
    source=tracks.pixels,
    ids=tracks.ids.astype(np.int64),
    times=tracks.ids / tracks.fps,
    view_ids=tracks.view_ids.astype(np.int64),
    fps=float(tracks.fps),
    split=split,
  )
  _check_in_front(capture, tracks.source)
  return Imported(_chosen(_resized(capture, options.max_side), options), notes)


def _head_codes(tracks: Tracks, head: HeadModel) -> HeadCodes:
  """Codes of the head's lengths: shorter ones are padded with zeros."""
  frames = len(tracks.ids)
  given = dict(tracks.codes)
  arrays = {
    name: given.pop(name, np.zeros((frames, size))).astype(np.float32)
    for name, size in _CODE_SIZES.items()
  }
  for name, length in (('shape', head.num_shape), ('expression', head.num_expression)):
    values = given[name]
    if (values[..., length:] != 0).any():
      raise ValueError(
        f'{tracks.source}: {values.shape[-1]} {name} coefficients, head {head.name!r} has '
        f'{length} directions'
      )
    values = values[..., :length]
    padding = [(0, 0)] * (values.ndim - 1) + [(0, length - values.shape[-1])]
    arrays[name] = np.pad(values, padding).astype(np.float32)
  return HeadCodes(**arrays)


def _check_in_front(capture: Capture, source: str) -> None:
  """The head stands before the camera, or an axis is wrong."""
  view = np.asarray(capture.camera.world_to_camera)
  translation = np.asarray(capture.codes.translation)
  depth = np.einsum('tj,tj->t', view[:, 2, :3], translation) + view[:, 2, 3]
  behind = np.flatnonzero(depth <= 0)
  if len(behind):
    raise ValueError(
      f'{source}: the head is behind the camera in frame {capture.ids[behind[0]]}: '
      'its cameras follow another convention than this format has'
    )


def _resized(capture: Capture, max_side: int) -> Capture:
  side = max(capture.width, capture.height)
  if not max_side or side <= max_side:
    return capture
  size = (
    max(1, round(capture.width * max_side / side)),
    max(1, round(capture.height * max_side / side)),
  )
  camera = capture.camera.resized(*size)
  camera = dataclasses.replace(camera, intrinsics=np.asarray(camera.intrinsics))
  return dataclasses.replace(capture, camera=camera, source=ResizedSource(capture.source, size))


def _chosen(capture: Capture, options: ImportOptions) -> Capture:
  """Every N-th frame, of all or of one part of the split."""
  # Instants, not pictures: all cameras of an instant stay together.
  instants = np.unique(capture.ids)
  kept = np.isin(capture.ids, instants[:: options.stride])
  if options.split != ALL:
    if capture.split is None:
      raise ValueError(
        f'{capture.name}: this data set has no split, so there are no {options.split} frames; '
        'import all of them'
      )
    part = np.zeros(len(capture), bool)
    part[capture.split.part(options.split)] = True
    kept &= part
  if not kept.any():
    raise ValueError(f'{capture.name}: no frames in the {options.split} part')
  return capture if kept.all() else capture.select(np.flatnonzero(kept))


def check_edition(head: HeadModel, found: Found, options: ImportOptions) -> None:
  """Raises ValueError when the codes belong to another head model."""
  editions = found.editions if options.edition is None else (options.edition,)
  if editions and head.name not in editions:
    raise ValueError(
      f'{found.name}: its codes belong to the head model {" or ".join(editions)}, not to '
      f'{head.name!r}; install that one (`sa0 head install`) or, if it was tracked with '
      f'{head.name!r} after all, say --edition {head.name}'
    )


def rate(options: ImportOptions, default: float, notes: list[str]) -> float:
  """Frames per second: what the user says, or the default with a note."""
  if options.fps is not None:
    return options.fps
  notes.append(f'{default:g} frames per second are assumed: the format does not say (--fps)')
  return default


def stack(rows: list[dict[str, Any]], name: str) -> np.ndarray:
  """One field of all rows, [t, …]."""
  return np.stack([row[name] for row in rows])
