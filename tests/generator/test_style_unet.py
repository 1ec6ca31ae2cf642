"""The UV network: StyleGAN2's convolutions, exact masks, the published size."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sa0_jax.generator.style_unet import (
  StyleUNet,
  StyleUNetConfig,
  double,
  halve,
  modulated_convolution,
)

CONFIG = StyleUNetConfig(size=16, channels=(6, 8), in_channels=5, out_channels=4, style_dim=12)
WIDTH = 7
RNG = np.random.default_rng(0)
VALID = jnp.asarray(RNG.random((16, 16)) < 0.8)


def network(dtype=jnp.float32, **changed):
  config = dataclasses.replace(CONFIG, **changed)
  return StyleUNet(config, WIDTH, rngs=nnx.Rngs(0), dtype=dtype)


def inputs(batch=2, seed=1):
  rng = np.random.default_rng(seed)
  return (
    jnp.asarray(rng.normal(size=(batch, 16, 16, 5)), jnp.float32),
    jnp.asarray(rng.normal(size=(batch, WIDTH)), jnp.float32),
  )


@jax.jit
def run(model, uv, cls, key=None):
  return model(uv, cls, VALID, key)


@pytest.mark.parametrize('demodulate', [True, False])
def test_modulated_convolution_equals_one_kernel_per_image(demodulate):
  """StyleGAN2's equations 1 and 3, in NumPy: a kernel for each image, then a plain convolution."""
  rng = np.random.default_rng(2)
  x, kernel = rng.normal(size=(2, 6, 5, 3)), rng.normal(size=(3, 3, 3, 4))
  style = rng.normal(size=(2, 3))
  weights = kernel[None] / np.sqrt(27) * style[:, None, None, :, None]
  if demodulate:
    weights = weights / np.sqrt((weights**2).sum((1, 2, 3), keepdims=True) + 1e-8)
  padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  expected = np.zeros((2, 6, 5, 4))
  for i in range(3):
    for j in range(3):
      expected += np.einsum('bhwi,bio->bhwo', padded[:, i : i + 6, j : j + 5], weights[:, i, j])
  arrays = (jnp.asarray(a, jnp.float32) for a in (x, kernel, style))
  actual = modulated_convolution(*arrays, demodulate)
  np.testing.assert_allclose(actual, expected, atol=2e-5)


def test_resampling_keeps_constants_and_ramps():
  flat = jnp.full((1, 8, 6, 2), 3.0)
  np.testing.assert_allclose(halve(flat), np.full((1, 4, 3, 2), 3.0), rtol=1e-6)
  np.testing.assert_allclose(double(flat), np.full((1, 16, 12, 2), 3.0), rtol=1e-6)
  ramp = jnp.broadcast_to(jnp.arange(8.0)[None, :, None, None], (1, 8, 8, 1))
  # Sample centres: of the halved map between two old ones, of the doubled one at the quarters.
  np.testing.assert_allclose(halve(ramp)[0, 1:-1, 0, 0], [2.5, 4.5], rtol=1e-6)
  np.testing.assert_allclose(double(ramp)[0, 1:-1, 0, 0], np.arange(0.25, 7.0, 0.5), rtol=1e-6)


def keys(seed):
  return jax.random.split(jax.random.key(seed), 2)


def test_nothing_comes_from_or_goes_to_invalid_texels():
  model, (uv, cls) = network(), inputs()
  out = run(model, uv, cls)
  assert out.shape == (2, 16, 16, 4)
  assert float(jnp.abs(jnp.where(VALID[..., None], 0.0, out)).max()) == 0
  spoiled = jnp.where(VALID[..., None], uv, jnp.nan)
  np.testing.assert_array_equal(out, run(model, spoiled, cls))


def test_output_is_of_the_order_of_its_input():
  out = run(network(), *inputs())
  assert 0.1 < float(jnp.std(out[:, VALID])) < 3


def test_style_input_and_every_parameter_matter():
  draws = np.random.default_rng(0)
  model = jax.tree.map(
    lambda p: p + np.float32(0.1) * draws.standard_normal(p.shape, np.float32), network(noise=True)
  )

  @jax.jit
  def slopes(model, uv, cls):
    def total(model, uv, cls):
      return jnp.sum(jnp.sin(model(uv, cls, VALID, keys(3))))

    return jax.grad(total, argnums=(0, 1, 2))(model, uv, cls)

  for gradient in jax.tree.leaves(slopes(model, *inputs())):
    assert float(jnp.abs(gradient).max()) > 0


def test_noise_is_off_unless_asked_for_and_starts_silent():
  uv, cls = inputs()
  first, second = (run(network(), uv, cls, key) for key in (None, keys(1)))
  np.testing.assert_array_equal(first, second)
  noisy = network(noise=True)
  with pytest.raises(ValueError, match='noise needs a key'):
    noisy(uv, cls, VALID)
  outs = [run(noisy, uv, cls, keys(seed)) for seed in (1, 2)]
  np.testing.assert_array_equal(*outs)
  loud = jax.tree.map(lambda p: p + 1.0 if p.shape == () else p, noisy)
  outs = [run(loud, uv, cls, keys(seed)) for seed in (1, 2)]
  assert float(jnp.abs(outs[0] - outs[1]).max()) > 0.01


def test_a_batch_is_its_images():
  model, (uv, cls) = network(), inputs()
  np.testing.assert_allclose(run(model, uv, cls)[1:], run(model, uv[1:], cls[1:]), atol=1e-5)


@pytest.mark.slow
def test_recomputing_changes_no_gradient():
  uv, cls = inputs()

  @jax.jit
  def slopes(model):
    return jax.grad(lambda m: jnp.sum(m(uv, cls, VALID) ** 2))(model)

  kept, again = (slopes(network(remat=remat)) for remat in (False, True))
  for a, b in zip(jax.tree.leaves(kept), jax.tree.leaves(again), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_bfloat16_is_near_float32():
  exact, low = run(network(), *inputs()), run(network(jnp.bfloat16), *inputs())
  assert low.dtype == jnp.float32
  error = jnp.linalg.norm(low - exact) / jnp.linalg.norm(exact)
  assert 0 < float(error) < 0.05


def test_the_published_size():
  """40 to 60 million parameters in the generator; counted without making them."""
  model = nnx.eval_shape(lambda: StyleUNet(StyleUNetConfig(), 768, rngs=nnx.Rngs(0)))
  count = sum(np.prod(p.shape) for p in jax.tree.leaves(nnx.state(model)))
  assert 40e6 < count < 60e6


def test_refusals(unchecked_shapes):
  uv, cls = inputs()
  with pytest.raises(ValueError, match=r'UV image is \[8, 16, 5\]'):
    network()(uv[:, :8], cls, VALID)
  with pytest.raises(ValueError, match='multiple of 2'):
    dataclasses.replace(CONFIG, size=17)
