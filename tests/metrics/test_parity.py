"""Numbers to report against torchmetrics and the code of 3D Gaussian splatting."""

import jax.numpy as jnp
import numpy as np
import pytest

from sa0_jax.metrics.image import psnr, ssim_padded, ssim_rgb
from sa0_jax.metrics.multi_scale import ms_ssim_five_scales
from tests.metrics.pictures import PAIRS

pytestmark = pytest.mark.parity


@pytest.fixture(scope='module')
def functional():
  pytest.importorskip('torch')
  return pytest.importorskip('torchmetrics.functional.image')


def tensors(name):
  import torch

  return [torch.from_numpy(x.transpose(2, 0, 1)[None].astype(np.float64)) for x in PAIRS[name]]


@pytest.mark.parametrize('name', PAIRS)
def test_torchmetrics(name, functional):
  image, target = (jnp.asarray(x) for x in PAIRS[name])
  pair = tensors(name)
  # Its mean of SSIM counts a mirrored border, scikit-image's and ours do not: its map, cropped.
  _, ssim_map = functional.structural_similarity_index_measure(
    *pair, data_range=1.0, return_full_image=True
  )
  multi_scale = functional.multiscale_structural_similarity_index_measure
  for label, got, expected in (
    ('psnr', psnr(image, target), functional.peak_signal_noise_ratio(*pair, data_range=1.0)),
    ('ssim', ssim_rgb(image, target), ssim_map[..., 5:-5, 5:-5].mean()),
    (
      'ms_ssim',
      ms_ssim_five_scales(image, target, 'reflect'),
      multi_scale(*pair, data_range=1.0),
    ),
  ):
    print(f'{name} {label}: {float(got):.6f}, torchmetrics {float(expected):.6f}')
    assert float(got) == pytest.approx(float(expected), abs=1e-4), label


@pytest.mark.parametrize('name', PAIRS)
def test_ssim_of_3d_gaussian_splatting(name):
  """Its code's `ssim`: a depthwise convolution with zero padding, averaged everywhere."""
  torch = pytest.importorskip('torch')
  a, b = tensors(name)
  line = torch.exp(-((torch.arange(11, dtype=torch.float64) - 5) ** 2) / (2 * 1.5**2))
  line /= line.sum()
  window = torch.outer(line, line).expand(3, 1, 11, 11)

  def blur(x):
    return torch.nn.functional.conv2d(x, window, padding=5, groups=3)

  mean_a, mean_b = blur(a), blur(b)
  var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
  covariance = blur(a * b) - mean_a * mean_b
  index = (2 * mean_a * mean_b + 1e-4) * (2 * covariance + 9e-4)
  index /= (mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4)
  got = float(ssim_padded(*(jnp.asarray(x) for x in PAIRS[name])))
  assert got == pytest.approx(float(index.mean()), abs=1e-4)
