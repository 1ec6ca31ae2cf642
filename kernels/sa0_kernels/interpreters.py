"""Interpreters of kernels that JAX gives no public name yet."""

from typing import Any


def mosaic_gpu() -> Any:
  """What `interpret=` of a Mosaic GPU kernel takes to run on a CPU."""
  from jax._src.pallas.mosaic_gpu.interpret.params import InterpretGPUParams

  return InterpretGPUParams()
