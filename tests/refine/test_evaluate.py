"""Scores of what was refined."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from sa0_jax.capture.frames import load_frames
from sa0_jax.head.registry import load_head
from sa0_jax.losses.aspect import log_aspect
from sa0_jax.refine.evaluate import score_frames
from sa0_jax.refine.step import Binding
from sa0_jax.render import pose_gaussians
from tests.refine.scenes import CONFIG, small_capture, start_avatar, target_avatar

POSITIONS = np.array([0, 2, 3])


def scores(gaussians, config=CONFIG, positions=POSITIONS):
  avatar = target_avatar()
  frames = load_frames(small_capture(), load_head(), 0)
  binding = Binding(jnp.asarray(avatar.head.faces), avatar.layout.face)
  return score_frames(gaussians, binding, frames, positions, config)


def test_the_filmed_avatar_scores_as_well_as_eight_bits_allow():
  got = scores(target_avatar().gaussians)
  assert got.frames == 3
  assert got.psnr > 48
  assert got.ssim > 0.999
  assert got.ssim_gray > 0.999


def test_a_grey_avatar_scores_worse_inside_than_over_the_whole_image():
  got, best = scores(start_avatar().gaussians), scores(target_avatar().gaussians)
  assert got.psnr_inside_matte < got.psnr < best.psnr - 20
  # Outside the silhouette both are white: the inside error is the whole one, concentrated.
  mattes = small_capture().source.mattes[POSITIONS] > 127
  spread = 10 * np.log10(mattes.mean((1, 2)))
  assert got.psnr_inside_matte == pytest.approx(got.psnr + spread.mean(), abs=0.5)


def test_scores_are_means_over_frames():
  gaussians = start_avatar().gaussians
  alone = [scores(gaussians, positions=np.array([p])).psnr for p in POSITIONS]
  assert scores(gaussians).psnr == pytest.approx(np.mean(alone), abs=1e-5)


def test_the_aspect_ratio_is_the_largest_of_gaussians_that_show():
  """Needles count when they are on screen and not transparent."""
  base = target_avatar()
  needle = base.gaussians.log_scale.at[7].add(jnp.asarray([-2.0, -2.0, 2.0]))
  gaussians = dataclasses.replace(base.gaussians, log_scale=needle)
  frames = load_frames(small_capture(), load_head(), 0)
  world = pose_gaussians(
    gaussians, frames.vertices[0], jnp.asarray(base.head.faces), base.layout.face
  )
  aspect, inside = log_aspect(world.means, world.quats, world.scales, frames.camera(0))
  assert inside[7]
  expected = float(np.exp(np.asarray(aspect)[np.asarray(inside)].max()))
  assert expected > 15
  got = scores(gaussians, positions=np.array([0])).max_aspect_ratio
  assert got == pytest.approx(expected, rel=1e-3)
  hidden = dataclasses.replace(gaussians, opacity_logit=gaussians.opacity_logit.at[7].set(-20.0))
  assert scores(hidden, positions=np.array([0])).max_aspect_ratio < 0.7 * expected


def test_the_background_is_the_configured_one():
  """A transparent avatar equals a flat target only in that colour."""
  gaussians = dataclasses.replace(
    target_avatar().gaussians, opacity_logit=jnp.full(target_avatar().n, -20.0)
  )
  capture = small_capture()
  position = np.array([0])
  color = np.float32([0.2, 0.4, 0.1])
  matte = capture.frames[0].matte[..., None]
  error = np.mean((matte * (capture.frames[0].image - color)) ** 2)
  config = dataclasses.replace(CONFIG, background=(0.2, 0.4, 0.1))
  got = scores(gaussians, config, position)
  assert got.psnr == pytest.approx(-10 * np.log10(error), abs=1e-2)
  assert got.max_aspect_ratio == 1.0
