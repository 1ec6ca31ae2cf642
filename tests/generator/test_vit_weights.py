"""Weight files become networks, parameter by parameter, or are refused with a reason."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sa0_jax.generator.vit import VIT_PRESETS
from sa0_jax.generator.vit_weights import load_vit
from tests.generator.vit_files import published, write_safetensors
from tests.generator.vit_reference import (
  SMALL,
  SMALL_LEARNED,
  encode_by_hand,
  images,
  parameters,
  randomised,
)

NETWORK = randomised(SMALL)
V3, V2 = published(NETWORK), published(randomised(SMALL_LEARNED))


def prefixed(tensors, old, new):
  return {
    new + key.removeprefix(old) if key.startswith(old) else key: v for key, v in tensors.items()
  }


@pytest.mark.parametrize(
  ('config', 'tensors'),
  [
    (SMALL, V3),
    (SMALL, prefixed(V3, 'layer.', 'model.layer.')),
    (SMALL_LEARNED, V2),
    (SMALL_LEARNED, prefixed(V2, '', 'dinov2_with_registers.')),
  ],
  ids=['dinov3', 'dinov3-transformers5', 'dinov2', 'dinov2-prefixed'],
)
def test_every_parameter_arrives(tmp_path, config, tensors):
  loaded = load_vit(write_safetensors(tmp_path / 'x.safetensors', tensors), config)
  expected, found = parameters(randomised(config)), parameters(loaded)
  assert found.keys() == expected.keys()
  for name, value in expected.items():
    assert found[name].dtype == np.float32
    np.testing.assert_array_equal(found[name], value, err_msg=name)
  assert loaded.config == config


def test_a_loaded_network_encodes(tmp_path):
  loaded = load_vit(write_safetensors(tmp_path / 'x.safetensors', V3), SMALL)
  image = images(1, 8, 12)
  features = jax.jit(lambda network, image: network(image))(loaded, image)
  cls, maps = encode_by_hand(NETWORK, image[0])
  np.testing.assert_allclose(features.cls[0], cls, atol=3e-5)
  np.testing.assert_allclose(features.maps[1][0], maps[1], atol=3e-5)


@pytest.mark.parametrize('dtype', ['float16', 'bfloat16'])
def test_half_precision_files_become_float32(tmp_path, dtype):
  tensors = {key: np.asarray(value.astype(jnp.dtype(dtype))) for key, value in V3.items()}
  loaded = load_vit(write_safetensors(tmp_path / 'x.safetensors', tensors), SMALL, dtype='bfloat16')
  assert loaded.dtype == 'bfloat16'
  for name, value in parameters(loaded).items():
    assert value.dtype == np.float32
    rounded = parameters(NETWORK)[name].astype(jnp.dtype(dtype)).astype(np.float32)
    np.testing.assert_array_equal(value, rounded, err_msg=name)


def test_parameters_do_not_follow_a_file_that_changes(tmp_path):
  path = write_safetensors(tmp_path / 'x.safetensors', V3)
  loaded = load_vit(path, SMALL)
  with path.open('r+b') as file:
    file.seek(-1000, 2)
    file.write(bytes(1000))
  np.testing.assert_array_equal(parameters(loaded)['norm.bias'], V3['norm.bias'])


def test_a_model_in_several_files_is_one(tmp_path):
  places = {}
  for number in range(3):
    part = dict(list(V3.items())[number::3])
    write_safetensors(tmp_path / f'model-{number}.safetensors', part)
    places |= dict.fromkeys(part, f'model-{number}.safetensors')
  (tmp_path / 'model.safetensors.index.json').write_text(json.dumps({'weight_map': places}))
  found = parameters(load_vit(tmp_path, SMALL))
  for name, value in parameters(NETWORK).items():
    np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_the_mask_token_may_be_absent(tmp_path):
  tensors = {key: value for key, value in V3.items() if key != 'embeddings.mask_token'}
  load_vit(write_safetensors(tmp_path / 'x.safetensors', tensors), SMALL)


def spoilt(change):
  tensors = dict(V3)
  change(tensors)
  return tensors


NAN = np.array([np.nan] * 24, np.float32)


@pytest.mark.parametrize(
  ('tensors', 'message'),
  [
    (
      spoilt(lambda t: t.pop('layer.1.mlp.up_proj.weight')),
      r"'layer\.1\.mlp\.up_proj\.weight' of shape \[96, 24\] is missing",
    ),
    (
      spoilt(lambda t: t.update({'layer.0.norm1.bias': t['norm.bias'][:23]})),
      r"'layer\.0\.norm1\.bias' has shape \[23\], expected \[24\]",
    ),
    (
      spoilt(lambda t: t.update({'layer.1.attention.k_proj.bias': t['norm.bias']})),
      r"'layer\.1\.attention\.k_proj\.bias' of shape \[24\] is not part of the model",
    ),
    (
      spoilt(lambda t: t.update({'model.layer.1.norm1.bias': t['norm.bias']})),
      'the same tensor under two names',
    ),
    (spoilt(lambda t: t.update({'norm.bias': NAN})), "'norm.bias' holds values that are not fin"),
    ({'a': NAN}, 'not a DINOv3 or DINOv2 ViT: no patch embeddings among its 1 tensors'),
    (
      spoilt(lambda t: [t.pop(key) for key in list(t) if key.startswith('layer.1.')]),
      'holds a DINOv3 ViT of patch 4, width 24 and depth 1, you asked for a .* depth 2',
    ),
    (V2, 'holds a DINOv2 ViT of .*, you asked for a DINOv3 ViT'),
  ],
)
def test_wrong_tensors_are_named(tmp_path, tensors, message):
  path = write_safetensors(tmp_path / 'x.safetensors', tensors)
  with pytest.raises(ValueError, match=message) as caught:
    load_vit(path, SMALL)
  assert str(caught.value).startswith(f'{path}: ')
  assert '\n' not in str(caught.value)


def test_another_size_of_the_family_is_called_by_its_name(tmp_path):
  base = VIT_PRESETS['dinov3_vitb16']
  tensors = {
    'embeddings.patch_embeddings.weight': np.zeros((base.width, 3, 16, 16), np.float32),
    **{f'layer.{i}.norm1.bias': np.zeros(base.width, np.float32) for i in range(base.depth)},
  }
  path = write_safetensors(tmp_path / 'x.safetensors', tensors)
  with pytest.raises(
    ValueError, match=r'holds a .*\(dinov3_vitb16\), you asked for a .*\(dinov3_vits16\)'
  ):
    load_vit(path, VIT_PRESETS['dinov3_vits16'])


@pytest.mark.parametrize(
  ('preset', 'model'),
  [
    ('dinov3_vitb16', 'facebook/dinov3-vitb16-pretrain-lvd1689m'),
    ('dinov2_vits14_reg', 'facebook/dinov2-with-registers-small'),
    ('tiny', 'a DINOv3 ViT of patch 16, width 96 and depth 4'),
  ],
)
def test_a_missing_file_says_what_to_get(tmp_path, preset, model):
  for path in (tmp_path, tmp_path / 'x.safetensors'):
    with pytest.raises(FileNotFoundError, match=model):
      load_vit(path, VIT_PRESETS[preset])
