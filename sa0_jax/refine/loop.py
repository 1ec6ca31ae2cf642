"""The refinement loop: many subjects at once, watched, checkpointed, resumed to the same bits."""

import dataclasses
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from sa0_kernels.rasterize.types import next_power_of_two

from sa0_jax.avatar.avatar import Avatar
from sa0_jax.avatar.gaussians import BoundGaussians
from sa0_jax.capture.capture import Capture
from sa0_jax.capture.frames import FrameArrays, load_frames
from sa0_jax.capture.initialize import initialize_avatar
from sa0_jax.geometry.rotations import normalize_quaternion
from sa0_jax.head.model import HeadModel
from sa0_jax.head.registry import load_head
from sa0_jax.processes import peak_memory
from sa0_jax.refine.checkpoint import CheckpointStore
from sa0_jax.refine.config import RefineConfig
from sa0_jax.refine.evaluate import Scores, score_frames
from sa0_jax.refine.hold_out import Division, divide, spans
from sa0_jax.refine.step import (
  Binding,
  RefineState,
  StepMetrics,
  Subject,
  initial_state,
  run_steps,
)

_REPORTS = 20  # progress lines of a run
_PREVIEW_FRAMES = 4  # scored for each of them
_ASPECT_FRAMES = 64  # training frames in which the final aspect ratio is measured


@dataclasses.dataclass(frozen=True)
class Progress:
  """Where a run is; one for every progress line.

  Attributes:
    step, steps: done, and in all.
    iterations_per_second: lately.
    seconds_left: at that rate.
    psnr: on a few held-out (else training) frames, dB, mean over subjects.
    max_aspect_ratio: in those frames.
  """

  step: int
  steps: int
  iterations_per_second: float
  seconds_left: float
  psnr: float
  max_aspect_ratio: float


@dataclasses.dataclass(frozen=True, eq=False)
class RefineResult:
  """What a refinement returns for one subject.

  Attributes:
    avatar: the refined avatar.
    held_out: scores on held-out frames, or None if none were held out.
    train: scores on the training frames (at most 64 of them, evenly spread).
    report: the numbers of report.json.
  """

  avatar: Avatar
  held_out: Scores | None
  train: Scores
  report: dict[str, Any]


class CurveRow(TypedDict):
  """One subject's quality in the course of a run; a row of the report's `curve`.

  Attributes:
    step: steps done.
    seconds: they took since this process began or resumed; without compiling and scoring.
    psnr: on a few held-out (else training) frames, dB.
    max_aspect_ratio: in those frames.
  """

  step: int
  seconds: float
  psnr: float
  max_aspect_ratio: float


@dataclasses.dataclass(frozen=True, eq=False)
class _Run:
  """One prepared run of several subjects."""

  avatars: list[Avatar]
  frames: list[FrameArrays]  # all frames of each subject
  divisions: list[Division]
  binding: Binding
  subjects: Subject
  config: RefineConfig


def refine(
  avatar: Avatar | None,
  capture: Capture,
  config: RefineConfig | None = None,
  *,
  checkpoints: str | os.PathLike[str] | None = None,
  progress: Callable[[Progress], None] | None = None,
) -> Avatar:
  """Refines an avatar on its subject's capture (SpatialAvatar-0, stage 2).

  Mesh, binding and the number of Gaussians stay as they are; positions, rotations, scales,
  opacities and colours are optimised photometrically.

  Args:
    avatar: where to start; None starts from the mesh with colours warped from the capture.
    capture: the subject's tracked frames; those its split holds out are not learnt from, unless
      `config` says how many to hold out.
    config: settings; None for the published ones.
    checkpoints: folder of checkpoints; an interrupted run continues from it and ends with the same
      bits. None keeps none.
    progress: called now and then, which scores a few frames each time.

  Returns:
    The refined avatar.

  Raises:
    ValueError: avatar, capture and head model do not belong together, a matte is empty, or a
      checkpoint was made with other settings.
    FloatingPointError: the loss stopped being finite.
  """
  results = refine_subjects(
    [avatar], [capture], config or RefineConfig(), checkpoints=checkpoints, progress=progress
  )
  return results[0].avatar


def refine_subjects(
  avatars: Sequence[Avatar | None],
  captures: Sequence[Capture],
  config: RefineConfig,
  *,
  checkpoints: str | os.PathLike[str] | None = None,
  progress: Callable[[Progress], None] | None = None,
) -> list[RefineResult]:
  """Refines several subjects at once, on a leading axis of one program.

  They must share head model, UV size and image size. Each draws its own frames, so a subject's
  result does not depend on its company (up to rounding).

  Args, Raises: as `refine`, one avatar (or None) per capture.
  """
  begin = time.perf_counter()
  run = _prepare(avatars, captures, config)
  state = initial_state(config, _stack([a.gaussians for a in run.avatars]))
  store = None
  if checkpoints is not None and config.checkpoint_every:
    store = CheckpointStore(checkpoints, _identity(run, captures))
    state = store.restore(state) or state
  capacity, seconds_compile = _warm_up(run, state)
  watch = None if progress is None else _Watch(run, state, progress)
  resumed_at, loop_begin = int(state.step), time.perf_counter()
  state = _loop(run, state, capacity, store, watch)
  seconds_loop = time.perf_counter() - loop_begin
  rate = (config.steps - resumed_at) / max(seconds_loop, 1e-9)
  timing = {
    'iterations_per_second': rate,
    'seconds_compile': seconds_compile,
    'seconds_refine': seconds_loop,
    'resumed_at_step': resumed_at,
  }
  curves = [[] for _ in run.avatars] if watch is None else watch.curves
  results = [_result(run, state, i, {**timing, 'curve': c}) for i, c in enumerate(curves)]
  seconds_total = time.perf_counter() - begin
  for result in results:
    result.report['seconds_total'] = seconds_total
  if store is not None:
    store.close()
  return results


def _prepare(
  avatars: Sequence[Avatar | None], captures: Sequence[Capture], config: RefineConfig
) -> _Run:
  """Loads frames, starts avatars, and stacks everything on an axis of subjects."""
  if not captures or len(avatars) != len(captures):
    raise ValueError(f'refine: {len(avatars)} avatars for {len(captures)} captures')
  head = _common_head(avatars, captures)
  started, frames, divisions = [], [], []
  for avatar, capture in zip(avatars, captures, strict=True):
    division = divide(capture, config.held_out)
    frames.append(load_frames(capture, head, config.resolution))
    if avatar is None:
      avatar = initialize_avatar(capture, head, config.uv_size, division.train, config.seed)
    else:
      avatar = _of_unit_rotations(avatar)
    started.append(avatar)
    divisions.append(division)
  layouts = {a.layout.resolution for a in started}
  sizes = {f.images.shape[1:3] for f in frames}
  if len(layouts) > 1 or len(sizes) > 1:
    raise ValueError(
      f'refine: subjects of one batch need one UV size and one image size, got {sorted(layouts)} '
      f'and {sorted(sizes)}'
    )
  longest = max(len(d.train) for d in divisions)
  padded = [
    jax.tree.map(lambda a, p=d.train: _pad(a[p], longest), f)
    for f, d in zip(frames, divisions, strict=True)
  ]
  subjects = Subject(
    frames=_stack(padded),
    num_frames=jnp.asarray([len(d.train) for d in divisions], jnp.int32),
    key=jnp.stack([jax.random.key(config.seed)] * len(started)),
    color_logit=jnp.stack([a.gaussians.color_logit for a in started]),
  )
  binding = Binding(jnp.asarray(head.faces), started[0].layout.face)
  return _Run(started, frames, divisions, binding, subjects, config)


def _of_unit_rotations(avatar: Avatar) -> Avatar:
  """The same with unit quaternions: Adam's steps have a length, and turn longer ones by less."""
  rotation = normalize_quaternion(avatar.gaussians.rotation)
  return dataclasses.replace(
    avatar, gaussians=dataclasses.replace(avatar.gaussians, rotation=rotation)
  )


def _common_head(avatars: Sequence[Avatar | None], captures: Sequence[Capture]) -> HeadModel:
  heads = [a.head for a in avatars if a is not None]
  head = heads[0] if heads else load_head(captures[0].head_name)
  for avatar in avatars:
    if avatar is not None and avatar.head.fingerprint != head.fingerprint:
      raise ValueError('refine: the avatars of one batch must be bound to one head model')
  for capture in captures:
    capture.check_head(head)
  return head


def _stack(trees: Sequence[Any]) -> Any:
  return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _pad(array: jax.Array, length: int) -> jax.Array:
  """Repeats the last row up to a length; padded frames are never drawn."""
  missing = length - array.shape[0]
  return jnp.concatenate([array, jnp.repeat(array[-1:], missing, axis=0)]) if missing else array


def _identity(run: _Run, captures: Sequence[Capture]) -> dict[str, Any]:
  """What a resumed run must share with the one that was interrupted."""
  data = hashlib.sha256()
  for avatar, capture, frames in zip(run.avatars, captures, run.frames, strict=True):
    data.update(avatar.head.fingerprint.encode())
    for array in (capture.ids, *jax.tree.leaves((frames, avatar.gaussians, avatar.layout))):
      data.update(np.ascontiguousarray(array).tobytes())
  settings = dataclasses.asdict(run.config)
  for free in ('checkpoint_every', 'steps_per_call'):  # they change no bit of the result
    settings.pop(free)
  return {
    'settings': settings,
    'frames': [{'train': spans(d.train), 'test': spans(d.test)} for d in run.divisions],
    'data': data.hexdigest(),
    'jax': jax.__version__,
  }


def first_capacity(num_gaussians: int) -> int | None:
  """Instances there is room for at first; None for the rasterizer's default.

  Gaussians grow while they are refined. On a GPU, whose tiles are small, 62,686 of them outgrew the
  default after 2000 steps, on a real clip 8 for each, too, and compiling anew took as long as 9000
  steps: there is room from the start. On a CPU a longer buffer costs more than it saves.
  """
  return next_power_of_two(16 * num_gaussians) if jax.default_backend() == 'gpu' else None


def _warm_up(run: _Run, state: RefineState) -> tuple[int | None, float]:
  """Compiles by running one step whose result is dropped; finds the instance capacity it needs."""
  begin, capacity = time.perf_counter(), first_capacity(run.avatars[0].n)
  while True:
    _, metrics = _advance(run, state, 1, capacity)
    if not bool(np.any(metrics.overflowed)):
      return capacity, time.perf_counter() - begin
    capacity = next_power_of_two(int(np.max(metrics.num_instances)))


def _advance(
  run: _Run, state: RefineState, count: int, capacity: int | None
) -> tuple[RefineState, StepMetrics]:
  """Some steps, waited for."""
  return jax.block_until_ready(
    run_steps(
      state,
      run.subjects,
      run.binding,
      jnp.asarray(count, jnp.int32),
      config=_without_host_settings(run.config),
      capacity=capacity,
    )
  )


def _without_host_settings(config: RefineConfig) -> RefineConfig:
  """The configuration as the device program sees it: host settings must not cause a recompile."""
  defaults = RefineConfig()
  return dataclasses.replace(
    config,
    seed=defaults.seed,
    resolution=defaults.resolution,
    uv_size=defaults.uv_size,
    held_out=defaults.held_out,
    checkpoint_every=defaults.checkpoint_every,
    steps_per_call=defaults.steps_per_call,
  )


def _loop(
  run: _Run,
  state: RefineState,
  capacity: int | None,
  store: CheckpointStore | None,
  watch: '_Watch | None',
) -> RefineState:
  config = run.config
  report_every = max(config.steps // _REPORTS, 1)
  while (step := int(state.step)) < config.steps:
    stops = [config.steps, step + config.steps_per_call, _next_multiple(step, report_every)]
    if config.checkpoint_every:
      stops.append(_next_multiple(step, config.checkpoint_every))
    after, metrics = _advance(run, state, min(stops) - step, capacity)
    if bool(np.any(metrics.overflowed)):
      # Instances were dropped: grow and do these steps again from the state before them.
      capacity = next_power_of_two(int(np.max(metrics.num_instances)))
      continue
    state, step = after, int(after.step)
    if not np.all(np.isfinite(metrics.loss)):
      raise FloatingPointError(
        f'refine: the loss is not finite at step {step} (per subject {np.asarray(metrics.loss)}); '
        'the checkpoints before it are kept'
      )
    if store is not None and step % config.checkpoint_every == 0 and step < config.steps:
      store.save(state)
    if watch is not None and (step % report_every == 0 or step == config.steps):
      watch.look(state)
  return state


def _next_multiple(step: int, interval: int) -> int:
  return (step // interval + 1) * interval


def _subject_gaussians(state: RefineState, index: int) -> BoundGaussians:
  return jax.tree.map(lambda a: a[index], state.gaussians)


def _spread(positions: np.ndarray, count: int) -> np.ndarray:
  """At most `count` of the positions, evenly spread."""
  if len(positions) <= count:
    return positions
  return positions[np.linspace(0, len(positions) - 1, count).round().astype(int)]


class _Watch:
  """Scores a run now and then, says so, and keeps what it said.

  Attributes:
    curves: rows of each subject so far, beginning with the state the run began or resumed with.
  """

  def __init__(self, run: _Run, state: RefineState, progress: Callable[[Progress], None]):
    self._run, self._progress = run, progress
    self.curves: list[list[CurveRow]] = [[] for _ in run.avatars]
    self._seconds, self._step = 0.0, int(state.step)
    self._score(state)
    self._since = time.perf_counter()

  def look(self, state: RefineState) -> None:
    """Scores the state that some steps led to."""
    steps, step = self._run.config.steps, int(state.step)
    seconds = max(time.perf_counter() - self._since, 1e-9)
    rate = (step - self._step) / seconds
    self._seconds, self._step = self._seconds + seconds, step
    rows = self._score(state)
    self._progress(
      Progress(
        step=step,
        steps=steps,
        iterations_per_second=rate,
        seconds_left=(steps - step) / rate,
        psnr=float(np.mean([row['psnr'] for row in rows])),
        max_aspect_ratio=max(row['max_aspect_ratio'] for row in rows),
      )
    )
    self._since = time.perf_counter()

  def _score(self, state: RefineState) -> list[CurveRow]:
    """The next row of each subject."""
    run, rows = self._run, []
    for i, division in enumerate(run.divisions):
      positions = _spread(division.shown, _PREVIEW_FRAMES)
      gaussians = _subject_gaussians(state, i)
      scores = score_frames(gaussians, run.binding, run.frames[i], positions, run.config)
      row = CurveRow(
        step=self._step,
        seconds=self._seconds,
        psnr=scores.psnr,
        max_aspect_ratio=scores.max_aspect_ratio,
      )
      self.curves[i].append(row)
      rows.append(row)
    return rows


def _result(run: _Run, state: RefineState, index: int, course: dict[str, Any]) -> RefineResult:
  """Scores one subject and writes its report; `course` is what it says of the run."""
  gaussians, config = _subject_gaussians(state, index), run.config
  division = run.divisions[index]
  arguments = (gaussians, run.binding, run.frames[index])
  train = score_frames(*arguments, _spread(division.train, _ASPECT_FRAMES), config)
  held_out = None
  if len(division.test):
    held_out = score_frames(*arguments, division.test, config)
  tested, peak = held_out or train, peak_memory()
  height, width = run.frames[index].images.shape[1:3]
  report = {
    'psnr': tested.psnr,
    'ssim': tested.ssim,
    'ssim_padded': tested.ssim_padded,
    'ssim_gray': tested.ssim_gray,
    'psnr_inside_matte': tested.psnr_inside_matte,
    'psnr_train': train.psnr,
    'ssim_train': train.ssim,
    'held_out_frames': held_out.frames if held_out else 0,
    'held_out_by': division.by,
    'test_positions': spans(division.test),
    'train_frames': len(division.train),
    'train_positions': spans(division.train),
    'max_aspect_ratio': max(train.max_aspect_ratio, tested.max_aspect_ratio),
    # On screen is what training cameras saw; a needle that points at them all is only long in 3D.
    'max_aspect_ratio_3d': float(jnp.exp(jnp.max(jnp.ptp(gaussians.log_scale, axis=-1)))),
    'num_gaussians': gaussians.n,
    'steps': config.steps,
    'width': width,
    'height': height,
    'background': list(config.background),
    **course,
    'peak_memory_mb': None if peak is None else peak / 2**20,
    'device': jax.devices()[0].device_kind,
    'jax': jax.__version__,
    'config': dataclasses.asdict(config),
  }
  avatar = dataclasses.replace(run.avatars[index], gaussians=gaussians)
  return RefineResult(avatar, held_out, train, report)
