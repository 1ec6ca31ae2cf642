"""A subject small enough to be refined in a second: an avatar of known colours, filmed."""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
from sa0_kernels import Camera

from sa0_jax.avatar.avatar import Avatar
from sa0_jax.capture.capture import Capture, MemoryImages
from sa0_jax.capture.initialize import shell_gaussians
from sa0_jax.head.lbs import pose_head
from sa0_jax.head.model import HeadCodes
from sa0_jax.head.registry import load_head
from sa0_jax.head.uv_layout import UVLayout
from sa0_jax.refine.config import AntiSpike, RefineConfig
from sa0_jax.render import Renderer

SIZE = 64
UV = 24
# Every part acts within a few steps.
CONFIG = RefineConfig(
  steps=10,
  uv_size=UV,
  checkpoint_every=3,
  steps_per_call=4,
  anti_spike=AntiSpike(start=4, threshold=0.5),
)


def _codes(frames: int, seed: int) -> HeadCodes:
  """A head that nods, turns and speaks."""
  head = load_head()
  rng = np.random.default_rng(seed)
  phase = np.linspace(0, 2 * np.pi, frames, endpoint=False)[:, None]
  zero = np.zeros((frames, 1))
  parts = {
    'expression': 0.5 * rng.normal(size=(frames, head.num_expression)) * (np.arange(100) < 20),
    'rotation': np.concatenate([0.1 * np.sin(phase), 0.4 * np.cos(phase), zero], 1),
    'neck': np.zeros((frames, 3)),
    'jaw': np.concatenate([0.1 + 0.1 * np.sin(2 * phase), zero, zero], 1),
    'eyes': np.zeros((frames, 6)),
    'translation': 0.01 * rng.normal(size=(frames, 3)),
  }
  return HeadCodes(shape=_shape(seed), **{k: v.astype(np.float32) for k, v in parts.items()})


def _shape(seed: int) -> np.ndarray:
  directions = load_head().num_shape
  rng = np.random.default_rng(seed)
  return (rng.normal(size=directions) * (np.arange(directions) < 10)).astype(np.float32)


@functools.cache
def target_avatar(seed: int = 0) -> Avatar:
  """The avatar that is filmed: Gaussians on the mesh in smooth colours."""
  head = load_head()
  layout = UVLayout.from_head(head, UV)
  shape = jnp.asarray(_shape(seed))
  mesh = np.asarray(pose_head(head, dataclasses.replace(HeadCodes.neutral(head), shape=shape)))
  points = mesh[head.faces[np.asarray(layout.face)]].mean(axis=1)
  color = (0.5 + 0.4 * np.sin(40 * points + seed + np.arange(3))).astype(np.float32)
  return Avatar(shell_gaussians(head, layout, mesh, mesh, color), layout, shape, head, 'target')


def start_avatar(seed: int = 0) -> Avatar:
  """The same, all grey: where refinement starts."""
  avatar = target_avatar(seed)
  grey = jnp.zeros_like(avatar.gaussians.color_logit)
  gaussians = dataclasses.replace(avatar.gaussians, color_logit=grey)
  return dataclasses.replace(avatar, gaussians=gaussians, name='grey')


@functools.cache
def small_capture(frames: int = 5, size: int = SIZE, seed: int = 0) -> Capture:
  """The target avatar, filmed."""
  head, codes = load_head(), _codes(frames, seed)
  view = np.diag([1.0, -1.0, -1.0, 1.0]).astype(np.float32)
  view[2, 3] = 0.9
  camera = Camera(
    np.stack([view] * frames),
    np.stack([np.float32([2 * size, 2 * size, size / 2, size / 2])] * frames),
    size,
    size,
  )
  capture = Capture(
    name='small',
    head_name=head.name,
    head_fingerprint=head.fingerprint,
    codes=codes,
    camera=camera,
    source=MemoryImages(
      np.zeros((frames, size, size, 3), np.uint8), np.zeros((frames, size, size), np.uint8)
    ),
    ids=np.arange(frames),
    times=np.arange(frames) / 25.0,
    view_ids=np.zeros(frames, np.int64),
    fps=25.0,
  )
  renderer = Renderer(target_avatar(seed), background=(0.0, 0.0, 0.0))
  images, mattes = [], []
  for position in range(frames):
    rgb, alpha = renderer(capture.frame_codes(position), capture.frame_camera(position))
    color = rgb / np.maximum(alpha[..., None], 1e-3)
    images.append(np.round(255 * np.clip(color, 0, 1)).astype(np.uint8))
    mattes.append(np.round(255 * np.clip(alpha, 0, 1)).astype(np.uint8))
  return dataclasses.replace(capture, source=MemoryImages(np.stack(images), np.stack(mattes)))
