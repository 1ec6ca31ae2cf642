"""The tracker: pictures of one subject become a Capture.

Stages, each kept on disk until the capture is complete: where the head is (a square crop), what
detectors see in every frame, a fit of one shape and per-frame codes to the landmarks, and a
photometric refinement of those codes. Frames without a face, and frames the fit loses, are
reported and left out; the rest is tracked without them.
"""

import dataclasses
import functools
import itertools
import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8
from sa0_kernels import Camera

from sa0_jax.capture.capture import Capture, MemoryImages
from sa0_jax.capture.track import appearance, observations
from sa0_jax.capture.track.crop import Crop, choose_crop
from sa0_jax.capture.track.footage import Footage, open_footage
from sa0_jax.capture.track.landmark_fit import (
  WORLD_TO_CAMERA,
  FitConfig,
  FitParameters,
  fit_landmarks,
  landmark_errors,
  project,
)
from sa0_jax.capture.track.matte import MatteConfig, cut_below_collar, refine_matte
from sa0_jax.capture.track.photometric import PhotometricConfig
from sa0_jax.capture.track.shots import find_shots
from sa0_jax.capture.track.stages import Arrays, StageStore, from_arrays, to_arrays
from sa0_jax.head.lbs import LandmarkArrays, pose_frames
from sa0_jax.head.model import HeadCodes, HeadModel
from sa0_jax.head.registry import load_head

Report = Callable[[str, int, int], None]  # stage, done, total (0: not known)

_LOCATE_FRAMES = 24  # frames in which the face is looked for to choose the crop
_LOCATE_SIZE = 640  # px; longer side of what the detector sees then
_REFERENCE_SIZE = 512.0  # px; landmark errors are given for an image of this size
_LOST = 4.0  # times the median landmark error, and at least this many px: the fit lost the face
_LOST_PIXELS = 12.0
_FEWEST_FOR_APPEARANCE = 8  # with fewer frames there is little for one appearance to agree on


@dataclasses.dataclass(frozen=True)
class TrackConfig:
  """Settings of the tracker.

  Attributes:
    resolution: side of the square images of the capture, px.
    stride: take every n-th frame.
    max_frames: stop after this many; 0 takes all.
    shot: which of the shots to track where a video has several, from 0; None takes the longest. A
      tracker that runs across a cut fits one head to two.
    cut_clothes: fade the matte out below the posed neck.
    landmarks: .npz with `landmarks` [t, 478, 3] in pixels of the full, upright pictures, made
      elsewhere.
    mattes: a picture or video frame for every frame of the footage and of its size, 255 where the
      person is, made elsewhere; they are not refined. With `landmarks` MediaPipe is not needed.
    matte: refinement of the segmentation.
    fit: landmark fit.
    photometric: stages of photometric refinement, coarse to fine; none leaves the landmark fit.
  """

  resolution: int = 512
  stride: int = 1
  max_frames: int = 0
  shot: int | None = None
  cut_clothes: bool = True
  landmarks: str | None = None
  mattes: str | None = None
  matte: MatteConfig = dataclasses.field(default_factory=MatteConfig)
  fit: FitConfig = dataclasses.field(default_factory=FitConfig)
  photometric: tuple[PhotometricConfig, ...] = (
    PhotometricConfig(resolution=128, uv_size=96, visits=120),
    PhotometricConfig(resolution=256, uv_size=96, visits=40, rate=0.7),
    PhotometricConfig(resolution=256, uv_size=128, visits=36, rate=0.8),
  )

  def __post_init__(self) -> None:
    if self.resolution < 64 or self.resolution % 2:
      raise ValueError(
        f'TrackConfig: resolution must be even and at least 64, got {self.resolution}'
      )
    if self.shot is not None and self.shot < 0:
      raise ValueError(f'TrackConfig: shots are counted from 0, got {self.shot}')
    if self.stride < 1 or self.max_frames < 0:
      raise ValueError(
        f'TrackConfig: need stride >= 1 and max_frames >= 0, got {self.stride}, {self.max_frames}'
      )


class Failure(NamedTuple):
  """A frame that was left out, by its number in the footage, and why."""

  frame: int
  reason: str


@dataclasses.dataclass(frozen=True, eq=False)
class TrackResult:
  """What tracking gives.

  Attributes:
    capture: the tracked frames.
    failures: frames that were left out.
    report: numbers: frames, landmark errors in px at 512, focal length, seconds per stage.
    stages: what is kept on disk until `remove_work`.
  """

  capture: Capture
  failures: tuple[Failure, ...]
  report: dict[str, Any]
  stages: StageStore

  def remove_work(self) -> None:
    """Deletes the work folder; call it once the capture is saved."""
    self.stages.remove()


@dataclasses.dataclass(frozen=True, eq=False)
class _Pictures:
  """Cropped frames with what was seen in them; rows are frames."""

  images: UInt8[np.ndarray, 't r r 3']
  mattes: UInt8[np.ndarray, 't r r']
  landmarks: Float[np.ndarray, 't 478 3']
  numbers: np.ndarray  # in the footage

  def __len__(self) -> int:
    return len(self.images)

  @property
  def size(self) -> tuple[int, int]:
    return self.images.shape[2], self.images.shape[1]

  def select(self, rows: np.ndarray) -> '_Pictures':
    fields = (getattr(self, f.name)[rows] for f in dataclasses.fields(self))
    return _Pictures(*fields)


def track(
  source: str | os.PathLike[str],
  head: HeadModel | None = None,
  config: TrackConfig | None = None,
  *,
  work: str | os.PathLike[str] | None = None,
  progress: Report | None = None,
) -> Capture:
  """Tracks the head in a video, a folder of images, or one image.

  Landmarks and segmentation come from MediaPipe, in an environment of its own that is made on first
  use (about 1 GB), unless `config` names both, made elsewhere. The camera of a video is taken
  to stand still.

  Args:
    source: the footage.
    head: the head model; None takes the built-in one.
    config: settings.
    work: folder for finished stages: an interrupted run goes on from it. None keeps nothing.
    progress: called with a stage's name, how much of it is done, and its size.

  Returns:
    The capture, in memory.

  Raises:
    FileNotFoundError: there is no such footage.
    ValueError: it is damaged, shows no face, or the head model has no landmarks.
    RuntimeError: the landmark environment cannot be made.
  """
  result = track_footage(source, head, config, work=work, progress=progress)
  return result.capture


def track_footage(
  source: str | os.PathLike[str] | Footage,
  head: HeadModel | None = None,
  config: TrackConfig | None = None,
  *,
  work: str | os.PathLike[str] | None = None,
  progress: Report | None = None,
) -> TrackResult:
  """As `track`, with the frames that were left out and a report; also of footage already opened."""
  head, config = head or load_head(), config or TrackConfig()
  say = progress or (lambda stage, done, total: None)
  footage = source if isinstance(source, Footage) else open_footage(source)
  targets = observations.landmark_targets(head)
  identity = {
    'footage': footage.identity(),
    'config': dataclasses.asdict(config),
    'head': head.fingerprint,
  }
  store = StageStore(work, identity)
  clock = _Clock()

  shots, footage = _choose_shot(footage, config, store, say)
  clock.lap('shots')
  pictures, failures = _observe(footage, config, store, say)
  clock.lap('observe')
  parameters, pictures, lost = _fit(head, targets, pictures, config, store)
  failures += lost
  clock.lap('landmark_fit')
  if len(pictures) >= _FEWEST_FOR_APPEARANCE:
    seen = pictures.landmarks[:, targets.columns, :2]
    for number, level in enumerate(config.photometric):
      rough = _capture(footage, head, parameters, pictures, config)
      inputs = appearance.Inputs(head, rough, seen, targets, config.fit)
      name = f'photometric_{number}'
      parameters = appearance.refine_codes(
        inputs, parameters, level, store, name, functools.partial(say, name)
      )
      clock.lap(name)
  capture = _capture(footage, head, parameters, pictures, config)
  report = _report(head, targets, parameters, pictures)
  report |= {
    'frames': len(pictures) + len(failures),
    'tracked': len(pictures),
    'failures': [failure._asdict() for failure in failures],
    'shots': shots,
    'span': footage.span,
    'seconds': clock.laps,
  }
  return TrackResult(capture, tuple(failures), report, store)


class _Clock:
  """Seconds per stage."""

  def __init__(self) -> None:
    self.laps: dict[str, float] = {}
    self._last = time.perf_counter()

  def lap(self, name: str) -> None:
    now = time.perf_counter()
    self.laps[name] = round(now - self._last, 2)
    self._last = now


def _choose_shot(
  footage: Footage, config: TrackConfig, store: StageStore, say: Report
) -> tuple[list[list[int]], Footage]:
  """First and end frame of every shot, and the footage of the one to track.

  Images in a folder are one shot: they may have been taken at different times.
  """
  if footage.images:
    return [], footage
  most = config.max_frames * config.stride if config.max_frames and config.shot is None else None

  def compute() -> Arrays:
    return {'shots': find_shots(footage, most, lambda done: say('shots', done, 0))}

  shots: list[list[int]] = np.asarray(store.run('shots', compute)['shots']).tolist()
  if config.shot is None:
    first, end = max(shots, key=lambda shot: shot[1] - shot[0])
  elif config.shot < len(shots):
    first, end = shots[config.shot]
  else:
    raise ValueError(
      f'{footage.label}: shot {config.shot} of {len(shots)}; they are counted from 0'
    )
  return shots, dataclasses.replace(footage, span=(first, end))


def _chosen(footage: Footage, config: TrackConfig) -> Iterable[tuple[int, np.ndarray]]:
  """Number and picture of the frames to track."""
  taken = 0
  first = footage.span[0] if footage.span else 0
  for number, frame in footage.numbered():
    if (number - first) % config.stride:
      continue
    if config.max_frames and taken == config.max_frames:
      return
    taken += 1
    yield number, frame


def _observe(
  footage: Footage, config: TrackConfig, store: StageStore, say: Report
) -> tuple[_Pictures, list[Failure]]:
  """Crops the frames around the head and runs the detectors on them, where they are needed."""
  given = _given_landmarks(footage, config)
  crops = _crops(footage, config, store, given)
  images, numbers = [], []
  for (number, frame), crop in zip(_chosen(footage, config), crops, strict=True):
    images.append(crop.apply(frame, config.resolution))
    numbers.append(number)
  mattes = _given_mattes(footage, config, dict(zip(numbers, crops, strict=True)))
  say('observe', 0, len(images))

  def detect() -> Arrays:
    seen = observations.detect(
      images,
      video=not footage.images,
      progress=lambda done: say('observe', done, len(images)),
    )
    return {'landmarks': seen.landmarks, 'mattes': seen.mattes}

  arrays: Arrays = {}
  if given is None or mattes is None:
    arrays = store.run('observations', detect)
  if given is None:
    landmarks = np.asarray(arrays['landmarks'])
  else:
    scale = [config.resolution / crop.side for crop in crops]
    corner = np.array([(crop.left, crop.top, 0) for crop in crops], np.float32)
    landmarks = (given[numbers] - corner[:, None]) * np.asarray(scale, np.float32)[:, None, None]
  found = np.isfinite(landmarks).all(axis=(1, 2))
  failures = [Failure(numbers[row], 'no face') for row in np.flatnonzero(~found)]
  if not found.any():
    raise ValueError(f'{footage.label}: no face found in any of {len(images)} frames')
  if mattes is None:
    mattes = np.empty((len(images), config.resolution, config.resolution), np.uint8)
    for row, image in enumerate(images):
      mattes[row] = refine_matte(image, arrays['mattes'][row], config.matte)
      say('matte', row + 1, len(images))
  empty = found & (mattes.reshape(len(mattes), -1).max(axis=1) < 128)
  failures += [Failure(numbers[row], 'nobody in the matte') for row in np.flatnonzero(empty)]
  if not (found & ~empty).any():
    raise ValueError(f'{footage.label}: the person segmentation is empty in every frame')
  pictures = _Pictures(np.stack(images), mattes, landmarks, np.asarray(numbers))
  return pictures.select(np.flatnonzero(found & ~empty)), failures


def _given_landmarks(footage: Footage, config: TrackConfig) -> np.ndarray | None:
  """Landmarks of all the footage's frames, when they were made elsewhere."""
  if config.landmarks is None:
    return None
  return observations.load_landmarks(config.landmarks, sum(1 for _ in footage.frames()))


def _given_mattes(
  footage: Footage, config: TrackConfig, crops: Mapping[int, Crop]
) -> UInt8[np.ndarray, 't r r'] | None:
  """Mattes of the frames to track, by their numbers, when they were made elsewhere."""
  if config.mattes is None:
    return None
  cut = []
  pairs = itertools.zip_longest(footage.frames(), open_footage(config.mattes).frames())
  for number, (frame, matte) in enumerate(pairs):
    if frame is None or matte is None:
      raise ValueError(f'{config.mattes}: needs one matte for each picture of {footage.label}')
    if frame.shape != matte.shape:
      raise ValueError(
        f'{config.mattes}: matte {number} is {matte.shape[1]} x {matte.shape[0]} px, its picture '
        f'{frame.shape[1]} x {frame.shape[0]}'
      )
    if number in crops:
      cut.append(crops[number].apply(matte, config.resolution)[..., 0])
  return np.stack(cut)


def _crops(
  footage: Footage, config: TrackConfig, store: StageStore, given: np.ndarray | None
) -> list[Crop]:
  """A crop per frame to track: one for a whole video, one of its own for every image."""
  numbers, sizes = [], []
  for number, frame in _chosen(footage, config):
    numbers.append(number)
    sizes.append((frame.shape[1], frame.shape[0]))
  count = len(numbers)
  still = not footage.images or len(set(sizes)) == 1
  rows = np.arange(count)
  if still and count > _LOCATE_FRAMES:
    rows = np.linspace(0, count - 1, _LOCATE_FRAMES).round().astype(int)

  def locate() -> Arrays:
    wanted = set(rows.tolist())
    frames = [frame for row, (_, frame) in enumerate(_chosen(footage, config)) if row in wanted]
    return {'points': observations.locate(frames, _LOCATE_SIZE)}

  if given is None:
    points = np.asarray(store.run('locate', locate)['points'])
  else:
    points = given[np.asarray(numbers)[rows], :, :2]
  seen = np.isfinite(points).all(axis=(1, 2))
  if not seen.any():
    raise ValueError(f'{footage.label}: no face found (looked at {len(rows)} frames)')
  if still:
    return [choose_crop(points[seen], *sizes[0])] * count
  whole = [Crop((w - min(w, h)) // 2, (h - min(w, h)) // 2, min(w, h)) for w, h in sizes]
  return [
    choose_crop(points[row : row + 1], *sizes[row]) if seen[row] else whole[row]
    for row in range(count)
  ]


def _fit(
  head: HeadModel,
  targets: observations.LandmarkTargets,
  pictures: _Pictures,
  config: TrackConfig,
  store: StageStore,
) -> tuple[FitParameters, _Pictures, list[Failure]]:
  """Fits the landmarks, leaves out the frames where that failed, and fits the rest again."""
  template = FitParameters(_rows(head, len(pictures)), jnp.zeros(()))

  def compute() -> Mapping[str, np.ndarray]:
    rows = np.arange(len(pictures))
    parameters, _ = fit_landmarks(head, targets, pictures.landmarks, pictures.size, config.fit)
    error = _errors(head, targets, parameters, pictures).mean(axis=1)
    good = error <= max(_LOST_PIXELS, _LOST * float(np.median(error)))
    if not good.all():
      rows = rows[good]
      kept = pictures.select(rows)
      parameters, _ = fit_landmarks(head, targets, kept.landmarks, kept.size, config.fit)
    return {**to_arrays(parameters), 'rows': rows}

  arrays = dict(store.run('landmark_fit', compute))
  rows = np.asarray(arrays.pop('rows'))
  lost = sorted(set(range(len(pictures))) - set(rows.tolist()))
  failures = [Failure(int(pictures.numbers[row]), 'lost track') for row in lost]
  return from_arrays(arrays, template), pictures.select(rows), failures


def _rows(head: HeadModel, count: int) -> HeadCodes:
  """Neutral codes of some frames of one subject."""
  return dataclasses.replace(HeadCodes.neutral(head, (count,)), shape=jnp.zeros(head.num_shape))


def _errors(
  head: HeadModel,
  targets: observations.LandmarkTargets,
  parameters: FitParameters,
  pictures: _Pictures,
) -> Float[np.ndarray, 't m']:
  """Landmark errors, px at 512."""
  arrays = LandmarkArrays.from_head(head, targets.embedding)
  seen = jnp.asarray(pictures.landmarks[:, targets.columns, :2])
  return np.asarray(landmark_errors(parameters, arrays, seen, pictures.size))


def _report(
  head: HeadModel,
  targets: observations.LandmarkTargets,
  parameters: FitParameters,
  pictures: _Pictures,
) -> dict[str, Any]:
  errors = _errors(head, targets, parameters, pictures)
  groups = observations.landmark_groups(targets)
  return {
    'landmark_error_px': float(errors.mean()),
    'landmark_error_px_by_part': {n: float(errors[:, g].mean()) for n, g in groups.items()},
    'landmark_error_px_worst_frame': float(errors.mean(axis=1).max()),
    'focal_length_in_heights': float(jnp.exp(parameters.log_focal)),
  }


def _cut(
  head: HeadModel, parameters: FitParameters, pictures: _Pictures, config: TrackConfig
) -> UInt8[np.ndarray, 't r r']:
  """The mattes, faded out below the posed neck."""
  if not config.cut_clothes:
    return pictures.mattes
  collar = lower_border(head)
  mattes = np.empty_like(pictures.mattes)
  vertices = pose_frames(head, parameters.codes)
  for row, matte in enumerate(pictures.mattes):
    points = project(jnp.asarray(vertices[row, collar]), parameters.log_focal, pictures.size)
    mattes[row] = cut_below_collar(matte, np.asarray(points), config.matte)
  return mattes


def lower_border(head: HeadModel) -> np.ndarray:
  """Vertices of the mesh's lowest open border, where the neck ends.

  Raises:
    ValueError: the mesh has no border.
  """
  edges = np.sort(
    np.concatenate([head.faces[:, [0, 1]], head.faces[:, [1, 2]], head.faces[:, [2, 0]]]), axis=1
  )
  unique, count = np.unique(edges, axis=0, return_counts=True)
  border = unique[count == 1]
  if not len(border):
    raise ValueError(f'head model {head.name!r} is closed: the matte cannot be cut at its neck')
  label = np.arange(len(head.v_template))
  while True:  # every loop of border edges takes its lowest vertex number
    low = np.minimum(label[border[:, 0]], label[border[:, 1]])
    after = label.copy()
    np.minimum.at(after, border[:, 0], low)
    np.minimum.at(after, border[:, 1], low)
    if (after == label).all():
      break
    label = after
  loops = [np.unique(border[label[border[:, 0]] == name]) for name in np.unique(label[border])]
  return min(loops, key=lambda loop: float(head.v_template[loop, 1].mean()))


def _capture(
  footage: Footage,
  head: HeadModel,
  parameters: FitParameters,
  pictures: _Pictures,
  config: TrackConfig,
) -> Capture:
  mattes = _cut(head, parameters, pictures, config)
  width, height = pictures.size
  focal = float(jnp.exp(parameters.log_focal)) * height
  intrinsics = np.array([focal, focal, 0.5 * width, 0.5 * height], np.float32)
  count = len(pictures)
  camera = Camera(
    np.tile(WORLD_TO_CAMERA, (count, 1, 1)), np.tile(intrinsics, (count, 1)), width, height
  )
  return Capture(
    footage.name,
    head.name,
    head.fingerprint,
    jax.tree.map(np.asarray, parameters.codes),
    camera,
    MemoryImages(pictures.images, mattes),
    pictures.numbers.astype(np.int64),
    pictures.numbers / footage.fps,
    np.zeros(count, np.int64),
    footage.fps,
  )
