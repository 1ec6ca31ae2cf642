"""What tests of exports share: a small avatar, and pictures of Gaussians."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from sa0_kernels import Camera, RasterConfig

from sa0_jax import mesh_render
from sa0_jax.avatar.activations import logit
from sa0_jax.avatar.avatar import Avatar
from sa0_jax.avatar.gaussians import BoundGaussians, Gaussians
from sa0_jax.head.registry import load_head
from sa0_jax.head.uv_layout import UVLayout


@functools.cache
def textured_avatar(uv_size: int = 40) -> Avatar:
  """Flat Gaussians on the skin, their colours smooth over the UV square: red grows with u."""
  head = load_head()
  layout = UVLayout.from_head(head, uv_size)
  rng = np.random.default_rng(3)

  def normal(*shape, scale=1.0):
    return jnp.asarray(scale * rng.normal(size=shape), jnp.float32)

  n, texel = layout.n, layout.texel / uv_size
  color = jnp.stack([texel[:, 1], 1.0 - texel[:, 0], 0.5 + 0.4 * jnp.sin(9 * texel[:, 0])], axis=1)
  gaussians = BoundGaussians(
    position=normal(n, 3, scale=0.3),
    rotation=normal(n, 4),
    log_scale=normal(n, 3, scale=0.4) - 0.3,
    opacity_logit=normal(n) + 1.5,
    color_logit=logit(color.astype(jnp.float32), 0.02),
  )
  return Avatar(gaussians, layout, normal(head.num_shape, scale=0.5), head, 'test')


def camera(size: int = 64) -> Camera:
  """In front of the face, a little aside."""
  view = mesh_render.look_at_camera(
    [0.0, 0.0, 0.0], distance=0.9, yaw=0.3, pitch=0.1, focal=2.2, size=(size, size)
  )
  return jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), view)


def picture(gaussians: Gaussians, size: int = 64) -> np.ndarray:
  """[h, w, 3] over white."""
  output = gaussians.rasterize(camera(size), RasterConfig(background=jnp.ones(3)))
  return np.asarray(output.features)


def psnr(one: np.ndarray, other: np.ndarray) -> float:
  """Decibels."""
  return float(-10.0 * np.log10(np.mean((one - other) ** 2)))
