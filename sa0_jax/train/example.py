"""A batch of the right shapes without data, for measuring and for inspecting programs."""

import dataclasses

import jax
import jax.numpy as jnp

from sa0_jax.generator.example import example_cameras, example_sources
from sa0_jax.generator.generator import MAX_SOURCES, GeneratorConfig
from sa0_jax.head.model import HeadCodes, HeadModel
from sa0_jax.train.objective import Batch, Targets


def example_batch(config: GeneratorConfig, head: HeadModel, count: int) -> Batch:
  """Four sources of each of `count` people and a target from the front."""
  size = config.image_size
  sources = example_sources(config, head, count, MAX_SOURCES)
  camera = example_cameras(head, 1, size)
  codes = jax.tree.map(
    lambda leaf: jnp.broadcast_to(jnp.asarray(leaf), (count, *leaf.shape)), HeadCodes.neutral(head)
  )
  # Codes of zero would leave the residual head without a gradient. The mesh stays neutral.
  expression = 0.3 * jax.random.normal(jax.random.key(1), codes.expression.shape)
  codes = dataclasses.replace(codes, expression=expression)
  targets = Targets(
    image=sources.image[:, 0],
    vertices=sources.vertices[:, 0],
    camera=jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count, *leaf.shape[1:])), camera),
    codes=codes,
    box=jnp.broadcast_to(jnp.asarray([0.25, 0.25, 0.75, 0.75]) * size, (count, 4)),
    matte=jnp.full((count, size, size), 255, jnp.uint8),
  )
  return Batch(sources, targets)
