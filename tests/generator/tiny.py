"""The whole generator, small enough for a test, and one filmed person."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from flax import nnx

from sa0_jax.capture.frames import load_frames
from sa0_jax.generator import generator as generator_lib
from sa0_jax.generator.dpt import DptConfig
from sa0_jax.generator.generator import Generator, GeneratorConfig, Rig
from sa0_jax.generator.style_unet import StyleUNetConfig
from sa0_jax.generator.vit import VIT_PRESETS
from sa0_jax.head.registry import load_head
from tests.refine.scenes import small_capture

SIZE, UV = 64, 32
TINY = GeneratorConfig(
  encoder=VIT_PRESETS['tiny'],
  dpt=DptConfig(level_channels=(8, 8, 8, 8), features=8, out_channels=6),
  unet=StyleUNetConfig(size=UV, channels=(8, 12), in_channels=9, style_dim=16),
  uv_size=UV,
  image_size=SIZE,
)


@functools.cache
def rig():
  return Rig.from_head(load_head(), UV)


@functools.cache
def frames():
  return load_frames(small_capture(), load_head(), SIZE)


@functools.cache
def generator(**changed):
  made = Generator(dataclasses.replace(TINY, **changed), rngs=nnx.Rngs(0))
  # Nothing is at its silent start, so that nothing hides.
  keys = iter(jax.random.split(jax.random.key(1), 1000))
  return jax.tree.map(lambda p: p + 0.05 * jax.random.normal(next(keys), p.shape), made)


def encode(model, sources):
  return generator_lib.encode(model, sources, rig().arrays.uv)


@jax.jit
def _decode(model, identity, view, codes, rest):
  return model.decode(identity, view, codes, rest)


def decode(model, identity, view, codes):
  return _decode(model, identity, view, codes, rig().arrays.rest)


def codes(position=2):
  return jax.tree.map(lambda a: jnp.asarray(a)[None], small_capture().frame_codes(position))
