"""SSIM on a GPU, whichever compiler: strips of rows, walked down by one thread per value.

Rows hold interleaved channels, so a neighbour to the right is `channels` values away. A program
takes 128 values of a row and walks down its strip: each row is blurred sideways from memory, where
its neighbours are in the cache, and added to the rows whose window it is in and that are not
complete yet. Those stay in registers: nothing is written but results.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jaxtyping import Array, Float

from sa0_kernels.ssim import formula
from sa0_kernels.ssim.types import RADIUS, WINDOW, SsimConfig

LANES = 128
ROWS = 16  # of a strip
_TAPS = len(WINDOW)


@dataclasses.dataclass(frozen=True)
class Strips:
  """How a batch of images is cut up.

  Attributes:
    config: which SSIM.
    shape: [b, h, w, c] of the images.
  """

  config: SsimConfig
  shape: tuple[int, ...]

  @property
  def grid(self) -> tuple[int, int, int]:
    """Images, strips and columns: a program each."""
    batch, height, width, channels = self.shape
    return batch, pl.cdiv(height, ROWS), pl.cdiv(width * channels, LANES)

  def pad(self, rows: Float[Array, '*b h n']) -> Float[Array, '*b hp np']:
    """Zeros around, for the window and for whole strips."""
    _, strips, columns = self.grid
    beside = RADIUS * self.shape[3]
    below = ROWS * strips + RADIUS - rows.shape[-2]
    after = LANES * columns + beside - rows.shape[-1]
    pads = [(0, 0)] * (rows.ndim - 2) + [(RADIUS, below), (beside, after)]
    return jnp.pad(rows, pads)

  def flat(self, images: Float[Array, 'b h w c']) -> Float[Array, 'b hp np']:
    """Rows of interleaved channels, padded."""
    return self.pad(images.reshape(*self.shape[:2], -1))

  def crop(self, rows: Float[Array, 'b hp np']) -> Float[Array, 'b h w c']:
    """Images of what the kernels wrote."""
    _, height, width, channels = self.shape
    return rows[:, :height, : width * channels].reshape(self.shape)

  def counted(self, y: Array, x: Array) -> Array:
    """1 where a value counts, else 0, in float32; y and x as in the unpadded rows."""
    _, height, width, channels = self.shape
    m = self.config.margin
    beside = m * channels
    rows = (y >= m) & (y < height - m)
    columns = (x >= beside) & (x < width * channels - beside)
    return columns.astype(jnp.float32) * rows.astype(jnp.float32)


def _walk(
  row: Callable[[Array], list[Array]],
  planes: int,
  zero: Array,
  finish: Callable[[Array, list, Array], Array],
) -> Array:
  """Blurs downwards.

  Args:
    row: values of padded row i of the strip, blurred sideways.
    planes: how many these are.
    zero: one of them, all zeros.
    finish: (row of the strip, its blurred values, result so far) → result; at first, while nothing
      is complete, with a negative row.
  """

  def step(i: Array, carry: tuple) -> tuple:
    result, pending = carry
    new = row(i)
    rows = [
      [before + WINDOW[_TAPS - 1 - j] * value for before, value in zip(at, new, strict=True)]
      for j, at in enumerate(pending)
    ]
    rows.append([WINDOW[0] * value for value in new])
    # The first ten complete nothing: they write to row 0, which is right in the end.
    return finish(i - (_TAPS - 1), rows[0], result), rows[1:]

  pending = [[zero] * planes for _ in range(_TAPS - 1)]
  return jax.lax.fori_loop(0, _TAPS - 1 + ROWS, step, (zero, pending))[0]


def _sideways(load: Callable[[int], list[Array]]) -> list[Array]:
  """Blurs along a row; `load(k)` are values k taps to the right of the first."""
  total: list[Array] = []
  for k, weight in enumerate(WINDOW):
    values = load(k)
    total = (
      [weight * v for v in values]
      if not k
      else [t + weight * v for t, v in zip(total, values, strict=True)]
    )
  return total


def forward_kernel(
  layout: Strips, place: tuple[Array, Array, Array], refs: tuple, lanes: Array
) -> None:
  """Index and derivatives of one program's values.

  Args:
    layout: of the images.
    place: image, strip and column.
    refs: padded images and targets [b, hp, np]; outputs: derivatives [b, 3, rows, columns] and sums
      [b, strips, columns].
    lanes: 0 … 127.
  """
  view, strip, column = place
  image, target, derivatives, sums = refs
  stride, y0, x0 = layout.shape[3], strip * ROWS, column * LANES
  zero = (lanes - lanes).astype(jnp.float32)

  def row(i: Array) -> list[Array]:
    def load(k: int) -> list[Array]:
      span = pl.ds(x0 + k * stride, LANES)
      return list(formula.products(image[view, y0 + i, span], target[view, y0 + i, span]))

    return _sideways(load)

  def finish(i: Array, blurred: list, total: Array) -> Array:
    found = formula.similarity(formula.Moments(*blurred), layout.config.stabilizers)
    y = y0 + jnp.maximum(i, 0)
    counted = layout.counted(y, x0 + lanes)
    for p, value in enumerate(found[1:]):
      derivatives[view, p, y, pl.ds(x0, LANES)] = value * counted
    return total + found.ratio * counted * (i >= 0).astype(jnp.float32)

  sums[view, strip, pl.ds(x0, LANES)] = _walk(row, 5, zero, finish)


def backward_kernel(
  layout: Strips, place: tuple[Array, Array, Array], refs: tuple, lanes: Array
) -> None:
  """Gradient of the sum by one program's values; see `forward_kernel`.

  Args:
    layout: of the images.
    place: image, strip and column.
    refs: padded images and targets, padded derivatives [b, 3, hp, np]; output [b, rows, columns].
    lanes: 0 … 127.
  """
  view, strip, column = place
  image, target, derivatives, out = refs
  stride, y0, x0 = layout.shape[3], strip * ROWS, column * LANES

  def row(i: Array) -> list[Array]:
    def load(k: int) -> list[Array]:
      return [derivatives[view, p, y0 + i, pl.ds(x0 + k * stride, LANES)] for p in range(3)]

    return _sideways(load)

  def finish(i: Array, blurred: list, nothing: Array) -> Array:
    y = y0 + jnp.maximum(i, 0)
    middle = (view, y + RADIUS, pl.ds(x0 + RADIUS * stride, LANES))
    first, second, third = blurred
    out[view, y, pl.ds(x0, LANES)] = formula.gradient(
      image[middle], target[middle], (first, second, third)
    )
    return nothing

  _walk(row, 3, (lanes - lanes).astype(jnp.float32), finish)


# (layout, kernel, name, shapes of the outputs, operands) → outputs.
Launch = Callable[[Strips, Any, str, tuple, tuple], tuple]


def forward(launch: Launch, config: SsimConfig, image: Array, target: Array) -> tuple[Array, Array]:
  """Sums [b] and padded derivatives."""
  layout = Strips(config, image.shape)
  batch, strips, columns = layout.grid
  shapes = (
    jax.ShapeDtypeStruct((batch, 3, strips * ROWS, columns * LANES), jnp.float32),
    jax.ShapeDtypeStruct((batch, strips, columns * LANES), jnp.float32),
  )
  operands = (layout.flat(image), layout.flat(target))
  derivatives, sums = launch(layout, forward_kernel, 'sa0_ssim', shapes, operands)
  return jnp.sum(sums, axis=(1, 2)), derivatives


def backward(
  launch: Launch, config: SsimConfig, image: Array, target: Array, derivatives: Array
) -> Array:
  """Gradients of the sums."""
  layout = Strips(config, image.shape)
  batch, strips, columns = layout.grid
  shapes = (jax.ShapeDtypeStruct((batch, strips * ROWS, columns * LANES), jnp.float32),)
  operands = (layout.flat(image), layout.flat(target), layout.pad(derivatives))
  (gradient,) = launch(layout, backward_kernel, 'sa0_ssim_backward', shapes, operands)
  return layout.crop(gradient)
