"""The dense prediction head: shapes, options, refusals."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sa0_jax.generator.dpt import DptConfig, DptHead

CONFIG = DptConfig(level_channels=(8, 8, 12, 16), features=8, out_channels=5)
WIDTH = 12


def inputs(size=(64, 32), patch=16, seed=0):
  rng = np.random.default_rng(seed)
  grid = (2, size[0] // patch, size[1] // patch, WIDTH)
  maps = tuple(jnp.asarray(rng.normal(size=grid), jnp.float32) for _ in range(4))
  cls = jnp.asarray(rng.normal(size=(2, WIDTH)), jnp.float32)
  return maps, cls, jnp.asarray(rng.random((2, *size, 3)), jnp.float32)


def head(dtype=jnp.float32, **changed):
  config = dataclasses.replace(CONFIG, **changed)
  return DptHead(config, WIDTH, rngs=nnx.Rngs(0), dtype=dtype)


@jax.jit
def run(network, *arrays):
  return network(*arrays)


@pytest.mark.parametrize(
  ('stride', 'patch', 'size'), [(4, 16, (64, 32)), (2, 16, (64, 32)), (4, 14, (56, 84))]
)
def test_the_result_has_the_stride_asked_for(stride, patch, size):
  out = run(head(output_stride=stride), *inputs(size, patch))
  assert out.shape == (2, size[0] // stride, size[1] // stride, 5)
  assert 0.01 < float(jnp.std(out)) < 10


def test_every_input_and_parameter_matters():
  network, arrays = head(concat_rgb=True), inputs()

  @jax.jit
  def slopes(network, arrays):
    return jax.grad(lambda n, a: jnp.sum(jnp.sin(n(*a))), argnums=(0, 1))(network, arrays)

  of_network, of_arrays = slopes(network, arrays)
  for gradient in jax.tree.leaves((of_network, of_arrays)):
    assert float(jnp.abs(gradient).max()) > 0


def test_switched_off_inputs_do_not_matter():
  maps, cls, image = inputs()
  network = head(readout='ignore')
  np.testing.assert_array_equal(
    run(network, maps, cls, image), run(network, maps, 2 * cls, 1 - image)
  )


def test_a_batch_is_its_images():
  network, (maps, cls, image) = head(), inputs()
  both = run(network, maps, cls, image)
  one = run(network, tuple(m[1:] for m in maps), cls[1:], image[1:])
  np.testing.assert_allclose(both[1:], one, atol=1e-5)


@pytest.mark.slow
def test_bfloat16_is_near_float32():
  maps, cls, image = inputs()
  exact = run(head(), maps, cls, image)
  low = run(head(jnp.bfloat16), maps, cls, image)
  assert low.dtype == jnp.bfloat16
  error = jnp.linalg.norm(low.astype(jnp.float32) - exact) / jnp.linalg.norm(exact)
  assert 0 < float(error) < 0.03


def test_refusals(unchecked_shapes):
  maps, cls, image = inputs()
  with pytest.raises(ValueError, match='3 maps, this head takes 4'):
    head()(maps[:3], cls, image)
  with pytest.raises(ValueError, match='multiples of 4'):
    head()(maps, cls, image[:, :62])
  for changed in ({'output_stride': 3}, {'level_channels': (1, 2)}, {'readout': 'x'}):
    with pytest.raises(ValueError, match=next(iter(changed))):
      dataclasses.replace(CONFIG, **changed)
