"""The whole generator, small: its sources are a set, and what is frozen stays so."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sa0_jax.avatar.avatar import Avatar
from sa0_jax.generator.checkpoint import load_generator, save_generator
from sa0_jax.generator.decoder import optical_axis
from sa0_jax.generator.generator import (
  FRONTAL_VIEW,
  Generator,
  Rig,
  visible_share,
)
from sa0_jax.generator.generator import encode as encode_jit
from sa0_jax.generator.reconstruct import compile_ahead, reconstruct
from sa0_jax.generator.sources import pack_sources
from sa0_jax.head.model import HeadCodes
from sa0_jax.head.registry import load_head
from tests.generator.tiny import TINY, codes, decode, encode, frames, generator, rig
from tests.refine.scenes import small_capture

FRONT = jnp.asarray([FRONTAL_VIEW])


@functools.cache
def seeing():
  """A generator with our additions, and its rig: it knows what it sees, and hair."""
  unet = dataclasses.replace(TINY.unet, in_channels=TINY.unet.in_channels + 1)
  made = generator(visibility=True, hair_shell=True, unet=unet)
  return made, Rig.from_head(load_head(), made.config).arrays


def made_as(kind):
  return seeing() if kind == 'seeing' else (generator(pool=kind), rig().arrays)


@pytest.mark.parametrize('kind', ['mean', 'attention', 'seeing'])
def test_the_order_of_sources_does_not_matter(kind):
  made, arrays = made_as(kind)
  one, other = (
    jax.tree.leaves(encode_jit(made, pack_sources(frames(), p), arrays))
    for p in ([0, 1, 3], [0, 3, 1])
  )
  for a, b in zip(one, other, strict=True):
    assert float(jnp.abs(a).max()) > 0.01
    np.testing.assert_allclose(a, b, atol=1e-5 * float(jnp.abs(a).max()) + 1e-6)


@pytest.mark.parametrize('kind', ['mean', 'seeing'])
def test_padding_changes_nothing_and_one_source_is_not_pooled(kind):
  made, arrays = made_as(kind)
  packed = pack_sources(frames(), [1])
  alone = jax.tree.map(lambda a: a[:, :1], packed)
  spoiled = packed._replace(
    image=packed.image.at[:, 1:].set(0.7), vertices=packed.vertices.at[:, 1:].add(0.01)
  )
  plain, dirty, single = (
    jax.tree.leaves(encode_jit(made, s, arrays)) for s in (packed, spoiled, alone)
  )
  for a, b, c in zip(plain, dirty, single, strict=True):
    np.testing.assert_array_equal(a, b)
    # Another program: equal up to rounding, not to the bit.
    np.testing.assert_allclose(a, c, atol=1e-4)


def test_more_sources_say_something_else():
  one, two = (encode(generator(), pack_sources(frames(), p)) for p in ([0], [0, 2]))
  assert float(jnp.abs(one.features - two.features).max()) > 1e-3


def test_the_residual_does_not_see_the_view_and_opacity_not_the_codes():
  identity = encode(generator(), pack_sources(frames(), [0]))
  side = jnp.asarray([[0.6, 0.0, -0.8]])
  front, aside = (decode(generator(), identity, v, codes()) for v in (FRONT, side))
  for a, b in zip(front.residual, aside.residual, strict=True):
    assert float(jnp.abs(a).max()) > 1e-4
    np.testing.assert_array_equal(a, b)
  assert float(jnp.abs(front.maps.position - aside.maps.position).max()) > 1e-5
  other = decode(generator(), identity, FRONT, codes(1))
  np.testing.assert_array_equal(front.maps.opacity_logit, other.maps.opacity_logit)
  assert float(jnp.abs(front.maps.color_logit - other.maps.color_logit).max()) > 1e-5


def test_an_untrained_residual_is_nothing():
  fresh = Generator(TINY, rngs=nnx.Rngs(0))
  identity = encode(fresh, pack_sources(frames(), [0]))
  for part in decode(fresh, identity, FRONT, codes()).residual:
    np.testing.assert_array_equal(part, np.zeros_like(part))


def test_without_a_residual_head_codes_change_nothing():
  made = generator(use_residual=False)
  identity = encode(made, pack_sources(frames(), [0]))
  for part in decode(made, identity, FRONT, codes(1)).residual:
    np.testing.assert_array_equal(part, np.zeros_like(part))
  assert not hasattr(made, 'residual')


def test_weights_of_visibility_average_over_those_that_see():
  seen = jnp.asarray([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])[None, :, None]  # k = 3, two texels
  share = visible_share(seen, jnp.asarray([[True, True, False]]))
  np.testing.assert_allclose(share[0, :, 0], [[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
  share = visible_share(seen, jnp.asarray([[True, True, True]]))
  np.testing.assert_allclose(share[0, :, 0, 0], [1.5, 1.5, 0.0])


def test_hidden_texels_and_what_is_not_the_head_do_not_count():
  made, arrays = seeing()
  packed = pack_sources(frames(), [0])
  half = packed.image.shape[3] // 2
  packed = packed._replace(matte=packed.matte.at[..., :half].set(0))
  plain = encode_jit(made, packed._replace(colors=packed.image), arrays)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(plain))
  # What is not the head may be anything: no texel takes its colour from there.
  painted = packed._replace(colors=packed.image.at[:, :, :, :half].set(1.0))
  again = encode_jit(made, painted, arrays)
  # A texel at the matte's border may take a tenth from beyond it.
  np.testing.assert_allclose(again.rgb, plain.rgb, atol=0.11)
  without = generator()
  everywhere = [encode(without, sources).rgb for sources in (packed, painted)]
  assert float(jnp.abs(everywhere[0] - everywhere[1]).max()) > 0.5


def test_more_gaussians_than_texels_of_the_network():
  rigs = [Rig.from_head(load_head(), TINY, size).arrays for size in (TINY.uv_size, 48)]
  packed = pack_sources(frames(), [0])
  few, many = (encode_jit(generator(), packed, arrays) for arrays in rigs)
  assert many.rgb.shape[1] == rigs[1].uv.layout.n > 2 * few.rgb.shape[1]
  # The same person: means over the head agree.
  np.testing.assert_allclose(many.features.mean(1), few.features.mean(1), atol=0.05)
  np.testing.assert_allclose(many.rgb.mean(1), few.rgb.mean(1), atol=0.02)
  avatar = reconstruct(small_capture(), [0], generator(), uv_size=48)
  assert avatar.n == many.rgb.shape[1]
  with pytest.raises(ValueError, match='must be 32 texels or more for this generator, got 16'):
    reconstruct(small_capture(), [0], generator(), uv_size=16)


def test_colours_come_from_images_of_more_pixels_where_there_are_any():
  packed = pack_sources(frames(), [0])
  sharp = jax.image.resize(packed.image, (1, 4, 128, 128, 3), 'nearest')
  sharper = encode_jit(generator(), packed._replace(colors=sharp), rig().arrays)
  plain = encode(generator(), packed)
  # Another program: equal up to rounding.
  np.testing.assert_allclose(sharper.features, plain.features, atol=1e-4)
  assert float(jnp.abs(sharper.rgb - plain.rgb).max()) > 0.0
  assert float(jnp.abs(sharper.rgb - plain.rgb).mean()) < 0.03


def test_an_avatar_finer_than_training_knows_it():
  head = load_head()
  assert Rig.from_head(head, TINY).arrays.rest.coarser is None
  finer = Rig.from_head(head, TINY, 2 * TINY.uv_size).arrays.rest
  np.testing.assert_array_equal(finer.coarser, np.full(len(finer.position), 2.0, np.float32))


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
  path = tmp_path / 'g.npz'
  save_generator(path, generator())
  again = load_generator(path)
  assert again.config == TINY
  for a, b in zip(jax.tree.leaves(generator()), jax.tree.leaves(again), strict=True):
    np.testing.assert_array_equal(a, b)


def changed(arrays, **values) -> np.ndarray:
  """The configuration of a generator's file with other values."""
  return np.array(json.dumps({**json.loads(str(arrays['config'])), **values}))


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (
      lambda a: a.pop('parameters/dpt/out/bias'),
      r'parameters/dpt/out/bias of shape \[6\] is missing',
    ),
    (lambda a: a.update({'parameters/dpt/out/bias': np.zeros(3, 'f')}), r'\[3\], expected'),
    (lambda a: a.update({'parameters/x': np.zeros(3, 'f')}), 'is not part of the model'),
    (lambda a: a.update({'config': np.array('[]')}), 'not a configuration'),
    (lambda a: a.update({'config': np.array('{"holds": true}')}), 'not a configuration'),
    (lambda a: a.update({'config': np.array('{}')}), r'\[8\], expected'),
    (lambda a: a.update({'format': np.array(['sa0-generator', '9'])}), 'version 9'),
    (lambda a: a.update({'format': np.array(['x', '1'])}), 'not a generator file'),
    (lambda a: a.update({'config': changed(a, uv_size='64')}), "uv_size = '64': expected int"),
    (lambda a: a.update({'config': changed(a, pool='max')}), "pool = 'max': expected one of"),
    (lambda a: a.update({'config': np.array(99_999 * '[')}), 'not a configuration'),
    (
      lambda a: a.update({'parameters/dpt/out/bias': np.full(6, np.nan, 'f')}),
      'not finite',
    ),
  ],
)
def test_a_wrong_checkpoint_is_one_clear_line(tmp_path, change, message):
  from sa0_jax import archive

  path = tmp_path / 'g.npz'
  save_generator(path, generator())
  arrays = dict(archive.read_arrays(path))
  change(arrays)
  archive.write_arrays(path, arrays)
  with pytest.raises(ValueError, match=message) as error:
    load_generator(path)
  assert '\n' not in str(error.value)


def test_a_checkpoint_from_before_a_setting_came_is_read_with_its_default(tmp_path):
  from sa0_jax import archive

  path = tmp_path / 'g.npz'
  save_generator(path, generator())
  arrays = dict(archive.read_arrays(path))
  config = json.loads(str(arrays['config']))
  for later in ('hold', 'avatar_uv_size'):
    del config[later]
  archive.write_arrays(path, {**arrays, 'config': np.array(json.dumps(config))})
  before = dataclasses.replace(TINY, hold=False, avatar_uv_size=None)
  assert load_generator(path).config == before


def test_reconstruct_bakes_an_avatar_that_can_be_kept(tmp_path):
  avatar = reconstruct(small_capture(), [0, 3], generator())
  assert avatar.n == rig().arrays.uv.layout.n
  avatar.save(tmp_path / 'x.sa0')
  assert Avatar.load(tmp_path / 'x.sa0').n == avatar.n
  identity = encode(generator(), pack_sources(frames(), [0, 3]))
  neutral = HeadCodes.neutral(load_head(), (1,))
  expected = decode(generator(), identity, FRONT, neutral).gaussians
  np.testing.assert_allclose(avatar.gaussians.position, expected.position[0], atol=1e-5)


@pytest.mark.parametrize('sources', [[], [0, 1, 2, 3, 4], [1, 1], [99], [-1]])
def test_sources_that_are_not_there_are_refused(sources):
  with pytest.raises(ValueError, match='source frame'):
    reconstruct(small_capture(), sources, generator())


def test_sizes_that_do_not_fit_are_refused(unchecked_shapes):
  sources = pack_sources(frames(), [0])
  five = jax.tree.map(lambda a: jnp.concatenate([a, a[:, :1]], axis=1), sources)
  with pytest.raises(ValueError, match='1 to 4 sources, got 5'):
    generator().encode(five, rig().arrays)
  with pytest.raises(ValueError, match='this generator takes 64 x 64'):
    generator().encode(sources._replace(image=sources.image[:, :, :32, :32]), rig().arrays)
  unet = dataclasses.replace(TINY.unet, size=16)
  other = dataclasses.replace(TINY, unet=unet, uv_size=16)
  with pytest.raises(ValueError, match='UV image is of 16 texels'):
    generator().encode(sources, Rig.from_head(load_head(), other).arrays)


def test_the_frontal_view_is_that_of_a_camera_before_the_face():
  axis = optical_axis(small_capture().frame_camera(0))
  np.testing.assert_allclose(axis, FRONTAL_VIEW, atol=1e-6)


def test_what_is_compiled_ahead_is_all_that_reconstruct_runs(caplog):
  capture, head, network = small_capture(frames=2), load_head(), generator()
  compile_ahead(network, head, capture.width, count=2, uv_size=48)
  with jax.log_compiles(), caplog.at_level('WARNING'):
    reconstruct(capture, [0, 1], network, head, uv_size=48)
    assert not [r for r in caplog.messages if r.startswith('Compiling')]
    jax.jit(lambda x: x + 1)(0.0)  # what would have been seen
  assert [r for r in caplog.messages if r.startswith('Compiling')]
