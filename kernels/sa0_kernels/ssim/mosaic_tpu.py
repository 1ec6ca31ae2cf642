"""SSIM for TPUs: a Pallas kernel for the Mosaic compiler.

A program takes 128 rows of one channel, with eight rows of each neighbour. Along a row the window
is eleven rotations of the registers' lanes, for the padding on the right is what comes in on the
left; down the columns it is a product with a band matrix, in full float32.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array

from sa0_kernels.ssim import folded, formula
from sa0_kernels.ssim.types import RADIUS, WINDOW, SsimConfig

_ROWS, _HALO, _LANES = 128, 8, 128
_MAX_WIDTH = 2048  # what fits into the vector memory of every generation


def _band() -> np.ndarray:
  """[rows, rows + 2 halo] that blurs columns."""
  band = np.zeros((_ROWS, _ROWS + 2 * _HALO), np.float32)
  for k, weight in enumerate(WINDOW):
    band[np.arange(_ROWS), np.arange(_ROWS) + _HALO - RADIUS + k] = weight
  return band


def unsupported(image: Array) -> list[str]:
  """Reasons why this implementation cannot run."""
  reasons = folded.unsupported(image)
  if image.shape[-2] > _MAX_WIDTH:
    reasons.append(f'images are at most {_MAX_WIDTH} px wide, this one is {image.shape[-2]}')
  return reasons


class _Planes(NamedTuple):
  """Channels of a batch as planes [b · c, rows, lanes], padded to whole blocks.

  Attributes:
    config: which SSIM.
    shape: [b, h, w, c] of the images.
  """

  config: SsimConfig
  shape: tuple[int, ...]

  @property
  def grid(self) -> tuple[int, int]:
    """Planes and blocks of rows."""
    batch, height, _, channels = self.shape
    return batch * channels, pl.cdiv(height, _ROWS)

  @property
  def lanes(self) -> int:
    """Padded width: the window may look past the right border, and around it from the left."""
    return _LANES * pl.cdiv(self.shape[2] + RADIUS, _LANES)

  def cut(self, images: Array) -> Array:
    """[b, h, w, c] to planes."""
    batch, height, width, channels = self.shape
    planes = images.transpose(0, 3, 1, 2).reshape(batch * channels, height, width)
    below, beside = _ROWS * self.grid[1] - height, self.lanes - width
    return jnp.pad(planes, [(0, 0), (0, below), (0, beside)])

  def join(self, planes: Array) -> Array:
    """Planes to [b, h, w, c]."""
    batch, height, width, channels = self.shape
    cropped = planes[:, :height, :width].reshape(batch, channels, height, width)
    return cropped.transpose(0, 2, 3, 1)

  def counted(self, block: Array) -> Array:
    """[rows, lanes] 1 where a value of this block counts, else 0."""
    _, height, width, _ = self.shape
    m = self.config.margin
    y = block * _ROWS + jax.lax.broadcasted_iota(jnp.int32, (_ROWS, self.lanes), 0)
    x = jax.lax.broadcasted_iota(jnp.int32, (_ROWS, self.lanes), 1)
    inside = (y >= m) & (y < height - m) & (x >= m) & (x < width - m)
    return jnp.where(inside, 1.0, 0.0)


def _blur(band: Array, rows: Array) -> Array:
  """[rows, lanes] of [rows + 2 halo, lanes]."""
  lanes = rows.shape[1]
  total = WINDOW[RADIUS] * rows
  for k in range(1, RADIUS + 1):
    sides = pltpu.roll(rows, k, 1) + pltpu.roll(rows, lanes - k, 1)
    total = total + WINDOW[RADIUS + k] * sides
  return jnp.dot(
    band, total, precision=jax.lax.Precision.HIGHEST, preferred_element_type=jnp.float32
  )


def _with_neighbours(refs: tuple[Any, Any, Any], block: Array, blocks: int) -> Array:
  """A block's rows between those of its neighbours; zeros above the first and below the last."""
  here, above, below = (ref[0] for ref in refs)
  above = jnp.where(block > 0, above, 0.0)
  below = jnp.where(block < blocks - 1, below, 0.0)
  return jnp.concatenate([above, here, below], axis=0)


def _specs(layout: _Planes) -> list[pl.BlockSpec]:
  """Blocks of a plane: its rows, those above, those below."""
  blocks, per_block = layout.grid[1], _ROWS // _HALO
  last = blocks * per_block - 1
  return [
    pl.BlockSpec((1, _ROWS, layout.lanes), lambda plane, block: (plane, block, 0)),
    pl.BlockSpec(
      (1, _HALO, layout.lanes),
      lambda plane, block: (plane, jnp.maximum(block * per_block - 1, 0), 0),
    ),
    pl.BlockSpec(
      (1, _HALO, layout.lanes),
      lambda plane, block: (plane, jnp.minimum((block + 1) * per_block, last), 0),
    ),
  ]


def _call(layout: _Planes, kernel: Any, name: str, outputs: tuple, operands: list[Array]) -> Any:
  """Runs a kernel with the band matrix and three views of every operand."""
  shapes, specs = outputs

  def run(interpret: bool) -> Any:
    return pl.pallas_call(
      kernel,
      grid=layout.grid,
      in_specs=[
        pl.BlockSpec((_ROWS, _ROWS + 2 * _HALO), lambda *_: (0, 0)),
        *(spec for _ in operands for spec in _specs(layout)),
      ],
      out_specs=specs,
      out_shape=shapes,
      compiler_params=pltpu.CompilerParams(dimension_semantics=('parallel', 'parallel')),
      interpret=interpret,
      name=name,
    )

  views = [view for operand in operands for view in (operand,) * 3]
  given = (jnp.asarray(_band()), *views)
  return jax.lax.platform_dependent(*given, cpu=run(True), default=run(False))


def _plane(layout: _Planes) -> tuple[jax.ShapeDtypeStruct, pl.BlockSpec]:
  """An output like the images' planes."""
  planes, blocks = layout.grid
  shape = jax.ShapeDtypeStruct((planes, blocks * _ROWS, layout.lanes), jnp.float32)
  return shape, _specs(layout)[0]


def _forward(config: SsimConfig, image: Array, target: Array) -> tuple[Array, Array]:
  layout = _Planes(config, image.shape)
  planes, blocks = layout.grid

  def kernel(band: Any, *refs: Any) -> None:
    block = pl.program_id(1)
    a = _with_neighbours(refs[:3], block, blocks)
    b = _with_neighbours(refs[3:6], block, blocks)
    blurred = formula.Moments(*(_blur(band[...], m) for m in formula.products(a, b)))
    found = formula.similarity(blurred, config.stabilizers)
    counted = layout.counted(block)
    for out, value in zip(refs[6:9], found[1:], strict=True):
      out[0] = value * counted
    refs[9][0] = jnp.sum(found.ratio * counted, axis=0, keepdims=True)

  shape, spec = _plane(layout)
  sums = jax.ShapeDtypeStruct((planes * blocks, 1, layout.lanes), jnp.float32)
  sums_spec = pl.BlockSpec(
    (1, 1, layout.lanes), lambda plane, block: (plane * blocks + block, 0, 0)
  )
  outputs = ((shape,) * 3 + (sums,), (spec,) * 3 + (sums_spec,))
  operands = [layout.cut(image), layout.cut(target)]
  *derivatives, sums = _call(layout, kernel, 'sa0_ssim', outputs, operands)
  batch = image.shape[0]
  stacked = jnp.stack(derivatives, axis=1).reshape(batch, -1, 3, *shape.shape[1:])
  return jnp.sum(sums.reshape(batch, -1), axis=1), stacked


def _backward(config: SsimConfig, image: Array, target: Array, derivatives: Array) -> Array:
  layout = _Planes(config, image.shape)
  blocks = layout.grid[1]

  def kernel(band: Any, *refs: Any) -> None:
    block = pl.program_id(1)
    first, second, third = (
      _blur(band[...], _with_neighbours(refs[3 * k : 3 * k + 3], block, blocks)) for k in (2, 3, 4)
    )
    refs[15][0] = formula.gradient(refs[0][0], refs[3][0], (first, second, third))

  shape, spec = _plane(layout)
  planes = derivatives.reshape(-1, 3, *derivatives.shape[-2:])
  operands = [layout.cut(image), layout.cut(target), *(planes[:, k] for k in range(3))]
  return layout.join(_call(layout, kernel, 'sa0_ssim_backward', (shape, spec), operands))


KERNELS = folded.Kernels(_forward, _backward)
index, forward, backward = folded.entry_points(KERNELS)
