"""View encoding, the decoder's heads, and what an untrained avatar looks like."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from sa0_kernels import Camera

from sa0_jax import mesh_render
from sa0_jax.avatar.binding import bind, triangle_frames
from sa0_jax.avatar.gaussians import local_attributes
from sa0_jax.generator.decoder import (
  VIEW_CHANNELS,
  Decoder,
  DecoderConfig,
  geometry,
  optical_axis,
  rest_gaussians,
  to_bound_gaussians,
  view_encoding,
)
from sa0_jax.generator.uv_warp import UVArrays, texel_points
from sa0_jax.geometry.rotations import quaternion_multiply
from sa0_jax.head.lbs import pose_head
from sa0_jax.head.model import HeadCodes
from sa0_jax.head.procedural import load_procedural_head
from sa0_jax.head.uv_layout import UVLayout
from tests.precision import rounded_products

SMALL = DecoderConfig(channels=6, hidden=10, layers=3)
WIDTHS = {'position': 3, 'rotation': 4, 'log_scale': 3, 'color': 3, 'opacity': 1}


def values(*shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def directions(*shape, seed=0):
  d = values(*shape, 3, seed=seed)
  return d / jnp.linalg.norm(d, axis=-1, keepdims=True)


def decoder(config=SMALL, dtype=jnp.float32):
  """Heads whose every parameter is noise; drawn by NumPy, which compiles nothing."""
  network = nnx.eval_shape(lambda: Decoder(config, rngs=nnx.Rngs(0), dtype=dtype))
  leaves, structure = jax.tree.flatten(network)
  scales = [0.3 if x.ndim == 1 else x.shape[0] ** -0.5 for x in leaves]
  noise = [
    s * values(*x.shape, seed=i) for i, (s, x) in enumerate(zip(scales, leaves, strict=True))
  ]
  return jax.tree.unflatten(structure, noise)


def test_view_encoding_in_order():
  d = np.array([0.6, -0.48, 0.64])
  expected = list(d)
  for k in range(4):
    expected += [np.sin(2**k * np.pi * x) for x in d] + [np.cos(2**k * np.pi * x) for x in d]
  encoded = view_encoding(jnp.asarray(d, jnp.float32))
  assert encoded.shape == (VIEW_CHANNELS,) == (27,)
  np.testing.assert_allclose(encoded, expected, atol=2e-6)
  many = view_encoding(jnp.broadcast_to(jnp.asarray(d, jnp.float32), (2, 5, 3)))
  np.testing.assert_allclose(many, np.broadcast_to(expected, (2, 5, 27)), atol=2e-6)


@pytest.mark.parametrize(
  ('yaw', 'pitch', 'axis'),
  [(-np.pi / 2, 0.0, (1, 0, 0)), (np.pi, 0.0, (0, 0, 1)), (0.0, 0.0, (0, 0, -1)), (0.2, 0.5, None)],
)
def test_optical_axis_is_where_the_camera_looks(yaw, pitch, axis):
  """A camera that stands at −x and looks at the origin looks along +x."""
  camera = mesh_render.look_at_camera(
    [0.0, 0, 0], distance=2.0, yaw=yaw, pitch=pitch, focal=2.0, size=(64, 48)
  )
  ours = optical_axis(camera)
  if axis is not None:
    np.testing.assert_allclose(ours, axis, atol=1e-6)
  np.testing.assert_allclose(ours, -np.asarray(camera.position) / 2.0, atol=1e-6)
  np.testing.assert_allclose(jnp.linalg.norm(ours), 1.0, atol=1e-6)


def test_optical_axes_of_a_batch():
  views = np.stack([np.eye(4), np.diag([-1.0, 1, -1, 1])])
  camera = Camera.from_matrices(views, np.ones((2, 4)), width=4, height=4)
  np.testing.assert_array_equal(optical_axis(camera), [[0, 0, 1], [0, 0, -1]])


def test_heads_are_perceptrons_on_the_concatenation():
  network = decoder()
  features, gamma = values(2, 7, 6), view_encoding(directions(2))
  rgb = jnp.asarray(np.random.default_rng(3).uniform(size=(2, 7, 3)), jnp.float32)
  decoded = network(features, gamma, rgb)
  fields = dict(
    zip(('position', 'rotation', 'log_scale', 'opacity', 'color'), decoded, strict=True)
  )
  color = np.clip(np.asarray(rgb, np.float64), 0.02, 0.98)
  for name, width in WIDTHS.items():
    head = getattr(network, name)
    x = np.concatenate(
      [features, np.broadcast_to(np.asarray(gamma)[:, None], (2, 7, 27))], axis=-1
    ).astype(np.float64)
    kernel = np.concatenate([head.from_features.kernel[...], head.from_view.kernel[...]])
    x = x @ kernel + head.from_features.bias[...]
    for layer in (*head.hidden, head.out):
      x = np.where(x > 0, x, 0.2 * x) @ np.asarray(layer.kernel[...]) + layer.bias[...]
    if name == 'color':
      x = x + np.log(color / (1 - color))
    assert x.shape == (2, 7, width)
    np.testing.assert_allclose(fields[name].reshape(x.shape), x, rtol=1e-5, atol=1e-5)


def test_colour_from_rgb_is_a_switch():
  features, gamma = values(2, 7, 6), view_encoding(directions(2))
  with pytest.raises(ValueError, match='colors_from_rgb needs rgb'):
    decoder()(features, gamma)
  silent = decoder(dataclasses.replace(SMALL, colors_from_rgb=False))
  without = silent(features, gamma)
  np.testing.assert_array_equal(
    without.color_logit, silent(features, gamma, jnp.ones((2, 7, 3))).color_logit
  )
  grey = decoder()(features, gamma, jnp.full((2, 7, 3), 0.5))
  np.testing.assert_allclose(grey.color_logit, without.color_logit, atol=1e-6)
  shown = decoder()(features, gamma, jnp.full((2, 7, 3), 0.3)).color_logit
  np.testing.assert_allclose(jax.nn.sigmoid(shown - without.color_logit), 0.3, atol=1e-6)


def test_every_parameter_is_used_at_full_precision():
  network, features, gamma = decoder(), values(2, 7, 6), view_encoding(directions(2))

  def loss(network):
    return sum(jnp.sum(field**2) for field in network(features, gamma, jnp.full((2, 7, 3), 0.4)))

  leaves = jax.tree.leaves(jax.jit(jax.grad(loss))(network))
  assert len(leaves) == 5 * (3 + 2 * 3)
  assert all(np.abs(leaf).max() > 0 for leaf in leaves)
  assert rounded_products(jax.make_jaxpr(jax.grad(loss))(network).jaxpr) == []


def test_bfloat16_is_near_float32():
  features, gamma, rgb = values(2, 7, 6), view_encoding(directions(2)), jnp.full((2, 7, 3), 0.5)
  exact = decoder()(features, gamma, rgb)
  half = decoder(SMALL, jnp.bfloat16)(features.astype(jnp.bfloat16), gamma, rgb)
  for one, other in zip(exact, half, strict=True):
    assert other.dtype == jnp.float32
    assert np.sqrt(np.mean((one - other) ** 2) / np.mean(one**2)) < 0.02


def test_geometry_is_what_the_decoder_says_as_a_function_of_the_view():
  network, features, gamma = decoder(), values(7, 6), view_encoding(directions())
  decoded = network(features, gamma, jnp.full((7, 3), 0.5))
  of_view = jax.jit(functools.partial(geometry, network, features))
  position, log_scale = of_view(gamma)
  np.testing.assert_allclose(position, decoded.position, atol=1e-6)
  np.testing.assert_allclose(log_scale, decoded.log_scale, atol=1e-6)
  jacobians = jax.jit(jax.jacfwd(of_view))(gamma)
  for index, jacobian in enumerate(jacobians):
    assert jacobian.shape == (7, 3, 27)
    assert np.abs(jacobian).max() > 0
    step = 1e-2 * values(27, seed=4)
    ahead, behind = (of_view(gamma + s * step)[index] for s in (1, -1))
    np.testing.assert_allclose(jacobian @ step, (ahead - behind) / 2, atol=2e-2 * 1e-2 * 27)


@functools.cache
def untrained(resolution=192):
  """(head, uv, Gaussians) of default networks on features of unit variance."""
  head = load_procedural_head()
  layout = UVLayout.from_head(head, resolution)
  rest = rest_gaussians(head, layout)
  network = Decoder(DecoderConfig(), rngs=nnx.Rngs(0))
  features, gamma = values(layout.n, 32), view_encoding(directions())
  decoded = network(features, gamma, jnp.full((layout.n, 3), 0.5))
  return head, UVArrays.from_layout(layout, head), to_bound_gaussians(decoded, rest)


def test_an_untrained_avatar_is_the_head_mesh_in_grey():
  head, uv, bound = untrained()
  moved = dataclasses.replace(
    HeadCodes.neutral(head),
    expression=0.1 * values(head.num_expression),
    jaw=jnp.asarray([0.15, 0.0, 0.0]),
    rotation=jnp.asarray([0.1, 0.4, 0.0]),
  )
  faces = jnp.asarray(head.faces)
  place = jax.jit(lambda bound, v: bind(bound, triangle_frames(v, faces), uv.layout.face))
  neutral = jnp.asarray(head.v_template, jnp.float32)
  # Triangles that an expression stretches carry their Gaussians rigidly, not by their corners.
  for vertices, tolerance in ((neutral, 5e-4), (pose_head(head, moved), 1.5e-3)):
    gaussians = place(bound, vertices)
    distance = np.linalg.norm(gaussians.means - texel_points(vertices, uv), axis=1)
    assert np.quantile(distance, 0.99) < tolerance  # metres
  np.testing.assert_allclose(gaussians.colors, 0.5, atol=0.01)
  np.testing.assert_allclose(gaussians.opacities, 0.8, atol=0.01)
  np.testing.assert_allclose(local_attributes(bound).quats, [[1, 0, 0, 0]] * bound.n, atol=0.05)


def test_an_untrained_avatar_has_no_holes():
  pytest.importorskip('numba')
  cv2 = pytest.importorskip('cv2')
  head, uv, bound = untrained()
  mesh = np.asarray(head.v_template, np.float64)
  camera = mesh_render.look_at_camera(
    (mesh.max(0) + mesh.min(0)) / 2, distance=1.0, yaw=0.3, pitch=0.1, focal=2.4, size=(128, 128)
  )
  frames = triangle_frames(jnp.asarray(mesh, jnp.float32), jnp.asarray(head.faces))
  output = bind(bound, frames, uv.layout.face).rasterize(camera)
  hit = (mesh_render.rasterize_mesh(mesh, head.faces, camera).face >= 0).astype(np.uint8)
  inside, near = cv2.erode(hit, np.ones((5, 5))) > 0, cv2.dilate(hit, np.ones((5, 5))) > 0
  alpha = np.asarray(output.alpha)
  assert alpha[inside].min() > 0.99
  assert alpha[~near].max() < 0.2
  grey = np.asarray(output.features)[inside] / alpha[inside][:, None]
  np.testing.assert_allclose(grey, 0.5, atol=0.01)


def test_positions_are_bounded_and_slopes_one():
  head, _, _ = untrained()
  layout = UVLayout.from_head(head, 16)
  rest = rest_gaussians(head, layout)
  network = decoder(dataclasses.replace(SMALL, colors_from_rgb=False))
  decoded = network(values(2, layout.n, 6), view_encoding(directions(2)))
  far = to_bound_gaussians(decoded._replace(position=1e4 * decoded.position), rest, 12.0)
  assert 11.9 < jnp.abs(far.position).max() <= 12.0
  here = to_bound_gaussians(decoded, rest)
  assert here.position.shape == (2, layout.n, 3)
  assert here.opacity_logit.shape == (2, layout.n)
  np.testing.assert_allclose(here.log_scale - rest.log_scale, decoded.log_scale, atol=1e-5)
  assert jnp.abs(here.position - (rest.position + decoded.position)).max() < 0.2
  with pytest.raises(ValueError, match='position_bound must be positive'):
    to_bound_gaussians(decoded, rest, 0.0)


def test_held_gaussians_stay_by_their_texels_at_every_resolution():
  """What large Gaussians learnt is no more than their size: smaller ones are moved by less."""
  head, _, _ = untrained()
  moved = []
  for size in (16, 32):
    layout = UVLayout.from_head(head, size)
    rest = rest_gaussians(head, layout)
    n = layout.n
    network = decoder(dataclasses.replace(SMALL, colors_from_rgb=False))
    decoded = network(values(n, 6), view_encoding(directions()))
    far = decoded._replace(position=1e4 * decoded.position, log_scale=jnp.full((n, 3), -5.0))
    held = to_bound_gaussians(far, rest, 1e6, hold=True)
    own = jnp.exp(rest.log_scale.max(axis=-1, keepdims=True))
    offset = jnp.abs(held.position - rest.position)
    assert (offset <= 1.001 * own).all()
    assert jnp.median(offset / own) > 0.99
    np.testing.assert_allclose(held.log_scale - rest.log_scale, -0.3, atol=1e-4)
    moved.append(float(jnp.median(offset)))
    small = decoded._replace(position=1e-3 * own * jnp.sign(decoded.position))
    close = to_bound_gaussians(small, rest, 1e6, hold=True).position - rest.position
    np.testing.assert_allclose(close, small.position, atol=1e-4)
    larger = decoded._replace(log_scale=jnp.full((n, 3), 0.01))
    grown = to_bound_gaussians(larger, rest, hold=True).log_scale - rest.log_scale
    np.testing.assert_allclose(grown, 0.01, atol=1e-5)
  assert moved[1] < 0.7 * moved[0]


def test_held_gaussians_of_finer_avatars_go_as_far_as_in_training_and_close_gaps():
  head, _, _ = untrained()
  layout = UVLayout.from_head(head, 32)
  rest = rest_gaussians(head, layout)
  finer = rest._replace(coarser=jnp.full(layout.n, 4.0))
  network = decoder(dataclasses.replace(SMALL, colors_from_rgb=False))
  decoded = network(values(layout.n, 6), view_encoding(directions()))
  still = jnp.zeros((layout.n, 3))
  far = decoded._replace(position=1e3 * jnp.sign(decoded.position), log_scale=still)
  own, held = (to_bound_gaussians(far, base, 1e6, hold=True) for base in (rest, finer))
  np.testing.assert_allclose(
    held.position - rest.position, 4.0 * (own.position - rest.position), rtol=1e-3, atol=1e-3
  )
  np.testing.assert_allclose(held.log_scale - own.log_scale, np.log(2.0), atol=1e-5)
  # Without, nothing is held, and there is nothing to make up for.
  free, same = (to_bound_gaussians(decoded, base) for base in (rest, finer))
  np.testing.assert_array_equal(free.log_scale, same.log_scale)
  np.testing.assert_array_equal(free.position, same.position)


def test_held_gaussians_lie_on_their_surface():
  """However far a network turns them, with and without a rotation of their rest."""
  head, _, _ = untrained()
  layout = UVLayout.from_head(head, 16)
  rest = rest_gaussians(head, layout)
  network = decoder(dataclasses.replace(SMALL, colors_from_rgb=False))
  decoded = network(values(layout.n, 6), view_encoding(directions()))
  far = decoded._replace(rotation=1e4 * jnp.sign(decoded.rotation))
  turned = to_bound_gaussians(far, rest, hold=True).rotation
  np.testing.assert_allclose(jnp.abs(turned[..., 0] - 1.0), 0.2, rtol=1e-5)
  np.testing.assert_allclose(jnp.abs(turned[..., 1:]), 0.2, rtol=1e-5)
  about_one = 2.0 * np.degrees(np.arctan2(0.2, 0.8))
  assert 28.0 < about_one < 29.0
  small = decoded._replace(rotation=jnp.full_like(decoded.rotation, 1e-3))
  near = to_bound_gaussians(small, rest, hold=True).rotation
  np.testing.assert_allclose(near[..., 1:], 1e-3, rtol=1e-4)
  about = jnp.broadcast_to(jnp.asarray([0.6, 0.8, 0.0, 0.0]), (layout.n, 4))
  again = to_bound_gaussians(small, rest._replace(rotation=about), hold=True).rotation
  np.testing.assert_allclose(again, quaternion_multiply(about, near), atol=1e-6)


def test_rest_gaussians_may_be_made_inside_traced_code():
  head, _, _ = untrained()
  layout = UVLayout.from_head(head, 16)
  outside = rest_gaussians(head, layout)
  inside = jax.jit(lambda: tuple(rest_gaussians(head, layout)))()
  for one, other in zip(jax.tree.leaves(outside), jax.tree.leaves(inside), strict=True):
    np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize(
  'wrong', [{'channels': 0}, {'hidden': -1}, {'layers': 0}, {'output_std': 0.0}]
)
def test_config_is_checked(wrong):
  with pytest.raises(ValueError, match=next(iter(wrong))):
    DecoderConfig(**wrong)
