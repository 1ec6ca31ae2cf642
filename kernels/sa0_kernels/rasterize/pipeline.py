"""What the accelerator kernels share: everything around them, in plain JAX.

Gaussians are projected, sorted by depth and listed per tile; what a kernel reads of each instance
(a Gaussian in a tile) is gathered into rows, tile after tile, front to back. A kernel composites
one tile per program. Its backward pass writes one gradient row per instance, which no other program
touches, and the rows of each Gaussian are then added in a fixed order: no atomics, and so the same
bits every run.

A kernel module provides `unsupported`, `frame`, `KERNELS` and, by `entry_points`, what is called.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from sa0_kernels.projection import Projection, conic_from_covariance
from sa0_kernels.rasterize import reference, xla_binning
from sa0_kernels.rasterize.segments import sum_sorted_segments
from sa0_kernels.rasterize.types import RasterOutput, Settings, SplatInputs, TileLists

# Columns of `Instances.geometry`; there are eight, so that rows stay aligned.
X, Y, CONIC_A, CONIC_B, CONIC_C, OPACITY, EXPONENT_MAX = range(7)
GEOMETRY = 8
# Gradients of a row: x, y, conic A, B, C, opacity; the features follow.
GRADIENTS = 6
_HIGHEST = jax.lax.Precision.HIGHEST


@dataclasses.dataclass(frozen=True)
class Frame:
  """Static facts of an image cut into tiles.

  Attributes:
    settings: constants and size.
    tile: side of a tile, px.
    align: the list of each tile begins at a multiple of this many instances.
    views: images of this size, one after the other: a batch folded into the tile index.
  """

  settings: Settings
  tile: int
  align: int = 1
  views: int = 1

  @property
  def columns(self) -> int:
    """Tiles side by side."""
    return -(-self.settings.width // self.tile)

  @property
  def rows(self) -> int:
    """Tiles one under the other."""
    return -(-self.settings.height // self.tile)

  @property
  def tiles_per_view(self) -> int:
    """Tiles of one image; tile t of all is tile t mod this of its image."""
    return self.columns * self.rows

  @property
  def num_tiles(self) -> int:
    """All tiles."""
    return self.tiles_per_view * self.views

  @property
  def pixels(self) -> int:
    """Pixels in a tile; pixel p is column p mod tile, row p div tile."""
    return self.tile * self.tile


class Instances(NamedTuple):
  """What the kernels read: the instances of each tile, front to back.

  Attributes:
    start: [tiles] where the list of each tile begins.
    end: [tiles] where it ends.
    geometry: [m, 8] centre, conic A, B, C, opacity, largest exponent, 0. Opacity 0 between lists.
    features: [m, c].
  """

  start: Int[Array, ' tiles']
  end: Int[Array, ' tiles']
  geometry: Float[Array, 'm 8']
  features: Float[Array, 'm c']


class GaussianRows(NamedTuple):
  """Where the rows of each Gaussian are, in depth order.

  Attributes:
    position: [e] row of each instance in emission order; −1 if it is in no tile.
    start: [n] first instance of a Gaussian, in emission order.
    number: [n] how many it has.
  """

  position: Int[Array, ' e']
  start: Int[Array, ' n']
  number: Int[Array, ' n']


class Kernels(NamedTuple):
  """The part of a rasterizer that is written once per backend.

  Attributes:
    composite: (frame, instances) → blended features [tiles, c, pixels] without background, and
      transmittance [tiles, pixels].
    composite_backward: (frame, instances, cotangents [tiles, c, pixels], behind [tiles, pixels]) →
      [m, 6 + c] gradient rows in tile order. `behind` is what lies behind a pixel's first Gaussian,
      times its cotangent. Rows that belong to no instance may hold anything.
    sum_rows: (rows, places) → [n, 6 + c] sums, in depth order.
  """

  composite: Callable[[Frame, Instances], tuple[Array, Array]]
  composite_backward: Callable[[Frame, Instances, Array, Array], Array]
  sum_rows: Callable[[Array, GaussianRows], Array]


def sum_rows(rows: Float[Array, 'm d'], places: GaussianRows) -> Float[Array, 'n d']:
  """Adds the rows of each Gaussian without a kernel."""
  m, n = places.position.shape[0], places.start.shape[0]
  own = places.position[:, None] >= 0
  ordered = jnp.where(own, rows[jnp.maximum(places.position, 0)], 0.0)
  # Slots after a Gaussian's last instance are in no tile: their rows are zero.
  owner = jnp.searchsorted(places.start, jnp.arange(m), side='right').astype(jnp.int32) - 1
  return sum_sorted_segments(ordered, owner, n)


def _leading(batched: bool, size: int, array: Array) -> Array:
  """An argument of a mapped function with its axis, repeated if it has none."""
  return array if batched else jnp.broadcast_to(array, (size, *array.shape))


def _flat(array: Array) -> Array:
  """Joins the first two axes."""
  return array.reshape(-1, *array.shape[2:])


def _shifted(places: Array, step: int) -> Array:
  """Places in one image's arrays [b, …] as places in the joined arrays; negative ones stay."""
  offset = step * jnp.arange(places.shape[0], dtype=places.dtype)[:, None]
  return jnp.where(places < 0, places, places + offset)


def _fold_instances(instances: Instances) -> Instances:
  """Instances [b, …] of a batch as those of one long list."""
  m = instances.geometry.shape[1]
  start, end = (_flat(_shifted(a, m)) for a in (instances.start, instances.end))
  return Instances(start, end, _flat(instances.geometry), _flat(instances.features))


# A batch, of cameras or scenes, becomes one kernel over all tiles: `vmap` of a kernel would not do
# on every backend, and never better.


def _composite(kernels: Kernels, frame: Frame, instances: Instances) -> tuple[Array, Array]:
  @jax.custom_batching.custom_vmap
  def call(*instances: Array) -> tuple[Array, Array]:
    return kernels.composite(frame, Instances(*instances))

  @call.def_vmap
  def _(size: int, batched: list, *arrays: Array) -> tuple[Any, Any]:
    full = Instances(*(_leading(b, size, a) for b, a in zip(batched, arrays, strict=True)))
    wide = dataclasses.replace(frame, views=frame.views * size)
    out = _composite(kernels, wide, _fold_instances(full))
    return tuple(a.reshape(size, -1, *a.shape[1:]) for a in out), (True, True)

  return call(*instances)


def _composite_backward(
  kernels: Kernels, frame: Frame, instances: Instances, cotangent: Array, behind: Array
) -> Array:
  @jax.custom_batching.custom_vmap
  def call(*arrays: Array) -> Array:
    return kernels.composite_backward(frame, Instances(*arrays[:4]), *arrays[4:])

  @call.def_vmap
  def _(size: int, batched: list, *arrays: Array) -> tuple[Array, bool]:
    full = [_leading(b, size, a) for b, a in zip(batched, arrays, strict=True)]
    wide = dataclasses.replace(frame, views=frame.views * size)
    folded = _fold_instances(Instances(*full[:4]))
    rows = _composite_backward(kernels, wide, folded, *map(_flat, full[4:]))
    return rows.reshape(size, -1, rows.shape[1]), True

  return call(*instances, cotangent, behind)


def _sum(kernels: Kernels, rows: Array, places: GaussianRows) -> Array:
  @jax.custom_batching.custom_vmap
  def call(rows: Array, *places: Array) -> Array:
    return kernels.sum_rows(rows, GaussianRows(*places))

  @call.def_vmap
  def _(size: int, batched: list, *arrays: Array) -> tuple[Array, bool]:
    rows, position, start, count = (
      _leading(b, size, a) for b, a in zip(batched, arrays, strict=True)
    )
    start = _flat(_shifted(start, position.shape[1]))
    position = _flat(_shifted(position, rows.shape[1]))
    sums = _sum(kernels, _flat(rows), GaussianRows(position, start, _flat(count)))
    return sums.reshape(size, -1, sums.shape[1]), True

  return call(rows, *places)


def to_tiles(frame: Frame, image: Float[Array, 'h w c']) -> Float[Array, 'tiles c p']:
  """Cuts an image into tiles; zeros outside of it."""
  settings, tile = frame.settings, frame.tile
  below = frame.rows * tile - settings.height
  beside = frame.columns * tile - settings.width
  padded = jnp.pad(image, ((0, below), (0, beside), (0, 0)))
  grid = padded.reshape(frame.rows, tile, frame.columns, tile, -1)
  return grid.transpose(0, 2, 4, 1, 3).reshape(frame.num_tiles, -1, frame.pixels)


def from_tiles(frame: Frame, tiles: Float[Array, 'tiles c p']) -> Float[Array, 'h w c']:
  """Puts tiles back together."""
  settings, tile = frame.settings, frame.tile
  grid = tiles.reshape(frame.rows, frame.columns, -1, tile, tile).transpose(0, 3, 1, 4, 2)
  image = grid.reshape(frame.rows * tile, frame.columns * tile, -1)
  return image[: settings.height, : settings.width]


class _Residuals(NamedTuple):
  inputs: SplatInputs
  instances: Instances
  order: Array
  places: GaussianRows
  image: Array
  transmittance: Array


def _gather(
  frame: Frame, lists: TileLists, geometry: Array, features: Array
) -> tuple[Instances, GaussianRows]:
  """The rows of every tile's Gaussians, lists aligned, and where each Gaussian's rows went."""
  m, align = lists.gaussian.shape[0], frame.align
  begin, end = lists.tile_start, lists.tile_end
  start = begin
  slot = jnp.arange(m, dtype=jnp.int32)
  source, listed, place = slot, slot < lists.tile_end[-1], slot
  if align > 1:
    blocks = -(-(end - begin) // align)
    start = align * (jnp.cumsum(blocks) - blocks).astype(jnp.int32)
    num_blocks = m // align + frame.num_tiles + 1
    tile = jnp.repeat(
      jnp.arange(frame.num_tiles, dtype=jnp.int32), blocks, total_repeat_length=num_blocks
    )
    tile = jnp.repeat(tile, align)
    offset = jnp.arange(num_blocks * align, dtype=jnp.int32) - start[tile]
    listed = offset < (end - begin)[tile]
    source = jnp.where(listed, begin[tile] + offset, 0)
    own = jnp.minimum(lists.tile, frame.num_tiles - 1)
    place = start[own] + slot - begin[own]
  gaussian = lists.gaussian[source]
  # A Gaussian of opacity 0 draws nothing, wherever it lies.
  rows = jnp.where(listed[:, None], geometry[gaussian], 0.0)
  instances = Instances(start, start + end - begin, rows, features[gaussian])
  place = jnp.where(lists.tile < frame.num_tiles, place, -1)
  position = jnp.zeros(m, jnp.int32).at[lists.emission].set(place, unique_indices=True)
  return instances, GaussianRows(position, lists.ends - lists.counts, lists.counts)


def _project(
  settings: Settings, inputs: SplatInputs
) -> tuple[SplatInputs, tuple[Projection, Array, Array]]:
  """Clean inputs; and the projection, conics and largest exponents that tiles are listed by."""
  clean, projection, exponent_max = reference.sanitize(settings, inputs)
  return clean, (projection, conic_from_covariance(projection.covariance), exponent_max)


def forward(kernels: Kernels, frame: Frame, inputs: SplatInputs) -> tuple[RasterOutput, _Residuals]:
  """The image, and what `backward` needs."""
  settings = frame.settings
  clean, projected = _project(settings, inputs)
  projection, conic, exponent_max = projected
  lists = xla_binning.tile_lists_of(settings, frame.tile, projected, inputs.lists)
  columns = (
    projection.xy,
    conic,
    clean.opacities[:, None],
    exponent_max[:, None],
    jnp.zeros_like(exponent_max)[:, None],
  )
  instances, places = _gather(frame, lists, jnp.concatenate(columns, axis=1), clean.features)
  blended, transmittance = _composite(kernels, frame, instances)
  transmittance = from_tiles(frame, transmittance[:, None])
  image = from_tiles(frame, blended) + transmittance * inputs.background
  output = RasterOutput(
    features=image,
    alpha=1.0 - transmittance[..., 0],
    num_instances=lists.num_instances,
    overflowed=lists.num_instances > settings.capacity(inputs.means.shape[0]),
    num_invalid=jnp.sum(~projection.valid).astype(jnp.int32),
  )
  return output, _Residuals(inputs, instances, lists.order, places, image, transmittance)


def backward(
  kernels: Kernels,
  frame: Frame,
  residuals: Any,
  d_features: Float[Array, 'h w c'],
  d_alpha: Float[Array, 'h w'],
) -> SplatInputs:
  """Gradients of every input."""
  inputs, instances, order, places, image, transmittance = residuals

  def project(inputs: SplatInputs) -> tuple[Array, ...]:
    clean, (projection, conic, _) = _project(frame.settings, inputs)
    return projection.xy, conic, clean.opacities, clean.features

  _, pullback = jax.vjp(project, inputs)
  behind = jnp.sum(image * d_features, -1) - transmittance[..., 0] * d_alpha
  d_tiles, behind = to_tiles(frame, d_features), to_tiles(frame, behind[..., None])[:, 0]
  rows = _composite_backward(kernels, frame, instances, d_tiles, behind)
  sums = _sum(kernels, rows, places)
  sums = jnp.zeros_like(sums).at[order].set(sums, unique_indices=True)
  gradients = pullback((sums[:, :2], sums[:, 2:5], sums[:, 5], sums[:, GRADIENTS:]))[0]
  d_background = jnp.einsum('hw,hwc->c', transmittance[..., 0], d_features, precision=_HIGHEST)
  return gradients._replace(background=d_background)


class EntryPoints(NamedTuple):
  """What `api.py` calls of an implementation.

  Attributes:
    forward: (settings, inputs) → the image, and what `backward` needs.
    render: (settings, inputs) → the image without keeping anything for gradients.
    backward: (settings, residuals, d_features [h, w, c], d_alpha [h, w]) → all gradients.
    tile_lists: (settings, inputs) → what the image is composited by.
  """

  forward: Callable[[Settings, SplatInputs], tuple[RasterOutput, Any]]
  render: Callable[[Settings, SplatInputs], RasterOutput]
  backward: Callable[[Settings, Any, Array, Array], SplatInputs]
  tile_lists: Callable[[Settings, SplatInputs], TileLists]


def entry_points(kernels: Kernels, frame: Callable[[Settings], Frame]) -> EntryPoints:
  """The functions of an implementation that consists of these kernels; `frame` cuts its images."""

  def forward_of(settings: Settings, inputs: SplatInputs) -> tuple[RasterOutput, Any]:
    return forward(kernels, frame(settings), inputs)

  def render(settings: Settings, inputs: SplatInputs) -> RasterOutput:
    return forward_of(settings, inputs)[0]

  def backward_of(
    settings: Settings, residuals: Any, d_features: Array, d_alpha: Array
  ) -> SplatInputs:
    return backward(kernels, frame(settings), residuals, d_features, d_alpha)

  def tile_lists(settings: Settings, inputs: SplatInputs) -> TileLists:
    _, projected = _project(settings, inputs)
    return xla_binning.build_tile_lists(settings, frame(settings).tile, *projected)

  return EntryPoints(forward_of, render, backward_of, tile_lists)
