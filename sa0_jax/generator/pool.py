"""From K sources to one: a masked mean, and attention as the ablation (SpatialAvatar-0, row G)."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from sa0_jax.generator.initializers import lecun_normal, normal
from sa0_jax.precision import precision_of


def _spread(mask: Bool[Array, 'b k'], ndim: int) -> Bool[Array, '...']:
  """The mask with trailing axes of size 1, to broadcast against `ndim` axes."""
  return mask.reshape(*mask.shape, *(1,) * (ndim - 2))


def mean_pool(x: Float[Array, 'b k *rest'], mask: Bool[Array, 'b k']) -> Float[Array, 'b *rest']:
  """Mean over the sources there are; summed in float32.

  No parameters, the identity for one source, and independent of the order of the sources.

  Args:
    x: values of each source; those of padded sources may be anything, NaN included.
    mask: False for padding.

  Returns:
    The mean in the dtype of x; zero where there is no source at all.
  """
  kept = jnp.where(_spread(mask, x.ndim), x, 0.0)
  if x.shape[1] == 1:
    return kept[:, 0]  # a sum would turn −0 into 0
  count = jnp.maximum(jnp.sum(_spread(mask, x.ndim), axis=1), 1)
  return (jnp.sum(kept, axis=1, dtype=jnp.float32) / count).astype(x.dtype)


@dataclasses.dataclass(frozen=True)
class AttentionPoolConfig:
  """The shape of an attention pool.

  Attributes:
    channels: of what is pooled.
    num_heads: groups of channels that choose among the sources separately.
    key_channels: channels in which a group compares sources.
  """

  channels: int
  num_heads: int = 4
  key_channels: int = 16

  def __post_init__(self) -> None:
    for name in ('channels', 'num_heads', 'key_channels'):
      if getattr(self, name) < 1:
        raise ValueError(f'AttentionPoolConfig: {name} must be positive, got {getattr(self, name)}')
    if self.channels % self.num_heads:
      raise ValueError(
        f'AttentionPoolConfig: channels must be a multiple of num_heads, got {self.channels} and '
        f'{self.num_heads}'
      )


class AttentionPool(nnx.Module):
  """Weighted mean over the sources: a learned query attends to them, texel by texel.

  The values are the inputs themselves, so that one source passes unchanged, as in `mean_pool`.
  The same module serves any axes between sources and channels: one for UV features, one for CLS
  tokens.
  """

  def __init__(
    self, config: AttentionPoolConfig, *, rngs: nnx.Rngs, dtype: DTypeLike = jnp.float32
  ):
    """Makes a pool with random weights.

    Args:
      config: its shape.
      rngs: where the weights come from.
      dtype: of the keys; scores, softmax and the weighted mean are float32.
    """
    self.norm = nnx.LayerNorm(
      config.channels, dtype=jnp.float32, use_fast_variance=False, rngs=rngs
    )
    self.key = nnx.Linear(
      config.channels,
      config.num_heads * config.key_channels,
      use_bias=False,
      dtype=dtype,
      precision=precision_of(dtype),
      kernel_init=lecun_normal(),
      rngs=rngs,
    )
    shape = (config.num_heads, config.key_channels)
    self.query = nnx.Param(normal()(rngs.params(), shape))
    self.config = config

  def __call__(
    self, x: Float[Array, 'b k *grid c'], mask: Bool[Array, 'b k']
  ) -> Float[Array, 'b *grid c']:
    """Pools; arguments and result as for `mean_pool`, with the channels last."""
    shape, config = x.shape, self.config
    kept = jnp.where(_spread(mask, x.ndim), x, 0.0)
    keys = self.key(self.norm(kept)).reshape(*shape[:-1], config.num_heads, config.key_channels)
    # Products written out: so small that a matrix unit gains nothing, and a GPU's would round.
    scores = jnp.sum(keys.astype(jnp.float32) * self.query[...], axis=-1)
    scores = scores / jnp.sqrt(jnp.float32(config.key_channels))
    there = _spread(mask, x.ndim)
    weights = jax.nn.softmax(scores, axis=1, where=jnp.broadcast_to(there, scores.shape))
    values = kept.reshape(*shape[:-1], config.num_heads, -1).astype(jnp.float32)
    pooled = jnp.sum(weights[..., None] * values, axis=1)
    return pooled.reshape(shape[0], *shape[2:]).astype(x.dtype)
