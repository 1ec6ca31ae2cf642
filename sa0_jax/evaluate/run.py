"""The protocols: self-reenactment, cross-reenactment, and the test frames of a person's own video.

    self         the first frame makes the avatar, all others are reproduced
    cross        the same, driven by the next person in the order of names; there is nothing to
                 compare pixels with: pictures, and numbers of networks that the user brings
    per-subject  an avatar of that person renders the test frames: those of split.json, else the
                 last 350

Results of each clip lie in a file of their own that appears when it is whole: a run that was cut
off goes on with the first clip it has no result of, and ends with the same table.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from sa0_jax import archive
from sa0_jax.capture import image_files
from sa0_jax.capture.capture import Capture, load_capture
from sa0_jax.capture.frames import load_frames
from sa0_jax.capture.splits import Split
from sa0_jax.evaluate import tracked
from sa0_jax.evaluate.clips import Clip
from sa0_jax.evaluate.faces import ClipFaces, FaceNetworks, Seen, face_points
from sa0_jax.evaluate.models import Model, Prepared, file_digest
from sa0_jax.evaluate.pictures import comparison_row, grid
from sa0_jax.evaluate.scoring import Scorer, make_shot, pixel_metrics
from sa0_jax.losses.lpips import Lpips
from sa0_jax.losses.photometric import composite
from sa0_jax.refine.preview import to_bytes

PROTOCOLS = ('self', 'cross', 'per-subject')
RESULT_FORMAT, RESULT_VERSION = 'sa0-evaluation-clip', 1
_MAX_BYTES = 1 << 28
_MAX_ROWS = 4  # of a clip's picture

Progress = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
  """How it is measured.

  Attributes:
    protocol: one of `PROTOCOLS`.
    resolution: side of the compared images, px.
    background: colour behind all heads, RGB in [0, 1].
    test_frames: of a per-subject clip without split.json: this many, from the end.
    frames_per_device: rendered in one call.
    save_frames: keep what was rendered, and what was filmed, as PNG files.
    implementation: rasterizer; None takes the fastest here.

  Raises:
    ValueError: a value is out of range.
  """

  protocol: str = 'self'
  resolution: int = 512
  background: tuple[float, float, float] = (1.0, 1.0, 1.0)
  test_frames: int = 350
  frames_per_device: int = 4
  save_frames: bool = False
  implementation: str | None = None

  def __post_init__(self) -> None:
    if self.protocol not in PROTOCOLS:
      raise ValueError(f'protocol must be one of {", ".join(PROTOCOLS)}, got {self.protocol!r}')
    for name in ('resolution', 'test_frames', 'frames_per_device'):
      if getattr(self, name) < 1:
        raise ValueError(f'{name} must be positive, got {getattr(self, name)}')


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
  """One clip: who is shown, by whom they are driven, from which frames and in which.

  Attributes:
    name: of the clip.
    identity, driver: captures; the same but in cross-reenactment.
    driver_name: of the driver's clip.
    sources: frames of the identity that make the avatar.
    targets: frames of the driver to render.
  """

  name: str
  identity: Capture
  driver: Capture
  driver_name: str
  sources: tuple[int, ...]
  targets: tuple[int, ...]


def make_task(
  folder: Path, clips: Sequence[Clip], at: int, config: EvaluateConfig, needs_sources: bool
) -> Task:
  """One clip of an evaluation by the rules of its protocol.

  Args:
    folder: of captures.
    clips: all of them; the next by name drives in cross-reenactment.
    at: which.
    config: the protocol.
    needs_sources: sources are no targets.

  Raises:
    FileNotFoundError: a capture is missing.
    ValueError: a frame is not there, or none is left to render.
  """
  clip = driver_clip = clips[at]
  identity = driver = load_capture(folder / clip.name)
  if config.protocol == 'cross':
    if len(clips) < 2:
      raise ValueError('cross-reenactment needs two clips and more')
    names = sorted(other.name for other in clips)
    following = names[(names.index(clip.name) + 1) % len(names)]
    [driver_clip] = (other for other in clips if other.name == following)
    driver = load_capture(folder / following)
  sources = (clip.sources or (0,)) if needs_sources else ()
  targets = clip.targets if config.protocol != 'cross' else driver_clip.targets
  if targets is None:
    targets = _default_targets(driver, sources, config)
  for number, capture in ((max((*sources, 0)), identity), (max((*targets, 0)), driver)):
    if number >= len(capture):
      raise ValueError(f'clip {clip.name!r}: frame {number} of {len(capture)} (counted from 0)')
  if not targets:
    raise ValueError(f'clip {clip.name!r}: no frame is left to render')
  if config.protocol != 'cross' and set(sources) & set(targets):
    shared = min(set(sources) & set(targets))
    raise ValueError(f'clip {clip.name!r}: frame {shared} is both source and target')
  return Task(clip.name, identity, driver, driver_clip.name, sources, targets)


def _default_targets(
  driver: Capture, sources: tuple[int, ...], config: EvaluateConfig
) -> tuple[int, ...]:
  frames = range(len(driver))
  if config.protocol == 'self':
    return tuple(frame for frame in frames if frame not in sources)
  if config.protocol == 'cross':
    return tuple(frames)
  split = driver.split or Split.last_for_test(len(driver), config.test_frames)
  return tuple(split.test.tolist())


@dataclasses.dataclass(frozen=True)
class Work:
  """An evaluation: what, of which captures, into which folder.

  Attributes:
    captures: folder of captures.
    clips: which of them.
    out: folder for the results.
    perceptual: LPIPS weights by network, 'alex' or 'vgg'.
    perceptual_source: what these weights are, for the record.
    faces: networks for CSIM, AED and APD; None measures none of them.
    track: track what was rendered and filmed for `tracked.METRICS`.
  """

  captures: Path
  clips: Sequence[Clip]
  out: Path
  perceptual: Mapping[str, Lpips] = dataclasses.field(default_factory=dict)
  perceptual_source: str = ''
  faces: FaceNetworks | None = None
  track: bool = False


def evaluate(
  model: Model, work: Work, config: EvaluateConfig, progress: Progress | None = None
) -> list[dict[str, Any]]:
  """Renders and scores every clip that has no result yet.

  Memory holds the frames of one call, whatever the length of a clip.

  Args:
    model: what is evaluated.
    work: clips and places.
    config: how.
    progress: called with (frames done, in all) of the clips that were not there.

  Returns:
    The clips' results, in the order of `work.clips`, as their files have them.

  Raises:
    FileNotFoundError, ValueError: something is missing or does not fit; the message names the clip.
  """
  names: tuple[str, ...] = ()
  if config.protocol != 'cross':
    names = pixel_metrics(config.resolution, dict(work.perceptual))
  scorer = Scorer(
    names,
    config.background,
    dict(work.perceptual),
    frames_per_device=config.frames_per_device,
    implementation=config.implementation,
  )
  tasks = [
    make_task(work.captures, work.clips, at, config, model.needs_sources)
    for at in range(len(work.clips))
  ]
  keys = [_key(task, model, work, config, names) for task in tasks]
  paths = [work.out / 'clips' / f'{task.name}.json' for task in tasks]
  open_ = [at for at, key in enumerate(keys) if _read_result(paths[at], key) is None]
  total, done = sum(len(tasks[at].targets) for at in open_), 0
  for at in open_:
    rows = []
    for row in _clip(model, scorer, tasks[at], work, config):
      rows.append(row)
      done += 1
      if progress is not None:
        progress(done, total)
    _write_result(paths[at], tasks[at], keys[at], rows)
  found = [_read_result(path, key) for path, key in zip(paths, keys, strict=True)]
  return [result for result in found if result is not None]


def _clip(
  model: Model, scorer: Scorer, task: Task, work: Work, config: EvaluateConfig
) -> Iterator[dict[str, Any]]:
  """Rows of one clip, one a frame; its picture is written after the last.

  Numbers of faces come in batches: rows are whole once all have been taken.
  """
  prepared, out = model.prepare(task.name, task.identity, task.sources), work.out
  person = scorer.place(prepared.person)
  shown = {task.targets[i] for i in np.linspace(0, len(task.targets) - 1, _MAX_ROWS).astype(int)}
  source = _picture(task.identity, task.sources[0], config) if task.sources else None
  if config.save_frames and source is not None:
    _save_frame(out, 'source', task.name, task.sources[0], source)
  pictures = []
  codes = dataclasses.replace(task.driver.codes, shape=np.asarray(prepared.shape, np.float32))
  driver = dataclasses.replace(task.driver, codes=codes)
  watches: list[_Faces | tracked.ClipTracks] = []
  if work.faces is not None:
    watches.append(_Faces(work.faces, task, prepared, driver, config))
  if work.track:
    watches.append(_tracks(task, prepared, config))
  for begin in range(0, len(task.targets), scorer.batch):
    positions = task.targets[begin : begin + scorer.batch]
    selected = driver.select(positions)
    frames = load_frames(selected, prepared.head, config.resolution)
    scored = scorer(person, make_shot(frames, selected.codes))
    for at, position in enumerate(positions):
      pair = scored.rendered[at], scored.target[at]
      if config.save_frames:
        for kind, picture in zip(('rendered', 'reference'), pair, strict=True):
          _save_frame(out, kind, task.name, position, picture)
      if position in shown:
        pictures.append(comparison_row(source, *pair, compared=config.protocol != 'cross'))
      values = {name: float(scores[at]) for name, scores in scored.scores.items()}
      row = {'frame': position, 'id': int(task.driver.ids[position]), **values}
      for watch in watches:
        watch.add(row, *pair)
      yield row
  for watch in watches:
    watch.finish()
  place = out / 'pictures'
  place.mkdir(parents=True, exist_ok=True)
  image_files.write(place / f'{task.name}.png', grid(pictures))


class _Faces:
  """Faces of one clip: where they are, and what networks say about them."""

  def __init__(
    self,
    networks: FaceNetworks,
    task: Task,
    prepared: Prepared,
    driver: Capture,
    config: EvaluateConfig,
  ):
    # The rendered person's mesh and the filmed one's differ where somebody else drives.
    points = [
      face_points(prepared.head, capture.select(task.targets), config.resolution)
      for capture in (driver, task.driver)
    ]
    self._coming = zip(task.targets, *points, strict=True)
    source = None
    if config.protocol == 'cross':  # who is rendered, not who drives; an avatar has no sources
      first = (*task.sources, 0)[0]
      [there] = face_points(prepared.head, task.identity.select([first]), config.resolution)
      source = Seen(_picture(task.identity, first, config), there, f'source frame {first}')
    self._measured = ClipFaces(networks, task.name, source)

  def add(self, row: dict[str, Any], rendered: np.ndarray, filmed: np.ndarray) -> None:
    """The next frame, rendered and filmed."""
    position, here, there = next(self._coming)
    self._measured.add(
      row,
      Seen(rendered, here, f'rendered frame {position}'),
      Seen(filmed, there, f'reference frame {position}'),
    )

  def finish(self) -> None:
    """After the last frame."""
    self._measured.finish()


def _tracks(task: Task, prepared: Prepared, config: EvaluateConfig) -> tracked.ClipTracks:
  """Tracks of one clip's frames."""
  size = (config.resolution, config.resolution)
  camera = task.driver.frame_camera(np.asarray(task.targets)).resized(*size)
  shapes = (np.asarray(shape) for shape in (prepared.shape, task.driver.codes.shape))
  return tracked.ClipTracks(prepared.head, camera, *shapes)


def _save_frame(out: Path, kind: str, name: str, position: int, picture: np.ndarray) -> None:
  place = out / 'frames' / kind / name
  place.mkdir(parents=True, exist_ok=True)
  image_files.write(place / f'{position:06d}.png', picture)


def _picture(capture: Capture, position: int, config: EvaluateConfig) -> np.ndarray:
  """A source frame, at the size and over the colour of the others."""
  frame = capture.frames[position]
  color = jnp.asarray(config.background, jnp.float32)
  over = composite(jnp.asarray(frame.image), jnp.asarray(frame.matte), color)
  return image_files.resize(to_bytes(np.asarray(over)), (config.resolution, config.resolution))


def _key(
  task: Task, model: Model, work: Work, config: EvaluateConfig, names: tuple[str, ...]
) -> str:
  """What a clip's result follows from: a result with another key is made anew."""
  settings = dataclasses.asdict(config)
  del settings['frames_per_device']  # changes nothing but speed
  described = {
    'model': model.digest(task.name),
    'config': settings,
    'sources': task.sources,
    'targets': task.targets,
    'metrics': names,
    'perceptual': work.perceptual_source,
    'captures': [
      file_digest(work.captures / name / file)
      for name in (task.name, task.driver_name)
      for file in ('capture.json', 'tracking.npz')
    ],
  }
  if work.faces is not None:  # else results of before these networks stay valid
    described['faces'] = work.faces.digests
  if work.track:
    described['tracked'] = tracked.identity()
  return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def _write_result(path: Path, task: Task, key: str, rows: list[dict[str, Any]]) -> None:
  result = {
    'format': RESULT_FORMAT,
    'version': RESULT_VERSION,
    'key': key,
    'clip': task.name,
    'driver': task.driver_name,
    'sources': list(task.sources),
    'frames': rows,
  }
  path.parent.mkdir(parents=True, exist_ok=True)
  with archive.atomic_write(path) as file:
    file.write((json.dumps(result, indent=1) + '\n').encode())


def _read_result(path: str | os.PathLike[str], key: str) -> dict[str, Any] | None:
  """A result with that key, or None; a damaged file is no result."""
  if not Path(path).is_file():
    return None
  try:
    result = archive.read_json(path, _MAX_BYTES)
  except ValueError:
    return None
  known = isinstance(result, dict) and result.get('format') == RESULT_FORMAT
  if not known or result.get('version') != RESULT_VERSION or result.get('key') != key:
    return None
  return result if _is_whole(result) else None


def _is_whole(result: dict[str, Any]) -> bool:
  """Whether it has what `_write_result` writes: rows with the number of a frame and others."""
  rows, sources = result.get('frames'), result.get('sources')
  return (
    all(isinstance(result.get(name), str) for name in ('clip', 'driver'))
    and isinstance(sources, list)
    and all(map(archive.is_number, sources))
    and isinstance(rows, list)
    and all(isinstance(row, dict) and 'frame' in row for row in rows)
    and all(archive.is_number(v) for row in rows for name, v in row.items() if name != 'id')
  )
