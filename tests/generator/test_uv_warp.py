"""The UV warp: against plain NumPy, by finite differences, and on pictures of the head."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sa0_kernels import Camera

from sa0_jax import mesh_render
from sa0_jax.generator.uv_warp import (
  SourceMaps,
  UVArrays,
  VisibilityConfig,
  barycentric_warp,
  fill_unseen,
  texel_points,
)
from sa0_jax.head.procedural import load_procedural_head
from sa0_jax.head.uv_layout import UVLayout

warp = jax.jit(barycentric_warp, static_argnames='visibility')

# Two triangles, five texels of a 3×3 UV image. The third texel's point lies behind the camera, the
# fourth's outside the image.
TEXEL = np.array([[0, 0], [0, 2], [1, 0], [1, 1], [2, 2]])
CORNER = np.array([[0, 1, 2], [0, 1, 2], [3, 3, 3], [4, 4, 4], [0, 1, 2]])
WEIGHT = np.array([[0.5, 0.2, 0.3], [0.1, 0.8, 0.1], [1, 0, 0], [0, 0, 1], [0.2, 0.2, 0.6]])
VERTICES = np.array(
  [[-0.2, -0.1, 1.0], [0.25, -0.12, 1.5], [0.02, 0.2, 0.8], [0.0, 0.0, -1.0], [2.0, 0.0, 1.0]]
)
INSIDE = np.array([True, True, False, False, True])


def by_hand():
  layout = UVLayout(
    jnp.asarray(TEXEL, jnp.int32),
    jnp.asarray([0, 0, 1, 2, 0], jnp.int32),
    jnp.asarray(WEIGHT, jnp.float32),
    3,
  )
  return UVArrays(layout, jnp.asarray(CORNER, jnp.int32))


def turned_cameras(count=2, width=40, height=32):
  """Cameras near the origin that look along z, slightly turned."""
  angle = np.linspace(-0.05, 0.1, count)
  views = np.tile(np.eye(4), (count, 1, 1))
  views[:, 0, 0], views[:, 0, 2] = np.cos(angle), np.sin(angle)
  views[:, 2, 0], views[:, 2, 2] = -np.sin(angle), np.cos(angle)
  views[:, :3, 3] = [0.01, -0.02, 0.03]
  pinhole = np.tile([38.0, 41.0, 20.3, 15.6], (count, 1))
  return Camera.from_matrices(views, pinhole, width=width, height=height)


def warp_by_hand(image, vertices, world_to_camera, intrinsics, size):
  """[n, c] in float64, texel by texel and tap by tap."""
  out = np.zeros((len(TEXEL), image.shape[-1]))
  for index, (corner, weight) in enumerate(zip(CORNER, WEIGHT, strict=True)):
    x, y, z = world_to_camera[:3, :3] @ (weight @ vertices[corner]) + world_to_camera[:3, 3]
    fx, fy, cx, cy = intrinsics
    u, v = fx * x / z + cx, fy * y / z + cy
    if z <= 0 or not (0 <= u <= size[0] and 0 <= v <= size[1]):
      continue
    height, width = image.shape[:2]
    column, row = u * width / size[0] - 0.5, v * height / size[1] - 0.5
    for r in (int(np.floor(row)), int(np.floor(row)) + 1):
      for c in (int(np.floor(column)), int(np.floor(column)) + 1):
        share = (1 - abs(row - r)) * (1 - abs(column - c))
        out[index] += share * image[np.clip(r, 0, height - 1), np.clip(c, 0, width - 1)]
  return out


def noise(*shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).uniform(size=shape), jnp.float32)


def test_samples_are_those_of_plain_numpy():
  cameras = turned_cameras()
  rng = np.random.default_rng(0)
  vertices = VERTICES + rng.normal(0, 0.02, (2, 5, 3))
  maps = SourceMaps(noise(2, 9, 13, 4), noise(2, 32, 40, 3, seed=1))
  out = warp(maps, jnp.asarray(vertices, jnp.float32), cameras, by_hand())
  assert out.features.shape == (2, 3, 3, 4)
  assert out.rgb.shape == (2, 3, 3, 3)
  assert out.visibility is None
  for k in range(2):
    view = np.asarray(cameras.world_to_camera[k], np.float64), np.asarray(cameras.intrinsics[k])
    for image, got in ((maps.features[k], out.features[k]), (maps.rgb[k], out.rgb[k])):
      expected = np.zeros((3, 3, image.shape[-1]))
      expected[tuple(TEXEL.T)] = warp_by_hand(np.asarray(image), vertices[k], *view, (40, 32))
      assert (expected[tuple(TEXEL.T)] != 0).any(-1).tolist() == INSIDE.tolist()
      np.testing.assert_allclose(got, expected, atol=2e-5)
      assert (np.asarray(got)[[0, 1, 2, 2], [1, 2, 0, 1]] == 0).all()  # not in Ω


def test_border_samples_hold_their_value():
  """At half a sample from the border there is nothing to blend with."""
  uv = by_hand()
  camera = Camera.from_matrices(np.eye(4)[None], [[10.0, 10, 0.1, 3.9]], width=4, height=4)
  vertices = jnp.broadcast_to(jnp.asarray([0.0, 0.0, 1.0]), (1, 5, 3))  # all at (0.1, 3.9)
  image = noise(1, 4, 4, 3)
  out = warp(SourceMaps(image, image), vertices, camera, uv)
  np.testing.assert_allclose(out.rgb[0, 0, 0], image[0, 3, 0], atol=1e-6)


def test_resolutions_of_camera_and_maps_do_not_matter():
  cameras, uv = turned_cameras(), by_hand()
  vertices = jnp.asarray(np.stack([VERTICES, VERTICES]), jnp.float32)

  def ramps(height, width):  # image position as fractions, exact under bilinear sampling
    x, y = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    image = jnp.asarray(np.stack([x, y, x + y], -1), jnp.float32)
    return jnp.stack([image, image])

  coarse = warp(SourceMaps(ramps(8, 10), ramps(64, 80)), vertices, cameras, uv)
  fine = warp(SourceMaps(ramps(33, 47), ramps(16, 16)), vertices, cameras.resized(120, 64), uv)
  np.testing.assert_allclose(coarse.features, coarse.rgb, atol=2e-6)
  np.testing.assert_allclose(coarse.features, fine.features, atol=2e-6)
  np.testing.assert_allclose(coarse.rgb, fine.rgb, atol=2e-6)


def test_gradients_are_those_of_finite_differences():
  """On ramps, where bilinear interpolation has no kinks; in float64."""
  with jax.enable_x64(True):
    rng = np.random.default_rng(0)
    cameras, uv = turned_cameras(), by_hand()
    x, y = np.meshgrid(np.arange(20) + 0.5, np.arange(16) + 0.5)
    ramp = (np.stack([x, y, np.ones_like(x)], -1) @ rng.normal(size=(3, 6)))[None].repeat(2, 0)
    maps = SourceMaps(jnp.asarray(ramp[..., :3]), jnp.asarray(ramp[..., 3:]))
    vertices = jnp.asarray(np.stack([VERTICES, VERTICES]))
    view = tuple(
      jnp.asarray(leaf, jnp.float64) for leaf in (cameras.world_to_camera, cameras.intrinsics)
    )
    weight = jnp.asarray(rng.normal(size=(2, 3, 3, 3)))

    @jax.jit
    def value(arguments):
      maps, vertices, view = arguments
      out = barycentric_warp(maps, vertices, Camera(*view, 40, 32), uv)
      return jnp.sum(weight * out.features**2) + jnp.sum(weight * jnp.sin(out.rgb))

    start = (maps, vertices, view)
    gradient = jax.jit(jax.grad(value))(start)
    leaves, structure = jax.tree.flatten(start)
    for index, leaf in enumerate(jax.tree.leaves(gradient)):
      direction = jnp.asarray(rng.normal(size=leaf.shape))
      step = 1e-6

      def moved(sign, index=index, direction=direction, step=step):
        shifted = list(leaves)
        shifted[index] = leaves[index] + sign * step * direction
        return value(jax.tree.unflatten(structure, shifted))

      numeric = (moved(1) - moved(-1)) / (2 * step)
      assert abs(numeric) > 1e-3
      np.testing.assert_allclose(jnp.sum(leaf * direction), numeric, rtol=1e-5)


def test_gradients_are_finite_where_nothing_is_seen():
  cameras, uv = turned_cameras(), by_hand()
  vertices = jnp.asarray(np.stack([VERTICES, 0 * VERTICES]), jnp.float32)  # a collapsed mesh
  maps = SourceMaps(noise(2, 9, 13, 4), noise(2, 32, 40, 3))

  def value(maps, vertices, cameras):
    out = barycentric_warp(maps, vertices, cameras, uv, VisibilityConfig())
    return jnp.sum(out.features) + jnp.sum(out.rgb * out.visibility[..., None])

  gradients = jax.jit(jax.grad(value, argnums=(0, 1, 2)))(maps, vertices, cameras)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


def test_dtypes_stay_and_batches_go_through_vmap():
  cameras, uv = turned_cameras(4), by_hand()
  vertices = jnp.broadcast_to(jnp.asarray(VERTICES, jnp.float32), (4, 5, 3))
  maps = SourceMaps(noise(4, 9, 13, 4).astype(jnp.bfloat16), noise(4, 32, 40, 3))
  flat = warp(maps, vertices, cameras, uv)
  assert flat.features.dtype == jnp.bfloat16
  assert flat.rgb.dtype == jnp.float32
  pairs = jax.tree.map(lambda x: x.reshape(2, 2, *x.shape[1:]), (maps, vertices, cameras))
  nested = jax.jit(jax.vmap(lambda args: barycentric_warp(*args, uv)))(pairs)
  np.testing.assert_allclose(
    nested.features.reshape(flat.features.shape).astype(jnp.float32),
    flat.features.astype(jnp.float32),
    atol=0.01,
  )
  np.testing.assert_allclose(nested.rgb.reshape(flat.rgb.shape), flat.rgb, atol=1e-6)


def photographed(resolution, size, views):
  """The procedural head in smooth colours, photographed: what barycentric_warp takes, and truth."""
  head = load_procedural_head()
  uv = UVArrays.from_layout(UVLayout.from_head(head, resolution), head)
  mesh = np.asarray(head.v_template, np.float64)
  wave = np.sin(mesh @ np.array([[40.0, 10, 0], [0, 35, 15], [20, 0, 45]]) + [0, 1, 2])
  color = (0.5 + 0.4 * wave).astype(np.float32)
  cameras = [
    mesh_render.look_at_camera(
      (mesh.max(0) + mesh.min(0)) / 2, distance=1.0, yaw=yaw, pitch=pitch, focal=2.4, size=size
    )
    for yaw, pitch in views
  ]
  buffers = [mesh_render.rasterize_mesh(mesh, head.faces, camera) for camera in cameras]
  images = np.stack([mesh_render.interpolate(b, head.faces, color) for b in buffers])
  camera = jax.tree.map(lambda *leaves: jnp.stack(leaves), *cameras)
  vertices = jnp.asarray(np.stack([mesh] * len(cameras)), jnp.float32)
  return uv, vertices, camera, images, buffers, texel_points(jnp.asarray(color), uv)


def seen_texels(uv, vertices, camera, depth, margin=0.003):
  """[n] all four pixels around a texel show its own surface; and cosines to the rays."""
  view = np.asarray(camera.world_to_camera, np.float64)
  mesh = np.asarray(vertices, np.float64) @ view[:3, :3].T + view[:3, 3]
  corners = mesh[np.asarray(uv.corner)]
  points = np.einsum('nk,nkc->nc', np.asarray(uv.layout.barycentric), corners)
  normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
  normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-20)
  cosine = -np.sum(normal * points, 1) / np.linalg.norm(points, axis=1)
  fx, fy, cx, cy = np.asarray(camera.intrinsics, np.float64)
  x = fx * points[:, 0] / points[:, 2] + cx - 0.5
  y = fy * points[:, 1] / points[:, 2] + cy - 0.5
  left, top = np.floor(x).astype(int), np.floor(y).astype(int)
  slope = points[:, 2] / fx / np.maximum(cosine, 0.1)  # metres of depth per pixel, at most
  own = [
    np.abs(depth[top + i, left + j] - points[:, 2]) < margin + slope for i in (0, 1) for j in (0, 1)
  ]
  return np.all(own, axis=0), cosine


def test_a_photographed_texture_is_recovered():
  pytest.importorskip('numba')
  uv, vertices, camera, images, buffers, truth = photographed(
    96, (256, 256), [(0.0, 0.0), (0.7, 0.2)]
  )
  maps = SourceMaps(jnp.asarray(images[:, ::4, ::4]), jnp.asarray(images))
  out = warp(maps, vertices, camera, uv)
  for k in range(2):
    one = jax.tree.map(lambda leaf, k=k: leaf[k], camera)
    seen, cosine = seen_texels(uv, vertices[k], one, buffers[k].depth)
    chosen = seen & (cosine > 0.15)
    assert chosen.mean() > 0.4
    error = np.asarray(uv.layout.from_image(out.rgb[k]) - truth)[chosen]
    assert -10 * np.log10(np.mean(error**2)) > 42
    assert (np.asarray(out.rgb[k])[~np.asarray(uv.valid)] == 0).all()


def test_visibility_is_that_of_a_depth_buffer():
  pytest.importorskip('numba')
  uv, vertices, camera, images, buffers, _ = photographed(
    128, (512, 384), [(0.0, 0.0), (-1.2, -0.1)]
  )
  maps = SourceMaps(jnp.asarray(images[:, ::8, ::8]), jnp.asarray(images[:, ::8, ::8]))
  out = warp(maps, vertices, camera, uv, visibility=VisibilityConfig())
  for k in range(2):
    one = jax.tree.map(lambda leaf, k=k: leaf[k], camera)
    seen, cosine = seen_texels(uv, vertices[k], one, buffers[k].depth)
    ours = np.asarray(uv.layout.from_image(out.visibility[k][..., None]))[:, 0]
    assert set(np.unique(ours)) == {0.0, 1.0}
    expected = seen & (cosine > 0.15)
    assert np.mean(ours == expected) > 0.96
    # What would do harm: colours of one part painted on another that it hides.
    hidden = (cosine > 0.15) & ~seen
    assert np.mean(ours[hidden]) < 0.4
    assert np.mean(ours[expected]) > 0.95
  again = warp(maps, vertices, camera, uv, visibility=VisibilityConfig())
  np.testing.assert_array_equal(out.visibility, again.visibility)


def test_uv_arrays_belong_to_the_head():
  head = load_procedural_head()
  layout = UVLayout.from_head(head, 16)
  uv = UVArrays.from_layout(layout, head)
  assert int(uv.valid.sum()) == layout.n
  np.testing.assert_array_equal(uv.corner, head.faces[np.asarray(layout.face)])
  smaller = dataclasses.replace(head, faces=head.faces[:10], ft=head.ft[:10])
  with pytest.raises(ValueError, match='10: make the layout with'):
    UVArrays.from_layout(layout, smaller)


def test_counts_must_agree():
  cameras, uv = turned_cameras(3), by_hand()
  maps = SourceMaps(noise(2, 9, 13, 4), noise(2, 32, 40, 3))
  vertices = jnp.zeros((2, 5, 3))
  with pytest.raises(ValueError, match=r'cameras of shape \(3,\): need k of each'):
    barycentric_warp(maps, vertices, cameras, uv)


@pytest.mark.parametrize(
  'wrong', [{'cells': 0}, {'margin': -1.0}, {'margin': float('nan')}, {'min_cosine': 0.0}]
)
def test_visibility_config_is_checked(wrong):
  with pytest.raises(ValueError, match=next(iter(wrong))):
    VisibilityConfig(**wrong)


def test_what_is_not_seen_takes_what_is_seen_around_it():
  image = noise(2, 12, 12, 3)
  seen = jnp.asarray(np.random.default_rng(1).uniform(size=(2, 12, 12)) < 0.3)
  filled = fill_unseen(image, seen, 0.5)
  there = np.asarray(seen)[..., None]
  np.testing.assert_allclose(np.where(there, filled, 0), np.where(there, image, 0), atol=1e-6)
  assert float(filled.min()) >= float(image.min()) - 1e-6
  assert float(filled.max()) <= float(image.max()) + 1e-6
  flat = fill_unseen(jnp.where(seen[..., None], 0.25, 9.0), seen, 0.5)
  np.testing.assert_allclose(flat, np.full_like(flat, 0.25), atol=1e-6)
  halves = jnp.zeros((1, 16, 16, 1)).at[:, :, 8:].set(1.0)
  edges = jnp.zeros((1, 16, 16), bool).at[:, :, 0].set(True).at[:, :, 15].set(True)
  across = np.asarray(fill_unseen(halves, edges, 0.5))[0, :, :, 0].mean(axis=0)
  assert (np.diff(across) >= -1e-6).all()
  assert across[1] < 0.2 < 0.8 < across[14]
  nothing = fill_unseen(image, jnp.zeros((2, 12, 12), bool), 0.5)
  np.testing.assert_array_equal(nothing, np.full_like(nothing, 0.5))


def test_values_of_a_smaller_uv_image_are_spread_over_more_texels():
  head = load_procedural_head()
  layout = UVLayout.from_head(head, 64)
  fine = UVArrays.from_layout(layout, head, 32)
  assert fine.network.layout.resolution == 32
  place = (np.asarray(fine.network.layout.texel) + 0.5) / 32
  values = jnp.asarray(np.concatenate([np.ones((len(place), 1)), place], axis=1), jnp.float32)
  spread = np.asarray(fine.spread(values))
  np.testing.assert_allclose(spread[:, 0], 1.0, atol=1e-6)
  # Linear functions stay what they are, except at the border of the valid texels.
  wrong = np.abs(spread[:, 1:] - (np.asarray(layout.texel) + 0.5) / 64).max(axis=1)
  assert wrong.max() < 1.5 / 32
  assert np.median(wrong) < 1e-6
  same = UVArrays.from_layout(layout, head, 64)
  assert same.network is same
  np.testing.assert_array_equal(same.spread(jnp.asarray(spread)), spread)
