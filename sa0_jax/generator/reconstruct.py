"""From tracked portraits to an avatar in one forward pass."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from sa0_jax.avatar.avatar import Avatar
from sa0_jax.capture.capture import Capture
from sa0_jax.capture.frames import load_frames
from sa0_jax.head.model import HeadModel
from sa0_jax.head.registry import load_head


def reconstruct(
  capture: Capture,
  sources: Sequence[int] = (0,),
  checkpoint: Any = None,
  head: HeadModel | None = None,
) -> Avatar:
  """Makes an avatar of 1 to 4 frames (SpatialAvatar-0, Stage 1).

  Args:
    capture: tracked frames of one person, square.
    sources: which frames the generator sees.
    checkpoint: a generator's file, or the `Generator` itself.
    head: the head model of the capture; None loads the one it names.

  Returns:
    The avatar for a neutral face, seen from the front; `refine` goes on from it.

  Raises:
    FileNotFoundError: there is no such checkpoint, or none was given.
    ValueError: sources, head model or checkpoint do not fit.
  """
  # Here: flax takes longer to import than the rest of this package.
  from sa0_jax.generator.checkpoint import load_generator
  from sa0_jax.generator.generator import Generator, Rig, bake, encode
  from sa0_jax.generator.sources import check_positions, pack_sources

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
  identity = encode(generator, packed, rig.arrays.uv)
  return bake(generator, identity, rig, jnp.asarray(capture.codes.shape))
