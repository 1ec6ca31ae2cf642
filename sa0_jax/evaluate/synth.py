"""SA0-Synth: synthetic people, filmed, prepared and divided by numbers in one file.

`configs/synth.py` has the numbers. Everything is a function of them: captures, data sets, who is
held out, and which frames of the held-out are sources and targets.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from sa0_jax.capture.capture import Capture, load_capture
from sa0_jax.evaluate.clips import Clip, read_clips

KINDS: tuple[Literal['monocular', 'multiview'], ...] = ('monocular', 'multiview')
MAX_SOURCES = 4
# Shares of a clip: sources and what refinement sees come from before, targets after.
_SEEN = 2 / 3
# Of 16 cameras, which alternate to both sides of the first, the one in front.
_SEEN_VIEWS = (0, 10, 9, 4)  # 0, 45, -45 and 18 degrees
_TARGET_VIEWS = (2, 5, 12, 15)  # 9, -27, 54 and -72 degrees

Progress = Callable[[str, int, int], None]


@dataclasses.dataclass(frozen=True)
class SynthSet:
  """One of the two sets.

  Attributes:
    subjects: how many people.
    seed: of the first; the others follow.
    frames: of each video, or instants at which all cameras fire.
    resolution: side of the images, px.
    hold_out: share of the people that nothing is trained on.
    split_seed: of the draw that says who.
  """

  subjects: int
  seed: int
  frames: int
  resolution: int
  hold_out: float
  split_seed: int = 0

  def __post_init__(self) -> None:
    for name in ('subjects', 'frames', 'resolution'):
      if getattr(self, name) < 1:
        raise ValueError(f'SynthSet: {name} must be positive, got {getattr(self, name)}')
    if not 0.0 < self.hold_out < 1.0:
      raise ValueError(f'SynthSet: hold_out must be between 0 and 1, got {self.hold_out}')


@dataclasses.dataclass(frozen=True)
class SynthConfig:
  """The benchmark.

  Attributes:
    monocular: videos.
    multiview: many cameras at once.
  """

  monocular: SynthSet
  multiview: SynthSet


class Synth(NamedTuple):
  """The benchmark on disk.

  Attributes:
    captures: folder of the captures, by kind.
    datasets: folder of the prepared data set, by kind.
  """

  captures: dict[str, Path]
  datasets: dict[str, Path]


def synth_folders(folder: Path) -> Synth:
  """Where everything lies in a benchmark's folder."""
  return Synth(
    {kind: folder / kind for kind in KINDS},
    {kind: folder / 'data' / f'sa0_{kind}' for kind in KINDS},
  )


def make_synth(
  config: SynthConfig,
  folder: Path,
  *,
  workers: int | None = None,
  progress: Progress | None = None,
) -> Synth:
  """Films and prepares what is missing of the benchmark.

  Args:
    config: its numbers.
    folder: where it is or will be.
    workers: subjects filmed at once; None takes as many as there are processors.
    progress: called as progress(what, done, all).

  Raises:
    ValueError: the folder holds other sets.
  """
  # Here: what only reads a benchmark needs no libraries that write data sets.
  from sa0_jax.capture.studio import StudioSet, build_set, varied
  from sa0_jax.data.build import build
  from sa0_jax.data.config import BuildConfig
  from sa0_jax.data.plan import make_plan, read_split, write_splits

  made = synth_folders(folder)
  for kind in KINDS:
    one: SynthSet = getattr(config, kind)

    def show(done: int, total: int, what: str = kind) -> None:
      if progress is not None:
        progress(what, done, total)

    film = varied(kind=kind, frames=one.frames, resolution=one.resolution)
    wanted = StudioSet(((one.seed, one.seed + one.subjects),), film, 'jpg')
    captures = made.captures[kind]
    build_set(wanted, captures, workers=workers, progress=show)
    write_splits(captures, one.hold_out, one.split_seed)
    splits = {name: read_split(captures / f'{name}.txt') for name in ('train', 'val')}
    name: Literal['sa0_monocular', 'sa0_multiview'] = (
      'sa0_monocular' if kind == 'monocular' else 'sa0_multiview'
    )
    plan = make_plan(captures, splits, BuildConfig(name))
    build(plan, folder / 'data')
  return made


def held_out_clips(synth: Synth, kind: str, sources: int) -> tuple[Clip, ...]:
  """The held-out people's clips with some source frames; targets are the same for every number.

  Args:
    synth: the benchmark.
    kind: one of `KINDS`.
    sources: 1 to 4.

  Raises:
    ValueError: no or too many sources.
  """
  if not 1 <= sources <= MAX_SOURCES:
    raise ValueError(f'held_out_clips: 1 to {MAX_SOURCES} sources, got {sources}')
  folder = synth.captures[kind]
  clips = []
  for clip in read_clips(folder / 'val.txt'):
    capture = load_capture(folder / clip.name)
    seen, targets = (_frames if kind == 'monocular' else _views)(capture)
    clips.append(Clip(clip.name, seen[:sources], targets))
  return tuple(clips)


def _frames(capture: Capture) -> tuple[tuple[int, ...], tuple[int, ...]]:
  """Frames spread over the first two thirds of a video, the first first; the last third."""
  stop = round(_SEEN * len(capture))
  spread = np.unique(np.linspace(0, stop - 1, MAX_SOURCES).round().astype(int))
  # Far apart first: two sources are the two ends.
  order = [spread[i] for i in (0, -1, 1, 2) if i < len(spread)]
  return tuple(int(i) for i in dict.fromkeys(order)), tuple(range(stop, len(capture)))


def _views(capture: Capture) -> tuple[tuple[int, ...], tuple[int, ...]]:
  """Cameras of the first instant."""
  first = np.flatnonzero(np.asarray(capture.times) == np.min(capture.times))
  by_view = {int(capture.view_ids[i]): int(i) for i in first}
  views = sorted(by_view)

  def of(wanted: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(by_view[views[v * len(views) // 16]] for v in wanted))

  seen = of(_SEEN_VIEWS)
  return seen, tuple(i for i in of(_TARGET_VIEWS) if i not in seen)
