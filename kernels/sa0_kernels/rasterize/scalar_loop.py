"""The walk over a tile's Gaussians, one after the other: what the GPU kernels share."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from sa0_kernels.rasterize import pipeline
from sa0_kernels.rasterize.pipeline import Frame
from sa0_kernels.rasterize.types import Settings

_CHUNK = 16  # Gaussians between two looks at whether any pixel still lets light through
_GROUP = 4  # Gaussians whose rows are loaded together; half as many if they have many channels
_FEW_CHANNELS = 8


class Row(NamedTuple):
  """One instance.

  Attributes:
    geometry: columns of `Instances.geometry`.
    features: its channels.
  """

  geometry: list[Array]
  features: list[Array]


def pixel_centres(frame: Frame, tile: Array) -> tuple[Array, Array, Array]:
  """x and y of a tile's pixels, and whether they are inside the image."""
  tile = tile % frame.tiles_per_view
  pixel = jax.lax.broadcasted_iota(jnp.int32, (frame.pixels,), 0)
  x = tile % frame.columns * frame.tile + pixel % frame.tile
  y = tile // frame.columns * frame.tile + pixel // frame.tile
  inside = (x < frame.settings.width) & (y < frame.settings.height)
  return x.astype(jnp.float32) + 0.5, y.astype(jnp.float32) + 0.5, inside


def load(instances: tuple[Any, Any], i: Array) -> Row:
  """What is known of instance i, from the (geometry, features) references."""
  geometry, features = instances
  return Row(
    [geometry[i, column] for column in range(pipeline.EXPONENT_MAX + 1)],
    [features[i, k] for k in range(features.shape[1])],
  )


def walk(
  span: tuple[Array, Array], instances: tuple[Any, Any], carry: tuple, step: Any
) -> tuple[Array, tuple]:
  """Calls `step(i, row, carry)` for each instance in turn, until no pixel of carry[0] is alive.

  Args:
    span: the first instance and where they end.
    instances: references of their geometry and features.
    carry: what goes from step to step.
    step: the next carry.

  Returns:
    Where the walk ended, and the carry.
  """
  start, end = span
  # Rows of a group are loaded before the first is used: each first touch waits for memory.
  group = _GROUP if instances[1].shape[1] <= _FEW_CHANNELS else _GROUP // 2

  def steps(first: Array, count: int, carry: tuple) -> tuple:
    rows = [load(instances, first + j) for j in range(count)]
    for j, row in enumerate(rows):
      carry = step(first + j, row, carry)
    return carry

  def unfinished(state: tuple) -> Array:
    return (state[0] < end) & (jnp.max(state[1][0]) > 0.0)

  def chunk(state: tuple) -> tuple:
    first, carry = state
    stop = jnp.minimum(first + _CHUNK, end)
    groups = jax.lax.div(stop - first, jnp.int32(group))
    carry = jax.lax.fori_loop(0, groups, lambda k, c: steps(first + k * group, group, c), carry)
    rest = first + groups * group
    return stop, jax.lax.fori_loop(rest, stop, lambda i, c: steps(i, 1, c), carry)

  return jax.lax.while_loop(unfinished, chunk, (start, carry))


class Splat(NamedTuple):
  """One Gaussian at the pixels of a tile, [p] each.

  Attributes:
    dx, dy: from its centre.
    falloff: exp(−exponent).
    unclamped: opacity · falloff.
    alpha: the opacity that counts.
  """

  dx: Array
  dy: Array
  falloff: Array
  unclamped: Array
  alpha: Array


def evaluate(settings: Settings, row: list[Array], x: Array, y: Array) -> Splat:
  """An instance's geometry at pixel centres x, y."""
  dx, dy = x - row[pipeline.X], y - row[pipeline.Y]
  a, b, c = row[pipeline.CONIC_A], row[pipeline.CONIC_B], row[pipeline.CONIC_C]
  exponent = 0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy
  falloff = jnp.exp(-jnp.maximum(exponent, 0.0))
  unclamped = row[pipeline.OPACITY] * falloff
  alpha = jnp.minimum(unclamped, settings.config.alpha_max)
  drawn = exponent <= row[pipeline.EXPONENT_MAX]
  return Splat(dx, dy, falloff, unclamped, jnp.where(drawn, alpha, 0.0))


def pass_through(
  settings: Settings, alive: Array, before: Array, alpha: Array
) -> tuple[Array, Array, Array]:
  """Past one Gaussian: which pixels go on (1 or 0), transmittance behind it, and its weight."""
  after = before * (1.0 - alpha)
  alive = jnp.where(after > settings.config.transmittance_min, alive, 0.0)
  return alive, jnp.where(alive > 0.0, after, before), alpha * before * alive
