"""Published weights of DINOv3 and DINOv2 (with registers) for `Vit`, from Hugging Face's files.

Nothing is downloaded: the user gives the path of a safetensors file.
"""

import os
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from sa0_jax.generator.vit import VIT_PRESETS, Vit, VitConfig
from sa0_jax.safetensors import TensorInfo, find_tensors, read_tensor

_PUBLISHED = {
  'dinov3_vits16': 'facebook/dinov3-vits16-pretrain-lvd1689m',
  'dinov3_vitb16': 'facebook/dinov3-vitb16-pretrain-lvd1689m',
  'dinov3_vitl16': 'facebook/dinov3-vitl16-pretrain-lvd1689m',
  'dinov2_vits14_reg': 'facebook/dinov2-with-registers-small',
  'dinov2_vitb14_reg': 'facebook/dinov2-with-registers-base',
  'dinov2_vitl14_reg': 'facebook/dinov2-with-registers-large',
}
_UNUSED = {'embeddings.mask_token'}  # of pre-training

# Our modules → theirs. A kernel is their transposed weight, a norm's scale their weight.
_DINOV3 = {
  'patch_embed': 'embeddings.patch_embeddings',
  'norm': 'norm',
  'attention.query': 'attention.q_proj',
  'attention.key': 'attention.k_proj',
  'attention.value': 'attention.v_proj',
  'attention.out': 'attention.o_proj',
  'mlp.up': 'mlp.up_proj',
  'mlp.down': 'mlp.down_proj',
}
_DINOV2 = {
  'patch_embed': 'embeddings.patch_embeddings.projection',
  'norm': 'layernorm',
  'attention.query': 'attention.attention.query',
  'attention.key': 'attention.attention.key',
  'attention.value': 'attention.attention.value',
  'attention.out': 'attention.output.dense',
  'mlp.up': 'mlp.fc1',
  'mlp.down': 'mlp.fc2',
}
_TOKENS = {
  'cls_token': 'embeddings.cls_token',
  'registers': 'embeddings.register_tokens',
  'cls_position': 'embeddings.position_embeddings',
  'patch_positions': 'embeddings.position_embeddings',
}
_LEAVES = {'kernel': 'weight', 'scale': 'weight', 'bias': 'bias'}


class _Source(NamedTuple):
  """Where a parameter comes from: a key, the shape it has in the file, and the way to ours."""

  key: str
  shape: tuple[int, ...]
  convert: Callable[[np.ndarray], np.ndarray]


def load_vit(
  path: str | os.PathLike[str], config: VitConfig, *, dtype: DTypeLike = jnp.float32
) -> Vit:
  """Makes a vision transformer with published weights.

  Args:
    path: the model.safetensors of a DINOv3 ViT or a DINOv2 ViT with registers, as Hugging Face
      hosts them; or the folder or index file of such a model.
    config: what the file must hold, usually one of `VIT_PRESETS`.
    dtype: in which the network computes; its parameters are float32 whatever the file has.

  Raises:
    FileNotFoundError: there is no such file; the message says which model to get.
    ValueError: the file is damaged, holds another model, or values that are not finite.
  """
  try:
    found = find_tensors(path)
  except FileNotFoundError as error:
    raise FileNotFoundError(f'{error}: {_advice(config)}') from error
  tensors = {_canonical(key): info for key, info in found.items()}
  if len(tensors) != len(found):
    raise ValueError(f'{path}: holds the same tensor under two names')
  _check_model(tensors, config, str(path))
  network = nnx.eval_shape(lambda: Vit(config, rngs=nnx.Rngs(0), dtype=dtype))
  definition, state = nnx.split(network)
  parameters = nnx.to_flat_state(state)
  sources = {where: _source(config, where, value.shape) for where, value in parameters}
  _check_keys(tensors, {s.key: s.shape for s in sources.values()}, str(path))
  filled = []
  for where, parameter in parameters:
    source = sources[where]
    value = np.asarray(read_tensor(tensors[source.key]), np.float32)
    if not np.isfinite(value).all():
      raise ValueError(f'{path}: {source.key!r} holds values that are not finite')
    # Copied: an array of JAX's may share NumPy's memory, here a file that can change.
    filled.append((where, parameter.replace(jnp.array(source.convert(value)))))
  return nnx.merge(definition, nnx.from_flat_state(filled))


def _canonical(key: str) -> str:
  """A key without what some programs write before it: blocks read `layer.0.` as published."""
  key = key.removeprefix('dinov2_with_registers.')
  return re.sub(r'^(model|encoder)\.layer\.', 'layer.', key)


def _source(config: VitConfig, where: tuple[Any, ...], shape: tuple[int, ...]) -> _Source:
  """The tensor that holds the parameter of `Vit` at a path."""
  block = ''
  if where[0] == 'blocks':
    block, where = f'layer.{where[1]}.', where[2:]
  name = str(where[0])
  if name in ('scale1', 'scale2'):
    return _Source(f'{block}layer_{name}.lambda1', shape, lambda x: x)
  if name in _TOKENS:
    return _token_source(config, name, shape)
  module = '.'.join(str(part) for part in where[:-1])
  theirs = (_DINOV3 if config.positions == 'rope' else _DINOV2).get(module, module)
  key = f'{block}{theirs}.{_LEAVES[str(where[-1])]}'
  if where[-1] != 'kernel':
    return _Source(key, shape, lambda x: x)
  if name == 'patch_embed':
    size = config.patch_size
    # Theirs is a convolution [out, channel, row, column]; ours takes pixels in image order.
    return _Source(key, (shape[1], 3, size, size), lambda x: x.transpose(2, 3, 1, 0).reshape(shape))
  return _Source(key, shape[::-1], lambda x: x.T)


def _token_source(config: VitConfig, name: str, shape: tuple[int, ...]) -> _Source:
  """Tokens have a batch axis there, and the positions of CLS and patches are one tensor."""
  key = _TOKENS[name]
  if name in ('cls_token', 'registers'):
    return _Source(key, (1, *shape), lambda x: x[0])
  whole = (1, 1 + config.position_grid**2, config.width)
  if name == 'cls_position':
    return _Source(key, whole, lambda x: x[0, :1])
  return _Source(key, whole, lambda x: x[0, 1:].reshape(shape))


def _advice(config: VitConfig) -> str:
  names = [_PUBLISHED[name] for name in _preset_names(_kind(config)) if name in _PUBLISHED]
  model = names[0] if names else f'a model that is a {_describe(_kind(config))}'
  return f'get model.safetensors of {model} from Hugging Face and give its path'


class _Kind(NamedTuple):
  """What tells the models of the family apart."""

  positions: str
  patch_size: int
  width: int
  depth: int


def _kind(config: VitConfig) -> _Kind:
  return _Kind(config.positions, config.patch_size, config.width, config.depth)


def _preset_names(kind: _Kind) -> list[str]:
  return [name for name, preset in VIT_PRESETS.items() if _kind(preset) == kind]


def _describe(kind: _Kind) -> str:
  family = 'DINOv3' if kind.positions == 'rope' else 'DINOv2'
  size = f'patch {kind.patch_size}, width {kind.width} and depth {kind.depth}'
  names = _preset_names(kind)
  return f'{family} ViT of {size}' + (f' ({names[0]})' if names else '')


def _check_model(tensors: dict[str, TensorInfo], config: VitConfig, path: str) -> None:
  """Says in the users' words that a file holds another model, before any talk of keys."""
  for positions, names in (('rope', _DINOV3), ('learned', _DINOV2)):
    patches = tensors.get(f'{names["patch_embed"]}.weight')
    if patches is not None and len(patches.shape) == 4:
      width, _, patch_size, _ = patches.shape
      blocks = {match[1] for key in tensors if (match := re.match(r'layer\.(\d+)\.', key))}
      held, asked = _Kind(positions, patch_size, width, len(blocks)), _kind(config)
      if held != asked:
        raise ValueError(f'{path}: holds a {_describe(held)}, you asked for a {_describe(asked)}')
      return
  raise ValueError(
    f'{path}: not a DINOv3 or DINOv2 ViT: no patch embeddings among its {len(tensors)} tensors'
  )


def _check_keys(
  tensors: dict[str, TensorInfo], expected: dict[str, tuple[int, ...]], path: str
) -> None:
  """Exactly the tensors that are needed, in the shapes that are needed."""
  for key, shape in expected.items():
    if key not in tensors:
      raise ValueError(f'{path}: {key!r} of shape {list(shape)} is missing')
    if tensors[key].shape != shape:
      raise ValueError(
        f'{path}: {key!r} has shape {list(tensors[key].shape)}, expected {list(shape)}'
      )
  unexpected = sorted(tensors.keys() - expected.keys() - _UNUSED)
  if unexpected:
    shape = tensors[unexpected[0]].shape
    raise ValueError(f'{path}: {unexpected[0]!r} of shape {list(shape)} is not part of the model')
