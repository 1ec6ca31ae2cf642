"""How fast a run is, what it waits for, what it needs, and the line that says so."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, SupportsFloat

import jax

from sa0_jax.processes import peak_memory


class Rates(NamedTuple):
  """Of the steps since the last reading.

  Attributes:
    steps_per_second: steps that were handed to the devices; 0 where there were none.
    images_per_second: targets over all devices.
    data_wait_share: part of the time in which the loop waited for a batch, 0 to 1.
    host_memory_bytes: the most this process has ever had in memory; None where the system does
      not say.
    device_memory_bytes: the most that was ever in use on one of this process's devices; None where
      devices do not say (CPUs).
    seconds_left: to the last step, at this rate; None where there were no steps.
  """

  steps_per_second: float
  images_per_second: float
  data_wait_share: float
  host_memory_bytes: int | None
  device_memory_bytes: int | None
  seconds_left: float | None


class Meter:
  """Counts steps and waiting; never waits for a device itself.

      with meter.waiting():
        batch = next(batches)
      state, metrics = step(state, batch)
      meter.step()

  Devices work behind the loop, a step or two: rates are right where something in the window waited
  for them, such as the metrics that are written with them.
  """

  def __init__(
    self,
    batch_size: int,
    steps: int,
    start_step: int = 0,
    clock: Callable[[], float] = time.monotonic,
  ):
    """Starts the first window.

    Args:
      batch_size: targets a step, over all devices.
      steps: of the whole run.
      start_step: steps done before.
      clock: seconds.
    """
    self._batch_size, self._steps, self._clock = batch_size, steps, clock
    self._done = self._read = start_step
    self._begin = clock()
    self._waited = 0.0

  @contextlib.contextmanager
  def waiting(self) -> Iterator[None]:
    """Around the draw of a batch."""
    begin = self._clock()
    try:
      yield
    finally:
      self._waited += self._clock() - begin

  def step(self) -> None:
    """After each step."""
    self._done += 1

  def read(self) -> Rates:
    """Rates since the last reading; the next window begins."""
    now = self._clock()
    seconds = max(now - self._begin, 1e-9)
    rate = (self._done - self._read) / seconds
    rates = Rates(
      steps_per_second=rate,
      images_per_second=rate * self._batch_size,
      data_wait_share=min(self._waited / seconds, 1.0),
      host_memory_bytes=peak_memory(),
      device_memory_bytes=_device_peak(),
      seconds_left=max(self._steps - self._done, 0) / rate if rate else None,
    )
    self._begin, self._read, self._waited = now, self._done, 0.0
    return rates

  def line(self, step: int, rates: Rates, values: Mapping[str, SupportsFloat]) -> str:
    """The text of a progress line.

    Args:
      step: steps done.
      rates: from `read`.
      values: what was measured; 'loss' and 'psnr' (dB) are shown where they are there.
    """
    parts = [
      f'step {step}/{self._steps}',
      f'{_short(rates.steps_per_second)} steps/s',
      f'{_short(rates.images_per_second)} images/s',
      f'data wait {100 * rates.data_wait_share:.0f}%',
    ]
    if 'loss' in values:
      parts.append(f'loss {float(values["loss"]):.3g}')
    if 'psnr' in values:
      parts.append(f'{float(values["psnr"]):.1f} dB')
    known = (rates.device_memory_bytes, rates.host_memory_bytes)
    memory = next((size for size in known if size is not None), None)
    if memory is not None:
      parts.append(f'{memory / 2**30:.1f} GiB')
    if rates.seconds_left is not None:
      parts.append(f'{_about(rates.seconds_left)} left')
    return ' · '.join(parts)


def _short(number: float) -> str:
  """Two digits that count: 0.042, 1.9, 92, 1240."""
  if number >= 10 or number == 0:
    return f'{number:.0f}'
  return f'{number:.1f}' if number >= 1 else f'{number:.2g}'


def _about(seconds: float) -> str:
  """One number for a time that is a guess: '40 s', '12 min', '29 h', '6 d'."""
  for size, unit, most in ((1, 's', 100), (60, 'min', 100), (3600, 'h', 100)):
    if seconds / size < most:
      return f'{seconds / size:.0f} {unit}'
  return f'{seconds / 86400:.0f} d'


def _device_peak() -> int | None:
  """Largest of the local devices, bytes."""
  stats = [device.memory_stats() for device in jax.local_devices()]
  peaks = [s['peak_bytes_in_use'] for s in stats if s and 'peak_bytes_in_use' in s]
  return max(peaks) if peaks else None
