"""How fast this machine trains: whole steps, what they wait for, and where their time goes."""

import dataclasses
import tempfile
import time
from collections.abc import Iterator
from typing import Any, Literal

import jax
import jax.numpy as jnp

from sa0_jax.generator.generator import Rig
from sa0_jax.head.registry import load_head
from sa0_jax.losses.lpips import zero_lpips
from sa0_jax.train import parallel, trace
from sa0_jax.train.config import TrainConfig
from sa0_jax.train.example import example_batch
from sa0_jax.train.inspect import count_flops
from sa0_jax.train.meter import Meter
from sa0_jax.train.objective import Batch
from sa0_jax.train.phases import Phase
from sa0_jax.train.step import TrainState, make_trainer, room_for

_PROFILED = 3  # steps
_MATMUL_SECONDS = 0.5


@dataclasses.dataclass(frozen=True)
class TrainBench:
  """What is measured.

  Attributes:
    config: the network and its phases. Where the phase names data sets, batches come from them;
      else one made-up batch is on the devices already, and nothing waits for data.
    phase: 1 or 2.
    batch_size: targets a step over all devices; None for the phase's.
    steps: that are timed.
  """

  config: TrainConfig
  phase: Literal[1, 2] = 1
  batch_size: int | None = None
  steps: int = 10

  def __post_init__(self) -> None:
    if self.phase not in (1, 2) or self.steps < 2:
      raise ValueError(
        f'TrainBench: phase is 1 or 2 and steps at least 2, got {self.phase} and {self.steps}'
      )


def measure(bench: TrainBench) -> dict[str, Any]:
  """Times steps of training from random weights; LPIPS counts with weights of zero.

  Returns:
    A JSON object. 'model_flops_utilization' is XLA's count of the step's operations, our kernels
    not in it, over the time and over what a large product of matrices of the same dtype reaches
    here, measured beside it.

  Raises:
    ValueError: the batch cannot be spread over the devices.
  """
  config = bench.config
  settings = config.phase2 if bench.phase == 2 else config.phase1
  size = bench.batch_size or settings.batch_size
  settings = dataclasses.replace(settings, batch_size=size)
  phase, mesh = Phase(bench.phase, settings, 0), parallel.make_mesh(fsdp=config.fsdp)
  trainer, head = make_trainer(config, phase, mesh), load_head()
  whole = parallel.replicated(mesh)
  rig = jax.device_put(Rig.from_head(head, config.generator).arrays, whole)
  lpips = jax.device_put(zero_lpips(), whole) if settings.objective.weights.lpips else None
  batches = _batches(config, phase, mesh)
  begin = time.perf_counter()
  state, first = trainer.step(trainer.init(), next(batches), rig, lpips)
  if bool(first.overflowed):
    trainer = make_trainer(config, phase, mesh, room_for(int(first.num_instances)))
    state, _ = trainer.step(trainer.init(), next(batches), rig, lpips)
  jax.block_until_ready(state)
  first_call = time.perf_counter() - begin
  meter = Meter(size, bench.steps)

  def run(state: TrainState, steps: int, profile: trace.Profile | None = None) -> TrainState:
    for number in range(steps):
      with meter.waiting():
        batch = next(batches)
      if profile is not None:
        profile.before(number, state)
      state, _ = trainer.step(state, batch, rig, lpips)
      if profile is not None:
        profile.after(number, state)
      meter.step()
    jax.block_until_ready(state)
    return state

  state = run(state, bench.steps)
  rates = meter.read()
  seconds = 1 / rates.steps_per_second
  flops, matmul = count_flops(config, phase), matmul_rate(settings.dtype)
  with tempfile.TemporaryDirectory() as folder:
    run(state, _PROFILED, trace.Profile(folder, 0, _PROFILED))
    parts = [part._asdict() for part in trace.breakdown(folder)]
  return {
    'phase': bench.phase,
    'batch_size': size,
    'dtype': settings.dtype,
    'devices': mesh.size,
    'device': mesh.devices.flat[0].device_kind,
    'jax': jax.__version__,
    'steps': bench.steps,
    'steps_per_second': rates.steps_per_second,
    'images_per_second': rates.images_per_second,
    'seconds_per_step': seconds,
    'data_wait_share': rates.data_wait_share,
    'from_data_sets': bool(settings.data.datasets),
    'first_call_seconds': first_call,
    'host_memory_bytes': rates.host_memory_bytes,
    'device_memory_bytes': rates.device_memory_bytes,
    'flops_per_step': flops,
    'matmul_flops_per_second': matmul,
    'model_flops_utilization': None if flops is None else flops / seconds / (matmul * mesh.size),
    'parts': parts,
  }


def _batches(config: TrainConfig, phase: Phase, mesh: Any) -> Iterator[Batch]:
  """Of the phase's data sets, or the same made-up one for ever."""
  head, settings = load_head(), phase.config
  if not settings.data.datasets:
    batch = example_batch(config.generator, head, settings.batch_size)
    batch = jax.device_put(batch, parallel.spread(mesh))
    while True:
      yield batch
  # Here: machines that only measure have none of the libraries that read data.
  from sa0_jax.data.pipeline import Run, make_batches, on_devices
  from sa0_jax.train.feed import make_feed, make_put

  run = Run(
    settings.batch_size,
    config.generator.image_size,
    1 << 20,
    phase=settings.objective.phase,
    seed=config.seed,
  )
  feed = make_feed(mesh, head)
  for frames in on_devices(make_batches(settings.data, run), make_put(mesh)):
    yield feed(frames)


def matmul_rate(dtype: str) -> float:
  """Operations a second of one device in a large product of matrices, measured."""
  size = 8192 if jax.default_backend() != 'cpu' else 1024
  left = jnp.ones((size, size), dtype)
  multiply = jax.jit(lambda a, b: a @ b)
  multiply(left, left).block_until_ready()
  count, begin = 0, time.perf_counter()
  while time.perf_counter() - begin < _MATMUL_SECONDS:
    for _ in range(4):
      result = multiply(left, left)
    result.block_until_ready()
    count += 4
  return 2.0 * size**3 * count / (time.perf_counter() - begin)
