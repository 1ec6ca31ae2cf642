"""The rasterizer: `rasterize` and its types; one module per implementation."""

from sa0_kernels.rasterize.api import implementations, rasterize, tile_lists, tile_sizes
from sa0_kernels.rasterize.types import RasterConfig, RasterOutput, TileLists, grow_capacity

__all__ = [
  'RasterConfig',
  'RasterOutput',
  'TileLists',
  'grow_capacity',
  'implementations',
  'rasterize',
  'tile_lists',
  'tile_sizes',
]
