"""`rasterize`: one function, one custom_vjp, several implementations of the same image."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float

from sa0_kernels import dispatch, tuning
from sa0_kernels.camera import Camera
from sa0_kernels.rasterize.types import (
  MAX_CHANNELS,
  RasterConfig,
  RasterOutput,
  Settings,
  SplatInputs,
  TileLists,
)
from sa0_kernels.typing import ArrayLike

# Name → module. Modules are imported when first used: numba's import alone takes longer than JAX's.
IMPLEMENTATIONS = {
  'numba': 'sa0_kernels.rasterize.numba_cpu',
  'triton': 'sa0_kernels.rasterize.triton',
  'mosaic_gpu': 'sa0_kernels.rasterize.mosaic_gpu',
  'mosaic_tpu': 'sa0_kernels.rasterize.mosaic_tpu',
  'xla': 'sa0_kernels.rasterize.xla',
  'reference': 'sa0_kernels.rasterize.reference',
}


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _rasterize(name: str, settings: Settings, inputs: SplatInputs) -> RasterOutput:
  return dispatch.load(IMPLEMENTATIONS, name).render(settings, inputs)


def _rasterize_forward(
  name: str, settings: Settings, inputs: SplatInputs
) -> tuple[RasterOutput, Any]:
  return dispatch.load(IMPLEMENTATIONS, name).forward(settings, inputs)


def _rasterize_backward(
  name: str, settings: Settings, residuals: Any, cotangent: RasterOutput
) -> tuple[SplatInputs]:
  return (
    dispatch.load(IMPLEMENTATIONS, name).backward(
      settings, residuals, cotangent.features, cotangent.alpha
    ),
  )


_rasterize.defvjp(_rasterize_forward, _rasterize_backward)


def _check(inputs: SplatInputs, camera: Camera) -> None:
  n = inputs.means.shape[0] if inputs.means.ndim == 2 else -1
  channels = inputs.features.shape[-1] if inputs.features.ndim == 2 else -1
  wanted = {
    'means': (inputs.means, (n, 3)),
    'quats': (inputs.quats, (n, 4)),
    'scales': (inputs.scales, (n, 3)),
    'opacities': (inputs.opacities, (n,)),
    'features': (inputs.features, (n, channels)),
    'config.background': (inputs.background, (channels,)),
    'camera.world_to_camera': (inputs.world_to_camera, (*camera.batch_shape, 4, 4)),
    'camera.intrinsics': (inputs.intrinsics, (*camera.batch_shape, 4)),
  }
  for name, (array, shape) in wanted.items():
    if array.shape != shape:
      raise ValueError(
        f'rasterize: {name} has shape {array.shape}, expected {shape} '
        '(n Gaussians: means [n, 3], quats [n, 4], scales [n, 3], opacities [n], features [n, c]); '
        'use jax.vmap for a batch of scenes'
      )
  if not 1 <= channels <= MAX_CHANNELS:
    raise ValueError(f'rasterize: features must have 1 to {MAX_CHANNELS} channels, got {channels}')


def _empty(settings: Settings, inputs: SplatInputs, camera: Camera) -> RasterOutput:
  """The image of no Gaussians: background everywhere."""
  size = (*camera.batch_shape, settings.height, settings.width)
  return RasterOutput(
    features=jnp.broadcast_to(inputs.background, (*size, inputs.background.shape[0])),
    alpha=jnp.zeros(size, inputs.means.dtype),
    num_instances=jnp.zeros(camera.batch_shape, jnp.int32),
    overflowed=jnp.zeros(camera.batch_shape, bool),
    num_invalid=jnp.zeros(camera.batch_shape, jnp.int32),
  )


def _prepare(
  gaussians: tuple[ArrayLike, ...],
  camera: Camera,
  config: RasterConfig | None,
  implementation: str | None,
) -> tuple[str, Settings, SplatInputs]:
  """Checks a call and picks what runs it."""
  config = RasterConfig() if config is None else config
  means, *_, features = gaussians
  dtype = jnp.result_type(means, features)
  background = config.background
  if background is None:
    background = jnp.zeros(jnp.shape(features)[-1:], dtype)
  arrays = (*gaussians, background, camera.world_to_camera, camera.intrinsics)
  inputs = SplatInputs._make((*(jnp.asarray(a, dtype) for a in arrays), config.lists))
  _check(inputs, camera)
  constants = dataclasses.replace(config, background=None, lists=None)
  settings = Settings(constants, camera.width, camera.height)
  name = dispatch.choose('rasterize', IMPLEMENTATIONS, implementation, settings, inputs)
  return name, settings, inputs


def _for_every_camera(
  call: Callable[[SplatInputs], Any], inputs: SplatInputs, camera: Camera
) -> Any:
  """A batch of cameras looks at the same Gaussians."""
  for _ in camera.batch_shape:
    call = jax.vmap(call, in_axes=(SplatInputs(*(None,) * 6, 0, 0, 0),))  # type: ignore[arg-type]
  return call(inputs)


def rasterize(
  means: Float[ArrayLike, 'n 3'],
  quats: Float[ArrayLike, 'n 4'],
  scales: Float[ArrayLike, 'n 3'],
  opacities: Float[ArrayLike, ' n'],
  features: Float[ArrayLike, 'n c'],
  camera: Camera,
  config: RasterConfig | None = None,
  implementation: str | None = None,
) -> RasterOutput:
  """Renders 3D Gaussians by tile-based alpha compositing (Kerbl et al. 2023, INRIA's constants).

  Differentiable in all five Gaussian arrays, the camera pose and intrinsics, and
  `config.background`. Deterministic: the same inputs give the same bits, gradients included. Works
  under jit, grad, scan and vmap (over scenes, cameras, or both).

  Args:
    means: [n, 3] centres in world coordinates, metres.
    quats: [n, 4] rotations (w, x, y, z); normalised inside.
    scales: [n, 3] standard deviations along the rotated axes, metres.
    opacities: [n] in [0, 1].
    features: [n, c] colours or features, 1 ≤ c ≤ 64.
    camera: the camera; with a leading batch the outputs carry the same one.
    config: constants and background; None for the defaults on black.
    implementation: one of `implementations()`; None picks the fastest that can run here.

  Returns:
    The image, its alpha, and what the caller must look at: `overflowed` (see `grow_capacity`) and
    `num_invalid`.

  Raises:
    ValueError: shapes do not fit together, or the implementation is unknown.
    NotImplementedError: the named implementation cannot run these inputs; the message says why.
  """
  name, settings, inputs = _prepare(
    (means, quats, scales, opacities, features), camera, config, implementation
  )
  # Kept lists are of the heuristic's size: the tuned one depends on channels they do not know.
  if settings.config.tile_size is None and inputs.lists is None:
    tile_size = tuning.tuned_tile_size(name, inputs.features.shape[1])
    settings = settings.with_tile_size(tile_size)
  if inputs.means.shape[0] == 0:
    return _empty(settings, inputs, camera)
  call = functools.partial(_rasterize, name, settings)
  return _for_every_camera(call, inputs, camera)


def tile_lists(
  means: Float[ArrayLike, 'n 3'],
  quats: Float[ArrayLike, 'n 4'],
  scales: Float[ArrayLike, 'n 3'],
  opacities: Float[ArrayLike, ' n'],
  camera: Camera,
  config: RasterConfig | None = None,
  implementation: str | None = None,
) -> TileLists:
  """Depth order and tile lists of Gaussians, to be kept as `RasterConfig.lists`.

  For steps in which the geometry stands still: optimising colours, or rendering several sets of
  features. `rasterize` then sorts nothing.

  Args:
    means, quats, scales, opacities, camera, config, implementation: as of `rasterize`, and the same
      as of the calls that the lists are for.

  Returns:
    The lists, with the leading axes of the camera. Where `num_instances` exceeds the capacity they
    are truncated, and every image made with them says `overflowed`.

  Raises:
    ValueError: shapes do not fit together, or the implementation is unknown.
    NotImplementedError: the implementation keeps no lists, as `numba` and `reference`.
  """
  features = jnp.zeros((jnp.shape(means)[0], 1), jnp.result_type(means))
  gaussians = (means, quats, scales, opacities, features)
  name, settings, inputs = _prepare(gaussians, camera, config, implementation)
  module = dispatch.load(IMPLEMENTATIONS, name)
  if not hasattr(module, 'tile_lists'):
    raise NotImplementedError(
      f'tile_lists: implementation {name!r} lists the Gaussians of every tile itself; '
      "name one that keeps lists, such as implementation='xla'"
    )
  return _for_every_camera(functools.partial(module.tile_lists, settings), inputs, camera)


def implementations() -> dict[str, str]:
  """Every implementation and why it is not usable here ('' when it is), for reports."""
  return {name: dispatch.missing(name) for name in IMPLEMENTATIONS}


def tile_sizes(name: str) -> list[int]:
  """Tile sides an implementation can be tuned over, px; none where it has one only."""
  return list(getattr(dispatch.load(IMPLEMENTATIONS, name), 'TILE_SIZES', ()))
