"""Where the time of a training step goes: JAX's profiler around a few steps, read by parts.

The parts are `jax.named_scope`s of the generator and the objective. A scope's name is in the origin
of each operation that was traced inside, forward ('jit(step)/jvp(encoder)/…') and backward
('jit(step)/transpose(jvp(encoder))/…'), so that a part is both.
"""

import json
import math
import os
import re
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax

from sa0_jax.archive import atomic_write, read_json
from sa0_jax.train import xplane

PARTS = (
  'feed',
  'encoder',
  'dpt',
  'warp',
  'unet',
  'decoder',
  'residual',
  'binding',
  'rasterizer',
  'losses',
  'optimizer',
)
OTHER, IDLE = 'other', 'idle'
_SCOPES = {**{part: part for part in PARTS}, 'to_batch': 'feed'}  # the function of feed.py
_STEPS = 'steps.json'  # beside the profiler's files: what was traced
_MAX_JSON = 10_000
_MAX_BYTES = 2 << 30
_WORDS = re.compile(r'[^/()]+')


class Part(NamedTuple):
  """A part of the program.

  Attributes:
    name: of `PARTS`, or 'other', operations outside of them, or 'idle', when none ran.
    milliseconds: for each step.
    share: of the step, 0 to 1.
  """

  name: str
  milliseconds: float
  share: float


class Profile:
  """Traces some steps of a run.

      profile.before(step, state)
      state, metrics = trainer.step(state, …)
      profile.after(step, state)

  The devices are waited for at the two ends and nowhere between. Profiling costs time itself: on a
  CPU, where operations are many and small, a step takes up to half as long again.
  """

  def __init__(self, folder: str | os.PathLike[str], start_step: int, count: int):
    """Plans it; nothing happens yet.

    Args:
      folder: for the profiler's files, which TensorBoard and XProf read, too.
      start_step: steps done before the first one that is traced. Take some after the first, which
        compiles.
      count: of steps; the profiler keeps some 10⁵ events, a few steps.

    Raises:
      ValueError: no steps.
    """
    if start_step < 0 or count < 1:
      raise ValueError(
        f'Profile: start_step is 0 or more and count positive, got {start_step} and {count}'
      )
    self.folder, self._start, self._count = Path(folder), start_step, count
    self._running = False
    self._begin = 0.0

  def before(self, step: int, state: Any) -> None:
    """Before each step.

    Args:
      step: steps done.
      state: what the step starts from; waited for if it is the first that is traced.
    """
    if step == self._start and not self._running:
      jax.block_until_ready(state)
      self.folder.mkdir(parents=True, exist_ok=True)
      (self.folder / _STEPS).unlink(missing_ok=True)  # of a profile before
      options = jax.profiler.ProfileOptions()
      options.python_tracer_level = 0  # thousands of events of Python's, which slow the steps down
      jax.profiler.start_trace(str(self.folder), profiler_options=options)
      self._running, self._begin = True, time.perf_counter()

  def after(self, step: int, state: Any) -> None:
    """After each step.

    Args:
      step: as in `before`.
      state: what the step made; waited for if it is the last that is traced.
    """
    if self._running and step + 1 >= self._start + self._count:
      jax.block_until_ready(state)
      self._stop(step + 1 - self._start, time.perf_counter() - self._begin)

  def close(self) -> None:
    """Ends the trace of a run that ended before it; there is no breakdown then."""
    if self._running:
      self._running = False
      jax.profiler.stop_trace()

  def _stop(self, steps: int, seconds: float) -> None:
    self.close()
    with atomic_write(self.folder / _STEPS) as file:
      file.write(json.dumps({'steps': steps, 'seconds': seconds}).encode())


class _Operation(NamedTuple):
  begin: float  # ns
  end: float
  part: str


def breakdown(folder: str | os.PathLike[str]) -> list[Part]:
  """Reads a `Profile`'s folder: the parts of a step, and they add up to it.

  Devices do several things at once (CPU threads, GPU streams). Each moment is shared equally by the
  operations that run in it on a device, and where none runs it is 'idle'. On each thread or stream
  the innermost operation counts. Of several devices it is the mean. What the compiler fused counts
  where the fusion's last operation belongs.

  Args:
    folder: where the profile is; the latest one if there are some.

  Returns:
    All of `PARTS` that took time, 'other', and 'idle', the longest first.

  Raises:
    FileNotFoundError: there is no finished profile in the folder.
    ValueError: it is damaged, or holds no operations of a device.
  """
  folder = Path(folder)
  files = sorted(folder.glob('plugins/profile/*/*.xplane.pb'))
  if not files or not (folder / _STEPS).exists():
    raise FileNotFoundError(f'{folder}: no finished profile; a run writes one (see Profile)')
  steps, seconds = _traced(folder / _STEPS)
  if files[-1].stat().st_size > _MAX_BYTES:
    raise ValueError(f'{files[-1]}: more than {_MAX_BYTES >> 30} GiB; trace fewer steps')
  try:
    devices = _operations(files[-1].read_bytes())
  except (RuntimeError, UnicodeDecodeError, ValueError) as error:  # JAX's reader has the first two
    raise ValueError(f'{files[-1]}: no readable profile ({error})') from error
  if not devices:
    raise ValueError(f'{files[-1]}: holds no operations of a device')
  total: dict[str, float] = defaultdict(float)
  for lines in devices.values():
    for part, nanoseconds in _shared(lines).items():
      total[part] += nanoseconds / len(devices)
  step = 1e3 * seconds / steps
  found = {part: 1e-6 * nanoseconds / steps for part, nanoseconds in total.items()}
  found[IDLE] = max(step - sum(found.values()), 0.0)
  parts = [Part(name, ms, ms / step) for name, ms in found.items()]
  return sorted(parts, key=lambda part: -part.milliseconds)


def _traced(path: Path) -> tuple[int, float]:
  """How many steps were traced, and in what time."""
  content = read_json(path, _MAX_JSON)
  known = isinstance(content, dict) and {'steps', 'seconds'} <= content.keys()
  steps: Any = content['steps'] if known else None
  seconds: Any = content['seconds'] if known else None
  numbers = isinstance(steps, int) and isinstance(seconds, float)
  if not numbers or not 0 < steps < 1 << 32 or not 0 < seconds < math.inf:
    raise ValueError(f'{path}: not what a profile leaves; trace again')
  return steps, seconds


def table(parts: Iterable[Part]) -> str:
  """A breakdown as text, a line each."""
  parts = list(parts)
  lines = [f'{p.name:<11}{p.milliseconds:>10.2f} ms{100 * p.share:>7.1f}%' for p in parts]
  return '\n'.join([*lines, f'{"step":<11}{sum(p.milliseconds for p in parts):>10.2f} ms'])


def _operations(data: bytes) -> dict[str, list[list[_Operation]]]:
  """Operations of each device, for each of its threads or streams."""
  events = []
  for plane in jax.profiler.ProfileData.from_serialized_xspace(data).planes:
    for number, line in enumerate(plane.lines):
      for event in line.events:
        stats = dict(event.stats)
        if 'hlo_op' in stats:
          device = f'{plane.name} {stats.get("device_ordinal", 0)}'
          program = int(stats.get('program_id', 0)), str(stats.get('hlo_module', ''))
          at = event.start_ns, event.start_ns + event.duration_ns
          events.append((device, number, program, str(stats['hlo_op']), *at))
  origins = _origins(data, {event[2] for event in events})
  lines: dict[tuple[str, int], list[_Operation]] = defaultdict(list)
  for device, number, program, name, begin, end in events:
    part = part_of(origins[program].get(name, ''))
    lines[device, number].append(_Operation(begin, end, part))
  devices: dict[str, list[list[_Operation]]] = defaultdict(list)
  for (device, _), operations in lines.items():
    devices[device].append(operations)
  return devices


def _origins(data: bytes, wanted: set[tuple[int, str]]) -> dict[tuple[int, str], dict[str, str]]:
  """Where the operations of each program come from."""
  found = {p.identifier: p.operations for p in xplane.programs(data, {i for i, _ in wanted})}
  return {program: found.get(program[0], {}) for program in wanted}


def part_of(origin: str) -> str:
  """The part an operation belongs to: the innermost scope it was traced in.

  Args:
    origin: its `op_name`, such as 'jit(step)/transpose(jvp(encoder))/dot_general'.
  """
  known = [_SCOPES[word] for word in _WORDS.findall(origin) if word in _SCOPES]
  return known[-1] if known else OTHER


def _shared(lines: Iterable[list[_Operation]]) -> dict[str, float]:
  """Nanoseconds of each part: moments shared by what runs in them."""
  changes: list[tuple[float, int, str]] = []
  for operations in lines:
    for piece in _innermost(operations):
      changes += [(piece.begin, 1, piece.part), (piece.end, -1, piece.part)]
  changes.sort()
  total: dict[str, float] = defaultdict(float)
  active: dict[str, int] = defaultdict(int)
  running, last = 0, 0.0
  for at, change, part in changes:
    if running and at > last:
      for name, count in active.items():
        total[name] += (at - last) * count / running
    active[part] += change
    running += change
    last = at
  return dict(total)


def _innermost(operations: Iterable[_Operation]) -> list[_Operation]:
  """One line's operations without overlaps: an operation inside another one interrupts it."""
  pieces: list[_Operation] = []
  open_: list[_Operation] = []
  at = 0.0

  def advance(to: float) -> None:
    nonlocal at
    while open_ and at < to:
      end = min(open_[-1].end, to)
      if end > at:
        pieces.append(_Operation(at, end, open_[-1].part))
        at = end
      if open_[-1].end <= at:
        open_.pop()
    at = max(at, to)

  for operation in sorted(operations, key=lambda o: (o.begin, -o.end)):
    advance(operation.begin)
    open_.append(operation)
  if open_:
    advance(max(o.end for o in open_))
  return pieces
