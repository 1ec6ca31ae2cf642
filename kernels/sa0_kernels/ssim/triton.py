"""SSIM for NVIDIA GPUs: `strips.py` for the Triton compiler."""

import functools
import warnings
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from sa0_kernels.ssim import folded, strips

with warnings.catch_warnings():
  warnings.simplefilter('ignore', DeprecationWarning)
  from jax.experimental.pallas import triton as plt

unsupported = folded.unsupported


def _launch(layout: strips.Strips, kernel: Any, name: str, shapes: tuple, operands: tuple) -> tuple:
  def body(*refs: Any) -> None:
    place = (pl.program_id(0), pl.program_id(1), pl.program_id(2))
    kernel(layout, place, refs, jax.lax.broadcasted_iota(jnp.int32, (strips.LANES,), 0))

  def run(interpret: bool) -> Any:
    return pl.pallas_call(
      body,
      grid=layout.grid,
      out_shape=shapes,
      compiler_params=plt.CompilerParams(num_warps=strips.LANES // 32, num_stages=1),
      interpret=interpret,
      name=name,
    )

  return jax.lax.platform_dependent(*operands, cpu=run(True), default=run(False))


KERNELS = folded.Kernels(
  functools.partial(strips.forward, _launch), functools.partial(strips.backward, _launch)
)
index, forward, backward = folded.entry_points(KERNELS)
