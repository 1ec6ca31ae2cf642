"""Scores of refined Gaussians on frames of a capture."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from sa0_kernels import RasterConfig, grow_capacity

from sa0_jax.avatar.avatar import Avatar
from sa0_jax.avatar.gaussians import BoundGaussians
from sa0_jax.capture.capture import Capture
from sa0_jax.capture.frames import FrameArrays, load_frames
from sa0_jax.losses.aspect import log_aspect
from sa0_jax.losses.photometric import composite
from sa0_jax.metrics import image as image_metrics
from sa0_jax.refine.config import RefineConfig
from sa0_jax.refine.step import Binding
from sa0_jax.render import pose_gaussians


class FrameScores(NamedTuple):
  """Scores of one frame; whole image over the configured background unless said otherwise."""

  psnr: Float[Array, '']
  psnr_inside_matte: Float[Array, '']
  ssim: Float[Array, '']
  ssim_padded: Float[Array, '']
  ssim_gray: Float[Array, '']
  max_aspect_ratio: Float[Array, '']


@dataclasses.dataclass(frozen=True)
class Scores:
  """Means over frames, and the largest aspect ratio of any Gaussian on screen in any of them."""

  frames: int
  psnr: float
  psnr_inside_matte: float
  ssim: float
  ssim_padded: float
  ssim_gray: float
  max_aspect_ratio: float


@functools.partial(jax.jit, static_argnames=('config', 'raster'))
def _score_frame(
  gaussians: BoundGaussians,
  binding: Binding,
  frames: FrameArrays,
  index: Array,
  *,
  config: RefineConfig,
  raster: RasterConfig,
) -> tuple[FrameScores, tuple[Array, Array]]:
  camera = frames.camera(index)
  background = jnp.asarray(config.background, jnp.float32)
  world = pose_gaussians(gaussians, frames.vertices[index], binding.faces, binding.face)
  output = world.rasterize(
    camera, dataclasses.replace(raster, background=background), config.implementation
  )
  matte = frames.matte(index)
  target = composite(frames.image(index), matte, background)
  aspect, inside = log_aspect(world.means, world.quats, world.scales, camera)
  inside &= world.opacities >= raster.alpha_min
  scores = FrameScores(
    psnr=image_metrics.psnr(output.features, target),
    psnr_inside_matte=image_metrics.psnr(
      output.features, target, (matte > 0.5).astype(jnp.float32)
    ),
    ssim=image_metrics.ssim_rgb(output.features, target),
    ssim_padded=image_metrics.ssim_padded(output.features, target),
    ssim_gray=image_metrics.ssim_gray(output.features, target),
    max_aspect_ratio=jnp.exp(jnp.max(jnp.where(inside, aspect, 0.0))),
  )
  return scores, (output.num_instances, output.overflowed)


def score_frames(
  gaussians: BoundGaussians,
  binding: Binding,
  frames: FrameArrays,
  positions: np.ndarray,
  config: RefineConfig,
) -> Scores:
  """Renders frames and compares them with what was filmed.

  Args:
    gaussians: one subject's, without a leading axis.
    binding: mesh and binding.
    frames: its frames.
    positions: which of them, at least one.
    config: background and rasterizer.
  """
  raster = RasterConfig()
  rows = []
  for position in positions:
    while True:
      scores, (instances, overflowed) = _score_frame(
        gaussians, binding, frames, jnp.asarray(position), config=config, raster=raster
      )
      grown = grow_capacity(raster, overflowed, instances)
      if grown is None:
        break
      raster = grown
    rows.append(scores)
  table = np.asarray(rows, np.float64)
  means = dict(zip(FrameScores._fields, table.mean(axis=0).tolist(), strict=True))
  means['max_aspect_ratio'] = float(table[:, -1].max())
  return Scores(frames=len(rows), **means)


def score_avatar(
  avatar: Avatar, capture: Capture, positions: np.ndarray, config: RefineConfig
) -> Scores:
  """Scores an avatar as the report of a refinement does.

  Args:
    avatar: of anybody.
    capture: its subject's.
    positions: which of its frames, at least one.
    config: resolution, background and rasterizer.

  Raises:
    ValueError: avatar and capture have different head models, or a matte is empty.
  """
  # All frames, as refinement has them: its programs serve here, too.
  frames = load_frames(capture, avatar.head, config.resolution)
  binding = Binding(jnp.asarray(avatar.head.faces), avatar.layout.face)
  return score_frames(avatar.gaussians, binding, frames, positions, config)
