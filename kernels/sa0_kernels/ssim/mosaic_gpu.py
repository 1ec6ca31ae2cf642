"""SSIM for Hopper and newer GPUs: `strips.py` for the Mosaic GPU compiler."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.pallas import mosaic_gpu as plgpu

from sa0_kernels import interpreters
from sa0_kernels.ssim import folded, strips

unsupported = folded.unsupported


def _launch(layout: strips.Strips, kernel: Any, name: str, shapes: tuple, operands: tuple) -> tuple:
  axes = ('view', 'strip', 'column')

  def body(*refs: Any) -> None:
    view, strip, column = (jax.lax.axis_index(axis) for axis in axes)
    lanes = jax.lax.broadcasted_iota(jnp.int32, (strips.LANES,), 0)
    kernel(layout, (view, strip, column), refs, lanes)

  def run(interpret: Any) -> Any:
    return plgpu.kernel(
      body,
      out_type=shapes,
      grid=layout.grid,
      grid_names=axes,
      kernel_name=name,
      compiler_params=plgpu.CompilerParams(
        lowering_semantics=plgpu.LoweringSemantics.Warpgroup  # layouts are inferred
      ),
      interpret=interpret,
    )

  interpreted = run(interpreters.mosaic_gpu())
  return jax.lax.platform_dependent(*operands, cpu=interpreted, default=run(None))


KERNELS = folded.Kernels(
  functools.partial(strips.forward, _launch), functools.partial(strips.backward, _launch)
)
index, forward, backward = folded.entry_points(KERNELS)
