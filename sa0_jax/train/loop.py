"""The training loop: one for both phases, one device or many hosts, new runs and resumed ones.

Each turn, in this order: a batch is drawn; a step is handed to the devices; the report of the step
before is looked at; then, where it is due, and after every step in flight has landed: metrics,
held-out scores, pictures, a checkpoint. So a checkpoint never knows of a batch that no step has
seen, and the devices never wait for Python. A step that could not be made (too many Gaussians for
the rasterizer's buffer) halts the state; it is made again with more room, as are those after it.

    WORKDIR/config.json       settings
    WORKDIR/checkpoints/      by `train.checkpoint`
    WORKDIR/metrics.jsonl     one line of numbers each `watch.log_every` steps
    WORKDIR/pictures/  tensorboard/  log.txt
    WORKDIR/phase1.npz  phase2.npz  generator.npz     weights, when a phase has ended
"""

import collections
import dataclasses
import functools
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from sa0_jax import archive
from sa0_jax.data.pipeline import Process, Run, make_batches, on_devices
from sa0_jax.data.prepared import PreparedData, check_heads, open_prepared
from sa0_jax.generator.checkpoint import load_generator, save_generator
from sa0_jax.generator.generator import Generator, Rig, RigArrays
from sa0_jax.generator.vit_weights import load_vit
from sa0_jax.head.model import HeadModel
from sa0_jax.head.registry import load_head
from sa0_jax.losses.lpips import Lpips, load_lpips
from sa0_jax.train import parallel, pictures
from sa0_jax.train.checkpoint import CheckpointStore, Position
from sa0_jax.train.config import TrainConfig
from sa0_jax.train.feed import make_feed, make_put
from sa0_jax.train.meter import Meter
from sa0_jax.train.objective import Batch, predict
from sa0_jax.train.phases import Phase, phases
from sa0_jax.train.step import (
  StepReport,
  Trainer,
  TrainState,
  fresh_generator,
  make_trainer,
  room_for,
)
from sa0_jax.train.trace import Profile
from sa0_jax.train.validate import Scores, held_out, make_scorer
from sa0_jax.train.writers import NullWriter, RunWriter, Writer, parameter_overview

_IN_FLIGHT = 2  # steps handed to the devices and not looked at
_PHASE_SEEDS = 1 << 32  # draws of phases do not meet


class TrainResult(NamedTuple):
  """What a run came to.

  Attributes:
    step: steps done.
    finished: False if it was asked to stop: everything is saved, and the same call goes on.
    generator: file of the weights; None before the first phase has ended.
    scores: of the last scoring, by data set.
  """

  step: int
  finished: bool
  generator: Path | None
  scores: dict[str, Scores]


@dataclasses.dataclass(frozen=True)
class Session:
  """How a run talks to whoever started it.

  Attributes:
    say: takes a line that should be read.
    progress: takes the text of a progress line.
    profile: (steps done before, count) of steps to trace into WORKDIR/profile; None for none.
    stop: set it, and the run saves and returns; SIGTERM does so, too.
  """

  say: Callable[[str], None] = print
  progress: Callable[[str], None] = lambda text: None
  profile: tuple[int, int] | None = None
  stop: threading.Event = dataclasses.field(default_factory=threading.Event)


class _Flight(NamedTuple):
  """A step handed to the devices.

  Attributes:
    step: its number in the run, from 1.
    batch: what it looks at.
    rows: [b, 5] rows of its frames and [b] numbers of their data sets, for messages.
    report: what it will say.
  """

  step: int
  batch: Batch
  rows: tuple[Any, Any]
  report: StepReport


def train(
  config: TrainConfig, workdir: str | os.PathLike[str], session: Session | None = None
) -> TrainResult:
  """Trains the generator, or goes on with a run.

  All processes of `jax.distributed` call it alike, with one file system in common.

  Args:
    config: the run.
    workdir: its folder; one with checkpoints of this run is gone on with.
    session: how it talks; by default lines are printed.

  Raises:
    FileNotFoundError: data sets or weights are missing.
    ValueError: they do not fit, or the folder holds another run.
    OSError: files cannot be written; what was saved stays.
    FloatingPointError: loss or gradient stopped being finite; the message names the step, its
      frames and the last checkpoint.
  """
  run = _Run(config, Path(workdir), session or Session())
  with run.closing(), _terminated(run.session.stop):
    return run.go()


def open_datasets(config: TrainConfig) -> dict[tuple[str, str], PreparedData]:
  """What the phases learn from, by folder and split.

  Raises:
    FileNotFoundError: a data set is missing.
    ValueError: none is named, or they hold codes of different head models.
  """
  data = [phase.config.data for phase in phases(config)]
  names = dict.fromkeys((folder, one.split) for one in data for folder in one.datasets)
  if not names:
    raise ValueError(
      'no data sets are named: --config.phase1.data.datasets=DATA_DIR/sa0_monocular '
      '(made by `sa0 prepare`)'
    )
  opened = {name: open_prepared(*name) for name in names}
  check_heads(list(opened.values()))
  return opened


def read_head(data: PreparedData) -> HeadModel:
  """The head model of a data set's codes.

  Raises:
    FileNotFoundError: it is not installed.
    ValueError: the installed one is another.
  """
  head = load_head(data.head[0])
  if head.fingerprint != data.head[1]:
    raise ValueError(
      f'{data.path} holds codes of head model {data.head[0]!r} with mesh {data.head[1]}; the '
      f'one installed here under that name has mesh {head.fingerprint}'
    )
  return head


def first_generator(config: TrainConfig) -> Generator:
  """The weights a run begins with: random ones, with the files it names."""
  files = config.weights
  if files.generator:
    generator = load_generator(files.generator)
    # Only how it computes may differ: that is the phases' matter.
    if dataclasses.replace(generator.config, dtype=config.generator.dtype) != config.generator:
      raise ValueError(f'{files.generator}: holds another network than config.generator describes')
  else:
    generator = fresh_generator(config)
  if files.encoder:
    generator.encoder = load_vit(files.encoder, config.generator.encoder)
  return generator


def _perceptual(config: TrainConfig) -> Lpips | None:
  """Weights of LPIPS, if a phase needs them."""
  if not any(phase.config.objective.weights.lpips for phase in phases(config)):
    return None
  files = config.weights
  if not files.lpips_backbone or not files.lpips_linear:
    raise ValueError(
      'the LPIPS term needs weights that are not ours to ship: --config.weights.lpips_backbone='
      'alexnet.pth (torchvision) and --config.weights.lpips_linear=alex.pth (the lpips package); '
      'or train without: --config.phase1.objective.weights.lpips=0 and the same for phase2'
    )
  return load_lpips(files.lpips_backbone, files.lpips_linear)


def run_identity(
  config: TrainConfig, head: HeadModel, datasets: dict[tuple[str, str], PreparedData]
) -> dict[str, Any]:
  """What makes two runs the same: settings that change what is learnt, the head and the data.

  Args:
    config: the run.
    head: its head model.
    datasets: from `open_datasets`.
  """
  settings = dataclasses.asdict(config)
  for name in ('watch', 'checkpoints', 'fsdp'):
    del settings[name]
  for name, phase in (('phase1', config.phase1), ('phase2', config.phase2)):
    data = settings[name]['data']
    del data['threads'], data['prefetch'], settings[name]['objective']['capacity']
    # By what they hold: a data set may be moved.
    if phase.steps:
      splits = [datasets[folder, phase.data.split] for folder in phase.data.datasets]
      data['datasets'] = [f'{one.path.parent.name} of {len(one)} frames' for one in splits]
  flat = {f'{head.name} head': head.fingerprint}
  _flatten(settings, '', flat)
  return flat


def _flatten(tree: Any, prefix: str, into: dict[str, Any]) -> None:
  for name, value in tree.items():
    if isinstance(value, dict):
      _flatten(value, f'{prefix}{name}.', into)
    else:
      into[prefix + name] = value


class _Run:
  """A run in progress."""

  def __init__(self, config: TrainConfig, workdir: Path, session: Session):
    self.config, self.workdir, self.session = config, workdir, session
    self.process = Process(jax.process_index(), jax.process_count())
    self.mesh = parallel.make_mesh(fsdp=config.fsdp)
    datasets = open_datasets(config)
    self.head = read_head(next(iter(datasets.values())))
    whole = parallel.replicated(self.mesh)
    rig = Rig.from_head(self.head, config.generator)
    self.rig: RigArrays = jax.device_put(rig.arrays, whole)
    perceptual = _perceptual(config)
    self.perceptual = None if perceptual is None else jax.device_put(perceptual, whole)
    self.put, self.feed = make_put(self.mesh), make_feed(self.mesh, self.head)
    self.capacity: int | None = None
    self.scores: dict[str, Scores] = {}
    self.writer: Writer = NullWriter()
    identity = run_identity(config, self.head, datasets)
    self.store = CheckpointStore(workdir / 'checkpoints', identity, config.checkpoints, self.say)
    self.profile = None
    if session.profile is not None:
      self.profile = Profile(workdir / 'profile', *session.profile)

  def say(self, text: str) -> None:
    """A line for the user and the log, once."""
    if self.process.index == 0:
      self.session.say(text)
    self.writer.note(text)

  @contextmanager
  def closing(self) -> Iterator[None]:
    """Files are closed whatever happens; a failure to write is not hidden by another error."""
    try:
      yield
    except BaseException:
      for close in (self.store.close, self.writer.close):
        try:
          close()
        except OSError as error:
          self.session.say(str(error))
      raise
    else:
      self.store.close()
      self.writer.close()
    finally:
      if self.profile is not None:
        self.profile.close()

  def go(self) -> TrainResult:
    """All phases."""
    rows = phases(self.config)
    trainers = {row.number: make_trainer(self.config, row, self.mesh) for row in rows}
    restored = self.store.restore(lambda position: trainers[position.phase].shapes)
    begin = 0 if restored is None else restored[1].step
    self._open_writer(begin, trainers[rows[0].number].shapes.trainable)
    if restored is not None:
      self.say(f'going on from step {begin} of {rows[-1].end}')
      rows = [row for row in rows if row.number >= restored[1].phase]
    generator: Generator | None = None
    for row in rows:
      trainer = trainers[row.number]
      if restored is not None:
        (state, position), restored = restored, None
      else:
        state = trainer.init(first_generator(self.config) if generator is None else generator)
        position = Position(row.begin, row.number, None, None)
      generator = None  # its memory is the state's now
      turn = _Turn(self, row, trainer, state)
      if not turn.run(position):
        return TrainResult(turn.step, False, None, self.scores)
      generator = self._export(row, turn)
    target = self.workdir / 'generator.npz'
    return TrainResult(rows[-1].end, True, target, self.scores)

  def _open_writer(self, begin: int, parameters: Any) -> None:
    if self.process.index:
      return
    self.workdir.mkdir(parents=True, exist_ok=True)
    with archive.atomic_write(self.workdir / 'config.json') as file:
      file.write((json.dumps(dataclasses.asdict(self.config), indent=2) + '\n').encode())
    self.writer = RunWriter(self.workdir, begin, self.config.watch.tensorboard)
    if not begin:
      self.writer.note(parameter_overview(parameters))

  def _export(self, row: Phase, turn: '_Turn') -> Generator:
    """The phase's weights as a file, and as the next phase starts from them."""
    gather = jax.jit(lambda tree: tree, out_shardings=parallel.replicated(self.mesh))
    generator = gather(turn.trainer.generator(turn.state))
    if self.process.index == 0:
      for name in (f'phase{row.number}.npz', 'generator.npz'):
        save_generator(self.workdir / name, generator)
    return generator


class _Turn:
  """One phase of a run in progress."""

  def __init__(self, run: _Run, phase: Phase, trainer: Trainer, state: TrainState):
    self.whole = run
    self.phase, self.trainer, self.state = phase, trainer, state
    self.flights: collections.deque[_Flight] = collections.deque()
    self.landed: list[StepReport] = []  # since the last line of metrics
    self.held_out, self.notes = held_out(run.config, phase, run.process)
    self.scorer = make_scorer(run.mesh, run.rig, phase.config.objective)
    self.shown: Callable[..., Any] | None = None

  def run(self, position: Position) -> bool:
    """To its end, or until asked to stop; False for that."""
    run, watch = self.whole, self.whole.config.watch
    self.step = position.step
    self.meter = Meter(self.phase.config.batch_size, phases(run.config)[-1].end, self.step)
    for note in self.notes:
      run.say(note)
    if self.step >= self.phase.end:
      return True
    batches = self._batches(position.data)
    while self.step < self.phase.end:
      with self.meter.waiting():
        frames = next(batches)
      self._launch(run.feed(frames), (frames.rows, frames.dataset))
      if len(self.flights) >= _IN_FLIGHT:
        self._land()
      last = self.step == self.phase.end
      stop = self._asked_to_stop()
      log = _due(self.step, watch.log_every) or last
      score_now = _due(self.step, watch.validate_every) or last
      draw = _due(self.step, watch.pictures_every)
      save = _due(self.step, run.config.checkpoints.every) or last or stop
      if log or score_now or draw or save:
        self._land_all()
      if log:
        self._log()
      score = self._validate() if score_now else None
      if draw:
        self._draw_pictures()
      if save:
        here = Position(self.step, self.phase.number, score, batches.get_state())
        run.store.save(self.state, here, wait=last or stop)
      if stop and not last:
        run.say(f'stopped at step {self.step}, saved: the same command goes on from there')
        return False
    return True

  def _batches(self, data: dict[str, Any] | None) -> Any:
    """The phase's batches on the devices, from a position on."""
    run, phase = self.whole, self.phase
    settings = Run(
      phase.config.batch_size,
      run.config.generator.image_size,
      phase.config.steps,
      phase=phase.config.objective.phase,
      seed=run.config.seed + (phase.number - 1) * _PHASE_SEEDS,
    )
    dataset = make_batches(phase.config.data, settings, run.process)
    batches = iter(on_devices(dataset, run.put))
    if data is not None:
      batches.set_state(data)
    return batches

  def _launch(self, batch: Batch, rows: tuple[Any, Any]) -> None:
    """Hands a step to the devices."""
    run = self.whole
    if run.profile is not None:
      run.profile.before(self.step, self.state)
    self.state, report = self.trainer.step(self.state, batch, run.rig, run.perceptual)
    if run.profile is not None:
      run.profile.after(self.step, self.state)
    self.step += 1
    self.meter.step()
    self.flights.append(_Flight(self.step, batch, rows, report))

  def _land_all(self) -> None:
    while self.flights:
      self._land()

  def _land(self) -> None:
    """Looks at the oldest step in flight; makes it again, and those after it, with more room."""
    flight = self.flights.popleft()
    report = jax.device_get(flight.report)
    if not report.finite:
      raise FloatingPointError(self._not_finite(flight, report))
    if not report.overflowed:
      self.landed.append(report)
      return
    run, again = self.whole, [flight, *self.flights]
    self.flights.clear()
    needed = int(report.num_instances)
    if run.capacity is not None and needed <= run.capacity:
      raise RuntimeError(
        f'step {flight.step}: {needed} instances overflowed a buffer of {run.capacity}'
      )
    run.capacity = room_for(needed)
    run.say(f'step {flight.step} needs room for {needed} instances: compiling again for more')
    self.trainer = make_trainer(run.config, self.phase, run.mesh, run.capacity)
    running = jax.device_put(np.zeros((), bool), self.state.halted.sharding)
    self.state = self.state._replace(halted=running)
    for one in again:
      self.state, report = self.trainer.step(self.state, one.batch, run.rig, run.perceptual)
      self.flights.append(one._replace(report=report))
    self._land()

  def _not_finite(self, flight: _Flight, report: StepReport) -> str:
    terms = ', '.join(f'{name} {float(value):.4g}' for name, value in report.terms.items())
    rows, dataset = (_local(array) for array in flight.rows)
    names = self.phase.config.data.datasets
    frames = '; '.join(
      f'{names[which]} rows {", ".join(str(row) for row in one if row >= 0)}'
      for which, one in zip(dataset, rows, strict=True)
    )
    self.whole.store.wait()  # one may still be on its way to the disk
    saved = self.whole.store.positions()
    good = f'the last good checkpoint is {saved[0].step}' if saved else 'there is no checkpoint yet'
    return (
      f'step {flight.step}: loss {float(report.loss):.4g} ({terms}) or gradient '
      f'{float(report.gradient_norm):.4g} is not finite; {good} in '
      f'{self.whole.workdir / "checkpoints"}; frames of the batch: {frames}'
    )

  def _asked_to_stop(self) -> bool:
    """The same answer in all processes."""
    if self.whole.process.count == 1:
      return self.whole.session.stop.is_set()
    from jax.experimental import multihost_utils

    return bool(multihost_utils.reached_preemption_sync_point(self.step))

  def _log(self) -> None:
    """Means since the last line."""
    if not self.landed:
      return
    rates = self.meter.read()
    mean = functools.partial(jax.tree.map, lambda *values: float(np.mean(values)))
    one = mean(*({'loss': r.loss, 'psnr': r.psnr, 'norm': r.gradient_norm} for r in self.landed))
    terms = mean(*(r.terms for r in self.landed))
    values = {
      'phase': float(self.phase.number),
      'loss': one['loss'],
      'psnr': one['psnr'],
      'gradient_norm': one['norm'],
      'num_instances': float(max(int(r.num_instances) for r in self.landed)),
      **{f'loss/{name}': value for name, value in terms.items()},
      'steps_per_second': rates.steps_per_second,
      'images_per_second': rates.images_per_second,
      'data_wait_share': rates.data_wait_share,
    }
    for name in ('host_memory_bytes', 'device_memory_bytes'):
      if (size := getattr(rates, name)) is not None:
        values[name] = float(size)
    self.landed = []
    self.whole.writer.scalars(self.step, values)
    self.whole.session.progress(self.meter.line(self.step, rates, values))

  def _validate(self) -> float | None:
    """Scores held-out people; the mean over the data sets is the checkpoint's score."""
    if not self.held_out:
      return None
    run, generator = self.whole, self.trainer.generator(self.state)
    values = {}
    for item in self.held_out:
      scores = self.scorer(generator, (run.feed(run.put(f)) for f in item.batches()))
      run.scores[item.name] = scores
      values[f'{item.name}/psnr'] = scores.psnr
      for count, value in enumerate(scores.by_sources, 1):
        if np.isfinite(value):
          values[f'{item.name}/psnr_from_{count}'] = value
    run.writer.scalars(self.step, values)
    listed = ', '.join(f'{name} {run.scores[name].psnr:.2f} dB' for name in run.scores)
    run.say(f'step {self.step}: held out: {listed}')
    return float(np.mean([scores.psnr for scores in run.scores.values()]))

  def _draw_pictures(self) -> None:
    """Held-out people, the same ones every time."""
    run, generator = self.whole, self.trainer.generator(self.state)
    if self.shown is None:

      def local(generator: Generator, batch: Batch, rig: RigArrays) -> Any:
        prediction = predict(generator, batch, rig, self.phase.config.objective)
        return pictures.to_images(batch, prediction, rig.uv.layout)

      spread = parallel.over_batch(run.mesh, local, (False, True, False), spread_result=True)
      whole = parallel.replicated(run.mesh)
      self.shown = jax.jit(spread, out_shardings=whole)
    panels = {}
    for item in self.held_out:
      batch = run.feed(run.put(next(item.batches())))
      panels[item.name] = pictures.compose(self.shown(generator, batch, run.rig))
    run.writer.images(self.step, panels)


def _due(step: int, every: int) -> bool:
  return every > 0 and step % every == 0


def _local(array: Any) -> np.ndarray:
  """This process's part of an array."""
  return np.concatenate([np.asarray(part.data) for part in array.addressable_shards])


@contextmanager
def _terminated(stop: threading.Event) -> Iterator[None]:
  """SIGTERM asks the run to stop. With several processes JAX listens for it, and they agree."""
  alone = jax.process_count() == 1 and threading.current_thread() is threading.main_thread()
  if not alone:
    yield
    return
  before = signal.signal(signal.SIGTERM, lambda *_: stop.set())
  try:
    yield
  finally:
    signal.signal(signal.SIGTERM, before)
