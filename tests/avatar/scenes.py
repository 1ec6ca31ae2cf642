"""Small avatars on the procedural head."""

import functools

import jax.numpy as jnp
import numpy as np

from sa0_jax.avatar.avatar import Avatar
from sa0_jax.avatar.gaussians import BoundGaussians
from sa0_jax.head.registry import load_head
from sa0_jax.head.uv_layout import UVLayout


def random_bound(n: int, seed: int = 0, channels: int = 3) -> BoundGaussians:
  """Gaussians of any orientation near their triangles."""
  rng = np.random.default_rng(seed)
  return BoundGaussians(
    position=jnp.asarray(rng.normal(size=(n, 3)), jnp.float32),
    rotation=jnp.asarray(rng.normal(size=(n, 4)), jnp.float32),
    log_scale=jnp.asarray(rng.normal(-1.0, 0.5, size=(n, 3)), jnp.float32),
    opacity_logit=jnp.asarray(rng.normal(1.0, 1.0, size=n), jnp.float32),
    color_logit=jnp.asarray(rng.normal(size=(n, channels)), jnp.float32),
  )


@functools.cache
def small_avatar(uv_size: int = 32, seed: int = 0) -> Avatar:
  """An avatar of random Gaussians, one per texel of the procedural head."""
  head = load_head()
  layout = UVLayout.from_head(head, uv_size)
  shape = jnp.asarray(np.random.default_rng(seed).normal(size=head.num_shape), jnp.float32)
  return Avatar(random_bound(layout.n, seed), layout, shape, head, 'someone')
