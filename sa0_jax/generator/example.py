"""Inputs of the right shapes without a capture, for measuring and for inspecting programs."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array
from sa0_kernels import Camera

from sa0_jax.generator.generator import GeneratorConfig, Sources
from sa0_jax.head.model import HeadModel
from sa0_jax.mesh_render import look_at_camera

_DISTANCE = 0.95  # metres; a portrait's perspective
_MARGIN = 1.3  # of the image around the head
_TURN = 0.5  # radians between the first and the last source's camera


def example_cameras(head: HeadModel, count: int, size: int) -> Camera:
  """Cameras in a horizontal arc in front of a neutral head that fills their images, [count]."""
  low, high = head.v_template.min(axis=0), head.v_template.max(axis=0)
  focal = _DISTANCE / (_MARGIN * float(np.max(high - low)))
  yaws = np.linspace(-0.5, 0.5, count) * _TURN if count > 1 else np.zeros(1)
  centre = (low + high) / 2
  views = [
    look_at_camera(
      centre, distance=_DISTANCE, yaw=float(yaw), pitch=0.0, focal=focal, size=(size, size)
    )
    for yaw in yaws
  ]
  return Camera(
    jnp.stack([jnp.asarray(view.world_to_camera) for view in views]),
    jnp.stack([jnp.asarray(view.intrinsics) for view in views]),
    size,
    size,
  )


def example_sources(config: GeneratorConfig, head: HeadModel, people: int, count: int) -> Sources:
  """Smooth random colours as portraits, `count` of each of `people`, none of them padding."""
  size = config.image_size
  coarse = jax.random.uniform(jax.random.key(0), (people, count, size // 16, size // 16, 3))
  image = jax.image.resize(coarse, (people, count, size, size, 3), 'linear')
  camera = example_cameras(head, count, size)

  def of_all(array: ArrayLike) -> Array:
    return jnp.broadcast_to(array, (people, *jnp.shape(array)))

  return Sources(
    image=image,
    vertices=jnp.broadcast_to(
      jnp.asarray(head.v_template), (people, count, *head.v_template.shape)
    ),
    camera=Camera(of_all(camera.world_to_camera), of_all(camera.intrinsics), size, size),
    mask=jnp.ones((people, count), bool),
  )
