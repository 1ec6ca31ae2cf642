"""Native-speed CPU rasterizer: numba kernels called from jit through XLA's FFI (`host_call`).

Everything runs here, projection and its adjoint included; memory is dynamic, so this implementation
never overflows: when the instances exceed the capacity, the tile lists are not kept for the
backward pass but built again.
"""

import math
import threading
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sa0_kernels import host_call
from sa0_kernels.projection import ProjectionView, frustum_limits
from sa0_kernels.rasterize import numba_binning, numba_composite, numba_project
from sa0_kernels.rasterize.numba_layout import GRADIENT_COLUMNS, SPLAT_COLUMNS, TILE
from sa0_kernels.rasterize.types import RasterOutput, Settings, SplatInputs


class _Lists(NamedTuple):
  """Projected Gaussians and tile lists, padded to static shapes, as `backward` needs them."""

  splats: Any  # [n, 8]
  order: Any  # [n] visible Gaussians front to back
  offsets: Any  # [n + 1] first instance of each
  tile_start: Any  # [tiles + 1]
  gaussian: Any  # [capacity] of each instance, tile order
  row: Any  # [capacity] emission index, tile order
  counts: Any  # [3] instances, visible Gaussians, invalid Gaussians


def unsupported(settings: Settings, inputs: SplatInputs) -> list[str]:
  """Reasons why this implementation cannot run these inputs."""
  reasons = []
  if inputs.means.dtype != np.float32:
    reasons.append(f'it computes in float32, the inputs are {inputs.means.dtype}')
  if jax.default_backend() != 'cpu':
    reasons.append(f'it runs on CPU, the default device is {jax.default_backend()}')
  if settings.tile_size(TILE) != TILE:
    reasons.append(f'its tiles are {TILE} px, tile_size={settings.config.tile_size}')
  if inputs.lists is not None:
    reasons.append('it lists the Gaussians of every tile itself and takes no config.lists')
  return reasons


def _constants(settings: Settings, intrinsics: Array) -> Array:
  """The `constants` array of numba_project."""
  config = settings.config
  view = ProjectionView(
    jnp.eye(4),
    intrinsics,
    settings.width,
    settings.height,
    frustum_margin=config.frustum_margin,
  )
  low, high = frustum_limits(view)
  fixed = (config.blur, config.alpha_max, config.alpha_min, config.transmittance_min, config.near)
  limits = jnp.stack([low[0], high[0], low[1], high[1]])
  return jnp.concatenate([jnp.asarray(fixed, jnp.float32), limits])


def _num_tiles(height: int, width: int) -> int:
  return -(-height // TILE) * -(-width // TILE)


class _Scene(NamedTuple):
  """One call's inputs on the host: those of SplatInputs, and the raster constants."""

  means: np.ndarray
  quats: np.ndarray
  scales: np.ndarray
  opacities: np.ndarray
  features: np.ndarray
  background: np.ndarray
  world_to_camera: np.ndarray
  intrinsics: np.ndarray
  constants: np.ndarray


def _project_and_bin(scene: _Scene, size: tuple[int, int], into: _Lists) -> _Lists:
  """Projects, orders and bins one scene.

  Args:
    scene: the inputs.
    size: image height and width.
    into: padded arrays to fill; `gaussian` and `row` stay untouched when they are too short.

  Returns:
    The lists, at their true lengths.
  """
  height, width = size
  depth = np.empty(len(scene.means), np.float32)
  invalid = numba_project.project(
    (scene.means, scene.quats, scene.scales, scene.opacities, scene.features),
    (scene.world_to_camera, scene.intrinsics, scene.constants),
    into.splats,
    depth,
  )
  order = numba_binning.depth_order(depth)
  offsets = numba_binning.count_tiles(order, into.splats, width, height)
  tiles = numba_binning.emit_tiles(order, offsets, into.splats, width, height)
  gaussian, row = into.gaussian[: len(tiles)], into.row[: len(tiles)]
  if len(gaussian) < len(tiles):
    gaussian, row = np.empty(len(tiles), np.int32), np.empty(len(tiles), np.int32)
  numba_binning.sort_by_tile(order, offsets, tiles, into.tile_start, gaussian, row)
  into.order[: len(order)] = order
  into.offsets[: len(offsets)] = offsets
  into.counts[:] = len(tiles), len(order), invalid
  return _Lists(into.splats, order, offsets, into.tile_start, gaussian, row, into.counts)


def _empty_lists(num_gaussians: int, num_tiles: int) -> _Lists:
  """Arrays for `_project_and_bin` when nothing is kept."""
  return _Lists(
    np.empty((num_gaussians, SPLAT_COLUMNS), np.float32),
    np.empty(num_gaussians, np.int32),
    np.empty(num_gaussians + 1, np.int32),
    np.empty(num_tiles + 1, np.int32),
    np.empty(0, np.int32),
    np.empty(0, np.int32),
    np.empty(3, np.int32),
  )


_local = threading.local()


def _scratch(*shape: int) -> np.ndarray:
  """Uninitialised float32 memory kept between calls: fresh pages cost more than the arithmetic."""
  size = math.prod(shape)
  if getattr(_local, 'scratch', None) is None or _local.scratch.size < size:
    _local.scratch = np.empty(size, np.float32)
  return _local.scratch[:size].reshape(shape)


_SCENE_RANKS = (2, 2, 2, 1, 2, 1, 2, 1, 1)
_IMAGE_RANKS = (3, 2)
_COUNT_RANKS = (1,)
_LIST_RANKS = (2, 1, 1, 1, 1, 1)
_GRADIENT_RANKS = (2, 2, 2, 1, 2, 1)


def _forward_host(arguments: list[np.ndarray], results: list[np.ndarray]) -> None:
  """Host side of the forward pass: image, transmittance, counts, then the lists if wanted."""
  ranks = _SCENE_RANKS + _IMAGE_RANKS + _COUNT_RANKS + _LIST_RANKS
  split = len(_SCENE_RANKS)
  for slot in host_call.slots(arguments + results, ranks[: len(arguments) + len(results)]):
    scene = _Scene._make(slot[:split])
    image, transmittance, counts, *kept = slot[split:]
    height, width = transmittance.shape
    if not kept:
      kept = list(_empty_lists(len(scene.means), _num_tiles(height, width))[:-1])
    into = _Lists._make((*kept, counts))
    lists = _project_and_bin(scene, (height, width), into)
    counts[:] = lists.counts
    numba_composite.composite(
      lists.tile_start,
      lists.gaussian,
      lists.splats,
      scene.features,
      scene.background,
      scene.constants,
      image,
      transmittance,
    )


def _backward_host(arguments: list[np.ndarray], results: list[np.ndarray]) -> None:
  """Host side of the backward pass: gradients of the Gaussians, and 16 of the camera."""
  ranks = _SCENE_RANKS + _COUNT_RANKS + _LIST_RANKS + 2 * _IMAGE_RANKS + _GRADIENT_RANKS
  ends = np.cumsum([len(_SCENE_RANKS), 1 + len(_LIST_RANKS), 2, 2])
  for slot in host_call.slots(arguments + results, ranks):
    scene = _Scene._make(slot[: ends[0]])
    counts, *kept = slot[ends[0] : ends[1]]
    image, transmittance = slot[ends[1] : ends[2]]
    *outputs, d_camera = slot[ends[3] :]
    lists = _Lists._make((*kept, counts))
    instances, visible, _ = (int(c) for c in counts)
    if instances > len(lists.gaussian):  # they were not kept: see the module's docstring
      height, width = transmittance.shape
      fresh = _empty_lists(len(scene.means), _num_tiles(height, width))
      lists = _project_and_bin(scene, (height, width), fresh)
    rows = _scratch(instances, GRADIENT_COLUMNS + scene.features.shape[1])
    numba_composite.composite_backward(
      (lists.tile_start, lists.gaussian, lists.row),
      lists.splats,
      scene.features,
      scene.constants,
      (image, transmittance),
      tuple(slot[ends[2] : ends[3]]),
      rows,
    )
    for output in outputs:
      output[:] = 0
    numba_project.project_backward(
      lists.order[:visible],
      lists.offsets[: visible + 1],
      rows,
      lists.splats,
      (scene.means, scene.quats, scene.scales),
      (scene.world_to_camera, scene.intrinsics, scene.constants),
      tuple(outputs),
      d_camera,
    )


host_call.register('sa0_rasterize_forward', _forward_host)
host_call.register('sa0_rasterize_backward', _backward_host)


def _float(*shape: int) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(shape, np.float32)


def _int(*shape: int) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(shape, np.int32)


def _arrays(settings: Settings, inputs: SplatInputs) -> tuple[Array, ...]:
  """What becomes `_Scene` on the host."""
  *arrays, lists = inputs
  del lists  # None: see `unsupported`
  return (*arrays, _constants(settings, inputs.intrinsics))


def _call_forward(settings: Settings, inputs: SplatInputs, keep_lists: bool) -> Any:
  n, channels = inputs.features.shape
  size = (settings.height, settings.width)
  results = [_float(*size, channels), _float(*size), _int(3)]
  if keep_lists:
    capacity = settings.capacity(n)
    tiles = _num_tiles(*size)
    results += [_float(n, SPLAT_COLUMNS), _int(n), _int(n + 1), _int(tiles + 1)]
    results += [_int(capacity), _int(capacity)]
  scene = _arrays(settings, inputs)
  return host_call.call('sa0_rasterize_forward', results, *scene)


def _output(image: Array, transmittance: Array, counts: Array) -> RasterOutput:
  return RasterOutput(
    features=image,
    alpha=1.0 - transmittance,
    num_instances=counts[0],
    overflowed=jnp.zeros((), bool),
    num_invalid=counts[2],
  )


def render(settings: Settings, inputs: SplatInputs) -> RasterOutput:
  """Renders one image without keeping anything for gradients."""
  return _output(*_call_forward(settings, inputs, keep_lists=False))


def forward(settings: Settings, inputs: SplatInputs) -> tuple[RasterOutput, Any]:
  """The image, and what `backward` needs."""
  image, transmittance, counts, *kept = _call_forward(settings, inputs, keep_lists=True)
  residuals = (inputs, (counts, *kept), (image, transmittance))
  return _output(image, transmittance, counts), residuals


def backward(
  settings: Settings,
  residuals: Any,
  d_features: Float[Array, 'h w c'],
  d_alpha: Float[Array, 'h w'],
) -> SplatInputs:
  """Gradients of every input."""
  inputs, lists, images = residuals
  scene = _arrays(settings, inputs)
  results = [_float(*a.shape) for a in inputs[:5]] + [_float(numba_project.CAMERA_GRADIENTS)]
  *gradients, d_camera = host_call.call(
    'sa0_rasterize_backward', results, *scene, *lists, *images, d_features, d_alpha
  )
  d_pose = jnp.zeros((4, 4), d_camera.dtype).at[:3].set(d_camera[:12].reshape(3, 4))
  d_background = jnp.einsum('hw,hwc->c', images[1], d_features)
  return SplatInputs._make((*gradients, d_background, d_pose, d_camera[12:], None))
