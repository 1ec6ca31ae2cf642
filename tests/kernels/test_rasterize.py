"""One suite over all implementations: the reference decides what is correct."""

import contextvars
import dataclasses
import functools
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sa0_kernels import Camera, RasterConfig, dispatch, grow_capacity, implementations, rasterize

from tests.kernels.scenes import Scene, random_scene, rasterize_arrays, relative_error

# Kernels for accelerators run in Pallas' interpreters here: that proves what they compute, and
# `tests/aot` that they compile. One of the interpreters takes its time.
KERNELS = ['triton', 'mosaic_tpu', pytest.param('mosaic_gpu', marks=pytest.mark.interpreter)]
FAST = ['numba', 'xla', *KERNELS]
ALL = ['reference', *FAST]
# Tests that compile programs of their own run there by `make test-interpreter` alone.
SLOW_KERNELS = [
  pytest.param(name, marks=pytest.mark.interpreter)
  for name in ('triton', 'mosaic_tpu', 'mosaic_gpu')
]
FAST_OWN = ['numba', 'xla', *SLOW_KERNELS]
ALL_OWN = ['reference', *FAST_OWN]


@pytest.fixture(autouse=True)
def interpreted():
  """Lets kernels of other platforms run on this one."""
  with dispatch.allow_other_platforms():
    yield


@pytest.mark.parametrize('implementation', FAST)
@pytest.mark.parametrize(
  ('width', 'height', 'channels'), [(40, 24, 3), (17, 33, 5), (32, 16, 32), (5, 3, 64)]
)
def test_image_equals_reference(implementation, width, height, channels):
  scene = random_scene(width=width, height=height, channels=channels, seed=width)
  expected = scene.render('reference')
  actual = scene.render(implementation)
  assert relative_error(actual.features, expected.features) < 1e-4
  np.testing.assert_allclose(actual.alpha, expected.alpha, atol=2e-3)
  assert relative_error(actual.alpha, expected.alpha) < 1e-4
  assert not actual.overflowed
  assert actual.num_instances > 0
  assert actual.num_invalid == 0


@pytest.mark.parametrize('implementation', FAST)
@pytest.mark.parametrize(
  ('width', 'height', 'channels'), [(40, 24, 3), (17, 33, 5), (12, 20, 1), (20, 12, 64)]
)
def test_gradients_equal_reference(implementation, width, height, channels):
  scene = random_scene(width=width, height=height, channels=channels, seed=height)
  expected = scene.gradients('reference')
  actual = scene.gradients(implementation)
  for name in expected:
    assert relative_error(actual[name], expected[name]) < 2e-3, name


def test_xla_equals_reference_in_float64():
  with jax.enable_x64(True):
    scene = random_scene(dtype=np.float64, seed=3)
    expected, actual = scene.render('reference'), scene.render('xla')
    assert actual.features.dtype == np.float64
    assert relative_error(actual.features, expected.features) < 1e-12
    expected, actual = scene.gradients('reference'), scene.gradients('xla')
    for name in expected:
      assert relative_error(actual[name], expected[name]) < 1e-9, name


# With the cut-offs far out the image is smooth, and differences must agree with gradients.
SMOOTH = RasterConfig(alpha_min=1e-9, transmittance_min=0.0, alpha_max=0.999)
SIZE = (20, 18)


@functools.cache
def directional_differences():
  """A direction for every differentiable input, and the loss's central difference along it.

  Differences are those of the reference in float64: in float32 they mean nothing.
  """
  with jax.enable_x64(True):
    arrays = smooth_scene(np.float64).arrays()
    compiled = jax.jit(lambda arrays: smooth_loss(arrays, 'reference'))
    rng = np.random.default_rng(1)
    differences = {}
    for name, value in arrays.items():
      direction = rng.normal(size=value.shape)
      if name == 'world_to_camera':
        direction[3] = 0.0  # the last row is (0, 0, 0, 1) by definition
      step = 1e-6 * np.linalg.norm(value) / np.linalg.norm(direction)
      ahead = compiled({**arrays, name: value + step * direction})
      behind = compiled({**arrays, name: value - step * direction})
      differences[name] = direction, float(ahead - behind) / (2 * step)
  return differences


def smooth_scene(dtype):
  """A dozen Gaussians on a few tiles."""
  return random_scene(num_gaussians=12, width=SIZE[0], height=SIZE[1], dtype=dtype, seed=11)


def smooth_loss(arrays, implementation):
  """A random linear functional of image and alpha."""
  weights = np.random.default_rng(5).normal(size=(*SIZE[::-1], 4))
  output = rasterize_arrays(arrays, SIZE, implementation, SMOOTH)
  image = jnp.concatenate([output.features, output.alpha[..., None]], axis=-1)
  return jnp.sum(image * weights.astype(image.dtype))


@pytest.mark.parametrize(
  ('implementation', 'dtype', 'tolerance'),
  [
    ('reference', np.float64, 1e-5),
    ('xla', np.float64, 1e-5),
    ('reference', np.float32, 2e-3),
    ('xla', np.float32, 2e-3),
    ('numba', np.float32, 2e-3),
    *(
      pytest.param(name, np.float32, 2e-3, marks=pytest.mark.interpreter)
      for name in ('triton', 'mosaic_tpu')
    ),
  ],
)
def test_gradients_equal_finite_differences(implementation, dtype, tolerance):
  """In every input: Gaussians, background, camera pose and intrinsics."""
  differences = directional_differences()
  with jax.enable_x64(dtype == np.float64):
    arrays = {k: jnp.asarray(v) for k, v in smooth_scene(dtype).arrays().items()}
    gradient = jax.jit(jax.grad(lambda arrays: smooth_loss(arrays, implementation)))(arrays)
  assert (
    set(gradient)
    == set(differences)
    == {f.name for f in dataclasses.fields(Scene)}
    - {
      'width',
      'height',
    }
  )
  for name, (direction, numeric) in differences.items():
    assert gradient[name].dtype == dtype
    terms = np.asarray(gradient[name], np.float64) * direction
    # Terms of both signs cancel; rounding is relative to their size.
    scale = max(abs(numeric), 0.1 * np.abs(terms).sum())
    assert abs(terms.sum() - numeric) <= tolerance * scale, name


@pytest.mark.parametrize(
  ('implementation', 'channels'),
  [
    ('numba', [1, 2, 3, 4, 7, 8, 9, 16, 17, 31, 33, 63]),
    *((name, [1, 9]) for name in ('xla', 'reference')),
    *(
      pytest.param(name, [1, 9], marks=pytest.mark.interpreter) for name in ('triton', 'mosaic_tpu')
    ),
  ],
)
def test_any_number_of_channels_up_to_64(implementation, channels):
  """Channels are blended alike: the first ones of 64 are what they are alone."""
  scene = random_scene(num_gaussians=30, width=20, height=12, channels=64, seed=14)
  whole = scene.render(implementation)
  for count in channels:
    part = scene.render(
      implementation, features=scene.features[:, :count], background=scene.background[:count]
    )
    np.testing.assert_allclose(part.features, whole.features[..., :count], atol=1e-5)
    np.testing.assert_allclose(part.alpha, whole.alpha, atol=1e-6)


@pytest.mark.parametrize('implementation', FAST_OWN)
def test_saturated_alphas(implementation):
  """Opacity 1: the clamp at alpha_max acts in the middle, and stops the gradient there."""
  scene = dataclasses.replace(random_scene(seed=15), opacities=np.ones(100, np.float32))
  expected, actual = scene.render('reference'), scene.render(implementation)
  assert relative_error(actual.features, expected.features) < 1e-4
  wanted, got = scene.gradients('reference'), scene.gradients(implementation)
  for name in wanted:
    assert relative_error(got[name], wanted[name]) < 2e-3, name


@pytest.mark.parametrize('implementation', ALL)
@pytest.mark.parametrize('name', ['world_to_camera', 'intrinsics'])
def test_a_camera_of_nan_shows_the_background(implementation, name):
  scene = random_scene()
  broken = dataclasses.replace(scene, **{name: np.full_like(getattr(scene, name), np.nan)})
  output = broken.render(implementation)
  np.testing.assert_array_equal(
    output.features, np.broadcast_to(scene.background, output.features.shape)
  )
  assert not np.asarray(output.alpha).any()
  assert output.num_instances == 0


@pytest.mark.parametrize('implementation', ALL)
def test_one_gaussian_in_closed_form(implementation):
  focal, depth, sigma, opacity = 100.0, 2.0, 0.05, 0.7
  camera = Camera.from_matrices(
    np.eye(4), np.array([[focal, 0, 10.5], [0, focal, 8.5], [0, 0, 1]]), width=21, height=17
  )
  output = rasterize(
    np.array([[0.0, 0.0, depth]], np.float32),
    np.array([[2.0, 0.0, 0.0, 0.0]], np.float32),  # any length
    np.full((1, 3), sigma, np.float32),
    np.array([opacity], np.float32),
    np.array([[0.2, 0.5, 0.9]], np.float32),
    camera,
    RasterConfig(background=np.array([1.0, 1.0, 0.0], np.float32)),
    implementation,
  )
  variance = (sigma * focal / depth) ** 2 + 0.3
  y, x = np.mgrid[0:17, 0:21] + 0.5
  alpha = opacity * np.exp(-0.5 * ((x - 10.5) ** 2 + (y - 8.5) ** 2) / variance)
  alpha = np.where(alpha >= 1 / 255, alpha, 0.0)
  expected = alpha[..., None] * [0.2, 0.5, 0.9] + (1 - alpha[..., None]) * [1.0, 1.0, 0.0]
  np.testing.assert_allclose(output.alpha, alpha, atol=2e-6)
  np.testing.assert_allclose(output.features, expected, atol=2e-6)


@pytest.mark.parametrize('implementation', ALL_OWN)
def test_nothing_to_draw(implementation):
  """No Gaussians, all behind the camera, all off screen, all transparent: the background."""
  scene = random_scene()
  background = np.broadcast_to(scene.background, (scene.height, scene.width, 3))
  behind = scene.means - np.array([0, 0, 10], np.float32)
  aside = scene.means + np.array([50, 0, 0], np.float32)
  cases = [{'means': behind}, {'means': aside}, {'opacities': np.zeros(100, np.float32)}]
  cases.append(
    {k: scene.arrays()[k][:0] for k in ('means', 'quats', 'scales', 'opacities', 'features')}
  )
  for case in cases:
    output = scene.render(implementation, **case)
    np.testing.assert_array_equal(output.features, background)
    assert not np.asarray(output.alpha).any()
    assert output.num_instances == 0
    arrays = {**scene.arrays(), **case}
    changed = dataclasses.replace(scene, **arrays)
    got = changed.gradients(implementation)
    assert all(np.isfinite(np.asarray(v)).all() for v in got.values())
    assert not np.asarray(got['means']).any()


@pytest.mark.parametrize('implementation', FAST)
def test_more_gaussians_in_a_tile_than_a_chunk(implementation):
  """A hundred faint Gaussians over one pixel; the chunk of the XLA implementation is 32."""
  rng = np.random.default_rng(2)
  scene = random_scene()
  means = rng.normal(size=(100, 3)) * [0.02, 0.02, 0.2]
  scene = dataclasses.replace(
    scene, means=means.astype(np.float32), opacities=np.full(100, 0.02, np.float32)
  )
  expected, actual = scene.render('reference'), scene.render(implementation)
  assert relative_error(actual.features, expected.features) < 1e-4
  wanted, got = scene.gradients('reference'), scene.gradients(implementation)
  for name in wanted:
    assert relative_error(got[name], wanted[name]) < 2e-3, name


@pytest.mark.parametrize('implementation', FAST)
def test_stops_where_the_reference_stops(implementation):
  """Opaque layers: nothing behind the stop may contribute, and its gradient is exactly zero."""
  scene = random_scene()
  depth = np.linspace(-0.3, 0.3, 100)
  means = np.stack([0 * depth, 0 * depth, depth], -1).astype(np.float32)
  scene = dataclasses.replace(
    scene,
    means=means,
    scales=np.full((100, 3), 1.0, np.float32),
    opacities=np.full(100, 0.9, np.float32),
    world_to_camera=np.eye(4, dtype=np.float32)
    + np.float32([[0] * 4, [0] * 4, [0, 0, 0, 2], [0] * 4]),
  )
  expected, actual = scene.render('reference'), scene.render(implementation)
  assert relative_error(actual.features, expected.features) < 1e-5
  np.testing.assert_allclose(actual.alpha, expected.alpha, atol=1e-6)
  got = scene.gradients(implementation)
  assert np.asarray(got['features'])[:3].all()
  assert not np.asarray(got['features'])[30:].any()


@pytest.mark.parametrize('implementation', FAST)
def test_huge_and_needle_scales(implementation):
  scene = random_scene(seed=4)
  scales = scene.scales.copy()
  scales[:5] = 3.0
  scales[5:20] *= np.float32([1e-4, 1.0, 6.0])
  scales[20:25] = 0.0
  scene = dataclasses.replace(scene, scales=scales)
  expected, actual = scene.render('reference'), scene.render(implementation)
  assert relative_error(actual.features, expected.features) < 3e-4
  wanted, got = scene.gradients('reference'), scene.gradients(implementation)
  for name in wanted:
    assert relative_error(got[name], wanted[name]) < 5e-3, name


@pytest.mark.parametrize('implementation', FAST_OWN)
def test_far_off_screen_gaussians_use_the_clamped_jacobian(implementation):
  scene = random_scene(num_gaussians=80, seed=6)
  means = scene.means * np.float32([3.5, 3.5, 1.0])
  scene = dataclasses.replace(scene, means=means, scales=scene.scales * 4)
  expected, actual = scene.render('reference'), scene.render(implementation)
  assert relative_error(actual.features, expected.features) < 1e-4
  wanted, got = scene.gradients('reference'), scene.gradients(implementation)
  for name in wanted:
    assert relative_error(got[name], wanted[name]) < 2e-3, name


INVALID = {
  'means': np.nan,
  'quats': 0.0,
  'scales': -1.0,
  'opacities': np.inf,
  'features': np.nan,
}


@pytest.mark.parametrize('implementation', ALL_OWN)
@pytest.mark.parametrize('name', list(INVALID))
def test_invalid_gaussians_are_counted_and_disturb_nobody(implementation, name):
  scene = random_scene()
  spoiled = scene.arrays()[name].copy()
  spoiled[7] = INVALID[name]
  without = {
    k: np.delete(v, 7, axis=0) if v.shape[:1] == (100,) else v for k, v in scene.arrays().items()
  }
  broken = dataclasses.replace(scene, **{name: spoiled})
  expected, actual = scene.render(implementation, **without), broken.render(implementation)
  assert actual.num_invalid == 1
  np.testing.assert_array_equal(actual.features, expected.features)
  got = broken.gradients(implementation)
  wanted = dataclasses.replace(scene, **without).gradients(implementation)
  for key, value in got.items():
    value = np.asarray(value)
    assert np.isfinite(value).all(), key
    if value.shape[:1] == (100,):
      assert not value[7].any(), key
      value = np.delete(value, 7, axis=0)
    np.testing.assert_allclose(value, wanted[key], rtol=1e-4, atol=1e-4, err_msg=key)


@pytest.mark.parametrize('implementation', ALL)
def test_order_of_gaussians_is_irrelevant(implementation):
  scene = random_scene(seed=8)
  order = np.random.default_rng(0).permutation(len(scene.means))
  shuffled = dataclasses.replace(
    scene,
    **{k: getattr(scene, k)[order] for k in ('means', 'quats', 'scales', 'opacities', 'features')},
  )
  image, other = scene.render(implementation).features, shuffled.render(implementation).features
  np.testing.assert_allclose(image, other, atol=1e-5)  # vectorised projection rounds by position
  gradients, others = scene.gradients(implementation), shuffled.gradients(implementation)
  for name, value in gradients.items():
    expected = value[order] if value.shape[:1] == order.shape else value
    assert relative_error(others[name], expected) < 1e-4, name


@pytest.mark.parametrize('implementation', ALL)
def test_rigid_motion_of_world_and_camera_changes_nothing(implementation):
  scene = random_scene(seed=9)
  c, s = np.cos(0.7), np.sin(0.7)
  motion = np.eye(4)
  motion[:3, :3] = [[c, -s, 0], [s, c, 0], [0, 0, 1]]
  motion[:3, 3] = [0.3, -0.2, 0.5]
  half = np.array([np.cos(0.35), 0, 0, np.sin(0.35)])
  w, x, y, z = scene.quats.T
  turned = np.stack(
    [
      half[0] * w - half[3] * z,
      half[0] * x - half[3] * y,
      half[0] * y + half[3] * x,
      half[0] * z + half[3] * w,
    ],
    -1,
  )
  moved = scene.render(
    implementation,
    means=(scene.means @ motion[:3, :3].T + motion[:3, 3]).astype(np.float32),
    quats=turned.astype(np.float32),
    world_to_camera=(scene.world_to_camera @ np.linalg.inv(motion)).astype(np.float32),
  )
  assert relative_error(moved.features, scene.render(implementation).features) < 1e-4


@pytest.mark.parametrize('implementation', ALL_OWN)
def test_batch_of_cameras_equals_vmap_equals_loop(implementation):
  scene = random_scene()
  views = np.stack([scene.world_to_camera] * 3)
  views[1, 0, 3] += 0.1
  views[2, 2, 3] += 0.4
  pinholes = np.stack([scene.intrinsics] * 3) * np.float32([[1.0], [1.1], [0.9]])
  arrays = [
    jnp.asarray(getattr(scene, k)) for k in ('means', 'quats', 'scales', 'opacities', 'features')
  ]

  @jax.jit
  def one(view, pinhole, *gaussians):
    camera = Camera(view, pinhole, scene.width, scene.height)
    return rasterize(*gaussians, camera, implementation=implementation)

  @jax.jit
  def gradient(view, pinhole, *gaussians):
    def loss(view, pinhole, means):
      return jnp.sum(one(view, pinhole, means, *gaussians[1:]).features ** 2)

    return jax.grad(loss, (0, 1, 2))(view, pinhole, gaussians[0])

  cameras = list(zip(views, pinholes, strict=True))
  loop = [one(*camera, *arrays) for camera in cameras]
  batched = one(views, pinholes, *arrays)
  assert batched.features.shape == (3, scene.height, scene.width, 3)
  assert batched.num_instances.shape == (3,)
  mapped = jax.jit(jax.vmap(one))(views, pinholes, *(jnp.stack([a] * 3) for a in arrays))
  # XLA fuses a batch in its own way, and a mean may come out a bit different; polynomials about a
  # tile's middle, large terms that cancel, make more of it.
  atol = 2e-5 if implementation == 'mosaic_tpu' else 3e-6
  for i in range(3):
    np.testing.assert_allclose(batched.features[i], loop[i].features, atol=atol)
    np.testing.assert_allclose(mapped.features[i], loop[i].features, atol=atol)
    assert batched.num_instances[i] == loop[i].num_instances
  alone = [gradient(*camera, *arrays) for camera in cameras]
  together = gradient(views, pinholes, *arrays)
  for index in range(2):  # each camera has its own gradient, the Gaussians share theirs
    assert relative_error(together[index], np.stack([g[index] for g in alone])) < 1e-5
  assert relative_error(together[2], sum(g[2] for g in alone)) < 1e-5


@pytest.mark.parametrize('implementation', ['reference', 'xla', *KERNELS])
def test_overflow_is_reported_and_recovered(implementation):
  scene = random_scene()
  config = RasterConfig(capacity=64)
  output = scene.render(implementation, config)
  assert output.overflowed
  grown = grow_capacity(config, output.overflowed, output.num_instances)
  assert grown is not None
  assert grown.capacity & (grown.capacity - 1) == 0
  again = scene.render(implementation, grown)
  assert not again.overflowed
  assert grow_capacity(grown, again.overflowed, again.num_instances) is None
  np.testing.assert_array_equal(again.features, scene.render(implementation).features)


def test_numba_needs_no_capacity():
  """Lists that do not fit are built again in the backward pass: same image, same gradients."""
  scene = random_scene()
  small = RasterConfig(capacity=64)
  assert not scene.render('numba', small).overflowed
  full, rebuilt = scene.gradients('numba'), scene.gradients('numba', small)
  for name in full:
    np.testing.assert_array_equal(full[name], rebuilt[name], err_msg=name)


@pytest.mark.parametrize('implementation', ALL)
def test_same_bits_every_run(implementation):
  scene = random_scene(seed=12)
  first, second = (scene.gradients(implementation) for _ in range(2))
  for name in first:
    np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_numba_bits_do_not_depend_on_the_thread_count():
  """Images and gradients, each thread count in a process of its own."""
  pytest.importorskip('numba')
  root = pathlib.Path(__file__).resolve().parents[2]
  paths = os.pathsep.join([str(root), str(root / 'kernels')])

  def fingerprint(threads):
    environment = {**os.environ, 'NUMBA_NUM_THREADS': str(threads), 'PYTHONPATH': paths}
    command = [sys.executable, '-m', 'tests.kernels.fingerprint']
    done = subprocess.run(
      command, cwd=root, env=environment, capture_output=True, text=True, check=True
    )
    used, digest = done.stdout.split()
    assert int(used) == threads
    return digest

  assert fingerprint(1) == fingerprint(5)


def test_inside_scan_and_remat():
  scene = random_scene()
  arrays = {k: jnp.asarray(v) for k, v in scene.arrays().items()}

  @jax.jit
  def descend(means):
    def loss(means):
      return jnp.mean(
        jax.checkpoint(lambda m: scene.render(None, **{**arrays, 'means': m}).alpha)(means)
      )

    def step(means, _):
      value, gradient = jax.value_and_grad(loss)(means)
      return means - 0.1 * gradient, value

    return jax.lax.scan(step, means, None, length=5)[1]

  values = np.asarray(descend(arrays['means']))
  assert (np.diff(values) < 0).all()


@pytest.mark.parametrize('name', KERNELS)
def test_kernels_of_other_platforms_say_so(name):
  assert implementations()[name] == ''

  def outside():
    assert 'JAX runs on cpu here' in implementations()[name]
    with pytest.raises(NotImplementedError, match='JAX runs on cpu here'):
      random_scene(num_gaussians=4, width=7, height=9).render(name)

  contextvars.Context().run(outside)


def test_bad_arguments(unchecked_shapes):
  scene = random_scene(num_gaussians=10)
  with pytest.raises(ValueError, match=r'quats has shape \(9, 4\), expected \(10, 4\)'):
    scene.render(None, quats=scene.quats[:9])
  with pytest.raises(ValueError, match='1 to 64 channels'):
    scene.render(None, features=np.ones((10, 65), np.float32), background=np.ones(65, np.float32))
  with pytest.raises(ValueError, match='no implementation'):
    scene.render('cuda')
  with pytest.raises(ValueError, match='alpha_min'):
    RasterConfig(alpha_min=0.0)
  with pytest.raises(NotImplementedError, match='tiles are 16 px'):
    scene.render('numba', RasterConfig(tile_size=8))
  with jax.enable_x64(True), pytest.raises(NotImplementedError, match='float32'):
    random_scene(num_gaussians=4, dtype=np.float64).render('numba')
  assert set(implementations()) == {
    'reference',
    'numba',
    'xla',
    'triton',
    'mosaic_gpu',
    'mosaic_tpu',
  }
