"""From tracked portraits to an avatar in one forward pass."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sa0_jax.avatar.avatar import Avatar
from sa0_jax.capture.capture import Capture, MemoryImages
from sa0_jax.head.model import HeadCodes, HeadModel
from sa0_jax.head.registry import load_head
from sa0_jax.mesh_render import portrait_camera


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
  from sa0_jax.generator.generator import Generator, Rig, bake
  from sa0_jax.generator.sources import check_positions, load_sources

  check_positions(sources, len(capture))
  generator = checkpoint if isinstance(checkpoint, Generator) else load_generator(checkpoint)
  head = load_head(capture.head_name) if head is None else head
  config = generator.config
  size = config.avatar_uv_size if uv_size is None else uv_size
  rig = Rig.from_head(head, config, size)
  packed = load_sources(capture, sources, rig, config)
  identity = _encode_once()(generator, packed, rig.arrays)
  return bake(generator, identity, rig, jnp.asarray(capture.codes.shape))


@functools.cache
def _encode_once() -> Callable[..., Any]:
  """`Generator.encode`, compiled for being run once.

  On a CPU LLVM's optimisations of it take 6 s of 13 and make it 0.2 s faster (seconds of a core).
  """
  from sa0_jax.generator.generator import Generator

  quickly = {'xla_backend_optimization_level': 0} if jax.default_backend() == 'cpu' else None
  return jax.jit(Generator.encode, compiler_options=quickly)


def compile_ahead(
  checkpoint: Any, head: HeadModel, size: int, count: int = 1, uv_size: int | None = None
) -> None:
  """Compiles what `reconstruct` runs, for a thread beside what takes long before it.

  It makes an avatar of blank frames: what is compiled for them serves all others of their size.

  Args:
    checkpoint: as for `reconstruct`.
    head: the head model of the capture that is to come.
    size: side of its frames, px.
    count: how many they are, 1 to 4; all of them will be sources.
    uv_size: as for `reconstruct`.

  Raises:
    FileNotFoundError, ValueError: as `reconstruct`.
  """
  reconstruct(_blank(head, size, count), range(count), checkpoint, head, uv_size)


def _blank(head: HeadModel, size: int, count: int) -> Capture:
  """White frames of a neutral head, all of them matte."""
  codes = jax.tree.map(np.asarray, HeadCodes.neutral(head, (count,)))
  camera = portrait_camera(head.v_template, yaw=0.0, pitch=0.0, size=size)
  return Capture(
    'blank',
    head.name,
    head.fingerprint,
    dataclasses.replace(codes, shape=codes.shape[0]),
    jax.tree.map(lambda leaf: np.stack([leaf] * count), camera),
    MemoryImages(
      np.full((count, size, size, 3), 255, np.uint8), np.full((count, size, size), 255, np.uint8)
    ),
    ids=np.arange(count),
    times=np.zeros(count),
    view_ids=np.zeros(count, np.int64),
  )
