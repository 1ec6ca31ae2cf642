"""Rates of a run, on a clock of the test's own."""

import resource

import jax
import pytest

from sa0_jax.train import meter as meter_module
from sa0_jax.train.meter import Meter


class Clock:
  """Seconds that pass when the test says so."""

  def __init__(self):
    self.now = 100.0

  def __call__(self):
    return self.now


def train(meter, clock, steps, wait, work):
  for _ in range(steps):
    with meter.waiting():
      clock.now += wait
    clock.now += work
    meter.step()


def test_rates_are_those_since_the_last_reading():
  clock = Clock()
  meter = Meter(batch_size=48, steps=1100, start_step=1000, clock=clock)
  train(meter, clock, 1, wait=0.0, work=60.0)  # compiles
  first = meter.read()
  assert first.steps_per_second == pytest.approx(1 / 60)
  train(meter, clock, 9, wait=0.1, work=0.4)
  rates = meter.read()
  assert rates.steps_per_second == pytest.approx(2.0)
  assert rates.images_per_second == pytest.approx(96.0)
  assert rates.data_wait_share == pytest.approx(0.2)
  assert rates.seconds_left == pytest.approx(90 / 2.0)  # 1010 of 1100 are done


def test_a_draw_that_fails_has_been_waited_for():
  clock = Clock()
  meter = Meter(2, 10, clock=clock)

  def draw():
    with meter.waiting():
      clock.now += 3.0
      return next(iter([]))

  with pytest.raises(StopIteration):
    draw()
  clock.now += 1.0
  rates = meter.read()
  assert rates.data_wait_share == pytest.approx(0.75)
  assert (rates.steps_per_second, rates.seconds_left) == (0.0, None)


def test_memory_is_what_the_system_says(monkeypatch):
  rates = Meter(2, 10).read()
  assert 50e6 < rates.host_memory_bytes <= 1024 * resource.getrusage(0).ru_maxrss
  assert rates.device_memory_bytes is None  # a CPU does not say

  class Device:
    def __init__(self, stats):
      self.memory_stats = lambda: stats

  devices = [Device({'peak_bytes_in_use': 5}), Device({'peak_bytes_in_use': 7}), Device(None)]
  monkeypatch.setattr(jax, 'local_devices', lambda: devices)
  assert Meter(2, 10).read().device_memory_bytes == 7


def test_memory_nobody_counts_is_not_in_the_line(monkeypatch):
  monkeypatch.setattr(meter_module, 'peak_memory', lambda: None)
  meter = Meter(2, 10)
  rates = meter.read()
  assert rates.host_memory_bytes is None
  assert 'GiB' not in meter.line(0, rates, {})


def test_the_line_says_it_all():
  meter = Meter(batch_size=48, steps=200_000)
  rates = meter.read()._replace(
    steps_per_second=1.92,
    images_per_second=92.2,
    data_wait_share=0.031,
    device_memory_bytes=int(3.1 * 2**30),
    seconds_left=104_400.0,
  )
  assert meter.line(1200, rates, {'loss': 0.2129, 'psnr': 24.81, 'l1': 1.0}) == (
    'step 1200/200000 · 1.9 steps/s · 92 images/s · data wait 3% · loss 0.213 · 24.8 dB · 3.1 GiB'
    ' · 29 h left'
  )
  nothing = rates._replace(steps_per_second=0.0, images_per_second=0.0, seconds_left=None)
  assert meter.line(0, nothing, {}) == (
    'step 0/200000 · 0 steps/s · 0 images/s · data wait 3% · 3.1 GiB'
  )


@pytest.mark.parametrize(
  ('seconds', 'text'),
  [(0.0, '0 s'), (99.4, '99 s'), (720.0, '12 min'), (6000.0, '2 h'), (1e6, '12 d')],
)
def test_the_time_left_is_one_number(seconds, text):
  meter = Meter(1, 1)
  assert meter.line(0, meter.read()._replace(seconds_left=seconds), {}).endswith(f' {text} left')
