"""What a training run leaves to be read: numbers by step, pictures, a log, TensorBoard's files."""

import contextlib
import errno
import io
import json
import math
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, SupportsFloat

import jax
import numpy as np
from jaxtyping import UInt8

from sa0_jax.archive import atomic_write
from sa0_jax.capture import image_files
from sa0_jax.train.parallel import path_name

METRICS, LOG, PICTURES, EVENTS = 'metrics.jsonl', 'log.txt', 'pictures', 'tensorboard'
_NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9_-]{0,99}')


class NullWriter:
  """Writes nothing; for the processes of a run that are not the first."""

  tensorboard = 'none'

  def scalars(self, step: int, values: Mapping[str, SupportsFloat]) -> None:
    """Does nothing."""

  def images(self, step: int, pictures: Mapping[str, UInt8[np.ndarray, 'h w 3']]) -> None:
    """Does nothing."""

  def note(self, text: str) -> None:
    """Does nothing."""

  def close(self) -> None:
    """Does nothing."""


class RunWriter:
  """Writes a run's folder. One process of a run has one; the others have a `NullWriter`.

      metrics.jsonl              one JSON object a line: step, time (seconds since 1970), numbers
      log.txt                    remarks
      pictures/NAME_0001200.png  pictures
      tensorboard/events.…       the same numbers and pictures for TensorBoard

  A line is in the file when a call returns, so a killed run loses none.

  Attributes:
    tensorboard: who writes TensorBoard's files: 'clu' (where clu and TensorFlow are installed),
      'tensorboardX', or 'none'.
  """

  def __init__(self, folder: str | os.PathLike[str], resume_step: int, tensorboard: bool):
    """Opens the folder, which is made where it is missing.

    Args:
      folder: of the run.
      resume_step: the last step that counts. Lines of later ones are dropped, as those steps are
        made again, and so is a line that a killed run did not finish. 0: nothing counts, the run
        begins anew.
      tensorboard: write TensorBoard's files too, where a library for them is installed.

    Raises:
      OSError: the folder cannot be written.
    """
    self.folder = Path(folder)
    self.folder.mkdir(parents=True, exist_ok=True)
    dropped = _drop_later(self.folder / METRICS, resume_step)
    self._metrics = io.FileIO(self.folder / METRICS, 'a')
    self._log = io.FileIO(self.folder / LOG, 'a')
    self._events = _open_events(self.folder / EVENTS, resume_step) if tensorboard else None
    self.tensorboard = 'none' if self._events is None else self._events.library
    if dropped:
      self.note(
        f'{METRICS}: dropped {dropped} lines that step {resume_step} does not have behind it'
      )

  def __enter__(self) -> 'RunWriter':
    return self

  def __exit__(self, *error: object) -> None:
    self.close()

  def scalars(self, step: int, values: Mapping[str, SupportsFloat]) -> None:
    """Writes numbers of one step.

    JSON has no NaN and no infinities: they become null, and the line says under 'not_finite' which.

    Args:
      step: steps done.
      values: numbers by name; not 'step', 'time' or 'not_finite'.

    Raises:
      ValueError: a name is taken.
      OSError: the disk is full, or gone.
    """
    taken = {'step', 'time', 'not_finite'} & values.keys()
    if taken:
      raise ValueError(f'RunWriter.scalars: {sorted(taken)} are names of the line itself')
    numbers = {name: float(value) for name, value in values.items()}
    finite = {name: x if math.isfinite(x) else None for name, x in numbers.items()}
    line: dict[str, Any] = {'step': int(step), 'time': round(time.time(), 3), **finite}
    lost = [name for name, x in finite.items() if x is None]
    if lost:
      line['not_finite'] = lost
    _append(self._metrics, json.dumps(line, allow_nan=False))
    if self._events is not None:
      self._to_events(lambda events: events.scalars(step, numbers))

  def images(self, step: int, pictures: Mapping[str, UInt8[np.ndarray, 'h w 3']]) -> None:
    """Writes pictures of one step.

    Args:
      step: steps done.
      pictures: RGB by name: letters, digits, - and _.

    Raises:
      ValueError: a name is none for a file.
      OSError: the disk is full, or gone.
    """
    for name, pixels in pictures.items():
      if not _NAME.fullmatch(name):
        raise ValueError(f'RunWriter.images: {name!r} is no name: use letters, digits, - and _')
      image_files.write(self.folder / PICTURES / f'{name}_{step:07d}.png', np.asarray(pixels))
    if self._events is not None:
      self._to_events(lambda events: events.images(step, pictures))

  def note(self, text: str) -> None:
    """Writes a remark with the time; further lines of a long one are indented.

    Raises:
      OSError: the disk is full, or gone.
    """
    now = time.strftime('%Y-%m-%d %H:%M:%S')
    _append(self._log, f'{now} ' + '\n  '.join(text.splitlines()))

  def close(self) -> None:
    """Closes the files."""
    self._metrics.close()
    self._log.close()
    if self._events is not None:
      self._to_events(lambda events: events.close())

  def _to_events(self, write: Any) -> None:
    try:
      write(self._events)
    except OSError as error:
      raise _cannot_write(error, self.folder / EVENTS) from error


def parameter_overview(parameters: Any) -> str:
  """A table of a network's parameters: name, shape, type, size; of a `TrainState`'s for example.

  clu makes it; without clu it is one line.

  Args:
    parameters: a tree of arrays, or of their shapes.
  """
  flat = {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(parameters)}
  try:
    from clu import parameter_overview as clu_overview
  except ImportError:
    total = sum(math.prod(leaf.shape) for leaf in flat.values())
    return f'{total:,} parameters in {len(flat)} arrays (the table of them needs clu)'
  return clu_overview.get_parameter_overview(flat, include_stats=False)


def _append(file: io.FileIO, text: str) -> None:
  """One line, at once: what the system takes is never half in a buffer of ours."""
  data = text.encode() + b'\n'
  try:
    if file.write(data) != len(data):
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
  except OSError as error:
    raise _cannot_write(error, file.name) from error


def _cannot_write(error: OSError, path: Any) -> OSError:
  reason = f'{error.strerror or error}: the run cannot write here; make room, and resume it'
  return OSError(error.errno or errno.EIO, reason, str(path))


def _drop_later(path: Path, resume_step: int) -> int:
  """Rewrites the file without what will be written again; returns how many lines are gone."""
  if not path.exists():
    return 0
  dropped = 0
  with open(path, 'rb') as old, atomic_write(path) as new:
    for line in old:
      step = _step_of(line)
      if resume_step and step is not None and step <= resume_step:
        new.write(line)
      else:
        dropped += 1
  return dropped


def _step_of(line: bytes) -> int | None:
  """The step of a whole line; None for half a one."""
  try:
    step = json.loads(line)['step'] if line.endswith(b'\n') else None
  except (ValueError, KeyError, TypeError, RecursionError):
    return None
  return step if isinstance(step, int) else None


class _CluEvents:
  """clu's writer, on TensorFlow. It cannot take back steps: a resumed run shows some twice."""

  library = 'clu'

  def __init__(self, folder: Path):
    from clu import metric_writers

    self._writer = metric_writers.SummaryWriter(str(folder))

  def scalars(self, step: int, values: Mapping[str, SupportsFloat]) -> None:
    self._writer.write_scalars(step, dict(values))
    self._writer.flush()

  def images(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
    self._writer.write_images(step, {name: pixels[None] for name, pixels in pictures.items()})
    self._writer.flush()

  def close(self) -> None:
    self._writer.close()


class _TensorboardXEvents:
  """tensorboardX's file format, written by the calling thread.

  Its `SummaryWriter` hands events to a thread through a queue of ten. When the disk is full that
  thread ends, and the eleventh event waits for ever, and the run with it.
  """

  library = 'tensorboardX'

  def __init__(self, folder: Path, resume_step: int):
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto import event_pb2, summary_pb2

    folder.mkdir(parents=True, exist_ok=True)
    self._event, self._summary = event_pb2.Event, summary_pb2.Summary
    # A name of its own: two starts in one second would share a file.
    self._writer = EventsWriter(str(folder / 'events'), f'.{os.getpid()}.{resume_step}')
    # TensorBoard then forgets the later steps in older files.
    start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    self._write(resume_step + 1, session_log=start)

  def scalars(self, step: int, values: Mapping[str, SupportsFloat]) -> None:
    self._values(step, [self._summary.Value(tag=k, simple_value=v) for k, v in values.items()])

  def images(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
    values = []
    for name, pixels in pictures.items():
      height, width = pixels.shape[:2]
      data = image_files.encode(pixels, '.png')
      image = self._summary.Image(
        height=height, width=width, colorspace=3, encoded_image_string=data
      )
      values.append(self._summary.Value(tag=name, image=image))
    self._values(step, values)

  def close(self) -> None:
    self._writer.close()

  def _values(self, step: int, values: list[Any]) -> None:
    self._write(step, summary=self._summary(value=values))

  def _write(self, step: int, **what: Any) -> None:
    self._writer.write_event(self._event(wall_time=time.time(), step=step, **what))
    self._writer.flush()


def _open_events(folder: Path, resume_step: int) -> _CluEvents | _TensorboardXEvents | None:
  """The writer of TensorBoard's files that this environment has."""
  # An ImportError of either says what is missing, or half installed: TensorFlow for clu.
  with contextlib.suppress(ImportError):
    return _CluEvents(folder)
  with contextlib.suppress(ImportError):
    return _TensorboardXEvents(folder, resume_step)
  return None


# What the loop writes to.
Writer = RunWriter | NullWriter
