"""Frames of a capture as the generator's input."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from sa0_kernels import Camera

from sa0_jax.capture.frames import FrameArrays, over_black
from sa0_jax.generator.generator import MAX_SOURCES, Sources


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
  image = over_black(frames.images[rows], frames.mattes[rows])
  height, width = image.shape[1:3]
  return Sources(
    image=image[None],
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
