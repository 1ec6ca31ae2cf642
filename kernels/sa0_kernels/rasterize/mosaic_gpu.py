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
from jaxtyping import Array, Float

from sa0_kernels.rasterize import pipeline, triton
from sa0_kernels.rasterize.pipeline import Frame, Instances
from sa0_kernels.rasterize.types import RasterOutput, Settings, SplatInputs

_TILE = 16
_CHUNK = 16  # Gaussians between two looks at whether any pixel still lets light through


def unsupported(settings: Settings, inputs: SplatInputs) -> list[str]:
  """Reasons why this implementation cannot run these inputs."""
  reasons = []
  if inputs.means.dtype != jnp.float32:
    reasons.append(f'inputs are {inputs.means.dtype}, only float32 is implemented')
  if settings.tile_size(_TILE) != _TILE:
    reasons.append(f'tiles are {_TILE} px, not {settings.tile_size(_TILE)}')
  if not reasons and jax.default_backend() != 'cpu':
    capability = float(getattr(jax.devices()[0], 'compute_capability', '0'))
    if capability < 9.0:
      reasons.append(f'it needs compute capability 9.0 (Hopper), this GPU has {capability}')
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
  index = jax.lax.axis_index('tile')
  tile = jax.lax.rem(index, frame.tiles_per_view)
  pixel = jax.lax.broadcasted_iota(jnp.int32, (frame.pixels,), 0)
  x = jax.lax.rem(tile, frame.columns) * frame.tile + pixel % frame.tile
  y = jax.lax.div(tile, frame.columns) * frame.tile + pixel // frame.tile
  config = frame.settings.config
  inside = (x < frame.settings.width) & (y < frame.settings.height)
  x, y = x.astype(jnp.float32) + 0.5, y.astype(jnp.float32) + 0.5

  zero = x - x  # of the pixels' layout, which constants do not have

  def step(i: Array, carry: tuple) -> tuple:
    alive, before, *blended = carry
    row = [geometry[i, column] for column in range(pipeline.EXPONENT_MAX + 1)]
    dx, dy = x - row[pipeline.X], y - row[pipeline.Y]
    a, b, c = row[pipeline.CONIC_A], row[pipeline.CONIC_B], row[pipeline.CONIC_C]
    exponent = 0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy
    falloff = jnp.exp(-jnp.maximum(exponent, 0.0))
    alpha = jnp.minimum(row[pipeline.OPACITY] * falloff, config.alpha_max)
    alpha = jnp.where(exponent <= row[pipeline.EXPONENT_MAX], alpha, 0.0)
    after = before * (1.0 - alpha)
    alive = jnp.where(after > config.transmittance_min, alive, 0.0)
    weight = alpha * before * alive
    blended = [total + weight * features[i, k] for k, total in enumerate(blended)]
    return alive, jnp.where(alive > 0.0, after, before), *blended

  last = end[index]

  def unfinished(state: tuple) -> Array:
    return (state[0] < last) & (jnp.max(state[1]) > 0.0)

  def chunk(state: tuple) -> tuple:
    stop = jnp.minimum(state[0] + _CHUNK, last)
    return stop, *jax.lax.fori_loop(state[0], stop, step, state[1:])

  alive = jnp.where(inside, zero + 1.0, zero)
  state = (start[index], alive, zero + 1.0, *(zero for _ in range(features.shape[1])))
  _, _, left, *blended = jax.lax.while_loop(unfinished, chunk, state)
  for k, total in enumerate(blended):
    image[index, k] = total
  transmittance[index] = left


def _interpreter() -> Any:
  """Parameters of the interpreter, which has no public name yet."""
  from jax._src.pallas.mosaic_gpu.interpret.params import InterpretGPUParams

  return InterpretGPUParams()


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

  return jax.lax.platform_dependent(*instances, cpu=run(_interpreter()), default=run(None))


KERNELS = pipeline.Kernels(_composite, triton.composite_backward, triton.sum_rows)


def frame(settings: Settings) -> Frame:
  """How an image is cut up."""
  return Frame(settings, _TILE)


def forward(settings: Settings, inputs: SplatInputs) -> tuple[RasterOutput, Any]:
  """The image, and what `backward` needs."""
  return pipeline.forward(KERNELS, frame(settings), inputs)


def render(settings: Settings, inputs: SplatInputs) -> RasterOutput:
  """Renders one image without keeping anything for gradients."""
  return forward(settings, inputs)[0]


def backward(
  settings: Settings,
  residuals: Any,
  d_features: Float[Array, 'h w c'],
  d_alpha: Float[Array, 'h w'],
) -> SplatInputs:
  """Gradients of every input, by the kernels of `triton.py`."""
  return pipeline.backward(KERNELS, frame(settings), residuals, d_features, d_alpha)
