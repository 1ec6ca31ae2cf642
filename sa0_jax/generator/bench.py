"""How long the feed-forward generator takes on this machine, from portraits to an image."""

import dataclasses
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from sa0_kernels import Camera, RasterConfig
from sa0_kernels.rasterize.types import grow_capacity

from sa0_jax.avatar.gaussians import BoundGaussians
from sa0_jax.generator.decoder import optical_axis
from sa0_jax.generator.example import example_cameras, example_sources
from sa0_jax.generator.generator import (
  Generator,
  GeneratorConfig,
  Identity,
  Rig,
  Sources,
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
    if not 1 <= self.sources <= 4:
      raise ValueError(f'GeneratorBench: 1 to 4 sources, got {self.sources}')
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
  rig = Rig.from_head(head, config.uv_size)
  arrays, size = rig.arrays, config.image_size
  generator = Generator(config, rngs=nnx.Rngs(0))
  sources = example_sources(config, head, 1, bench.sources)
  camera = jax.tree.map(lambda leaf: leaf[0], example_cameras(head, 1, size))
  codes = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], HeadCodes.neutral(head))
  vertices = jnp.asarray(head.v_template)

  @jax.jit
  def encode(generator: Generator, sources: Sources) -> Identity:
    return generator.encode(sources, arrays.uv)

  @jax.jit
  def decode(generator: Generator, identity: Identity) -> BoundGaussians:
    view = optical_axis(camera)[None]
    return generator.decode(identity, view, codes, arrays.rest).gaussians

  @jax.jit
  def forward(generator: Generator, sources: Sources) -> BoundGaussians:
    return decode(generator, encode(generator, sources))

  begin = time.perf_counter()
  gaussians = jax.block_until_ready(forward(generator, sources))
  first_call = time.perf_counter() - begin
  raster = RasterConfig()
  while True:
    render = _renderer(vertices, arrays.faces, arrays.uv.layout.face, camera, raster, bench)
    output = render(gaussians)
    grown = grow_capacity(raster, output.overflowed, output.num_instances)
    if grown is None:
      break
    raster = grown
  identity = encode(generator, sources)
  parts: dict[str, tuple[Callable[..., Any], tuple]] = {
    'encode': (encode, (generator, sources)),
    'decode': (decode, (generator, identity)),
    'forward': (forward, (generator, sources)),
    'render': (render, (gaussians,)),
  }
  report: dict[str, Any] = {
    'sources': bench.sources,
    'image_size': size,
    'num_gaussians': arrays.uv.layout.n,
    'dtype': config.dtype,
    'forward_first_call_seconds': first_call,
    'parameters': sum(leaf.size for leaf in jax.tree.leaves(generator)),
    'device': jax.devices()[0].device_kind,
    'cpu_count': os.cpu_count(),
    'jax': jax.__version__,
  }
  for name, (function, inputs) in parts.items():
    times = _time(function, inputs, bench.repeats)
    report[f'{name}_milliseconds'] = statistics.median(times)
    report[f'{name}_milliseconds_min'] = min(times)
  return report


def _renderer(
  vertices: jax.Array,
  faces: jax.Array,
  face: jax.Array,
  camera: Camera,
  raster: RasterConfig,
  bench: GeneratorBench,
) -> Callable[[BoundGaussians], Any]:
  @jax.jit
  def render(gaussians: BoundGaussians) -> Any:
    world = pose_gaussians(jax.tree.map(lambda leaf: leaf[0], gaussians), vertices, faces, face)
    return world.rasterize(camera, raster, bench.implementation)

  return render


def _time(function: Callable[..., Any], inputs: tuple, repeats: int) -> list[float]:
  """Milliseconds of each call, once compiled."""
  jax.block_until_ready(function(*inputs))
  times = []
  for _ in range(repeats):
    begin = time.perf_counter()
    jax.block_until_ready(function(*inputs))
    times.append(1e3 * (time.perf_counter() - begin))
  return times
