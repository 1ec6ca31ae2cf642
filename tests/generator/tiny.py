"""The whole generator, small enough for a test, and one filmed person."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from sa0_jax.capture.frames import load_frames
from sa0_jax.config import from_config_dict, load_config
from sa0_jax.generator import generator as generator_lib
from sa0_jax.generator.generator import Generator, Rig
from sa0_jax.head.registry import load_head
from sa0_jax.train.config import TrainConfig
from tests.refine.scenes import small_capture

TINY = from_config_dict(TrainConfig, load_config('debug')).generator


@functools.cache
def rig():
  return Rig.from_head(load_head(), TINY)


@functools.cache
def frames():
  return load_frames(small_capture(), load_head(), TINY.image_size)


@functools.cache
def generator(**changed):
  made = Generator(dataclasses.replace(TINY, **changed), rngs=nnx.Rngs(0))
  # Nothing is at its silent start, so that nothing hides.
  draws = np.random.default_rng(1)
  return jax.tree.map(
    lambda p: p + np.float32(0.05) * draws.standard_normal(p.shape, np.float32), made
  )


def encode(model, sources):
  return generator_lib.encode(model, sources, rig().arrays)


@jax.jit
def _decode(model, identity, view, codes, rest):
  return model.decode(identity, view, codes, rest)


def decode(model, identity, view, codes):
  return _decode(model, identity, view, codes, rig().arrays.rest)


def codes(position=2):
  return jax.tree.map(lambda a: jnp.asarray(a)[None], small_capture().frame_codes(position))
