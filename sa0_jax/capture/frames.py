"""A capture's frames as arrays: what networks and optimisers draw from."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8
from sa0_kernels import Camera, pytree

from sa0_jax.capture import image_files
from sa0_jax.capture.capture import Capture
from sa0_jax.head.lbs import pose_frames
from sa0_jax.head.model import HeadModel


@pytree.register
@dataclasses.dataclass(frozen=True)
class FrameArrays:
  """Frames of one subject on the device.

  Attributes:
    images: [t, h, w, 3] colour, as filmed.
    mattes: [t, h, w] 255 where the pixel belongs to the head.
    vertices: [t, v, 3] posed mesh; codes do not change, so it is posed once.
    world_to_camera: [t, 4, 4].
    intrinsics: [t, 4], of these images.
  """

  images: UInt8[Array, 't h w 3']
  mattes: UInt8[Array, 't h w']
  vertices: Float[Array, 't v 3']
  world_to_camera: Float[Array, 't 4 4']
  intrinsics: Float[Array, 't 4']

  def __len__(self) -> int:
    return self.images.shape[0]

  def camera(self, index: int | Array) -> Camera:
    """Camera of one frame."""
    height, width = self.images.shape[1:3]
    return Camera(self.world_to_camera[index], self.intrinsics[index], width, height)

  def image(self, index: int | Array) -> Float[Array, 'h w 3']:
    """Colour of one frame in [0, 1]."""
    return self.images[index].astype(jnp.float32) / 255.0

  def matte(self, index: int | Array) -> Float[Array, 'h w']:
    """Matte of one frame in [0, 1]."""
    return self.mattes[index].astype(jnp.float32) / 255.0


def load_frames(capture: Capture, head: HeadModel, resolution: int) -> FrameArrays:
  """Reads, resizes and poses all frames of a capture.

  Args:
    capture: frames of one size.
    head: the head model the codes belong to.
    resolution: side of the images, px; 0 keeps the capture's size. Another size needs square
      images.

  Raises:
    ValueError: the head model is another one, codes or cameras are not finite, an image must be
      resized but is not square, or a matte is empty.
  """
  capture.check_head(head)
  _check_finite(capture)
  width, height = capture.width, capture.height
  if resolution and width != height:
    raise ValueError(
      f'capture {capture.name!r} is {width} x {height} px; only square images can be resized to '
      f'{resolution}: use resolution=0'
    )
  size = (resolution, resolution) if resolution else (width, height)
  images = np.empty((len(capture), size[1], size[0], 3), np.uint8)
  mattes = np.empty(images.shape[:3], np.uint8)

  def load(position: int) -> None:
    image, matte = capture.source.load(position)
    if matte.max() < 128:
      raise ValueError(
        f'capture {capture.name!r}, frame {capture.ids[position]}: the matte is empty, nothing in '
        'it belongs to the head; remove the frame or make the matte again'
      )
    if size != (width, height):
      image, matte = (image_files.resize(x, size) for x in (image, matte))
    images[position], mattes[position] = image, matte

  # Decoding a video's worth of images is what a refinement on a GPU waited for longest.
  with ThreadPoolExecutor() as pool:
    list(pool.map(load, range(len(capture))))
  camera = capture.frame_camera(np.arange(len(capture))).resized(*size)
  return FrameArrays(
    images=jnp.asarray(images),
    mattes=jnp.asarray(mattes),
    vertices=jnp.asarray(pose_frames(head, capture.codes)),
    world_to_camera=jnp.asarray(camera.world_to_camera),
    intrinsics=jnp.asarray(camera.intrinsics),
  )


def over_black(
  images: UInt8[Array, '*n h w 3'], mattes: UInt8[Array, '*n h w']
) -> Float[Array, '*n h w 3']:
  """Colours in [0, 1] of the heads alone: multiplied by the matte."""
  return images.astype(jnp.float32) / 255.0 * (mattes.astype(jnp.float32)[..., None] / 255.0)


def _check_finite(capture: Capture) -> None:
  for owner in (capture.codes, capture.camera):
    for field in dataclasses.fields(owner):
      if not np.isfinite(getattr(owner, field.name)).all():
        raise ValueError(f'capture {capture.name!r}: {field.name} holds NaN or infinity')


def split_held_out(num_frames: int, fraction: float) -> tuple[np.ndarray, np.ndarray]:
  """Positions to train on and to test on: the last `fraction` of the frames is held out.

  Raises:
    ValueError: nothing would be left to train on.
  """
  held_out = round(num_frames * fraction)
  if held_out >= num_frames:
    raise ValueError(f'held_out={fraction} of {num_frames} frames leaves nothing to train on')
  positions = np.arange(num_frames)
  return positions[: num_frames - held_out], positions[num_frames - held_out :]
