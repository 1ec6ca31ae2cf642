"""A small avatar, and a performance for it."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from sa0_kernels import Camera

from sa0_jax.avatar.activations import logit
from sa0_jax.avatar.avatar import Avatar
from sa0_jax.avatar.gaussians import BoundGaussians
from sa0_jax.capture.capture import Capture, MemoryImages
from sa0_jax.head.model import HeadCodes
from sa0_jax.head.registry import load_head
from sa0_jax.head.uv_layout import UVLayout
from sa0_jax.mesh_render import look_at_camera

FRAMES = 4
SIZE = 96


@pytest.fixture(scope='session')
def avatar() -> Avatar:
  """Every attribute is different for every Gaussian; none covers the whole head."""
  head = load_head()
  layout = UVLayout.from_head(head, 48)
  rng = np.random.default_rng(0)
  n = layout.n

  def normal(*shape, scale=1.0, mean=0.0):
    return jnp.asarray(mean + scale * rng.normal(size=shape), jnp.float32)

  gaussians = BoundGaussians(
    position=normal(n, 3, scale=0.3),
    rotation=normal(n, 4),
    log_scale=jnp.minimum(normal(n, 3, scale=0.4, mean=-0.2), 0.5),
    opacity_logit=normal(n, scale=2.0, mean=1.0),
    color_logit=logit(jnp.asarray(rng.uniform(0.05, 0.95, (n, 3)), jnp.float32)),
  )
  shape = normal(head.num_shape, scale=0.5)
  return Avatar(gaussians, layout, shape, head, 'a <b>test</b> & {{scripts}}')


@pytest.fixture(scope='session')
def capture(avatar) -> Capture:
  """All codes and the camera change from frame to frame; its pictures are black."""
  rng = np.random.default_rng(1)
  neutral = HeadCodes.neutral(avatar.head, (FRAMES,))
  spread = {'expression': 0.4, 'rotation': 0.2, 'neck': 0.2, 'jaw': 0.1, 'eyes': 0.2}
  codes = {f.name: np.array(getattr(neutral, f.name)) for f in dataclasses.fields(HeadCodes)}
  for name, scale in {**spread, 'translation': 0.02}.items():
    codes[name] = rng.normal(scale=scale, size=codes[name].shape).astype(np.float32)
  codes['shape'] = codes['shape'][0]
  views = [
    look_at_camera([0.01 * i, 0, 0], distance=0.9, yaw=0.3 * i, pitch=0.1, focal=2.0, size=(96, 96))
    for i in range(FRAMES)
  ]
  camera = Camera(
    np.stack([np.asarray(v.world_to_camera, np.float32) for v in views]),
    # Off centre, as cropped pictures are.
    np.stack([np.asarray(v.intrinsics) + np.float32([0, 0, 3, -2]) for v in views]),
    SIZE,
    SIZE,
  )
  black = np.zeros((FRAMES, SIZE, SIZE), np.uint8)
  return Capture(
    name='talk',
    head_name=avatar.head.name,
    head_fingerprint=avatar.head.fingerprint,
    codes=HeadCodes(**codes),
    camera=camera,
    source=MemoryImages(np.stack([black] * 3, axis=-1), black),
    ids=np.arange(FRAMES),
    times=np.arange(FRAMES) / 10.0,
    view_ids=np.zeros(FRAMES, np.int64),
    fps=10.0,
  )
