"""How long the feed-forward generator takes on this machine, from portraits to an image."""

import dataclasses
import functools
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array
from sa0_kernels import Camera, RasterConfig, RasterOutput, grow_capacity

from sa0_jax.avatar.gaussians import BoundGaussians
from sa0_jax.generator.example import example_cameras, example_sources
from sa0_jax.generator.generator import (
  MAX_SOURCES,
  Generator,
  GeneratorConfig,
  Rig,
  RigArrays,
  Sources,
  decode_frontal,
  encode,
)
from sa0_jax.head.model import HeadCodes
from sa0_jax.head.registry import load_head
from sa0_jax.render import pose_gaussians


@dataclasses.dataclass(frozen=True)
class GeneratorBench:
  """What is measured.

  Attributes:
    generator: the network; its weights are random.
    sources: portraits, 1 to 4.
    repeats: calls that are timed, of each part.
    implementation: rasterizer; None takes the fastest for this machine.
  """

  generator: GeneratorConfig = dataclasses.field(default_factory=GeneratorConfig)
  sources: int = 1
  repeats: int = 20
  implementation: str | None = None

  def __post_init__(self) -> None:
    if not 1 <= self.sources <= MAX_SOURCES:
      raise ValueError(f'GeneratorBench: 1 to {MAX_SOURCES} sources, got {self.sources}')
    if self.repeats < 1:
      raise ValueError(f'GeneratorBench: repeats must be positive, got {self.repeats}')


def measure(bench: GeneratorBench) -> dict[str, Any]:
  """Times one person: latency of single calls, launch and return to the host included.

  'encode' is what a person costs once, 'decode' what a frame costs before rendering, 'forward' both
  in one program (portraits to Gaussians), 'render' posing, binding and rasterising them.

  Returns:
    A JSON-serialisable report; times are medians in milliseconds.
  """
  config = bench.generator
  head = load_head()
  arrays = Rig.from_head(head, config).arrays
  generator = Generator(config, rngs=nnx.Rngs(0))
  sources = example_sources(config, head, 1, bench.sources)
  camera = jax.tree.map(lambda leaf: leaf[0], example_cameras(head, 1, config.image_size))
  codes = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], HeadCodes.neutral(head))
  vertices = jnp.asarray(head.v_template)

  begin = time.perf_counter()
  gaussians = jax.block_until_ready(_forward(generator, sources, codes, arrays))
  first_call = time.perf_counter() - begin
  scene = (jax.tree.map(lambda leaf: leaf[0], gaussians), vertices, arrays, camera)
  render = functools.partial(_render, implementation=bench.implementation)
  grown: RasterConfig | None = RasterConfig()
  while grown is not None:
    raster = grown
    output = render(*scene, raster=raster)
    grown = grow_capacity(raster, output.overflowed, output.num_instances)
  identity = encode(generator, sources, arrays)
  parts = {
    'encode': functools.partial(encode, generator, sources, arrays),
    'decode': functools.partial(decode_frontal, generator, identity, codes, arrays.rest),
    'forward': functools.partial(_forward, generator, sources, codes, arrays),
    'render': functools.partial(render, *scene, raster=raster),
  }
  report: dict[str, Any] = {
    'sources': bench.sources,
    'image_size': config.image_size,
    'num_gaussians': arrays.uv.layout.n,
    'dtype': config.dtype,
    'forward_first_call_seconds': first_call,
    'parameters': sum(leaf.size for leaf in jax.tree.leaves(generator)),
    'device': jax.devices()[0].device_kind,
    'cpu_count': os.cpu_count(),
    'jax': jax.__version__,
  }
  for name, call in parts.items():
    times = _time(call, bench.repeats)
    report[f'{name}_milliseconds'] = statistics.median(times)
    report[f'{name}_milliseconds_min'] = min(times)
  return report


@jax.jit
def _forward(
  generator: Generator, sources: Sources, codes: HeadCodes, arrays: RigArrays
) -> BoundGaussians:
  return decode_frontal(generator, encode(generator, sources, arrays), codes, arrays.rest)


@functools.partial(jax.jit, static_argnames=('raster', 'implementation'))
def _render(
  gaussians: BoundGaussians,
  vertices: Array,
  arrays: RigArrays,
  camera: Camera,
  *,
  raster: RasterConfig,
  implementation: str | None,
) -> RasterOutput:
  world = pose_gaussians(gaussians, vertices, arrays.faces, arrays.uv.layout.face)
  return world.rasterize(camera, raster, implementation)


def _time(call: Callable[[], Any], repeats: int) -> list[float]:
  """Milliseconds of each call, once compiled."""
  jax.block_until_ready(call())
  times = []
  for _ in range(repeats):
    begin = time.perf_counter()
    jax.block_until_ready(call())
    times.append(1e3 * (time.perf_counter() - begin))
  return times
