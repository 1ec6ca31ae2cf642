"""Networks and weight files against transformers' DINOv3 and DINOv2 with registers."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from sa0_jax.generator.vit import VIT_PRESETS, looping
from sa0_jax.generator.vit_weights import load_vit
from tests.generator.vit_reference import images

pytestmark = pytest.mark.parity
TOLERANCE = 1e-4  # of features whose standard deviation is about one


def shallow(preset, depth):
  return replace(VIT_PRESETS[preset], depth=depth, taps=tuple(range(depth)))


def randomise(model, seed=0):
  """Fills every parameter with noise of its own, so that none can hide at 0 or 1."""
  import torch

  generator = torch.Generator().manual_seed(seed)
  for name, parameter in model.named_parameters():
    noise = torch.randn(parameter.shape, generator=generator)
    is_gain = 'lambda1' in name or ('norm' in name and name.endswith('weight'))
    if is_gain:
      noise = 1 + 0.3 * noise
    elif name.endswith('weight'):
      noise = noise / parameter[0].numel() ** 0.5
    else:
      noise = 0.3 * noise
    parameter.data.copy_(noise)
  return model.eval()


def transformers_model(config):
  transformers = pytest.importorskip('transformers')
  shared = {
    'hidden_size': config.width,
    'num_hidden_layers': config.depth,
    'num_attention_heads': config.num_heads,
    'num_register_tokens': config.num_registers,
    'patch_size': config.patch_size,
  }
  if config.positions == 'rope':
    theirs = transformers.DINOv3ViTConfig(**shared, intermediate_size=4 * config.width)
    return randomise(transformers.DINOv3ViTModel(theirs))
  theirs = transformers.Dinov2WithRegistersConfig(**shared, image_size=518)
  return randomise(transformers.Dinov2WithRegistersModel(theirs))


def torch_features(model, config, batch):
  """(cls, maps) of transformers' model, which wants normalised images [b, 3, h, w]."""
  import torch

  normalised = (np.asarray(batch) - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
  pixels = torch.tensor(normalised.transpose(0, 3, 1, 2), dtype=torch.float32)
  rows, columns = (side // config.patch_size for side in batch.shape[1:3])
  norm = model.norm if config.positions == 'rope' else model.layernorm
  with torch.no_grad():
    output = model(pixels, output_hidden_states=True)
    assert len(output.hidden_states) == config.depth + 1
    maps = [
      norm(output.hidden_states[tap + 1])[:, 1 + config.num_registers :].numpy()
      for tap in config.taps
    ]
  maps = [m.reshape(len(batch), rows, columns, config.width) for m in maps]
  return output.pooler_output.numpy(), maps


def assert_same_features(network, model, sizes):
  for height, width in sizes:
    batch = images(2, height, width)
    cls, maps = torch_features(model, network.config, batch)
    assert all(0.3 < np.std(part) < 3 for part in (cls, *maps))
    for loop in (False, True):  # as TPUs have deep ones
      with looping(loop):
        ours = jax.jit(lambda network, batch: network(batch))(network, batch)
      worst = max(
        np.abs(np.asarray(a) - b).max()
        for a, b in zip((ours.cls, *ours.maps), (cls, *maps), strict=True)
      )
      print(f'width {network.config.width}, {height}x{width}, loop {loop}: {worst:.1e}')
      assert worst <= TOLERANCE


@pytest.mark.parametrize(
  ('preset', 'depth', 'sizes'),
  [
    ('dinov3_vits16', 12, [(64, 64), (48, 96)]),
    ('dinov3_vitb16', 2, [(64, 64), (96, 32)]),
    ('dinov3_vitl16', 2, [(64, 64), (48, 96)]),
    ('dinov2_vits14_reg', 12, [(56, 56), (42, 98)]),
    ('dinov2_vitb14_reg', 2, [(56, 56), (532, 28)]),  # the grid grows along one side
    ('dinov2_vitl14_reg', 2, [(56, 56), (42, 98)]),
  ],
)
def test_features_are_those_of_transformers(tmp_path, preset, depth, sizes):
  config = shallow(preset, depth)
  model = transformers_model(config)
  model.save_pretrained(tmp_path)  # under the keys of the published files
  assert_same_features(load_vit(tmp_path / 'model.safetensors', config), model, sizes)


def test_the_learned_grid_at_its_own_size(tmp_path):
  config = shallow('dinov2_vits14_reg', 1)
  model = transformers_model(config)
  model.save_pretrained(tmp_path)
  assert_same_features(load_vit(tmp_path, config), model, [(518, 518)])


@pytest.mark.parametrize('preset', ['dinov3_vits16', 'dinov2_vits14_reg'])
def test_models_in_several_files_are_read(tmp_path, preset):
  config = shallow(preset, 2)
  model = transformers_model(config)
  model.save_pretrained(tmp_path, max_shard_size='5MB')
  assert len(list(tmp_path.glob('*.safetensors'))) > 1
  side = 2 * config.patch_size
  assert_same_features(load_vit(tmp_path, config), model, [(side, side)])


def test_the_names_of_transformers_in_memory_are_read(tmp_path):
  safetensors = pytest.importorskip('safetensors.torch')
  config = shallow('dinov3_vits16', 1)
  model = transformers_model(config)
  assert 'model.layer.0.norm1.weight' in model.state_dict()
  safetensors.save_file(model.state_dict(), tmp_path / 'x.safetensors')
  assert_same_features(load_vit(tmp_path / 'x.safetensors', config), model, [(32, 32)])
