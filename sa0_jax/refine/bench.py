"""How many refinement steps a second this machine does, on a synthetic subject."""

import dataclasses
import os
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sa0_kernels.rasterize.types import next_power_of_two

from sa0_jax.capture.frames import load_frames
from sa0_jax.capture.initialize import initialize_avatar
from sa0_jax.capture.studio import StudioConfig, film
from sa0_jax.head.registry import load_head
from sa0_jax.refine.config import AntiSpike, RefineConfig
from sa0_jax.refine.step import Binding, RefineState, StepMetrics, Subject, initial_state, run_steps


@dataclasses.dataclass(frozen=True)
class RefineBench:
  """What is measured.

  Attributes:
    resolution: side of the images, px.
    uv_size: side of the UV image; one Gaussian per valid texel.
    frames: frames of the subject's video.
    chunks: how many runs of steps are timed.
    steps: steps in each.
    implementation: rasterizer; None takes the fastest for this machine.
  """

  resolution: int = 256
  uv_size: int = 256
  frames: int = 8
  chunks: int = 7
  steps: int = 10
  implementation: str | None = None


def measure(bench: RefineBench) -> dict[str, Any]:
  """Times whole steps: pose, bind, render, loss, gradients, Adam, clamp and aspect penalty.

  Compilation is timed apart. The subject is fresh from the mesh, with the anti-spike
  regularisation acting from the first step, as it does for all but the first 500 of a run.

  Args:
    bench: sizes and lengths.

  Returns:
    A JSON-serialisable report; the rate is the median over the chunks.

  Raises:
    FloatingPointError: the loss was not finite.
  """
  config = RefineConfig(
    resolution=bench.resolution,
    uv_size=bench.uv_size,
    anti_spike=AntiSpike(start=0),
    implementation=bench.implementation,
  )
  state, subjects, binding = _prepare(bench, config)

  capacity = None

  def advance(state: RefineState, count: int) -> tuple[RefineState, StepMetrics]:
    steps = jnp.asarray(count, jnp.int32)
    return jax.block_until_ready(
      run_steps(state, subjects, binding, steps, config=config, capacity=capacity)
    )

  begin = time.perf_counter()
  _, metrics = advance(state, 1)
  first_call = time.perf_counter() - begin
  while bool(np.any(metrics.overflowed)):
    capacity = next_power_of_two(int(np.max(metrics.num_instances)))
    _, metrics = advance(state, 1)
  state, _ = advance(state, bench.steps)  # the caches of the machine, not only of the compiler
  seconds = []
  for _ in range(bench.chunks):
    begin = time.perf_counter()
    state, metrics = advance(state, bench.steps)
    seconds.append((time.perf_counter() - begin) / bench.steps)
  if not np.all(np.isfinite(metrics.loss)):
    raise FloatingPointError('bench refine: the loss is not finite')
  median = statistics.median(seconds)
  return {
    'workload': 'studio subject, one frame a step, full step with anti-spike regularisation',
    **dataclasses.asdict(bench),
    'num_gaussians': state.gaussians.n,
    'iterations_per_second': 1.0 / median,
    'milliseconds_median': 1e3 * median,
    'milliseconds_min': 1e3 * min(seconds),
    'milliseconds_max': 1e3 * max(seconds),
    'first_call_seconds': first_call,
    'overflowed': bool(np.any(metrics.overflowed)),
    'device': jax.devices()[0].device_kind,
    'cpu_count': os.cpu_count(),
    'jax': jax.__version__,
  }


def _prepare(bench: RefineBench, config: RefineConfig) -> tuple[RefineState, Subject, Binding]:
  """One studio subject, ready for its first step."""
  capture = film(
    StudioConfig(seed=3, frames=bench.frames, fps=2.0, resolution=bench.resolution, supersampling=1)
  )
  head = load_head(capture.head_name)
  frames = load_frames(capture, head, config.resolution)
  avatar = initialize_avatar(capture, head, config.uv_size, np.arange(len(capture)), config.seed)

  def lead(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[None], tree)

  subjects = Subject(
    frames=lead(frames),
    num_frames=jnp.asarray([len(capture)], jnp.int32),
    key=jax.random.key(config.seed)[None],
    color_logit=avatar.gaussians.color_logit[None],
  )
  binding = Binding(jnp.asarray(head.faces), avatar.layout.face)
  return initial_state(config, lead(avatar.gaussians)), subjects, binding
