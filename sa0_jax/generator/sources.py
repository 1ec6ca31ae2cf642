"""Frames of a capture as the generator's input."""

from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Array, Bool, Int
from sa0_kernels import Camera

from sa0_jax.capture.capture import Capture
from sa0_jax.capture.frames import FrameArrays, load_frames, over_black
from sa0_jax.generator.generator import MAX_SOURCES, GeneratorConfig, Rig, Sources

# Pixels of the images colours are taken from for each texel along a side: a face fills about half
# of its image and of the UV image, and more would alias.
_PIXELS_PER_TEXEL = 2


def load_sources(
  capture: Capture, positions: Sequence[int], rig: Rig, config: GeneratorConfig
) -> Sources:
  """Frames of a capture as a generator's input, colours from as many pixels as texels can show.

  Args:
    capture: square frames of one person.
    positions: which of them, 1 to 4, all different.
    rig: the head and the texels of the Gaussians.
    config: the generator's.

  Raises:
    ValueError: sources, head model or frames do not fit.
  """
  chosen = check_positions(positions, len(capture))
  selected = capture.select(np.array(chosen))
  packed = pack_sources(load_frames(selected, rig.head, config.image_size), range(len(chosen)))
  size = min(selected.width, _PIXELS_PER_TEXEL * rig.arrays.uv.layout.resolution)
  if size <= config.image_size:
    return packed
  sharp = pack_sources(load_frames(selected, rig.head, size), range(len(chosen)))
  return packed._replace(colors=sharp.image)


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
  return _pack(frames, rows, np.arange(MAX_SOURCES) < len(positions))


@jax.jit
def _pack(frames: FrameArrays, rows: Int[Array, ' k'], mask: Bool[Array, ' k']) -> Sources:
  """Rows of frames as sources of one person; one program instead of twenty small ones."""
  chosen = jax.tree.map(lambda leaf: leaf[rows][None], frames)
  height, width = frames.images.shape[1:3]
  return Sources(
    image=over_black(chosen.images, chosen.mattes),
    vertices=chosen.vertices,
    camera=Camera(chosen.world_to_camera, chosen.intrinsics, width, height),
    mask=mask[None],
    matte=chosen.mattes,
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
