"""How long the compilers take: the part of a first run that a second one is spared."""

import collections
import contextlib
import threading
import time
from types import TracebackType
from typing import Any

import jax

# Tracing, lowering and XLA's own work all report under this name.
_JAX_EVENTS = '/jax/core/compile/'
_NUMBA_EVENT = 'numba:compile'


class CompileClock:
  """Seconds spent compiling, by JAX and numba together, while the block runs.

  Both compilers report what they do. Reports overlap (a traced function traces the functions it
  calls; numba compiles while XLA waits for it), so the clock keeps intervals and adds up their
  union: no second counts twice.
  """

  def __init__(self) -> None:
    self._intervals: list[tuple[float, float]] = []
    self._listening = contextlib.ExitStack()

  def __enter__(self) -> 'CompileClock':
    jax.monitoring.register_event_duration_secs_listener(self._on_jax_event)
    self._listening.callback(jax.monitoring.unregister_event_duration_listener, self._on_jax_event)
    with contextlib.suppress(ImportError):  # without numba there is nothing to listen to
      self._listening.enter_context(_numba_listener(self._intervals))
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    trace: TracebackType | None,
  ) -> None:
    self._listening.close()

  @property
  def seconds(self) -> float:
    """Length of the union of all intervals so far."""
    total, end = 0.0, float('-inf')
    for start, stop in sorted(self._intervals):
      total += max(stop - max(start, end), 0.0)
      end = max(end, stop)
    return total

  def _on_jax_event(self, event: str, duration_secs: float, **_: str | int) -> None:
    if event.startswith(_JAX_EVENTS):
      now = time.perf_counter()
      self._intervals.append((now - duration_secs, now))


def _numba_listener(
  intervals: list[tuple[float, float]],
) -> contextlib.AbstractContextManager[Any]:
  """Appends an interval for every function numba compiles."""
  from numba.core import event

  class Listener(event.Listener):
    """Pairs starts with ends; a function that calls others is compiled around them."""

    def __init__(self) -> None:
      self._starts: dict[int, list[float]] = collections.defaultdict(list)  # by thread

    def on_start(self, event: Any) -> None:
      self._starts[threading.get_ident()].append(time.perf_counter())

    def on_end(self, event: Any) -> None:
      starts = self._starts[threading.get_ident()]
      if starts:  # a compilation may have begun before anybody listened
        intervals.append((starts.pop(), time.perf_counter()))

  return event.install_listener(_NUMBA_EVENT, Listener())
