"""Pooling over sources."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sa0_jax.generator.pool import AttentionPool, AttentionPoolConfig, mean_pool
from tests.precision import rounded_products


def values(*shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def attention(channels=8):
  return AttentionPool(AttentionPoolConfig(channels, 2, 4), rngs=nnx.Rngs(0))


POOLS = {'mean': jax.jit(mean_pool), 'attention': jax.jit(lambda x, mask: attention()(x, mask))}
MASK = jnp.asarray([[True, True, True, False], [True, False, False, False], [True] * 4])


@pytest.mark.parametrize('shape', [(8,), (3, 5, 8)], ids=['cls', 'uv'])
def test_mean_is_that_of_plain_numpy(shape):
  x = values(3, 4, *shape)
  pooled = mean_pool(x, MASK)
  for b in range(3):
    expected = np.mean([x[b, k] for k in range(4) if MASK[b, k]], axis=0, dtype=np.float64)
    np.testing.assert_allclose(pooled[b], expected, atol=1e-6)


def test_attention_is_that_of_plain_numpy():
  pool, x = attention(), values(3, 4, 5, 8)
  pool.norm.scale[...] = values(8, seed=1)
  pool.norm.bias[...] = values(8, seed=2)
  pooled, x, mask = (np.asarray(array) for array in (pool(x, MASK), x, MASK))
  kernel, query, scale, bias = (
    np.asarray(parameter[...], np.float64)
    for parameter in (pool.key.kernel, pool.query, pool.norm.scale, pool.norm.bias)
  )
  for b, n in np.ndindex(3, 5):
    sources = x[b, mask[b], n].astype(np.float64)
    normal = (sources - sources.mean(-1, keepdims=True)) / np.sqrt(
      sources.var(-1, keepdims=True) + 1e-6
    )
    keys = (normal * scale + bias) @ kernel
    for head in range(2):
      score = np.exp(keys[:, 4 * head : 4 * head + 4] @ query[head] / 2)
      channels = slice(4 * head, 4 * head + 4)
      expected = score / score.sum() @ sources[:, channels]
      np.testing.assert_allclose(pooled[b, n, channels], expected, atol=1e-5)


@pytest.mark.parametrize('name', POOLS)
def test_order_does_not_matter(name):
  x, pool = values(3, 4, 5, 8), POOLS[name]
  order = jnp.asarray([2, 0, 3, 1])
  np.testing.assert_allclose(pool(x, MASK), pool(x[:, order], MASK[:, order]), atol=1e-6)


@pytest.mark.parametrize('name', POOLS)
def test_one_source_passes_unchanged(name):
  x, pool = values(2, 1, 5, 8).at[0, 0, 0, :3].set(jnp.asarray([-0.0, 0.0, 1e-30])), POOLS[name]
  pooled = pool(x, jnp.ones((2, 1), bool))
  np.testing.assert_array_equal(pooled, x[:, 0])
  if name == 'mean':
    assert pooled.tobytes() == x[:, 0].tobytes()


@pytest.mark.parametrize('name', POOLS)
@pytest.mark.parametrize('filler', [0.0, 1e30, np.nan, np.inf])
def test_padding_changes_nothing(name, filler):
  x, pool = values(2, 2, 5, 8), POOLS[name]
  padded = jnp.concatenate([x, jnp.full((2, 2, 5, 8), filler)], axis=1)
  mask = jnp.asarray([[True, True, False, False]] * 2)
  pooled, pull = jax.vjp(lambda x: pool(x, mask), padded)
  np.testing.assert_allclose(pooled, pool(x, mask[:, :2]), atol=1e-6)
  (gradient,) = pull(pooled)
  assert np.isfinite(gradient).all()
  assert (np.asarray(gradient[:, 2:]) == 0).all()
  assert (np.asarray(gradient[:, :2]) != 0).all()


@pytest.mark.parametrize('name', POOLS)
def test_no_source_at_all_gives_zeros(name):
  pooled = POOLS[name](values(1, 3, 5, 8), jnp.zeros((1, 3), bool))
  np.testing.assert_array_equal(pooled, np.zeros((1, 5, 8)))


@pytest.mark.parametrize('name', POOLS)
def test_the_dtype_stays_and_sums_are_float32(name):
  x = jnp.stack([jnp.full((1, 8), 256.0), *[jnp.full((1, 8), 1.0)] * 3], axis=1)
  pooled = POOLS[name](x.astype(jnp.bfloat16), jnp.ones((1, 4), bool))
  assert pooled.dtype == jnp.bfloat16
  if name == 'mean':  # (256 + 1 + 1 + 1) / 4, where bfloat16 sums stay at 256
    np.testing.assert_array_equal(pooled, np.full((1, 8), 64.75, jnp.bfloat16))


def test_attention_learns_every_parameter_at_full_precision():
  pool, x = attention(), values(3, 4, 5, 8)
  target = values(3, 5, 8, seed=1)

  def loss(pool):
    return jnp.mean((pool(x, MASK) - target) ** 2)

  for leaf in jax.tree.leaves(jax.jit(jax.grad(loss))(pool)):
    assert np.abs(leaf).max() > 0
  assert rounded_products(jax.make_jaxpr(jax.grad(loss))(pool).jaxpr) == []


@pytest.mark.parametrize(
  ('wrong', 'message'),
  [((0, 1), 'channels must be positive'), ((8, 3), 'multiple of num_heads, got 8 and 3')],
)
def test_attention_config_is_checked(wrong, message):
  with pytest.raises(ValueError, match=message):
    AttentionPoolConfig(*wrong)
