"""Inputs of the right shapes without a capture, for measuring and for inspecting programs."""

import jax
import jax.numpy as jnp
import numpy as np
from sa0_kernels import Camera

from sa0_jax.generator.generator import GeneratorConfig, Sources
from sa0_jax.head.model import HeadModel
from sa0_jax.mesh_render import portrait_camera

_TURN = 0.5  # radians between the first and the last source's camera


def example_cameras(head: HeadModel, count: int, size: int) -> Camera:
  """Cameras in a horizontal arc in front of a neutral head that fills their images, [count]."""
  yaws = np.linspace(-0.5, 0.5, count) * _TURN if count > 1 else np.zeros(1)
  views = [portrait_camera(head.v_template, yaw=float(yaw), pitch=0.0, size=size) for yaw in yaws]
  return jax.tree.map(lambda *leaves: jnp.stack(leaves), *views)


def example_sources(config: GeneratorConfig, head: HeadModel, people: int, count: int) -> Sources:
  """Smooth random colours as portraits, `count` of each of `people`, none of them padding."""
  size = config.image_size
  coarse = jax.random.uniform(jax.random.key(0), (people, count, size // 16, size // 16, 3))
  image = jax.image.resize(coarse, (people, count, size, size, 3), 'linear')
  camera = example_cameras(head, count, size)
  return Sources(
    image=image,
    vertices=jnp.broadcast_to(head.v_template, (people, count, *head.v_template.shape)),
    camera=jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (people, *leaf.shape)), camera),
    mask=jnp.ones((people, count), bool),
    matte=jnp.full((people, count, size, size), 255, jnp.uint8),
  )
