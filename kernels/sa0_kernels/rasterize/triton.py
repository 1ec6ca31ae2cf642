"""Rasterizer for NVIDIA GPUs: Pallas kernels for the Triton compiler.

One program composites one tile of 8 × 8 pixels with a single warp, so that a sum over the tile's
pixels is a few shuffles and no program waits at a barrier; larger tiles take a warp per 64 pixels.
The walk over the tile's Gaussians is a scalar loop: everything but the features lives in a few
registers, and no product goes through matrix units, which would round to TF32.

The compiler accepts only sizes that are powers of two and no scans from the back; the loops here
are a form that Pallas' interpreter runs too. Since JAX 0.11 this backend warns that it is
deprecated; nothing outside this file and `mosaic_gpu.py` depends on it.
"""

import functools
import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jaxtyping import Array

from sa0_kernels.rasterize import pipeline, scalar_loop
from sa0_kernels.rasterize.pipeline import Frame, GaussianRows, Instances
from sa0_kernels.rasterize.types import Settings, SplatInputs, next_power_of_two

with warnings.catch_warnings():
  warnings.simplefilter('ignore', DeprecationWarning)
  from jax.experimental.pallas import triton as plt

_TILE = 8
TILE_SIZES = (8, 16)  # worth timing; see `tuning`
_PIXELS_PER_WARP = 64
_ROWS = 16  # instances of one Gaussian added at a time


def unsupported(settings: Settings, inputs: SplatInputs) -> list[str]:
  """Reasons why this implementation cannot run these inputs."""
  reasons = []
  if inputs.means.dtype != jnp.float32:
    reasons.append(f'inputs are {inputs.means.dtype}, only float32 is implemented')
  if settings.tile_size(_TILE) > 16:
    reasons.append(f'tiles of {settings.tile_size(_TILE)} px do not fit the registers; 16 at most')
  return reasons


def _composite_kernel(
  start: Any,
  end: Any,
  geometry: Any,
  features: Any,
  image: Any,
  transmittance: Any,
  *,
  frame: Frame,
) -> None:
  tile = pl.program_id(0)
  channels = features.shape[-1]
  x, y, inside = scalar_loop.pixel_centres(frame, tile)

  def step(i: Array, row: scalar_loop.Row, carry: tuple) -> tuple:
    del i
    alive, before, blended = carry
    splat = scalar_loop.evaluate(frame.settings, row.geometry, x, y)
    *light, weight = scalar_loop.pass_through(frame.settings, alive, before, splat.alpha)
    return *light, tuple(b + weight * f for b, f in zip(blended, row.features, strict=True))

  zero = jnp.zeros((frame.pixels,), jnp.float32)
  carry = (inside.astype(jnp.float32), jnp.ones((frame.pixels,), jnp.float32), (zero,) * channels)
  span = (start[tile], end[tile])
  _, (_, left, blended) = scalar_loop.walk(span, (geometry, features), carry, step)
  for k in range(channels):
    image[tile, k, :] = blended[k]
  transmittance[tile, :] = left


def _composite_backward_kernel(
  start: Any,
  end: Any,
  geometry: Any,
  features: Any,
  cotangent: Any,
  behind: Any,
  rows: Any,
  *,
  frame: Frame,
) -> None:
  tile = pl.program_id(0)
  channels = features.shape[-1]
  x, y, inside = scalar_loop.pixel_centres(frame, tile)
  slopes = [cotangent[tile, k, :] for k in range(channels)]

  def step(i: Array, row: scalar_loop.Row, carry: tuple) -> tuple:
    alive, before, behind = carry
    splat = scalar_loop.evaluate(frame.settings, row.geometry, x, y)
    dx, dy, falloff, unclamped, alpha = splat
    alive, after, weight = scalar_loop.pass_through(frame.settings, alive, before, alpha)
    shade = sum(slope * f for slope, f in zip(slopes, row.features, strict=True))
    behind = behind - weight * shade
    d_alpha = (before * shade - behind / (1.0 - alpha)) * alive
    d_alpha = jnp.where(alpha == unclamped, d_alpha, 0.0)
    d_exponent = -unclamped * d_alpha
    a, b, c = row.geometry[pipeline.CONIC_A : pipeline.OPACITY]
    sum_x, sum_y = jnp.sum(dx * d_exponent), jnp.sum(dy * d_exponent)
    rows[i, 0] = -(a * sum_x + b * sum_y)
    rows[i, 1] = -(c * sum_y + b * sum_x)
    rows[i, 2] = 0.5 * jnp.sum(dx * dx * d_exponent)
    rows[i, 3] = jnp.sum(dx * dy * d_exponent)
    rows[i, 4] = 0.5 * jnp.sum(dy * dy * d_exponent)
    rows[i, 5] = jnp.sum(falloff * d_alpha)
    for k, slope in enumerate(slopes):
      rows[i, pipeline.GRADIENTS + k] = jnp.sum(weight * slope)
    return alive, after, behind

  carry = (inside.astype(jnp.float32), jnp.ones((frame.pixels,), jnp.float32), behind[tile, :])
  span = (start[tile], end[tile])
  reached, _ = scalar_loop.walk(span, (geometry, features), carry, step)

  def clear(i: Array, carry: Array) -> Array:
    for k in range(pipeline.GRADIENTS + channels):
      rows[i, k] = 0.0
    return carry

  jax.lax.fori_loop(reached, end[tile], clear, jnp.int32(0))


def _sum_rows_kernel(position: Any, start: Any, count: Any, rows: Any, sums: Any) -> None:
  gaussian = pl.program_id(0)
  padded = sums.shape[1]
  first, number = start[gaussian], count[gaussian]
  width = rows.shape[1]
  column = jax.lax.broadcasted_iota(jnp.int32, (_ROWS, padded), 1)
  lane = jax.lax.broadcasted_iota(jnp.int32, (_ROWS,), 0)

  def add(k: Array, total_row: Array) -> Array:
    mine = k * _ROWS + lane < number
    place = jnp.minimum(first + k * _ROWS + lane, position.shape[0] - 1)
    where = plt.load(position.at[place], mask=mine, other=-1)
    real = (where >= 0)[:, None] & (column < width)
    values = plt.load(
      rows.at[
        jnp.broadcast_to(jnp.maximum(where, 0)[:, None], column.shape),
        jnp.minimum(column, width - 1),
      ],
      mask=real,
      other=0.0,
    )
    return total_row + jnp.sum(values, axis=0)

  result = jax.lax.fori_loop(0, pl.cdiv(number, _ROWS), add, jnp.zeros((padded,), jnp.float32))
  sums[gaussian, :] = result


class _Launch(NamedTuple):
  """How a kernel is run: its name, programs and warps in each."""

  name: str
  programs: int
  warps: int = 1


def _tiles(frame: Frame, name: str) -> _Launch:
  return _Launch(name, frame.num_tiles, max(frame.pixels // _PIXELS_PER_WARP, 1))


def _call(launch: _Launch, kernel: Any, out_shape: Any, *operands: Array) -> Any:
  """Runs a kernel: compiled for a GPU, interpreted on a CPU."""

  def run(interpret: bool) -> Any:
    return pl.pallas_call(
      kernel,
      grid=(launch.programs,),
      out_shape=out_shape,
      compiler_params=plt.CompilerParams(num_warps=launch.warps, num_stages=1),
      interpret=interpret,
      name=launch.name,
    )

  return jax.lax.platform_dependent(*operands, cpu=run(True), default=run(False))


def _composite(frame: Frame, instances: Instances) -> tuple[Array, Array]:
  channels = instances.features.shape[1]
  shapes = (
    jax.ShapeDtypeStruct((frame.num_tiles, channels, frame.pixels), jnp.float32),
    jax.ShapeDtypeStruct((frame.num_tiles, frame.pixels), jnp.float32),
  )
  kernel = functools.partial(_composite_kernel, frame=frame)
  return _call(_tiles(frame, 'sa0_composite'), kernel, shapes, *instances)


def composite_backward(
  frame: Frame, instances: Instances, cotangent: Array, behind: Array
) -> Array:
  """Gradient rows of every instance; see `pipeline.Kernels`."""
  m, channels = instances.features.shape
  shape = jax.ShapeDtypeStruct((m, pipeline.GRADIENTS + channels), jnp.float32)
  kernel = functools.partial(_composite_backward_kernel, frame=frame)
  operands = (*instances, cotangent, behind)
  return _call(_tiles(frame, 'sa0_composite_backward'), kernel, shape, *operands)


def sum_rows(rows: Array, places: GaussianRows) -> Array:
  """Adds the rows of each Gaussian, [n, d]; a program each, in a fixed order."""
  width, n = rows.shape[1], places.start.shape[0]
  shape = jax.ShapeDtypeStruct((n, next_power_of_two(width)), jnp.float32)
  operands = (*places, rows)
  return _call(_Launch('sa0_sum_rows', n), _sum_rows_kernel, shape, *operands)[:, :width]


KERNELS = pipeline.Kernels(_composite, composite_backward, sum_rows)


def frame(settings: Settings) -> Frame:
  """How an image is cut up."""
  return Frame(settings, settings.tile_size(_TILE))


forward, render, backward, tile_lists = pipeline.entry_points(KERNELS, frame)
