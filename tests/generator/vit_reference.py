"""A vision transformer in plain NumPy and float64, and small networks with nothing left at zero."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
from flax import nnx

from sa0_jax.generator.vit import Vit, VitConfig

SMALL = VitConfig(
  patch_size=4, width=24, depth=2, num_heads=2, taps=(0, 1), num_registers=3, rope_theta=10.0
)
SMALL_LEARNED = dataclasses.replace(
  SMALL, positions='learned', position_grid=5, key_bias=True, norm_eps=1e-6
)


def abstract(config, dtype=jnp.float32):
  """A network without memory."""
  return nnx.eval_shape(lambda: Vit(config, rngs=nnx.Rngs(0), dtype=dtype))


def randomised(config, seed=0, dtype=jnp.float32):
  """A network whose every parameter is noise, of sizes that let each of them matter."""
  rng = np.random.default_rng(seed)
  definition, state = nnx.split(abstract(config, dtype))
  filled = []
  for where, parameter in nnx.to_flat_state(state):
    noise = rng.normal(size=parameter.shape)
    noise *= 1 / math.sqrt(parameter.shape[0]) if where[-1] == 'kernel' else 0.3
    noise += 'scale' in str(where[-1])
    filled.append((where, parameter.replace(jnp.asarray(noise, jnp.float32))))
  return nnx.merge(definition, nnx.from_flat_state(filled))


def parameters(network):
  """Arrays by dotted path: 'blocks.0.attention.query.kernel'."""
  flat = nnx.to_flat_state(nnx.state(network))
  return {'.'.join(map(str, where)): np.asarray(value[...]) for where, value in flat}


def images(*shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).uniform(size=(*shape, 3)), jnp.float32)


def encode_by_hand(network, image):
  """(cls, maps) of one image, token by token, head by head."""
  config: VitConfig = network.config
  weights = {name: value.astype(np.float64) for name, value in parameters(network).items()}
  size = config.patch_size
  rows, columns = image.shape[0] // size, image.shape[1] // size

  def linear(name, x):
    bias = weights.get(f'{name}.bias', 0.0)
    return x @ weights[f'{name}.kernel'] + bias

  def norm(name, x):
    centred = x - x.mean(-1, keepdims=True)
    spread = np.sqrt((centred**2).mean(-1, keepdims=True) + config.norm_eps)
    return centred / spread * weights[f'{name}.scale'] + weights[f'{name}.bias']

  normalised = (np.asarray(image, np.float64) - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
  cls, places = weights['cls_token'][0], np.zeros((rows, columns, config.width))
  if config.positions == 'learned':
    cls = cls + weights['cls_position'][0]
    places = resize_by_hand(weights['patch_positions'], rows, columns)
  tokens = [cls, *weights['registers']]
  for row in range(rows):
    for column in range(columns):
      patch = normalised[row * size : (row + 1) * size, column * size : (column + 1) * size]
      tokens.append(linear('patch_embed', patch.ravel()) + places[row, column])
  tokens, first = np.stack(tokens), 1 + config.num_registers

  maps = []
  for index in range(config.depth):
    block = f'blocks.{index}'
    x = norm(f'{block}.norm1', tokens)
    query, key, value = (linear(f'{block}.attention.{n}', x) for n in ('query', 'key', 'value'))
    mixed = []
    for head in np.split(np.arange(config.width), config.num_heads):
      q, k = query[:, head], key[:, head]
      if config.positions == 'rope':
        q, k = (turn_by_hand(config, a, first, rows, columns) for a in (q, k))
      scores = np.exp(q @ k.T / math.sqrt(len(head)))
      mixed.append(scores / scores.sum(-1, keepdims=True) @ value[:, head])
    mixed = linear(f'{block}.attention.out', np.concatenate(mixed, -1))
    tokens = tokens + weights[f'{block}.scale1'] * mixed
    hidden = linear(f'{block}.mlp.up', norm(f'{block}.norm2', tokens))
    hidden = hidden * 0.5 * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2)))
    tokens = tokens + weights[f'{block}.scale2'] * linear(f'{block}.mlp.down', hidden)
    if index in config.taps:
      maps.append(norm('norm', tokens[first:]).reshape(rows, columns, -1))
  return norm('norm', tokens[0]), maps


def turn_by_hand(config, x, first, rows, columns):
  """Pairs of channels as complex numbers, turned patch by patch."""
  half = x.shape[1] // 2
  turned = x.copy()
  for patch in range(rows * columns):
    row, column = divmod(patch, columns)
    place = (-1 + (2 * row + 1) / rows, -1 + (2 * column + 1) / columns)
    for pair in range(half):
      axis, step = divmod(pair, half // 2)
      angle = 2 * math.pi * place[axis] / config.rope_theta ** (4 * step / x.shape[1])
      number = complex(x[first + patch, pair], x[first + patch, pair + half])
      number *= complex(math.cos(angle), math.sin(angle))
      turned[first + patch, pair], turned[first + patch, pair + half] = number.real, number.imag
  return turned


def resize_by_hand(grid, rows, columns):
  """Bicubic with a = -1/2; the kernel is widened when the grid shrinks (antialiasing)."""

  def cubic(x):
    x = abs(x)
    if x < 1:
      return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0

  def weights(source, target):
    scale = source / target
    table = np.array(
      [
        [cubic((i + 0.5 - (j + 0.5) * scale) / max(scale, 1)) for i in range(source)]
        for j in range(target)
      ]
    )
    return table / table.sum(-1, keepdims=True)

  return np.einsum(
    'ri,cj,ijd->rcd', weights(grid.shape[0], rows), weights(grid.shape[1], columns), grid
  )
