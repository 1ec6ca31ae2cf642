"""From tracked portraits to an avatar in one forward pass."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from sa0_jax.avatar.avatar import Avatar
from sa0_jax.capture.capture import Capture
from sa0_jax.head.model import HeadModel
from sa0_jax.head.registry import load_head


def reconstruct(
  capture: Capture,
  sources: Sequence[int] = (0,),
  checkpoint: Any = None,
  head: HeadModel | None = None,
  uv_size: int | None = None,
) -> Avatar:
  """Makes an avatar of 1 to 4 frames (SpatialAvatar-0, Stage 1).

  Args:
    capture: tracked frames of one person, square.
    sources: which frames the generator sees.
    checkpoint: a generator's file, or the `Generator` itself; None for the small one that comes
      with this library.
    head: the head model of the capture; None loads the one it names.
    uv_size: side of the UV image the Gaussians lie on: the network's or more (more Gaussians, with
      colours from more pixels of the sources); None for what the generator is meant to have.

  Returns:
    The avatar for a neutral face, seen from the front; `refine` goes on from it.

  Raises:
    FileNotFoundError: there is no such checkpoint.
    ValueError: sources, head model or checkpoint do not fit.
  """
  # Here: flax takes longer to import than the rest of this package.
  from sa0_jax.generator.checkpoint import load_generator
  from sa0_jax.generator.generator import Generator, Rig, bake, encode
  from sa0_jax.generator.sources import check_positions, load_sources

  check_positions(sources, len(capture))
  generator = checkpoint if isinstance(checkpoint, Generator) else load_generator(checkpoint)
  head = load_head(capture.head_name) if head is None else head
  config = generator.config
  size = config.avatar_uv_size if uv_size is None else uv_size
  rig = Rig.from_head(head, config, size)
  packed = load_sources(capture, sources, rig, config)
  identity = encode(generator, packed, rig.arrays)
  return bake(generator, identity, rig, jnp.asarray(capture.codes.shape))
