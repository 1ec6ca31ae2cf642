"""Rasterizer for Hopper and newer GPUs: a Pallas kernel for the Mosaic GPU compiler.

One warpgroup composites one tile of 16 × 16 pixels, two pixels a thread, walking the tile's list
one Gaussian at a time. Only the forward pass: a sum over the pixels of a tile needs a barrier of
the whole warpgroup here, nine or more for each Gaussian, and this compiler has no other form for
it. The gradient is that of `triton.py` on the same lists.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.pallas import mosaic_gpu as plgpu
from jaxtyping import Array

from sa0_kernels import interpreters
from sa0_kernels.rasterize import pipeline, scalar_loop, triton
from sa0_kernels.rasterize.pipeline import Frame, Instances
from sa0_kernels.rasterize.types import Settings, SplatInputs

_TILE = 16


def unsupported(settings: Settings, inputs: SplatInputs) -> list[str]:
  """Reasons why this implementation cannot run these inputs."""
  reasons = []
  if inputs.means.dtype != jnp.float32:
    reasons.append(f'inputs are {inputs.means.dtype}, only float32 is implemented')
  if settings.tile_size(_TILE) != _TILE:
    reasons.append(f'tiles are {_TILE} px, not {settings.tile_size(_TILE)}')
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
  tile = jax.lax.axis_index('tile')
  x, y, inside = scalar_loop.pixel_centres(frame, tile)
  zero = x - x  # of the pixels' layout, which constants do not have

  def step(i: Array, row: scalar_loop.Row, carry: tuple) -> tuple:
    del i
    alive, before, *blended = carry
    splat = scalar_loop.evaluate(frame.settings, row.geometry, x, y)
    *light, weight = scalar_loop.pass_through(frame.settings, alive, before, splat.alpha)
    return *light, *(t + weight * f for t, f in zip(blended, row.features, strict=True))

  alive = jnp.where(inside, zero + 1.0, zero)
  carry = (alive, zero + 1.0, *(zero for _ in range(features.shape[1])))
  span = (start[tile], end[tile])
  _, (_, left, *blended) = scalar_loop.walk(span, (geometry, features), carry, step)
  for k, total in enumerate(blended):
    image[tile, k] = total
  transmittance[tile] = left


def _composite(frame: Frame, instances: Instances) -> tuple[Array, Array]:
  channels = instances.features.shape[1]
  shapes = (
    jax.ShapeDtypeStruct((frame.num_tiles, channels, frame.pixels), jnp.float32),
    jax.ShapeDtypeStruct((frame.num_tiles, frame.pixels), jnp.float32),
  )

  def run(interpret: Any) -> Any:
    return plgpu.kernel(
      functools.partial(_composite_kernel, frame=frame),
      out_type=shapes,
      grid=(frame.num_tiles,),
      grid_names=('tile',),
      kernel_name='sa0_composite',
      compiler_params=plgpu.CompilerParams(
        lowering_semantics=plgpu.LoweringSemantics.Warpgroup  # layouts are inferred
      ),
      interpret=interpret,
    )

  return jax.lax.platform_dependent(
    *instances, cpu=run(interpreters.mosaic_gpu()), default=run(None)
  )


KERNELS = pipeline.Kernels(_composite, triton.composite_backward, triton.sum_rows)


def frame(settings: Settings) -> Frame:
  """How an image is cut up."""
  return Frame(settings, _TILE)


forward, render, backward, tile_lists = pipeline.entry_points(KERNELS, frame)
