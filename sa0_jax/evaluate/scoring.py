"""Frames of one person rendered and scored on the device, a few at a time."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, UInt8
from sa0_kernels import Camera, RasterConfig, grow_capacity

from sa0_jax.avatar.gaussians import BoundGaussians
from sa0_jax.capture.frames import FrameArrays
from sa0_jax.generator.decoder import RestGaussians, optical_axis
from sa0_jax.generator.generator import Generator, Identity
from sa0_jax.head.model import HeadCodes
from sa0_jax.losses.lpips import Lpips, lpips
from sa0_jax.losses.photometric import composite
from sa0_jax.metrics import image as image_metrics
from sa0_jax.metrics.multi_scale import MIN_SIZE, ms_ssim_five_scales
from sa0_jax.render import pose_gaussians
from sa0_jax.train import parallel


class Person(NamedTuple):
  """One person, ready to be driven.

  Attributes:
    gaussians: an avatar's, the same in every frame; None where a generator makes them.
    generator: the network and what it knows of this person, b = 1; None for an avatar.
    faces: [f, 3] triangles of the mesh.
    face: [n] triangle of each Gaussian.
  """

  gaussians: BoundGaussians | None
  generator: tuple[Generator, Identity, RestGaussians] | None
  faces: Int[Array, 'f 3']
  face: Int[Array, ' n']


class Shot(NamedTuple):
  """Frames to be rendered: their pixels, posed meshes, cameras and codes, [b] each."""

  image: UInt8[np.ndarray, 'b h w 3']
  matte: UInt8[np.ndarray, 'b h w']
  vertices: Float[np.ndarray, 'b v 3']
  world_to_camera: Float[np.ndarray, 'b 4 4']
  intrinsics: Float[np.ndarray, 'b 4']
  codes: HeadCodes


class Scored(NamedTuple):
  """What comes of a shot, on the host.

  Attributes:
    scores: [b] float32 by metric.
    rendered: [b, h, w, 3] over the background.
    target: the same of what was filmed.
  """

  scores: dict[str, np.ndarray]
  rendered: UInt8[np.ndarray, 'b h w 3']
  target: UInt8[np.ndarray, 'b h w 3']


def pixel_metrics(resolution: int, perceptual: dict[str, Lpips]) -> tuple[str, ...]:
  """Names of the metrics that images of a size allow, with the LPIPS weights at hand."""
  names = ['psnr', 'psnr_inside_matte', 'mse', 'ssim_rgb', 'ssim_gray', 'ssim_padded']
  if resolution >= MIN_SIZE:
    names.append('ms_ssim')
  return (*names, *(f'lpips_{network}' for network in sorted(perceptual)))


def _mse(image: Array, target: Array) -> Array:
  return jnp.mean((jnp.clip(image, 0.0, 1.0) - target) ** 2)


_FUNCTIONS: dict[str, Callable[[Array, Array], Array]] = {
  'psnr': image_metrics.psnr,
  'mse': _mse,
  'ssim_rgb': image_metrics.ssim_rgb,
  'ssim_gray': image_metrics.ssim_gray,
  'ssim_padded': image_metrics.ssim_padded,
  'ms_ssim': ms_ssim_five_scales,
}


class Scorer:
  """Renders and scores; compiled once per image size.

  Every device takes the same number of frames and goes through them one by one: what it computes
  for a frame does not depend on how many devices there are, and neither do the bits of a table.
  """

  def __init__(
    self,
    names: tuple[str, ...],
    background: tuple[float, float, float],
    perceptual: dict[str, Lpips] | None = None,
    mesh: Mesh | None = None,
    frames_per_device: int = 4,
    implementation: str | None = None,
  ):
    """Prepares.

    Args:
      names: metrics to compute, of `pixel_metrics`; none where nothing can be compared.
      background: RGB in [0, 1], behind what is rendered and what was filmed.
      perceptual: LPIPS weights by network.
      mesh: devices; None takes all.
      frames_per_device: of one call.
      implementation: rasterizer; None takes the fastest here.
    """
    self._names, self._background = names, background
    self._mesh = parallel.make_mesh() if mesh is None else mesh
    self._perceptual = self._everywhere({} if perceptual is None else perceptual)
    self.batch = frames_per_device * self._mesh.size
    self._implementation = implementation
    self._raster = RasterConfig()
    self._compiled: dict[Any, Any] = {}

  def _everywhere(self, tree: Any) -> Any:
    return jax.device_put(tree, parallel.replicated(self._mesh))

  def place(self, person: Person) -> Person:
    """A person on every device: once, not with every call."""
    return self._everywhere(person)

  def __call__(self, person: Person, shot: Shot) -> Scored:
    """Renders and scores at most `batch` frames of a person from `place`."""
    count = len(shot.image)
    rows = np.minimum(np.arange(self.batch), count - 1)  # the last one fills up
    padded = jax.tree.map(lambda leaf: np.asarray(leaf)[rows], shot)
    padded = jax.device_put(padded, parallel.spread(self._mesh))
    while True:
      scores, pictures, (instances, overflowed) = self._program()(person, self._perceptual, padded)
      grown = grow_capacity(self._raster, overflowed, instances)
      if grown is None:
        break
      self._raster = grown
    rendered, target = (np.asarray(picture)[:count] for picture in pictures)
    return Scored({n: np.asarray(s)[:count] for n, s in scores.items()}, rendered, target)

  def _program(self) -> Any:
    capacity = self._raster.capacity
    if capacity not in self._compiled:
      local = functools.partial(
        _score_all,
        names=self._names,
        background=self._background,
        raster=self._raster,
        implementation=self._implementation,
      )
      spread = parallel.over_batch(self._mesh, local, (False, False, True), spread_result=True)
      self._compiled[capacity] = jax.jit(spread)
    return self._compiled[capacity]


def make_shot(frames: FrameArrays, codes: HeadCodes) -> Shot:
  """Loaded frames and their codes on the host; codes are [b] but for `shape`."""
  count = len(frames)
  arrays = {
    field.name: np.asarray(getattr(codes, field.name), np.float32)
    for field in dataclasses.fields(codes)
  }
  arrays['shape'] = np.broadcast_to(arrays['shape'], (count, arrays['shape'].shape[-1]))
  return Shot(
    np.asarray(frames.images),
    np.asarray(frames.mattes),
    np.asarray(frames.vertices),
    np.asarray(frames.world_to_camera),
    np.asarray(frames.intrinsics),
    HeadCodes(**arrays),
  )


def _score_all(
  person: Person,
  perceptual: dict[str, Lpips],
  shot: Any,
  *,
  names: tuple[str, ...],
  background: tuple[float, float, float],
  raster: RasterConfig,
  implementation: str | None,
) -> Any:
  color = jnp.asarray(background, jnp.float32)
  raster = dataclasses.replace(raster, background=color)

  def one(frame: Any) -> Any:
    height, width = frame.image.shape[:2]
    camera = Camera(frame.world_to_camera, frame.intrinsics, width, height)
    gaussians = _gaussians(person, camera, frame.codes)
    world = pose_gaussians(gaussians, frame.vertices, person.faces, person.face)
    output = world.rasterize(camera, raster, implementation)
    matte = frame.matte.astype(jnp.float32) / 255.0
    target = composite(frame.image.astype(jnp.float32) / 255.0, matte, color)
    rendered = jnp.clip(output.features, 0.0, 1.0)
    scores = {name: _score(name, rendered, target, matte, perceptual) for name in names}
    pictures = tuple(jnp.round(255.0 * x).astype(jnp.uint8) for x in (rendered, target))
    return scores, pictures, (output.num_instances, output.overflowed)

  return jax.lax.map(one, shot)


def _gaussians(person: Person, camera: Camera, codes: HeadCodes) -> BoundGaussians:
  if person.generator is None:
    assert person.gaussians is not None  # one of them is there
    return person.gaussians
  generator, identity, rest = person.generator
  batch_of_one = jax.tree.map(lambda leaf: leaf[None], codes)
  decoded = generator.decode(identity, optical_axis(camera)[None], batch_of_one, rest)
  return jax.tree.map(lambda leaf: leaf[0], decoded.gaussians)


def _score(
  name: str, image: Array, target: Array, matte: Array, perceptual: dict[str, Lpips]
) -> Array:
  if name == 'psnr_inside_matte':
    return image_metrics.psnr(image, target, (matte > 0.5).astype(jnp.float32))
  if name.startswith('lpips_'):
    return lpips(perceptual[name.removeprefix('lpips_')], image, target)
  return _FUNCTIONS[name](image, target)
