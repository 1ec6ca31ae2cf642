"""Rasterizer for TPUs: Pallas kernels for the Mosaic compiler.

One program composites one tile, pixels along the lanes. It walks the tile's list in chunks of 128
Gaussians along the sublanes, copied from HBM while the chunk before is worked on. Everything that
would be a gather, a scan or a sum over pixels is a matrix product:

- the exponent ½(A dx² + C dy²) + B dx dy − log(opacity) is a quadratic in the pixel's place in the
  tile: [128, 8] coefficients times [8, pixels] monomials;
- log-transmittance in front of each Gaussian: a triangular matrix times log(1 − α);
- gradients of centre and conic: the same monomials times ∂loss/∂exponent give its moments.

All of them ask for float32 accuracy (`Precision.HIGHEST`); the default of a TPU is bfloat16.
Lists begin at multiples of 128, because copies along lanes must.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float

from sa0_kernels.rasterize import pipeline
from sa0_kernels.rasterize.pipeline import Frame, Instances
from sa0_kernels.rasterize.types import Settings, SplatInputs

_TILE = 16
TILE_SIZES = (16, 32)  # worth timing; see `tuning`
_CHUNK = 128  # lanes of a vector register
_MONOMIALS = 8  # 1, u, v, u², u v, v² and two unused
_NOTHING = 1e4  # exponent of a Gaussian that is not there: exp(−1e4) is 0 exactly
_INTERPRET: Any = True  # how Pallas interprets on a CPU; tests put in the one that finds races
_HIGHEST = jax.lax.Precision.HIGHEST


def unsupported(settings: Settings, inputs: SplatInputs) -> list[str]:
  """Reasons why this implementation cannot run these inputs."""
  reasons = []
  if inputs.means.dtype != jnp.float32:
    reasons.append(f'inputs are {inputs.means.dtype}, only float32 is implemented')
  if settings.tile_size(_TILE) not in (16, 32):
    reasons.append(
      f'tiles are 16 or 32 px, not {settings.tile_size(_TILE)}: registers have 128 lanes'
    )
  return reasons


def _dot(a: Array, b: Array, contract: tuple[int, int]) -> Array:
  dimensions = (((contract[0],), (contract[1],)), ((), ()))
  return jax.lax.dot_general(
    a, b, dimensions, precision=_HIGHEST, preferred_element_type=jnp.float32
  )


def _monomials(frame: Frame) -> Float[Array, '8 p']:
  """1, u, v, u², u v, v² of a pixel's place u, v relative to the middle of its tile."""
  pixel = jnp.arange(frame.pixels)
  u = (pixel % frame.tile).astype(jnp.float32) + 0.5 - 0.5 * frame.tile
  v = (pixel // frame.tile).astype(jnp.float32) + 0.5 - 0.5 * frame.tile
  one = jnp.ones_like(u)
  return jnp.stack([one, u, v, u * u, u * v, v * v, 0 * one, 0 * one])


def _coefficients(frame: Frame, instances: Instances) -> Float[Array, '8 m']:
  """Coefficients of those monomials: exponent − log(opacity) of every instance."""
  x, y, a, b, c, opacity = _in_tile(frame, instances)
  there = opacity > 0.0
  constant = 0.5 * (a * x * x + c * y * y) + b * x * y - jnp.log(jnp.where(there, opacity, 1.0))
  # One far away may have a huge constant; both say that nothing is drawn.
  rows = (
    jnp.where(there, constant, _NOTHING),
    -(a * x + b * y),
    -(c * y + b * x),
    0.5 * a,
    b,
    0.5 * c,
    0.0 * x,
    0.0 * x,
  )
  return jnp.stack(rows)


def _in_tile(frame: Frame, instances: Instances) -> tuple[Array, ...]:
  """Centre relative to the middle of its tile, conic A, B, C and opacity of every instance."""
  place = jnp.arange(instances.geometry.shape[0], dtype=jnp.int32)
  after = jnp.searchsorted(instances.start, place, side='right').astype(jnp.int32)
  tile = jnp.clip(after - 1, 0, frame.num_tiles - 1) % frame.tiles_per_view
  x, y, *shape = (instances.geometry[:, k] for k in range(pipeline.EXPONENT_MAX))
  x = x - (tile % frame.columns * frame.tile + 0.5 * frame.tile)
  y = y - (tile // frame.columns * frame.tile + 0.5 * frame.tile)
  return x, y, *shape


class _Chunks:
  """Copies of a tile's chunks from HBM, two at a time."""

  def __init__(self, sources: tuple, buffers: tuple, semaphores: Any, start: Array) -> None:
    self._sources, self._buffers = sources, buffers
    self._semaphores, self._start = semaphores, start

  def _copies(self, chunk: Array) -> list:
    slot = jax.lax.rem(chunk, 2)
    lanes = pl.ds(pl.multiple_of(self._start + chunk * _CHUNK, _CHUNK), _CHUNK)
    return [
      pltpu.make_async_copy(source.at[:, lanes], buffer.at[slot], self._semaphores.at[k, slot])
      for k, (source, buffer) in enumerate(zip(self._sources, self._buffers, strict=True))
    ]

  def fetch(self, chunk: Array) -> None:
    """Begins to copy a chunk."""
    for copy in self._copies(chunk):
      copy.start()

  def wait(self, chunk: Array) -> tuple[Array, ...]:
    """A chunk that was fetched, one array of each source."""
    for copy in self._copies(chunk):
      copy.wait()
    slot = jax.lax.rem(chunk, 2)
    return tuple(buffer[slot] for buffer in self._buffers)

  def walk(self, count: Array, carry: tuple, step: Any) -> tuple[Array, tuple]:
    """Steps through `count` chunks while carry[0], log-transmittance, is not −∞ everywhere."""

    @pl.when(count > 0)
    def begin() -> None:
      self.fetch(jnp.int32(0))

    def unfinished(state: tuple) -> Array:
      return (state[0] < count) & (state[1] > 0)

    def body(state: tuple) -> tuple:
      chunk, _, carry = state

      @pl.when(chunk + 1 < count)
      def ahead() -> None:
        self.fetch(chunk + 1)

      carry = step(chunk, self.wait(chunk), carry)
      return chunk + 1, (jnp.max(carry[0]) > _STOPPED).astype(jnp.int32), carry

    reached, _, carry = jax.lax.while_loop(unfinished, body, (jnp.int32(0), jnp.int32(1), carry))

    @pl.when((reached < count) & (count > 0))
    def drain() -> None:  # what was fetched ahead in vain must still arrive
      self.wait(reached)

    return reached, carry


_STOPPED = -1e30  # log-transmittance of a pixel that takes no more


@dataclasses.dataclass
class _Alphas:
  """Per Gaussian of a chunk and pixel, [k, p]."""

  unclamped: Array
  alpha: Array
  before: Array
  kept: Array  # 1 where the pixel has not stopped before or at it
  weight: Array
  log_pass: Array


def _triangle() -> Array:
  """_triangle() @ x is the inclusive cumulative sum of a chunk."""
  row = jax.lax.broadcasted_iota(jnp.int32, (_CHUNK, _CHUNK), 0)
  column = jax.lax.broadcasted_iota(jnp.int32, (_CHUNK, _CHUNK), 1)
  return (column <= row).astype(jnp.float32)


def _alphas(settings: Settings, coefficients: Array, monomials: Array, log_t: Array) -> _Alphas:
  config = settings.config
  exponent = _dot(coefficients, monomials, (0, 0))
  unclamped = jnp.exp(-exponent)
  alpha = jnp.where(unclamped >= config.alpha_min, jnp.minimum(unclamped, config.alpha_max), 0.0)
  log_pass = jnp.log(1.0 - alpha)
  after = log_t + _dot(_triangle(), log_pass, (1, 0))
  kept = (after > math.log(config.transmittance_min or 1e-38)).astype(jnp.float32)
  before = jnp.exp(after - log_pass)
  return _Alphas(unclamped, alpha, before, kept, alpha * before * kept, log_pass)


def _advance(log_t: Array, final: Array, alphas: _Alphas) -> tuple[Array, Array]:
  """Log-transmittance behind a chunk (stopped or not), and behind the last Gaussian kept."""
  final = final + jnp.sum(alphas.log_pass * alphas.kept, axis=0, keepdims=True)
  # Once one is not kept all that follow are not, so the last tells.
  return jnp.where(alphas.kept[_CHUNK - 1 :] > 0.0, final, _STOPPED), final


def _inside(frame: Frame, tile: Array) -> Array:
  """[1, p] where a tile's pixels are inside the image."""
  tile = jax.lax.rem(tile, frame.tiles_per_view)
  pixel = jax.lax.broadcasted_iota(jnp.int32, (1, frame.pixels), 1)
  x = jax.lax.rem(tile, frame.columns) * frame.tile + jax.lax.rem(pixel, frame.tile)
  y = jax.lax.div(tile, frame.columns) * frame.tile + jax.lax.div(pixel, frame.tile)
  return (x < frame.settings.width) & (y < frame.settings.height)


def _composite_kernel(
  start: Any,
  end: Any,
  coefficients: Any,
  features: Any,
  monomials: Any,
  image: Any,
  transmittance: Any,
  coefficient_buffer: Any,
  feature_buffer: Any,
  semaphores: Any,
  *,
  frame: Frame,
) -> None:
  tile = pl.program_id(0)
  begin = start[tile]
  chunks = _Chunks(
    (coefficients, features), (coefficient_buffer, feature_buffer), semaphores, begin
  )
  places = monomials[...]
  image[0] = jnp.zeros(image.shape[1:], jnp.float32)

  def step(chunk: Array, arrays: tuple, carry: tuple) -> tuple:
    del chunk
    alphas = _alphas(frame.settings, arrays[0], places, carry[0])
    image[0] += _dot(arrays[1], alphas.weight, (1, 0))
    return _advance(carry[0], carry[1], alphas)

  zero = jnp.zeros((1, frame.pixels), jnp.float32)
  log_t = jnp.where(_inside(frame, tile), zero, _STOPPED)
  _, (_, final) = chunks.walk(pl.cdiv(end[tile] - begin, _CHUNK), (log_t, zero), step)
  transmittance[0] = jnp.exp(final)


def _composite_backward_kernel(
  start: Any,
  end: Any,
  coefficients: Any,
  features: Any,
  monomials: Any,
  cotangent: Any,
  behind: Any,
  moments: Any,
  d_features: Any,
  coefficient_buffer: Any,
  feature_buffer: Any,
  semaphores: Any,
  moment_buffer: Any,
  d_feature_buffer: Any,
  stored: Any,
  *,
  frame: Frame,
) -> None:
  tile = pl.program_id(0)
  begin = start[tile]
  chunks = _Chunks(
    (coefficients, features), (coefficient_buffer, feature_buffer), semaphores, begin
  )
  places, slopes = monomials[...], cotangent[0]

  def store(chunk: Array, moment: Array, d_feature: Array) -> None:
    lanes = pl.ds(pl.multiple_of(begin + chunk * _CHUNK, _CHUNK), _CHUNK)
    moment_buffer[...] = moment
    d_feature_buffer[...] = d_feature
    copies = [
      pltpu.make_async_copy(moment_buffer, moments.at[:, lanes], stored.at[0]),
      pltpu.make_async_copy(d_feature_buffer, d_features.at[:, lanes], stored.at[1]),
    ]
    for copy in copies:
      copy.start()
    for copy in copies:
      copy.wait()

  def step(chunk: Array, arrays: tuple, carry: tuple) -> tuple:
    log_t, final, behind = carry
    alphas = _alphas(frame.settings, arrays[0], places, log_t)
    shade = _dot(arrays[1], slopes, (0, 0))
    left = behind - _dot(_triangle(), alphas.weight * shade, (1, 0))
    d_alpha = (alphas.before * shade - left / (1.0 - alphas.alpha)) * alphas.kept
    d_exponent = jnp.where(alphas.alpha == alphas.unclamped, -alphas.unclamped * d_alpha, 0.0)
    store(chunk, _dot(places, d_exponent, (1, 1)), _dot(slopes, alphas.weight, (1, 1)))
    return *_advance(log_t, final, alphas), left[_CHUNK - 1 :]

  zero = jnp.zeros((1, frame.pixels), jnp.float32)
  log_t = jnp.where(_inside(frame, tile), zero, _STOPPED)
  count = pl.cdiv(end[tile] - begin, _CHUNK)
  reached, _ = chunks.walk(count, (log_t, zero, behind[0]), step)

  def clear(chunk: Array, carry: Array) -> Array:
    store(chunk, jnp.zeros(moment_buffer.shape), jnp.zeros(d_feature_buffer.shape))
    return carry

  jax.lax.fori_loop(reached, count, clear, jnp.int32(0))


def _buffers(channels: int) -> list:
  return [
    pltpu.VMEM((2, _MONOMIALS, _CHUNK), jnp.float32),
    pltpu.VMEM((2, channels, _CHUNK), jnp.float32),
    pltpu.SemaphoreType.DMA((2, 2)),
  ]


def _call(kernel: Any, grid_spec: Any, out_shape: Any, name: str, *operands: Array) -> Any:
  """Runs a kernel: compiled for a TPU, interpreted on a CPU."""

  def run(interpret: Any) -> Any:
    return pl.pallas_call(
      kernel,
      grid_spec=grid_spec,
      out_shape=out_shape,
      compiler_params=pltpu.CompilerParams(dimension_semantics=('arbitrary',)),
      interpret=interpret,
      name=name,
    )

  return jax.lax.platform_dependent(*operands, cpu=run(_INTERPRET), default=run(False))


_ANYWHERE = pl.BlockSpec(memory_space=pl.ANY)


def _per_tile(*shape: int) -> pl.BlockSpec:
  return pl.BlockSpec((1, *shape), lambda tile, *_: (tile, *(0 for _ in shape)))


def _whole(*shape: int) -> pl.BlockSpec:
  return pl.BlockSpec(shape, lambda *_: tuple(0 for _ in shape))


def _composite(frame: Frame, instances: Instances) -> tuple[Array, Array]:
  channels = instances.features.shape[1]
  specs = pltpu.PrefetchScalarGridSpec(
    num_scalar_prefetch=2,
    grid=(frame.num_tiles,),
    in_specs=[_ANYWHERE, _ANYWHERE, _whole(_MONOMIALS, frame.pixels)],
    out_specs=[_per_tile(channels, frame.pixels), _per_tile(1, frame.pixels)],
    scratch_shapes=_buffers(channels),
  )
  shapes = [
    jax.ShapeDtypeStruct((frame.num_tiles, count, frame.pixels), jnp.float32)
    for count in (channels, 1)
  ]
  image, transmittance = _call(
    functools.partial(_composite_kernel, frame=frame),
    specs,
    shapes,
    'sa0_composite',
    instances.start,
    instances.end,
    _coefficients(frame, instances),
    instances.features.T,
    _monomials(frame),
  )
  return image, transmittance[:, 0]


def _composite_backward(
  frame: Frame, instances: Instances, cotangent: Array, behind: Array
) -> Array:
  m, channels = instances.features.shape
  specs = pltpu.PrefetchScalarGridSpec(
    num_scalar_prefetch=2,
    grid=(frame.num_tiles,),
    in_specs=[
      _ANYWHERE,
      _ANYWHERE,
      _whole(_MONOMIALS, frame.pixels),
      _per_tile(channels, frame.pixels),
      _per_tile(1, frame.pixels),
    ],
    out_specs=[_ANYWHERE, _ANYWHERE],
    scratch_shapes=[
      *_buffers(channels),
      pltpu.VMEM((_MONOMIALS, _CHUNK), jnp.float32),
      pltpu.VMEM((channels, _CHUNK), jnp.float32),
      pltpu.SemaphoreType.DMA((2,)),
    ],
  )
  moments, d_features = _call(
    functools.partial(_composite_backward_kernel, frame=frame),
    specs,
    [jax.ShapeDtypeStruct((count, m), jnp.float32) for count in (_MONOMIALS, channels)],
    'sa0_composite_backward',
    instances.start,
    instances.end,
    _coefficients(frame, instances),
    instances.features.T,
    _monomials(frame),
    cotangent,
    behind[:, None],
  )
  return jnp.concatenate([_from_moments(frame, instances, moments), d_features]).T


def _from_moments(frame: Frame, instances: Instances, moments: Array) -> Float[Array, '6 m']:
  """Gradients of x, y, conic A, B, C and opacity from Σ ∂loss/∂exponent · monomial."""
  x, y, a, b, c, opacity = _in_tile(frame, instances)
  total, u, v, uu, uv, vv = moments[:6]
  sum_x, sum_y = u - x * total, v - y * total  # Σ dx ∂, Σ dy ∂
  rows = (
    -(a * sum_x + b * sum_y),
    -(c * sum_y + b * sum_x),
    0.5 * (uu - 2.0 * x * u + x * x * total),
    uv - x * v - y * u + x * y * total,
    0.5 * (vv - 2.0 * y * v + y * y * total),
    -total / jnp.where(opacity > 0.0, opacity, 1.0),
  )
  return jnp.stack(rows)


KERNELS = pipeline.Kernels(_composite, _composite_backward, pipeline.sum_rows)


def frame(settings: Settings) -> Frame:
  """How an image is cut up."""
  return Frame(settings, settings.tile_size(_TILE), align=_CHUNK)


forward, render, backward, tile_lists = pipeline.entry_points(KERNELS, frame)
