"""The progress line: rewritten in place on a terminal, a line at a time in a log."""

import sys
import time
from types import TracebackType
from typing import TextIO

_LOG_INTERVAL = 10.0  # seconds between lines that are not rewritten


class ProgressLine:
  """A line on standard error; used as a context manager so that it always ends.

  A terminal shows every update, on one line. Elsewhere a line appears at most every ten seconds,
  and for the last step.
  """

  def __init__(self, command: str, stream: TextIO | None = None):
    """Starts; nothing is written until the first update."""
    self._stream = sys.stderr if stream is None else stream
    self._prefix = f'{command}: '
    self._live = self._stream.isatty()
    self._begin = self._last = time.monotonic()
    self._done = 0
    self._open = False

  def __enter__(self) -> 'ProgressLine':
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    trace: TracebackType | None,
  ) -> None:
    if self._open:
      print(file=self._stream, flush=True)
      self._open = False

  def write(self, text: str, *, force: bool = False) -> None:
    """Shows a text.

    Args:
      text: without a line break.
      force: also in a log that has just had a line.
    """
    now = time.monotonic()
    if self._live:
      print(f'\r{self._prefix}{text}\x1b[K', end='', file=self._stream, flush=True)
      self._open = True
    elif force or now - self._last >= _LOG_INTERVAL:
      print(f'{self._prefix}{text}', file=self._stream, flush=True)
      self._last = now

  def restart(self, done: int = 0) -> None:
    """Begins to count anew: rates are of what follows; `done` is done already."""
    self._begin, self._done = time.monotonic(), done

  def count(self, done: int, total: int, unit: str = 'frames', *, force: bool = False) -> None:
    """Shows how many of something are done, how fast, and the time left; 0 is an unknown total."""
    rate = (done - self._done) / max(time.monotonic() - self._begin, 1e-9)
    if not total:
      self.write(f'{done} {unit}  {rate:.1f}/s', force=force)
      return
    left = duration((total - done) / rate) if rate else '?'
    self.write(f'{done}/{total} {unit}  {rate:.1f}/s  {left} left', force=force)


class StageProgress:
  """Turns the tracker's reports into progress lines, with a rate for every stage."""

  def __init__(self, line: ProgressLine):
    """Writes to a line."""
    self._line = line
    self._stage = ''

  def __call__(self, stage: str, done: int, total: int) -> None:
    """What the tracker calls."""
    if stage != self._stage:
      self._stage = stage
      self._line.restart(done)
    unit = f'{stage.replace("_", " ")} {"steps" if "photometric" in stage else "frames"}'
    self._line.count(done, total, unit, force=done == total)


def duration(seconds: float) -> str:
  """'9 s', '3 min 05 s' or '2 h 10 min'."""
  whole = round(seconds)
  if whole < 60:
    return f'{whole} s'
  if whole < 3600:
    return f'{whole // 60} min {whole % 60:02d} s'
  return f'{whole // 3600} h {whole % 3600 // 60:02d} min'
