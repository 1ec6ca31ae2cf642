"""LPIPS against a plain NumPy network; the published code is held in test_lpips_parity.py."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sa0_jax.losses.lpips import load_lpips, lpips
from tests.losses import weights_files as files
from tests.precision import rounded_products

# torchvision's `features`: out and in channels, kernel, stride, padding; 'P3' pools three wide.
ALEX = {0: (64, 3, 11, 4, 2), 2: 'P3', 3: (192, 64, 5, 1, 2), 5: 'P3', 6: (384, 192, 3, 1, 1)}
ALEX |= {8: (256, 384, 3, 1, 1), 10: (256, 256, 3, 1, 1)}
VGG = {4: 'P2', 9: 'P2', 16: 'P2', 23: 'P2'}
WIDTHS = {0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128), 10: (256, 128), 12: (256, 256)}
WIDTHS |= {14: (256, 256), 17: (512, 256), 19: (512, 512), 21: (512, 512), 24: (512, 512)}
WIDTHS |= {26: (512, 512), 28: (512, 512)}
VGG |= {index: (*pair, 3, 1, 1) for index, pair in WIDTHS.items()}
NETWORKS = {'alex': (ALEX, (0, 3, 6, 8, 10)), 'vgg': (VGG, (2, 7, 14, 21, 28))}
LPIPS = jax.jit(lpips)


def random_weights(network, seed=0):
  """He-scaled convolutions, so that all five layers matter, and the weights of the distance."""
  rng = np.random.default_rng(seed)
  layers, taps = NETWORKS[network]
  backbone = {'classifier.1.bias': np.zeros(3, np.float32)}
  for index, layer in sorted(layers.items()):
    if not isinstance(layer, str):
      out, into, size, _, _ = layer
      kernel = rng.standard_normal((out, into, size, size), np.float32)
      backbone[f'features.{index}.weight'] = kernel * np.float32((2 / into) ** 0.5 / size)
      backbone[f'features.{index}.bias'] = 0.1 * rng.standard_normal(out, np.float32)
  linear = {
    f'lin{k}.model.1.weight': rng.random((1, layers[index][0], 1, 1), np.float32)
    for k, index in enumerate(taps)
  }
  return backbone, linear


def images(shape=(2, 43, 37, 3), seed=1, noise=0.2):
  rng = np.random.default_rng(seed)
  image = rng.random(shape, np.float32)
  return image, image + np.float32(noise) * rng.standard_normal(shape, np.float32)


def windows(x, size, stride):
  """[c, h, w] → [c, h', w', size, size]."""
  view = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))
  return view[:, ::stride, ::stride]


def features(image, backbone, network):
  shift, scale = ([-0.030, -0.088, -0.188], [0.458, 0.448, 0.450])
  x = ((2.0 * image - 1.0 - shift) / scale).transpose(2, 0, 1)
  layers, taps = NETWORKS[network]
  for index, layer in sorted(layers.items()):
    if isinstance(layer, str):
      x = windows(x, int(layer[1]), 2).max((-2, -1))
      continue
    _, _, size, stride, pad = layer
    patches = windows(np.pad(x, ((0, 0), (pad, pad), (pad, pad))), size, stride)
    kernel = backbone[f'features.{index}.weight'].astype(np.float64)
    x = np.tensordot(kernel, patches, ((1, 2, 3), (0, 3, 4)))
    x = np.maximum(x + backbone[f'features.{index}.bias'][:, None, None], 0)
    if index in taps:
      yield x


def by_definition(image, target, backbone, linear, network):
  total = []
  pairs = zip(*(features(x, backbone, network) for x in (image, target)), strict=True)
  for (a, b), channels in zip(pairs, linear.values(), strict=True):
    a, b = (x / (np.sqrt((x**2).sum(0)) + 1e-10) for x in (a, b))
    total.append(np.tensordot(channels.reshape(-1), (a - b) ** 2, (0, 0)).mean())
  return np.asarray(total)


@pytest.fixture(scope='module')
def alex(tmp_path_factory):
  folder = tmp_path_factory.mktemp('alex')
  backbone, linear = random_weights('alex')
  files.write_zip(folder / 'alexnet.pth', backbone)
  files.write_legacy(folder / 'alex.pth', linear)
  return load_lpips(folder / 'alexnet.pth', folder / 'alex.pth'), backbone, linear, folder


def test_alex_is_the_definition(alex):
  weights, backbone, linear, _ = alex
  image, target = images()
  got = LPIPS(weights, image, target)
  for k in range(2):
    parts = by_definition(image[k], target[k], backbone, linear, 'alex')
    assert (parts > 0.02 * parts.sum()).all()  # no layer could be missing unseen
    assert float(got[k]) == pytest.approx(parts.sum(), rel=1e-5)


def test_vgg_is_the_definition(tmp_path):
  backbone, linear = random_weights('vgg')
  halves = {name: array.astype(np.float16) for name, array in backbone.items()}
  files.write_safetensors(tmp_path / 'vgg.safetensors', halves)
  files.write_safetensors(tmp_path / 'lin.safetensors', linear)
  weights = load_lpips(tmp_path / 'vgg.safetensors', tmp_path / 'lin.safetensors', 'vgg')
  image, target = images((19, 17, 3))
  parts = by_definition(image, target, halves, linear, 'vgg')
  assert (parts > 0.02 * parts.sum()).all()
  assert float(LPIPS(weights, image, target)) == pytest.approx(parts.sum(), rel=1e-5)


def test_equal_images_and_silent_features_have_gradient_zero(alex):
  """Where all channels are 0 the published code has the derivative of √0 · 0: NaN."""
  weights = alex[0]
  image, target = images((43, 37, 3))
  gradient = jax.jit(jax.value_and_grad(lpips, argnums=1))
  value, slope = gradient(weights, image, image)
  assert float(value) < 1e-10
  assert np.abs(slope).max() < 1e-6 < np.abs(gradient(weights, image, target)[1]).max()
  silent = dataclasses.replace(weights, biases=tuple(b - 1e3 for b in weights.biases))
  value, slope = gradient(silent, image, target)
  assert float(value) == 0.0
  np.testing.assert_array_equal(slope, np.zeros_like(image))


def test_grows_with_noise_and_is_symmetric(alex):
  weights = alex[0]
  values = [LPIPS(weights, *images(noise=noise)) for noise in (0.02, 0.1, 0.4)]
  assert (np.diff(values, axis=0) > 0).all()
  image, target = images()
  np.testing.assert_allclose(
    LPIPS(weights, target, image), LPIPS(weights, image, target), rtol=1e-6
  )


def test_bfloat16_is_near(alex):
  weights = alex[0]
  image, target = images()
  half = jax.jit(lpips, static_argnums=3)(weights, image, target, jnp.bfloat16)
  assert half.dtype == jnp.float32
  np.testing.assert_allclose(half, LPIPS(weights, image, target), rtol=0.03)


def test_products_keep_their_digits(alex):
  jaxpr = jax.make_jaxpr(jax.grad(lambda x, y: lpips(alex[0], x, y).sum()))(*images())
  assert rounded_products(jaxpr.jaxpr) == []


def test_small_images_are_refused(alex):
  image, target = map(jnp.asarray, images((30, 64, 3)))
  with pytest.raises(ValueError, match='needs images of 31 px and more'):
    lpips(alex[0], image, target)
  image, target = images((31, 31, 3))
  assert float(LPIPS(alex[0], image, target)) > 0


def test_another_network_is_refused(alex, tmp_path):
  _, backbone, _, folder = alex
  reason = r"alexnet\.pth: 'features\.0\.weight' has shape \(64, 3, 11, 11\), but 'vgg' has \(64, 3"
  with pytest.raises(ValueError, match=reason):
    load_lpips(folder / 'alexnet.pth', folder / 'alex.pth', 'vgg')
  with pytest.raises(ValueError, match=r"alex\.pth: 'features\.0\.weight' .* is missing"):
    load_lpips(folder / 'alex.pth', folder / 'alex.pth')
  wrong = {'lin0.model.1.weight': np.ones((1, 64, 1, 1), np.float32)}
  path = files.write_zip(tmp_path / 'vgg.pth', wrong)
  with pytest.raises(ValueError, match=r"'lin1\.model\.1\.weight' of shape \(1, 192, 1, 1\)"):
    load_lpips(folder / 'alexnet.pth', path)
  backbone = backbone | {'features.8.bias': np.full(256, np.nan, np.float32)}
  path = files.write_zip(tmp_path / 'nan.pth', backbone)
  with pytest.raises(ValueError, match=r"'features\.8\.bias' .* not finite"):
    load_lpips(path, folder / 'alex.pth')


def test_missing_files_say_where_they_are_got(tmp_path, unchecked_shapes):
  with pytest.raises(FileNotFoundError, match=r"nothing\.pth: no such file; .* torchvision's"):
    load_lpips(tmp_path / 'nothing.pth', tmp_path / 'alex.pth')
  with pytest.raises(ValueError, match="must be 'alex' or 'vgg', got 'squeeze'"):
    load_lpips(tmp_path / 'a', tmp_path / 'b', 'squeeze')
