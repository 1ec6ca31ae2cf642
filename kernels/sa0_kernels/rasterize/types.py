"""What goes into a rasterizer and what comes out, whichever implementation runs."""

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Int

from sa0_kernels import pytree
from sa0_kernels.typing import ArrayLike

MAX_CHANNELS = 64


def _static(default: object) -> object:
  return dataclasses.field(default=default, metadata={'static': True})


class TileLists(NamedTuple):
  """(Gaussian, tile) instances in two orders.

  *Emission* order: Gaussians front to back, the tiles of each in sequence. *Tile* order: sorted by
  tile, depth order kept inside.

  Attributes:
    gaussian: [m] Gaussian of each instance, tile order; padding and misses at the end.
    emission: [m] emission index of each instance, tile order.
    tile_start: [tiles] first instance of each tile.
    tile_end: [tiles] where its instances end.
    tile: [m] tile of each instance, tile order; `tiles` for padding and misses.
    owner: [m] rank (in depth order) of each instance's Gaussian, emission order, ascending.
    order: [n] Gaussians in depth order.
    counts: [n] instances of each Gaussian before the exact test, depth order.
    ends: [n] where they end in emission order.
    num_instances: [] true number of instances, before the exact test.
  """

  gaussian: Int[Array, ' m']
  emission: Int[Array, ' m']
  tile_start: Int[Array, ' tiles']
  tile_end: Int[Array, ' tiles']
  tile: Int[Array, ' m']
  owner: Int[Array, ' m']
  order: Int[Array, ' n']
  counts: Int[Array, ' n']
  ends: Int[Array, ' n']
  num_instances: Int[Array, '']


@pytree.register
@dataclasses.dataclass(frozen=True)
class RasterConfig:
  """How Gaussians become pixels; the defaults are those of Kerbl et al. 2023 (INRIA).

  Attributes:
    background: [c] colour behind the Gaussians, or None for black. Differentiable; everything else
      here is static.
    blur: low-pass variance added to the projected covariance, px².
    alpha_max: opacity of one Gaussian at one pixel never exceeds this (gsplat uses 0.999).
    alpha_min: contributions under this are skipped; it bounds each Gaussian's footprint.
    transmittance_min: a pixel stops before the Gaussian that would take its transmittance to this
      or under.
    near: Gaussians whose centre is closer than this (metres) are not drawn.
    frustum_margin: the projection's Jacobian is evaluated at most this fraction of the half field
      of view outside the image, as gsplat does, so that Gaussians far off screen stay finite.
    tile_size: tile side of the tiled implementations, px; None takes what was tuned on this device
      (`sa0_kernels.tuning`), else lets each choose.
    capacity: length of the static (Gaussian, tile) instance buffer per image; None derives it from
      the number of Gaussians. See `grow_capacity`.
    lists: what `tile_lists` made of the same Gaussians, or None. With it nothing is sorted: for
      steps that change features and opacities only. Depth order and tiles are then as they were,
      whatever has moved since; opacities that have grown are cut where their old footprint ended.
  """

  background: Float[ArrayLike, ' c'] | None = None
  blur: float = _static(0.3)  # type: ignore[assignment]
  alpha_max: float = _static(0.99)  # type: ignore[assignment]
  alpha_min: float = _static(1.0 / 255.0)  # type: ignore[assignment]
  transmittance_min: float = _static(1e-4)  # type: ignore[assignment]
  near: float = _static(0.01)  # type: ignore[assignment]
  frustum_margin: float = _static(0.3)  # type: ignore[assignment]
  tile_size: int | None = _static(None)  # type: ignore[assignment]
  capacity: int | None = _static(None)  # type: ignore[assignment]
  lists: TileLists | None = None

  def __post_init__(self) -> None:
    if not 0.0 < self.alpha_max < 1.0 or not 0.0 < self.alpha_min < self.alpha_max:
      raise ValueError(
        'RasterConfig: need 0 < alpha_min < alpha_max < 1, got '
        f'alpha_min={self.alpha_min}, alpha_max={self.alpha_max}'
      )
    if not 0.0 <= self.transmittance_min < 1.0 or self.blur <= 0.0 or self.near <= 0.0:
      raise ValueError(
        'RasterConfig: need 0 <= transmittance_min < 1, blur > 0 and near > 0, got '
        f'{self.transmittance_min}, {self.blur}, {self.near}'
      )
    if self.tile_size is not None and self.tile_size not in (4, 8, 16, 32):
      raise ValueError(f'RasterConfig: tile_size must be 4, 8, 16 or 32, got {self.tile_size}')
    if self.capacity is not None and self.capacity < 1:
      raise ValueError(f'RasterConfig: capacity must be positive, got {self.capacity}')


@pytree.register
@dataclasses.dataclass(frozen=True)
class RasterOutput:
  """One rendered image, or a batch of them.

  Attributes:
    features: [*batch, h, w, c] blended features over the background.
    alpha: [*batch, h, w] 1 − Π(1 − α).
    num_instances: [*batch] true number of (Gaussian, tile) pairs, even beyond the capacity.
    overflowed: [*batch] True where instances did not fit the capacity and the image is therefore
      WRONG: grow (see `grow_capacity`) and render again.
    num_invalid: [*batch] Gaussians left out because an input of theirs is NaN, infinite, a zero
      quaternion or a negative scale. They get zero gradients and disturb no other Gaussian.
  """

  features: Float[Array, '*batch h w c']
  alpha: Float[Array, '*batch h w']
  num_instances: Int[Array, '*batch']
  overflowed: Bool[Array, '*batch']
  num_invalid: Int[Array, '*batch']


class SplatInputs(NamedTuple):
  """Every input of one image; all but the kept lists are differentiable."""

  means: Float[Array, 'n 3']
  quats: Float[Array, 'n 4']
  scales: Float[Array, 'n 3']
  opacities: Float[Array, ' n']
  features: Float[Array, 'n c']
  background: Float[Array, ' c']
  world_to_camera: Float[Array, '4 4']
  intrinsics: Float[Array, ' 4']
  lists: TileLists | None = None


@dataclasses.dataclass(frozen=True)
class Settings:
  """The static half of a call: a RasterConfig without background, and the image size."""

  config: RasterConfig
  width: int
  height: int

  def tile_size(self, default: int) -> int:
    """Tile side, px: the configured one, or the implementation's default."""
    return default if self.config.tile_size is None else self.config.tile_size

  def with_tile_size(self, tile_size: int | None) -> 'Settings':
    """The same with another tile side, px."""
    config = dataclasses.replace(self.config, tile_size=tile_size)
    return dataclasses.replace(self, config=config)

  def capacity(self, num_gaussians: int) -> int:
    """Length of the instance buffer: the configured one, or a power of two ≥ 4 N."""
    if self.config.capacity is not None:
      return self.config.capacity
    return next_power_of_two(max(4 * num_gaussians, 4096))


def next_power_of_two(n: int) -> int:
  """Smallest power of two that is at least n."""
  return 1 << max(int(n) - 1, 0).bit_length()


def grow_capacity(
  config: RasterConfig, overflowed: ArrayLike, num_instances: ArrayLike
) -> RasterConfig | None:
  """The configuration to render again with, or None if nothing overflowed.

  Every host loop that renders calls this on its outputs (it waits for them), because XLA needs a
  static instance buffer and a silently dropped Gaussian would be a wrong image.

  Args:
    config: the configuration the images were rendered with.
    overflowed: `RasterOutput.overflowed` of any number of images, concrete (not traced).
    num_instances: `RasterOutput.num_instances` of the same.

  Returns:
    None, or `config` with room for the true number of instances, a power of two.
  """
  if not np.any(np.asarray(overflowed)):
    return None
  needed = int(np.max(np.asarray(num_instances)))
  return dataclasses.replace(config, capacity=next_power_of_two(needed))
