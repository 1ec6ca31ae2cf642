"""Depth order and tile lists that are kept across calls."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sa0_kernels import Camera, RasterConfig, dispatch, grow_capacity, rasterize, tile_lists

from tests.kernels.scenes import random_scene

KEEPERS = [
  'xla',
  'triton',
  *(pytest.param(name, marks=pytest.mark.interpreter) for name in ('mosaic_tpu', 'mosaic_gpu')),
]
SCENE = random_scene(60, 33, 21)


@pytest.fixture(autouse=True)
def other_platforms():
  with dispatch.allow_other_platforms():
    yield


def geometry(**changed):
  names = ('means', 'quats', 'scales', 'opacities')
  return [jnp.asarray(changed[n] if n in changed else getattr(SCENE, n)) for n in names]


def camera(views=()):
  view = np.broadcast_to(SCENE.world_to_camera, (*views, 4, 4)).copy()
  if views:
    view[..., 0, 3] += 0.02 * np.arange(views[-1])
  pinhole = np.broadcast_to(SCENE.intrinsics, (*views, 4)).copy()
  return Camera(view, pinhole, SCENE.width, SCENE.height)


@jax.jit
def listed(arrays):
  return tile_lists(*arrays, camera(), None, 'xla')


@jax.jit
def rendered(arrays, lists):
  return rasterize(*arrays, camera(), RasterConfig(lists=lists), 'xla')


@pytest.mark.parametrize('implementation', KEEPERS)
def test_kept_lists_change_no_bit(implementation):
  """Of the image and its gradients, with features and opacities other than the lists saw."""
  opacities = 0.5 * SCENE.opacities
  lists = jax.jit(lambda *a: tile_lists(*a, camera(), None, implementation))(*geometry())

  @functools.partial(jax.jit, static_argnames='keep')
  def run(arrays, keep):
    config = RasterConfig(lists=lists if keep else None)

    def loss(arrays):
      output = rasterize(*arrays, camera(), config, implementation)
      return jnp.sum(jnp.sin(3 * output.features)) + jnp.sum(output.alpha**2), output

    return jax.grad(loss, has_aux=True)(arrays)

  arrays = [*geometry(opacities=opacities), jnp.asarray(SCENE.features[:, ::-1].copy())]
  (kept, image), (fresh, expected) = run(arrays, True), run(arrays, False)
  assert int(image.num_instances) >= int(expected.num_instances) > 0
  np.testing.assert_allclose(image.features, expected.features, atol=1e-6)
  for a, b in zip(kept, fresh, strict=True):
    assert np.abs(b).max() > 0
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_the_same_lists_give_the_same_bits():
  arrays = (*geometry(), jnp.asarray(SCENE.features))
  kept, fresh = rendered(arrays, listed(geometry())), rendered(arrays, None)
  for a, b in zip(jax.tree.leaves(kept), jax.tree.leaves(fresh), strict=True):
    np.testing.assert_array_equal(a, b)


def test_a_batch_of_cameras_keeps_a_batch_of_lists():
  cameras, features = camera((2, 3)), jnp.asarray(SCENE.features)

  @jax.jit
  def both(arrays):
    lists = tile_lists(*arrays, cameras, None, 'xla')
    kept = rasterize(*arrays, features, cameras, RasterConfig(lists=lists), 'xla')
    return lists.order, kept, rasterize(*arrays, features, cameras, None, 'xla')

  order, kept, fresh = both(geometry())
  assert order.shape == (2, 3, 60)
  np.testing.assert_allclose(kept.features, fresh.features, atol=1e-6)


def test_what_has_gone_behind_the_camera_is_not_drawn():
  lists = listed(geometry())
  behind = jnp.asarray(SCENE.means) + jnp.asarray([0.0, 0.0, -1e3])
  arrays = (*geometry(means=behind), jnp.asarray(SCENE.features))
  assert float(rendered((*geometry(), arrays[-1]), lists).alpha.max()) > 0.5
  assert float(rendered(arrays, lists).alpha.max()) == 0.0


def test_truncated_lists_say_so():
  config = RasterConfig(capacity=16)
  lists = tile_lists(*geometry(), camera(), config, 'xla')
  arrays = (*geometry(), jnp.asarray(SCENE.features))
  output = rasterize(*arrays, camera(), RasterConfig(capacity=16, lists=lists), 'xla')
  assert bool(output.overflowed)
  grown = grow_capacity(config, output.overflowed, output.num_instances)
  assert grown.capacity >= int(output.num_instances)


def test_lists_of_something_else_are_refused():
  arrays = (*geometry(), jnp.asarray(SCENE.features))
  lists = tile_lists(*geometry(), camera(), RasterConfig(tile_size=8), 'xla')
  with pytest.raises(ValueError, match=r'config\.lists are of 60 Gaussians and 15 tiles'):
    rasterize(*arrays, camera(), RasterConfig(lists=lists), 'xla')
  lists = tile_lists(*(a[:-1] for a in geometry()), camera(), None, 'xla')
  with pytest.raises(ValueError, match=r'are of 59 Gaussians'):
    rasterize(*arrays, camera(), RasterConfig(lists=lists), 'xla')


@pytest.mark.parametrize('implementation', ['numba', 'reference'])
def test_who_keeps_no_lists_says_so(implementation):
  with pytest.raises(NotImplementedError, match='name one that keeps lists'):
    tile_lists(*geometry(), camera(), None, implementation)
  lists = listed(geometry())
  arrays = (*geometry(), jnp.asarray(SCENE.features))
  with pytest.raises(NotImplementedError, match=r'takes no config\.lists'):
    rasterize(*arrays, camera(), RasterConfig(lists=lists), implementation)
