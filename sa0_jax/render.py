"""Pose, bind, rasterise: an avatar becomes an image."""

import dataclasses
import functools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from sa0_kernels import Camera, RasterConfig, RasterOutput, grow_capacity

from sa0_jax.avatar.avatar import Avatar
from sa0_jax.avatar.binding import bind, triangle_frames
from sa0_jax.avatar.gaussians import BoundGaussians, Gaussians
from sa0_jax.head.lbs import pose_head
from sa0_jax.head.model import HeadCodes

WHITE = (1.0, 1.0, 1.0)
_SHOWN, _ASTRAY = 0.5, 0.002  # opacity from which Gaussians count, and the share that does not


@runtime_checkable
class Drive(Protocol):
  """What can drive an avatar: a frame of a capture, or anything with codes and a camera."""

  @property
  def codes(self) -> HeadCodes:
    """Codes of one frame."""
    ...

  @property
  def camera(self) -> Camera:
    """Its camera."""
    ...


class RenderedFrame(NamedTuple):
  """One image on the host, or a batch of them.

  Attributes:
    rgb: [*batch, h, w, 3] float32 colour over the background, in [0, 1].
    alpha: [*batch, h, w] float32 coverage.
  """

  rgb: Float[np.ndarray, '*batch h w 3']
  alpha: Float[np.ndarray, '*batch h w']


def neutral_extent(avatar: Avatar) -> Float[np.ndarray, '2 3']:
  """Lowest and highest corner of the box around a neutral head and its hair, metres.

  For cameras that frame an avatar: hair stands off the mesh. A few Gaussians astray do not count.
  """
  neutral = dataclasses.replace(HeadCodes.neutral(avatar.head), shape=avatar.shape)
  vertices = pose_head(avatar.head, neutral)
  faces = jnp.asarray(avatar.head.faces)
  world = pose_gaussians(avatar.gaussians, vertices, faces, avatar.layout.face)
  shown = np.asarray(world.means)[np.asarray(world.opacities) > _SHOWN]
  corners = [np.asarray(vertices).min(axis=0), np.asarray(vertices).max(axis=0)]
  if len(shown):
    low, high = np.quantile(shown, (_ASTRAY, 1.0 - _ASTRAY), axis=0)
    corners = [np.minimum(corners[0], low), np.maximum(corners[1], high)]
  return np.stack(corners)


def pose_gaussians(
  bound: BoundGaussians,
  vertices: Float[Array, 'v 3'],
  faces: Int[Array, 'f 3'],
  face: Int[Array, ' n'],
) -> Gaussians:
  """World-space Gaussians of a posed mesh.

  Args:
    bound: the avatar's Gaussians.
    vertices: posed vertices, metres.
    faces: the mesh's triangles.
    face: triangle of each Gaussian.
  """
  return bind(bound, triangle_frames(vertices, faces), face)


@functools.partial(jax.jit, static_argnames=('config', 'implementation', 'size', 'batch'))
def _render(
  arrays: Any,
  codes: HeadCodes,
  view: tuple[Array, Array],
  background: Float[Array, ' c'],
  *,
  size: tuple[int, int],
  batch: int | None,
  config: RasterConfig,
  implementation: str | None,
) -> RasterOutput:
  bound, head, faces, face = arrays
  config = dataclasses.replace(config, background=background)

  def one(vertices: Array, view: tuple[Array, Array]) -> RasterOutput:
    gaussians = pose_gaussians(bound, vertices, faces, face)
    return gaussians.rasterize(Camera(*view, *size), config, implementation)

  vertices = pose_head(head, codes)
  if batch is None:
    return one(vertices, view)
  vertices = jnp.broadcast_to(vertices, (batch, *vertices.shape[-2:]))
  pose, intrinsics = view
  views = (
    jnp.broadcast_to(pose, (batch, *pose.shape[-2:])),
    jnp.broadcast_to(intrinsics, (batch, *intrinsics.shape[-1:])),
  )
  return jax.vmap(one)(vertices, views)


class Renderer:
  """Renders one avatar from any codes and camera; compiled once per image size.

  Posing, binding and rasterising are one program. The instance buffer grows when an image needs
  it: what comes back is never short of Gaussians.
  """

  def __init__(
    self,
    avatar: Avatar,
    background: tuple[float, ...] = WHITE,
    implementation: str | None = None,
  ):
    """Takes an avatar, the colour behind it (RGB in [0, 1]) and optionally the rasterizer."""
    self._avatar = avatar
    self._background = jnp.asarray(background, jnp.float32)
    self._implementation = implementation
    self._config = RasterConfig()
    faces = jnp.asarray(avatar.head.faces)
    self._arrays = (avatar.gaussians, avatar.head.arrays, faces, avatar.layout.face)

  def __call__(self, codes: HeadCodes, camera: Camera) -> RenderedFrame:
    """Renders one frame, or a batch of them in one call of the program.

    Args:
      codes: what drives the head; their shape code is replaced by the avatar's own. With a leading
        axis, as many frames.
      camera: one camera, or a batch: of the same length as the codes where both have one. A single
        camera sees every frame; a single frame is seen by every camera. All images of a batch are
        in memory at once; every length is compiled for itself.

    Returns:
      The image and its alpha; with a leading axis where codes or camera have one.

    Raises:
      ValueError: the codes do not fit the avatar's head model, or the batches do not fit together.
    """
    codes = dataclasses.replace(codes, shape=self._avatar.shape)
    batch = _batch(codes, camera)
    view = (jnp.asarray(camera.world_to_camera), jnp.asarray(camera.intrinsics))
    while True:
      output = _render(
        self._arrays,
        codes,
        view,
        self._background,
        size=(camera.width, camera.height),
        batch=batch,
        config=self._config,
        implementation=self._implementation,
      )
      grown = grow_capacity(self._config, output.overflowed, output.num_instances)
      if grown is None:
        return RenderedFrame(np.asarray(output.features), np.asarray(output.alpha))
      self._config = grown

  def frames(self, drive: Iterable[tuple[HeadCodes, Camera]]) -> Iterator[RenderedFrame]:
    """Renders a sequence of (codes, camera)."""
    for codes, camera in drive:
      yield self(codes, camera)


def _batch(codes: HeadCodes, camera: Camera) -> int | None:
  """Number of images, None for one without a leading axis."""
  shapes = {codes.batch_shape, camera.batch_shape} - {()}
  if not shapes:
    return None
  shape = shapes.pop()
  if shapes or len(shape) != 1:
    raise ValueError(
      f'Renderer: codes of shape {codes.batch_shape} and cameras of shape {camera.batch_shape} do '
      'not fit together: one leading axis, of the same length where both have it'
    )
  return shape[0]


def render(
  avatar: Avatar,
  drive: Drive | HeadCodes,
  camera: Camera | None = None,
  background: tuple[float, ...] = WHITE,
) -> RenderedFrame:
  """Renders an avatar.

  For more than a few images build a `Renderer`, which prepares the avatar once.

  Args:
    avatar: the avatar.
    drive: a frame of a capture (its codes and camera), or codes.
    camera: the camera; None takes the frame's.
    background: colour behind the head, RGB in [0, 1].

  Returns:
    The image and its alpha.

  Raises:
    ValueError: codes were given without a camera, or do not fit the avatar's head model.
  """
  codes = drive if isinstance(drive, HeadCodes) else drive.codes
  if camera is None:
    if isinstance(drive, HeadCodes):
      raise ValueError('render: codes alone have no camera; pass camera=…')
    camera = drive.camera
  return Renderer(avatar, background)(codes, camera)
