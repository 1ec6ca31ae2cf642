"""Differentiable Gaussian splatting for JAX: deterministic, on CPU, GPU and TPU."""

from sa0_kernels.camera import Camera
from sa0_kernels.rasterize import (
  RasterConfig,
  RasterOutput,
  grow_capacity,
  implementations,
  rasterize,
)
from sa0_kernels.ssim import SsimConfig, ssim

__all__ = [
  'Camera',
  'RasterConfig',
  'RasterOutput',
  'SsimConfig',
  'grow_capacity',
  'implementations',
  'rasterize',
  'ssim',
]
