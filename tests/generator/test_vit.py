"""The vision transformer: against plain NumPy in float64, and what must hold of it."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sa0_jax.generator.vit import (
  VIT_PRESETS,
  Vit,
  VitConfig,
  looping,
  patch_rotation,
  rotate,
)
from tests.generator.vit_reference import (
  SMALL,
  SMALL_LEARNED,
  abstract,
  encode_by_hand,
  images,
  parameters,
  randomised,
)
from tests.precision import rounded_products

# Published sizes, in parameters.
PUBLISHED = {
  'dinov3_vits16': 21.6e6,
  'dinov3_vitb16': 85.7e6,
  'dinov3_vitl16': 303e6,
  'dinov2_vits14_reg': 22.1e6,
  'dinov2_vitb14_reg': 86.6e6,
  'dinov2_vitl14_reg': 304e6,
}

# Deep enough for a loop; its last block is no tap.
DEEP = replace(SMALL, depth=8, taps=(0, 2, 3, 6))


@jax.jit
def encode(network, image):
  return network(image)


@pytest.mark.parametrize(
  ('config', 'height', 'width'),
  [
    (SMALL, 12, 20),
    (SMALL_LEARNED, 20, 20),  # the size of the learned grid
    (SMALL_LEARNED, 12, 32),  # smaller than it and larger
  ],
  ids=['rope', 'learned', 'learned-resized'],
)
def test_features_are_those_of_plain_numpy(config, height, width):
  network, batch = randomised(config), images(2, height, width)
  features = encode(network, batch)
  for index, image in enumerate(batch):
    cls, maps = encode_by_hand(network, image)
    np.testing.assert_allclose(features.cls[index], cls, atol=3e-5)
    assert len(features.maps) == len(maps) == 2
    for ours, expected in zip(features.maps, maps, strict=True):
      np.testing.assert_allclose(ours[index], expected, atol=3e-5)


def test_shapes_follow_the_image():
  features = jax.eval_shape(
    lambda image: Vit(VIT_PRESETS['tiny'], rngs=nnx.Rngs(0))(image),
    jax.ShapeDtypeStruct((2, 64, 96, 3), jnp.float32),
  )
  assert features.cls.shape == (2, 96)
  assert [m.shape for m in features.maps] == [(2, 4, 6, 96)] * 4


def test_taps_choose_maps_and_change_nothing_else():
  network, image = randomised(SMALL), images(1, 8, 8)
  last = randomised(replace(SMALL, taps=(1,)))
  first = randomised(replace(SMALL, taps=(0,)))
  everything, only_last, only_first = (n(image) for n in (network, last, first))
  np.testing.assert_array_equal(only_first.maps, everything.maps[:1])
  np.testing.assert_array_equal(only_last.maps, everything.maps[1:])
  np.testing.assert_array_equal(only_first.cls, everything.cls)


def test_rotation_keeps_lengths_and_leaves_cls_and_registers_alone():
  tokens = jax.random.normal(jax.random.key(0), (1, 1 + 3 + 6, 2, 12))
  turned = rotate(tokens, patch_rotation(SMALL, 2, 3))
  np.testing.assert_array_equal(turned[:, :4], tokens[:, :4])
  assert (np.abs(turned[:, 4:] - tokens[:, 4:]).max(-1) > 0.1).all()
  np.testing.assert_allclose(
    np.linalg.norm(turned, axis=-1), np.linalg.norm(tokens, axis=-1), rtol=1e-6
  )


def test_rotated_products_depend_on_offsets_alone():
  rows, columns = 4, 5
  query, key = jax.random.normal(jax.random.key(0), (2, 12))
  tokens = jnp.broadcast_to(jnp.stack([query, key]), (1, 4 + rows * columns, 2, 12))
  turned = rotate(tokens, patch_rotation(SMALL, rows, columns))[0, 4:]
  turned = np.asarray(turned, np.float64).reshape(rows, columns, 2, 12)
  products = np.einsum('rcd,RCd->rcRC', turned[:, :, 0], turned[:, :, 1])
  for down in range(-rows + 1, rows):
    for right in range(-columns + 1, columns):
      same = [
        products[r, c, r + down, c + right]
        for r in range(max(0, -down), min(rows, rows - down))
        for c in range(max(0, -right), min(columns, columns - right))
      ]
      np.testing.assert_allclose(same, same[0], atol=1e-5)
  # Rows and columns are told apart, and so are directions.
  assert np.ptp([products[1, 1, 2, 1], products[1, 1, 1, 2], products[1, 1, 0, 1]]) > 0.1


def test_bfloat16_is_near_float32():
  image = images(1, 16, 16)
  single, half = (
    encode(randomised(SMALL), image),
    encode(randomised(SMALL, dtype='bfloat16'), image),
  )
  for ours, expected in zip(jax.tree.leaves(half), jax.tree.leaves(single), strict=True):
    assert ours.dtype == jnp.bfloat16
    assert expected.dtype == jnp.float32
    error = np.sqrt(np.mean((np.asarray(ours, np.float32) - expected) ** 2) / np.mean(expected**2))
    assert 0 < error < 0.02
  assert all(
    p.dtype == np.float32 for p in parameters(randomised(SMALL, dtype='bfloat16')).values()
  )


def loss(network, image):
  cls, maps = network(image)
  return jnp.sin(cls).sum() + sum(jnp.cos(m).sum() for m in maps)


def test_recomputing_blocks_changes_no_gradient():
  image = images(1, 8, 12)
  kept, recomputed = (
    jax.jit(jax.grad(loss))(randomised(replace(SMALL, depth=1, taps=(0,), remat=remat)), image)
    for remat in (False, True)
  )
  kept, recomputed = parameters(kept), parameters(recomputed)
  assert kept.keys() == recomputed.keys()
  for name, gradient in kept.items():
    assert np.abs(gradient).max() > 1e-3, name
    np.testing.assert_allclose(recomputed[name], gradient, rtol=1e-4, atol=1e-4, err_msg=name)


@pytest.mark.parametrize('config', [SMALL, DEEP], ids=['written-out', 'loop'])
def test_recomputing_keeps_only_the_inputs_of_blocks(config):
  def kept_numbers(remat):
    network, image = abstract(replace(config, remat=remat)), images(2, 16, 16)
    with looping(True):
      pull = jax.eval_shape(lambda network, image: jax.vjp(loss, network, image)[1], network, image)
    return sum(leaf.size for leaf in jax.tree.leaves(pull))

  assert kept_numbers(remat=True) < 0.5 * kept_numbers(remat=False)


@pytest.mark.parametrize('remat', [False, True])
def test_a_loop_over_blocks_gives_what_blocks_written_out_give(remat):
  network, image = randomised(replace(DEEP, remat=remat)), images(2, 8, 12)

  def everything(network):
    pull = jax.grad(loss)(network, image)
    return network(image), nnx.state(pull)

  with looping(True):
    looped = jax.jit(everything)(network)
  with looping(False):
    expected = jax.jit(lambda network: everything(network))(network)
  assert len(looped[0].maps) == 4
  for one, other in zip(looped[0].maps[1:], looped[0].maps, strict=False):
    assert np.abs(one - other).max() > 0.1  # no tap is another's
  for ours, theirs in zip(jax.tree.leaves(looped), jax.tree.leaves(expected), strict=True):
    scale = np.abs(theirs).max()
    assert scale > 1e-3
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * max(scale, 1.0))


def test_a_loop_holds_one_block():
  def products(config, loop):
    trace = jax.make_jaxpr(lambda network, image: network(image))
    with looping(loop):
      return str(trace(abstract(config), images(1, 8, 8))).count('dot_general')

  one, two = (products(replace(SMALL, depth=depth, taps=(0,)), True) for depth in (1, 2))
  assert two > one  # shallow ones are written out all the same
  assert products(DEEP, True) == products(replace(DEEP, depth=24), True) == one
  assert products(DEEP, False) - one == 7 * (two - one)


def test_tpus_loop_and_others_do_not(monkeypatch):
  for backend, loops in (('cpu', False), ('gpu', False), ('tpu', True)):
    monkeypatch.setattr(jax, 'default_backend', lambda backend=backend: backend)
    assert VIT_PRESETS['dinov3_vitb16'].looped == loops
    assert not VIT_PRESETS['tiny'].looped
    with looping(not loops):
      assert VIT_PRESETS['dinov3_vitb16'].looped == (not loops)


@pytest.mark.parametrize('config', [SMALL, SMALL_LEARNED, DEEP], ids=['rope', 'learned', 'loop'])
def test_no_float32_product_is_rounded(config):
  network, image = randomised(config), images(1, 8, 8)
  with looping(True):
    assert rounded_products(jax.make_jaxpr(jax.grad(loss))(network, image).jaxpr) == []


@pytest.mark.parametrize('name', sorted(PUBLISHED))
def test_presets_have_the_published_sizes(name):
  config = VIT_PRESETS[name]
  one, two = (
    sum(leaf.size for leaf in jax.tree.leaves(abstract(replace(config, depth=n, taps=(0,)))))
    for n in (1, 2)
  )
  count = one + (config.depth - 1) * (two - one)  # blocks are alike
  assert count == pytest.approx(PUBLISHED[name], rel=0.005)


def test_weights_come_from_the_key_alone():
  config = replace(SMALL, depth=1, taps=(0,))
  one, same, other = (parameters(Vit(config, rngs=nnx.Rngs(seed))) for seed in (1, 1, 2))
  for name, value in one.items():
    np.testing.assert_array_equal(same[name], value)
    if name.endswith('kernel') or name in ('cls_token', 'registers'):
      assert (other[name] != value).any()


@pytest.mark.parametrize(
  ('shape', 'message'),
  [
    ((1, 12, 18, 3), 'multiples of the patch size 4, got 12x18'),
    ((1, 10, 12, 3), 'multiples of the patch size 4, got 10x12'),
    ((1, 0, 12, 3), 'multiples of the patch size 4, got 0x12'),
    ((1, 12, 12, 4), r'must be \[b, h, w, 3\], got \[1, 12, 12, 4\]'),
    ((12, 12, 3), r'must be \[b, h, w, 3\], got \[12, 12, 3\]'),
  ],
)
@pytest.mark.usefixtures('unchecked_shapes')
def test_unusable_images_are_refused(shape, message):
  with pytest.raises(ValueError, match=message):
    randomised(replace(SMALL, depth=1, taps=(0,)))(jnp.zeros(shape))


@pytest.mark.usefixtures('unchecked_shapes')
def test_images_of_bytes_are_refused():
  with pytest.raises(ValueError, match='got uint8: divide by 255'):
    randomised(replace(SMALL, depth=1, taps=(0,)))(jnp.zeros((1, 8, 8, 3), jnp.uint8))


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'width': 0}, 'width must be positive'),
    ({'num_registers': -1}, 'num_registers must be positive'),
    ({'norm_eps': 0.0}, 'norm_eps must be positive'),
    ({'width': 28}, 'multiple of 8 for 2 heads'),
    ({'taps': ()}, 'ascending block indices under 2'),
    ({'taps': (1, 0)}, 'ascending block indices under 2'),
    ({'taps': (0, 0)}, 'ascending block indices under 2'),
    ({'taps': (-1, 0)}, 'ascending block indices under 2'),
    ({'taps': (0, 2)}, 'ascending block indices under 2'),
  ],
)
def test_impossible_configs_are_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    replace(SMALL, **changes)


@pytest.mark.usefixtures('unchecked_shapes')
def test_unknown_positions_are_refused():
  with pytest.raises(ValueError, match="'rope' or 'learned', got 'sine'"):
    VitConfig(4, 24, 2, 2, (0,), positions='sine')
