"""Pose, bind, rasterise: what the parts say, as one program."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sa0_kernels import Camera, RasterConfig
from sa0_kernels.rasterize.types import Settings

from sa0_jax.capture.capture import Frame, ImagePair
from sa0_jax.head.lbs import pose_head
from sa0_jax.head.model import HeadCodes
from sa0_jax.head.procedural.sway import SWAY_PREFIX
from sa0_jax.render import Renderer, pose_gaussians, render
from tests.avatar.scenes import small_avatar

SIZE = 48


def codes(jaw=0.2, seed=0) -> HeadCodes:
  """Someone else's shape, a turned head and an open mouth."""
  head = small_avatar().head
  rng = np.random.default_rng(seed)
  shape = rng.normal(size=head.num_shape)
  expression = 0.5 * rng.normal(size=head.num_expression)
  # Hair sways by a tenth in videos; by a half it folds over itself.
  expression[[name.startswith(SWAY_PREFIX) for name in head.expression_names]] *= 0.2
  return dataclasses.replace(
    HeadCodes.neutral(head),
    shape=jnp.asarray(shape, jnp.float32),
    expression=jnp.asarray(expression, jnp.float32),
    rotation=jnp.asarray([0.1, 0.3, 0.0]),
    jaw=jnp.asarray([jaw, 0.0, 0.0]),
  )


def camera(size=SIZE, depth=0.9, turn=0.0) -> Camera:
  """In front of the face, looking at it; OpenCV axes."""
  view = np.diag([1.0, -1.0, -1.0, 1.0])
  view[:3, :3] = view[:3, :3] @ [
    [np.cos(turn), 0, np.sin(turn)],
    [0, 1, 0],
    [-np.sin(turn), 0, np.cos(turn)],
  ]
  view[2, 3] = depth
  intrinsics = jnp.asarray([2.0 * size, 2.0 * size, size / 2, size / 2], jnp.float32)
  return Camera(jnp.asarray(view, jnp.float32), intrinsics, size, size)


def world(bound=None):
  """The avatar's Gaussians, or others in their place, posed step by step."""
  avatar = small_avatar()
  driven = dataclasses.replace(codes(), shape=avatar.shape)
  vertices = pose_head(avatar.head, driven)
  return pose_gaussians(
    bound or avatar.gaussians, vertices, jnp.asarray(avatar.head.faces), avatar.layout.face
  )


def test_the_renderer_is_pose_bind_rasterise_with_the_avatars_own_shape():
  got = Renderer(small_avatar())(codes(), camera())
  expected = world().rasterize(camera(), RasterConfig(background=jnp.ones(3)))
  np.testing.assert_allclose(got.rgb, expected.features, atol=2e-4)
  np.testing.assert_allclose(got.alpha, expected.alpha, atol=2e-4)
  assert got.rgb.dtype == got.alpha.dtype == np.float32
  assert 0.05 < got.alpha.mean() < 0.95


def test_the_background_is_white_where_nothing_is_and_shows_by_transmittance():
  white = Renderer(small_avatar())(codes(), camera())
  empty = white.alpha == 0
  assert empty.any()
  assert (white.rgb[empty] == 1.0).all()
  color = (0.2, 0.5, 0.1)
  other = Renderer(small_avatar(), background=color)(codes(), camera())
  np.testing.assert_array_equal(other.alpha, white.alpha)
  shift = (1 - white.alpha[..., None]) * (np.float32(color) - 1)
  np.testing.assert_allclose(other.rgb, white.rgb + shift, atol=1e-6)


def test_a_batch_of_cameras_equals_one_camera_at_a_time():
  gaussians = world()
  cameras = [camera(turn=t, depth=d) for t, d in ((0.0, 0.9), (0.4, 0.8), (-0.5, 1.1))]
  batch = Camera(
    jnp.stack([c.world_to_camera for c in cameras]),
    jnp.stack([c.intrinsics for c in cameras]),
    SIZE,
    SIZE,
  )
  together = gaussians.rasterize(batch)
  assert together.features.shape == (3, SIZE, SIZE, 3)
  for index, one in enumerate(cameras):
    alone = gaussians.rasterize(one)
    np.testing.assert_allclose(together.features[index], alone.features, atol=1e-6)
    np.testing.assert_allclose(together.alpha[index], alone.alpha, atol=1e-6)


def test_frames_equal_single_calls():
  renderer = Renderer(small_avatar())
  drive = [(codes(jaw), camera(turn=jaw)) for jaw in (0.0, 0.2, 0.4)]
  for frame, (one, view) in zip(renderer.frames(drive), drive, strict=True):
    np.testing.assert_array_equal(frame.rgb, renderer(one, view).rgb)


def test_render_takes_a_frame_or_codes_and_a_camera():
  pixels = ImagePair(np.zeros((SIZE, SIZE, 3), np.uint8), np.zeros((SIZE, SIZE), np.uint8))
  frame = Frame(id=0, time=0.0, codes=codes(), camera=camera(), pixels=pixels)
  by_frame = render(small_avatar(), frame)
  np.testing.assert_array_equal(by_frame.rgb, render(small_avatar(), codes(), camera()).rgb)
  closer = render(small_avatar(), frame, camera(depth=0.6))
  assert closer.alpha.sum() > by_frame.alpha.sum()


def test_the_instance_buffer_grows_until_every_gaussian_is_drawn():
  """Gaussians as large as the head: far more instances than the default buffer holds."""
  avatar = small_avatar()
  large = dataclasses.replace(
    avatar.gaussians,
    log_scale=jnp.full_like(avatar.gaussians.log_scale, 3.0),
    opacity_logit=jnp.full_like(avatar.gaussians.opacity_logit, -4.0),
  )
  avatar = dataclasses.replace(avatar, gaussians=large)
  default = Settings(RasterConfig(), SIZE, SIZE).capacity(avatar.n)
  assert world(large).rasterize(camera()).num_instances > default
  grown = Renderer(avatar, implementation='xla')(codes(), camera())
  expected = Renderer(avatar, implementation='numba')(codes(), camera())
  np.testing.assert_allclose(grown.rgb, expected.rgb, atol=2e-3)
  np.testing.assert_allclose(grown.alpha, expected.alpha, atol=2e-3)


def test_images_are_differentiable_in_what_drives_the_head():
  """The tracker's photometric stage: slope in the jaw's angle, against a difference."""
  avatar = small_avatar()
  # Faint Gaussians and far-out cut-offs: where opaque ones swap their order the image jumps.
  faint = dataclasses.replace(avatar.gaussians, opacity_logit=jnp.full(avatar.n, -6.0))
  config = RasterConfig(alpha_min=1e-6, transmittance_min=0.0)
  weights = jnp.asarray(np.random.default_rng(0).normal(size=(SIZE // 8, SIZE // 8, 3)))

  @jax.jit
  def value(jaw):
    driven = dataclasses.replace(codes(), shape=avatar.shape, jaw=jnp.stack([jaw, 0.0, 0.0]))
    vertices = pose_head(avatar.head.arrays, driven)
    gaussians = pose_gaussians(faint, vertices, jnp.asarray(avatar.head.faces), avatar.layout.face)
    image = gaussians.rasterize(camera(), config).features
    return jnp.sum(image * jnp.repeat(jnp.repeat(weights, 8, 0), 8, 1))

  slope = float(jax.grad(value)(jnp.asarray(0.2)))
  step = 0.01
  difference = float(value(jnp.asarray(0.2 + step)) - value(jnp.asarray(0.2 - step))) / (2 * step)
  assert slope == pytest.approx(difference, rel=0.02)
  assert abs(slope) > 0.05


def test_bad_arguments():
  with pytest.raises(ValueError, match='codes alone have no camera'):
    render(small_avatar(), codes())
  short = dataclasses.replace(codes(), expression=jnp.zeros(3))
  with pytest.raises(ValueError, match='3 expression coefficients'):
    render(small_avatar(), short, camera())
