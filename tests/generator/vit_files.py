"""Writes weight files as Hugging Face's programs do, and files that lie."""

import json

import numpy as np

from tests.generator.vit_reference import parameters

NAMES = {'float32': 'F32', 'float16': 'F16', 'bfloat16': 'BF16', 'int64': 'I64'}


def header_and_data(arrays):
  """What a file says of arrays, and their bytes."""
  header, data = {'__metadata__': {'format': 'pt'}}, b''
  for name, array in arrays.items():
    raw = np.ascontiguousarray(array).tobytes()
    header[name] = {
      'dtype': NAMES[str(array.dtype)],
      'shape': list(array.shape),
      'data_offsets': [len(data), len(data) + len(raw)],
    }
    data += raw
  return header, data


def write_raw(path, header, data):
  text = header if isinstance(header, bytes) else json.dumps(header).encode()
  path.write_bytes(len(text).to_bytes(8, 'little') + text + data)
  return path


def write_safetensors(path, arrays):
  return write_raw(path, *header_and_data(arrays))


def published(network):
  """A network's parameters under the keys, and in the shapes, of published files."""
  ours, config = parameters(network), network.config
  v3 = config.positions == 'rope'
  size, width = config.patch_size, config.width
  patches = 'embeddings.patch_embeddings' + ('' if v3 else '.projection')
  kernel = ours['patch_embed.kernel'].reshape(size, size, 3, width)
  theirs = {
    'embeddings.cls_token': ours['cls_token'][None],
    'embeddings.mask_token': np.ones((1, 1, width) if v3 else (1, width), np.float32),
    'embeddings.register_tokens': ours['registers'][None],
    f'{patches}.weight': np.einsum('yxcd->dcyx', kernel),
    f'{patches}.bias': ours['patch_embed.bias'],
  }
  if not v3:
    grid = ours['patch_positions'].reshape(-1, width)
    theirs['embeddings.position_embeddings'] = np.concatenate([ours['cls_position'], grid])[None]
  q, k, v, o = (
    ('attention.q_proj', 'attention.k_proj', 'attention.v_proj', 'attention.o_proj')
    if v3
    else (
      'attention.attention.query',
      'attention.attention.key',
      'attention.attention.value',
      'attention.output.dense',
    )
  )
  up, down = ('mlp.up_proj', 'mlp.down_proj') if v3 else ('mlp.fc1', 'mlp.fc2')
  for index in range(config.depth):
    mine, layer = f'blocks.{index}', f'layer.{index}' if v3 else f'encoder.layer.{index}'
    for name, key in (
      ('attention.query', q),
      ('attention.key', k),
      ('attention.value', v),
      ('attention.out', o),
      ('mlp.up', up),
      ('mlp.down', down),
    ):
      theirs[f'{layer}.{key}.weight'] = ours[f'{mine}.{name}.kernel'].T
      if f'{mine}.{name}.bias' in ours:
        theirs[f'{layer}.{key}.bias'] = ours[f'{mine}.{name}.bias']
    for number in (1, 2):
      theirs[f'{layer}.norm{number}.weight'] = ours[f'{mine}.norm{number}.scale']
      theirs[f'{layer}.norm{number}.bias'] = ours[f'{mine}.norm{number}.bias']
      theirs[f'{layer}.layer_scale{number}.lambda1'] = ours[f'{mine}.scale{number}']
  final = 'norm' if v3 else 'layernorm'
  theirs[f'{final}.weight'], theirs[f'{final}.bias'] = ours['norm.scale'], ours['norm.bias']
  return theirs
