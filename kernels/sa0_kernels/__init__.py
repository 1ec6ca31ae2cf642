"""Differentiable Gaussian splatting for JAX: deterministic, on CPU, GPU and TPU."""

from sa0_kernels.camera import Camera
from sa0_kernels.rasterize import (
  RasterConfig,
  RasterOutput,
  TileLists,
  grow_capacity,
  implementations,
  rasterize,
  tile_lists,
)
from sa0_kernels.ssim import SsimConfig, ssim

__all__ = [
  'Camera',
  'RasterConfig',
  'RasterOutput',
  'SsimConfig',
  'TileLists',
  'grow_capacity',
  'implementations',
  'rasterize',
  'ssim',
  'tile_lists',
]
