"""From tracked portraits to an avatar in one forward pass."""

import os
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from sa0_kernels import Camera

from sa0_jax.avatar.avatar import Avatar
from sa0_jax.capture.capture import Capture
from sa0_jax.capture.frames import FrameArrays, load_frames
from sa0_jax.generator.checkpoint import load_generator
from sa0_jax.generator.generator import MAX_SOURCES, Generator, Identity, Rig, Sources, bake
from sa0_jax.generator.uv_warp import UVArrays
from sa0_jax.head.model import HeadModel
from sa0_jax.head.registry import load_head


def pack_sources(frames: FrameArrays, positions: Sequence[int]) -> Sources:
  """Some frames of one person as the generator's input, over black, padded to four.

  Args:
    frames: at the generator's image size.
    positions: which of them, 1 to 4, all different.

  Raises:
    ValueError: none, too many, repeated, or not there.
  """
  positions = check_positions(positions, len(frames))
  rows = np.array([*positions, *[positions[0]] * (MAX_SOURCES - len(positions))])
  image = frames.images[rows].astype(jnp.float32) / 255.0
  matte = frames.mattes[rows].astype(jnp.float32)[..., None] / 255.0
  height, width = image.shape[1:3]
  return Sources(
    image=(image * matte)[None],
    vertices=frames.vertices[rows][None],
    camera=Camera(frames.world_to_camera[rows][None], frames.intrinsics[rows][None], width, height),
    mask=(jnp.arange(MAX_SOURCES) < len(positions))[None],
  )


def check_positions(positions: Sequence[int], count: int) -> list[int]:
  """Positions of sources among `count` frames.

  Raises:
    ValueError: none, too many, repeated, or not there.
  """
  chosen = [int(p) for p in positions]
  if not 1 <= len(chosen) <= MAX_SOURCES or len(set(chosen)) < len(chosen):
    raise ValueError(
      f'reconstruct: 1 to {MAX_SOURCES} different source frames are needed, got {chosen}'
    )
  outside = [p for p in chosen if not 0 <= p < count]
  if outside:
    raise ValueError(f'reconstruct: source frame {outside[0]} of {count} (they count from 0)')
  return chosen


@jax.jit
def _encode(generator: Generator, sources: Sources, uv: UVArrays) -> Identity:
  return generator.encode(sources, uv)


def reconstruct(
  capture: Capture,
  sources: Sequence[int] = (0,),
  checkpoint: str | os.PathLike[str] | Generator | None = None,
  head: HeadModel | None = None,
) -> Avatar:
  """Makes an avatar of 1 to 4 frames (SpatialAvatar-0, Stage 1).

  Args:
    capture: tracked frames of one person, square.
    sources: which frames the generator sees.
    checkpoint: a generator's file, or the generator.
    head: the head model of the capture; None loads the one it names.

  Returns:
    The avatar for a neutral face, seen from the front; `refine` goes on from it.

  Raises:
    FileNotFoundError: there is no such checkpoint, or none was given.
    ValueError: sources, head model or checkpoint do not fit.
  """
  chosen = check_positions(sources, len(capture))
  if checkpoint is None:
    raise FileNotFoundError(
      'reconstruct: this version comes without a trained generator: give the file of one as '
      'checkpoint'
    )
  generator = checkpoint if isinstance(checkpoint, Generator) else load_generator(checkpoint)
  head = load_head(capture.head_name) if head is None else head
  rig = Rig.from_head(head, generator.config.uv_size)
  selected = capture.select(np.array(chosen))
  frames = load_frames(selected, head, generator.config.image_size)
  packed = pack_sources(frames, range(len(chosen)))
  identity = _encode(generator, packed, rig.arrays.uv)
  return bake(generator, identity, rig, jnp.asarray(capture.codes.shape))
