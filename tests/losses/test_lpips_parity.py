"""LPIPS against the published code (package `lpips`), with its own weights of the distance."""

import sys
import types
from pathlib import Path

import jax
import numpy as np
import pytest

from sa0_jax.losses.lpips import load_lpips, lpips

pytestmark = pytest.mark.parity

VGG = (64, 64, 'M', 128, 128, 'M', 256, 256, 256, 'M', 512, 512, 512, 'M', 512, 512, 512, 'M')


def alexnet(nn):
  """torchvision's `features`, which is not a dependency."""
  layers = [nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2)]
  layers += [nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2)]
  layers += [nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(inplace=True)]
  layers += [nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(inplace=True)]
  layers += [nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2)]
  return nn.Sequential(*layers)


def vgg16(nn):
  layers, width = [], 3
  for entry in VGG:
    if entry == 'M':
      layers.append(nn.MaxPool2d(2, 2))
    else:
      layers += [nn.Conv2d(width, entry, 3, padding=1), nn.ReLU(inplace=True)]
      width = entry
  return nn.Sequential(*layers)


@pytest.fixture
def published(monkeypatch):
  """The package, over a stand-in for torchvision's untrained networks."""
  torch = pytest.importorskip('torch')
  models = types.ModuleType('torchvision.models')

  def network(features):
    def build(pretrained=False):
      assert not pretrained
      module = torch.nn.Module()
      module.features = features(torch.nn)
      module.classifier = torch.nn.Linear(7, 5)
      return module

    return build

  models.alexnet, models.vgg16 = network(alexnet), network(vgg16)
  torchvision = types.ModuleType('torchvision')
  torchvision.models = models
  monkeypatch.setitem(sys.modules, 'torchvision', torchvision)
  monkeypatch.setitem(sys.modules, 'torchvision.models', models)
  for name in [name for name in sys.modules if name.split('.')[0] == 'lpips']:
    monkeypatch.delitem(sys.modules, name)
  return torch, pytest.importorskip('lpips')


def published_state(torch, network, features):
  """A random backbone as torchvision publishes it: features.N.*, and a classifier nobody needs."""
  torch.manual_seed(0)
  model = features(torch.nn)
  for module in model:
    if isinstance(module, torch.nn.Conv2d):
      torch.nn.init.kaiming_normal_(module.weight, nonlinearity='relu')
      torch.nn.init.normal_(module.bias, std=0.1)
  state = {f'features.{name}': value for name, value in model.state_dict().items()}
  return model, state | {'classifier.6.weight': torch.zeros(10, 4)}


@pytest.mark.parametrize(
  ('network', 'features', 'size', 'form'),
  [('alex', alexnet, (67, 82), 'zip'), ('vgg', vgg16, (37, 50), 'legacy')],
)
def test_value_and_gradient(published, tmp_path, network, features, size, form):
  torch, package = published
  backbone, state = published_state(torch, network, features)
  path = tmp_path / 'backbone.pth'
  torch.save(state, path, _use_new_zipfile_serialization=form == 'zip')
  linear = Path(package.__file__).parent / 'weights' / 'v0.1' / f'{network}.pth'
  weights = load_lpips(path, linear, network)

  model = package.LPIPS(net=network, pnet_rand=True, verbose=False)
  slices = [getattr(model.net, f'slice{k}') for k in range(1, 6)]
  for part in slices:
    for name, module in part.named_children():
      module.load_state_dict(backbone[int(name)].state_dict())
  rng = np.random.default_rng(0)
  image = rng.random((2, *size, 3), np.float32)
  target = np.clip(image + 0.2 * rng.standard_normal(image.shape, np.float32), 0, 1)
  # In double precision: what is left is our own rounding, not the sum of two.
  model = model.double()
  tensor, other = (
    torch.from_numpy(x.transpose(0, 3, 1, 2).astype(np.float64)) for x in (image, target)
  )
  tensor.requires_grad_()
  expected = model(tensor, other, normalize=True).reshape(-1)
  expected.sum().backward()
  slope = tensor.grad.numpy().transpose(0, 2, 3, 1)

  def summed(image, target, weights):
    values = lpips(weights, image, target)
    return values.sum(), values

  gradient_of = jax.jit(jax.value_and_grad(summed, has_aux=True))
  (_, got), gradient = gradient_of(image, target, weights)
  value_error = np.abs(got - expected.detach().numpy()).max()
  gradient_error = np.abs(gradient - slope).max() / np.abs(slope).max()
  print(f'{network}: value {value_error:.1e} of {float(got[0]):.4f}, gradient {gradient_error:.1e}')
  assert value_error <= 1e-5 * np.abs(got).max()
  assert gradient_error <= 1e-5
