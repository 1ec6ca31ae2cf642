"""Structural similarity: `ssim` and its configuration; one module per implementation."""

from sa0_kernels.ssim.api import ssim
from sa0_kernels.ssim.types import SsimConfig

__all__ = ['SsimConfig', 'ssim']
