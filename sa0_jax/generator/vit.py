"""Vision transformers of the DINO family.

DINOv2 (Oquab et al. 2024) with registers (Darcet et al. 2024) and DINOv3 (Siméoni et al. 2025).
The image encoder of Stage 1: a global CLS token, and patch maps from several depths for a dense
prediction head.
"""

import contextlib
import contextvars
import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from sa0_jax.generator.initializers import normal, truncated_normal
from sa0_jax.precision import precision_of

# Of ImageNet's training images, RGB in [0, 1]: what the published weights expect.
_IMAGE_MEAN = (0.485, 0.456, 0.406)
_IMAGE_STD = (0.229, 0.224, 0.225)
_INIT_STD = 0.02  # of weights and tokens trained from scratch
# From this depth on TPUs get one block in a loop: compiled once, not once each. A shallow network
# compiles soon anyway. For a CPU a loop's copies of the weights cost more than it saves; for a GPU
# it saves an eighth of compiling a step and takes an eighth more memory, for what the backward pass
# needs is kept for all blocks alike.
_LOOP_DEPTH = 8
_looping: contextvars.ContextVar[bool | None] = contextvars.ContextVar('looping', default=None)


@dataclasses.dataclass(frozen=True)
class VitConfig:
  """The shape of a vision transformer.

  Attributes:
    patch_size: side of a patch, in pixels.
    width: channels of a token.
    depth: number of blocks.
    num_heads: attention heads per block.
    taps: indices of the blocks whose patch maps are handed on, ascending.
    mlp_ratio: hidden channels of the MLP per channel of a token.
    num_registers: tokens beside CLS that belong to no patch.
    positions: 'rope' rotates queries and keys by patch coordinates (DINOv3); 'learned' adds a
      learned grid, resized to the image's (DINOv2).
    key_bias: whether the key projection has a bias.
    layer_scale: initial value of the gain of each residual branch.
    norm_eps: added to variances in layer norms.
    rope_theta: base of the frequencies of 'rope'.
    position_grid: side of the learned grid of 'learned', in patches.
    remat: recompute each block in the backward pass instead of keeping its activations.
  """

  patch_size: int
  width: int
  depth: int
  num_heads: int
  taps: tuple[int, ...]
  mlp_ratio: int = 4
  num_registers: int = 4
  positions: Literal['rope', 'learned'] = 'rope'
  key_bias: bool = False
  layer_scale: float = 1.0
  norm_eps: float = 1e-5
  rope_theta: float = 100.0
  position_grid: int = 37
  remat: bool = False

  def __post_init__(self) -> None:
    counts = ('patch_size', 'width', 'depth', 'num_heads', 'mlp_ratio', 'num_registers')
    for name in (*counts, 'position_grid', 'norm_eps', 'rope_theta'):
      if getattr(self, name) <= 0:
        raise ValueError(f'VitConfig: {name} must be positive, got {getattr(self, name)}')
    if self.positions not in ('rope', 'learned'):
      raise ValueError(f"VitConfig: positions are 'rope' or 'learned', got {self.positions!r}")
    # RoPE in 2D turns pairs of channels, half of them by each coordinate.
    unit = self.num_heads * (4 if self.positions == 'rope' else 1)
    if self.width % unit:
      raise ValueError(
        f'VitConfig: width must be a multiple of {unit} for {self.num_heads} heads with '
        f'{self.positions!r} positions, got {self.width}'
      )
    ascending = tuple(sorted(set(self.taps)))
    if (
      not self.taps or self.taps != ascending or not 0 <= self.taps[0] <= self.taps[-1] < self.depth
    ):
      raise ValueError(
        f'VitConfig: taps must be ascending block indices under {self.depth}, got {self.taps}'
      )

  @property
  def head_dim(self) -> int:
    """Channels of one attention head."""
    return self.width // self.num_heads

  @property
  def looped(self) -> bool:
    """Whether programs traced now hold one block in a loop instead of all of them."""
    if self.depth < _LOOP_DEPTH:
      return False
    chosen = _looping.get()
    return jax.default_backend() == 'tpu' if chosen is None else chosen


@contextlib.contextmanager
def looping(chosen: bool) -> Iterator[None]:
  """While it lasts, deep networks are traced as a loop, or written out, whatever runs here.

  For programs of other machines, and for those who cannot count a loop's work.
  """
  token = _looping.set(chosen)
  try:
    yield
  finally:
    _looping.reset(token)


def _dinov3(width: int, depth: int, num_heads: int, taps: tuple[int, ...]) -> VitConfig:
  return VitConfig(16, width, depth, num_heads, taps)


def _dinov2(width: int, depth: int, num_heads: int, taps: tuple[int, ...]) -> VitConfig:
  return VitConfig(
    14, width, depth, num_heads, taps, positions='learned', key_bias=True, norm_eps=1e-6
  )


# Taps are those of the depth and segmentation heads published with these models.
VIT_PRESETS: Mapping[str, VitConfig] = {
  'dinov3_vits16': _dinov3(384, 12, 6, (2, 5, 8, 11)),
  'dinov3_vitb16': _dinov3(768, 12, 12, (2, 5, 8, 11)),
  'dinov3_vitl16': _dinov3(1024, 24, 16, (4, 11, 17, 23)),
  'dinov2_vits14_reg': _dinov2(384, 12, 6, (2, 5, 8, 11)),
  'dinov2_vitb14_reg': _dinov2(768, 12, 12, (2, 5, 8, 11)),
  'dinov2_vitl14_reg': _dinov2(1024, 24, 16, (4, 11, 17, 23)),
  'tiny': VitConfig(16, 96, 4, 3, (0, 1, 2, 3)),
}


class VitFeatures(NamedTuple):
  """What a vision transformer says about images, in its compute dtype.

  Attributes:
    cls: [b, d] the CLS token after the last block, normalised.
    maps: per tap, [b, h / p, w / p, d] the patch tokens after that block, through the final norm.
  """

  cls: Float[Array, 'b d']
  maps: tuple[Float[Array, 'b rows columns d'], ...]


class Rotation(NamedTuple):
  """Angles that turn the channel pairs (i, i + c/2) of queries and keys, token by token."""

  cos: Float[Array, 't half']
  sin: Float[Array, 't half']


def patch_rotation(config: VitConfig, rows: int, columns: int) -> Rotation:
  """The rotary position embedding of DINOv3 for CLS, registers and a grid of patches.

  Patch centres run over [-1, 1] along each side, whatever the image's size. The first half of the
  pairs turns with the row, the other half with the column, by 2π θ^(-4 i / head_dim) radians per
  unit. CLS and registers have no place and are not turned.

  Args:
    config: gives θ, channels per head and the number of registers.
    rows, columns: patches along each side of the image.

  Returns:
    float32 [1 + registers + rows * columns, head_dim / 2] tables.
  """
  frequencies = config.rope_theta ** -np.arange(0, 1, 4 / config.head_dim)
  row, column = np.meshgrid(
    *(2 * (np.arange(n) + 0.5) / n - 1 for n in (rows, columns)), indexing='ij'
  )
  places = np.stack([row.ravel(), column.ravel()], axis=-1)
  angles = (2 * np.pi * places[:, :, None] * frequencies).reshape(len(places), -1)
  angles = np.pad(angles, ((1 + config.num_registers, 0), (0, 0)))
  return Rotation(
    jnp.asarray(np.cos(angles), jnp.float32), jnp.asarray(np.sin(angles), jnp.float32)
  )


def rotate(x: Float[Array, 'b t heads c'], rotation: Rotation) -> Float[Array, 'b t heads c']:
  """Turns channel pairs by their tokens' angles, in float32; the dtype stays."""
  cos, sin = rotation.cos[:, None], rotation.sin[:, None]
  first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
  return turned.astype(x.dtype)


def _linear(
  inputs: int, outputs: int, *, rngs: nnx.Rngs, dtype: DTypeLike, use_bias: bool = True
) -> nnx.Linear:
  return nnx.Linear(
    inputs,
    outputs,
    use_bias=use_bias,
    dtype=dtype,
    precision=precision_of(dtype),
    kernel_init=truncated_normal(_INIT_STD),
    rngs=rngs,
  )


def _norm(config: VitConfig, rngs: nnx.Rngs) -> nnx.LayerNorm:
  # The fast variance, E[x²] - E[x]², loses the digits that large channels of late blocks need.
  return nnx.LayerNorm(
    config.width, epsilon=config.norm_eps, dtype=jnp.float32, use_fast_variance=False, rngs=rngs
  )


class Attention(nnx.Module):
  """Self-attention over all tokens, optionally with rotary positions; softmax in float32."""

  def __init__(self, config: VitConfig, *, rngs: nnx.Rngs, dtype: DTypeLike = jnp.float32):
    width = config.width
    self.query = _linear(width, width, rngs=rngs, dtype=dtype)
    self.key = _linear(width, width, rngs=rngs, dtype=dtype, use_bias=config.key_bias)
    self.value = _linear(width, width, rngs=rngs, dtype=dtype)
    self.out = _linear(width, width, rngs=rngs, dtype=dtype)
    self.num_heads = config.num_heads
    self.dtype = dtype

  def __call__(
    self, tokens: Float[Array, 'b t d'], rotation: Rotation | None
  ) -> Float[Array, 'b t d']:
    """Mixes tokens; `rotation` None means positions are in the tokens already."""
    batch, count, width = tokens.shape
    query, key, value = (
      layer(tokens).reshape(batch, count, self.num_heads, width // self.num_heads)
      for layer in (self.query, self.key, self.value)
    )
    if rotation is not None:
      query, key = rotate(query, rotation), rotate(key, rotation)
    # jax.nn takes no precision, and its default would go through TF32 on some GPUs.
    with jax.default_matmul_precision('highest' if precision_of(self.dtype) else 'default'):
      mixed = jax.nn.dot_product_attention(query, key, value)
    return self.out(mixed.reshape(batch, count, width))


class Mlp(nnx.Module):
  """Two layers with the exact GELU between them, token by token."""

  def __init__(self, config: VitConfig, *, rngs: nnx.Rngs, dtype: DTypeLike = jnp.float32):
    hidden = config.width * config.mlp_ratio
    self.up = _linear(config.width, hidden, rngs=rngs, dtype=dtype)
    self.down = _linear(hidden, config.width, rngs=rngs, dtype=dtype)

  def __call__(self, tokens: Float[Array, 'b t d']) -> Float[Array, 'b t d']:
    """Transforms each token."""
    return self.down(jax.nn.gelu(self.up(tokens), approximate=False))


class Block(nnx.Module):
  """Pre-norm transformer block with a learned gain (LayerScale) on both residual branches."""

  def __init__(self, config: VitConfig, *, rngs: nnx.Rngs, dtype: DTypeLike = jnp.float32):
    self.norm1 = _norm(config, rngs)
    self.attention = Attention(config, rngs=rngs, dtype=dtype)
    self.scale1 = nnx.Param(jnp.full(config.width, config.layer_scale, jnp.float32))
    self.norm2 = _norm(config, rngs)
    self.mlp = Mlp(config, rngs=rngs, dtype=dtype)
    self.scale2 = nnx.Param(jnp.full(config.width, config.layer_scale, jnp.float32))

  def __call__(
    self, tokens: Float[Array, 'b t d'], rotation: Rotation | None
  ) -> Float[Array, 'b t d']:
    """Updates float32 tokens."""
    tokens = tokens + self.scale1[...] * self.attention(self.norm1(tokens), rotation)
    return tokens + self.scale2[...] * self.mlp(self.norm2(tokens))


def _apply_block(
  block: Block, tokens: Float[Array, 'b t d'], rotation: Rotation | None
) -> Float[Array, 'b t d']:
  return block(tokens, rotation)


class Vit(nnx.Module):
  """A vision transformer that gives a CLS token and patch maps.

  Parameters, norms, softmax and the sum of residuals are float32; matrix products are in `dtype`.
  Tokens are ordered CLS, registers, patches row by row.
  """

  def __init__(self, config: VitConfig, *, rngs: nnx.Rngs, dtype: DTypeLike = jnp.float32):
    """Makes a network with random weights.

    Args:
      config: its shape.
      rngs: where the weights come from.
      dtype: of matrix products and of the features, float32 or bfloat16.
    """

    def token(*shape: int) -> nnx.Param:
      return nnx.Param(normal(_INIT_STD)(rngs.params(), (*shape, config.width)))

    self.patch_embed = _linear(3 * config.patch_size**2, config.width, rngs=rngs, dtype=dtype)
    self.cls_token = token(1)
    self.registers = token(config.num_registers)
    if config.positions == 'learned':
      self.cls_position = token(1)
      self.patch_positions = token(config.position_grid, config.position_grid)
    self.blocks = nnx.List(Block(config, rngs=rngs, dtype=dtype) for _ in range(config.depth))
    self.norm = _norm(config, rngs)
    self.config = config
    self.dtype = dtype

  def __call__(self, image: Float[Array, 'b h w 3']) -> VitFeatures:
    """Encodes images.

    Args:
      image: RGB in [0, 1], sides multiples of the patch size; sizes may differ from call to call.

    Raises:
      ValueError: an image of integers, without three channels, or with a side that is no multiple
        of a patch.
    """
    tokens, rows, columns = self._embed(image)
    rotation = None
    if self.config.positions == 'rope':
      rotation = patch_rotation(self.config, rows, columns)
    run = self._loop if self.config.looped else self._unrolled
    tokens, taps = run(tokens, rotation)
    shape = (len(image), rows, columns, self.config.width)
    maps = tuple(self.norm(patches).astype(self.dtype).reshape(shape) for patches in taps)
    return VitFeatures(self.norm(tokens[:, 0]).astype(self.dtype), maps)

  def _unrolled(
    self, tokens: Float[Array, 'b t d'], rotation: Rotation | None
  ) -> tuple[Float[Array, 'b t d'], list[Float[Array, 'b n d']]]:
    """All blocks one after the other: tokens after the last, and the patches of the taps."""
    # A recomputed block keeps only its input for the backward pass.
    apply = jax.checkpoint(_apply_block) if self.config.remat else _apply_block
    taps = []
    for index, block in enumerate(self.blocks):
      tokens = apply(block, tokens, rotation)
      if index in self.config.taps:
        taps.append(tokens[:, 1 + self.config.num_registers :])
    return tokens, taps

  def _loop(
    self, tokens: Float[Array, 'b t d'], rotation: Rotation | None
  ) -> tuple[Float[Array, 'b t d'], list[Float[Array, 'b n d']]]:
    """The same with one block compiled; parameters are stacked here, for they are kept apart."""
    weights = jax.tree.map(lambda *leaves: jnp.stack(leaves), *self.blocks)
    # Each block writes where the next tap is kept: the tap itself is the last to do so. What comes
    # after the last tap has a place of its own.
    slots = np.searchsorted(self.config.taps, np.arange(self.config.depth))
    # Whatever is recomputed stays in the loop's own iteration without being told to.
    remat, apply = functools.partial(jax.checkpoint, prevent_cse=False), _apply_block
    apply = remat(apply) if self.config.remat else apply
    start = 1 + self.config.num_registers

    def step(
      carry: tuple[Array, Array], one: tuple[Block, Array]
    ) -> tuple[tuple[Array, Array], None]:
      tokens, taps = carry
      tokens = apply(one[0], tokens, rotation)
      return (tokens, jax.lax.dynamic_update_index_in_dim(taps, tokens[:, start:], one[1], 0)), None

    batch, count, width = tokens.shape
    taps = jnp.zeros((int(slots[-1]) + 1, batch, count - start, width), tokens.dtype)
    (tokens, taps), _ = jax.lax.scan(step, (tokens, taps), (weights, jnp.asarray(slots)))
    return tokens, [taps[index] for index in range(len(self.config.taps))]

  def _embed(self, image: Float[Array, 'b h w 3']) -> tuple[Float[Array, 'b t d'], int, int]:
    """Float32 tokens before the first block, and the patches along each side."""
    size = self.config.patch_size
    if image.ndim != 4 or image.shape[3] != 3:
      raise ValueError(f'Vit: images must be [b, h, w, 3], got {list(image.shape)}')
    if not jnp.issubdtype(image.dtype, jnp.floating):
      raise ValueError(f'Vit: images must be floats in [0, 1], got {image.dtype}: divide by 255')
    batch, height, width, _ = image.shape
    if height % size or width % size or not height or not width:
      raise ValueError(
        f'Vit: image sides must be multiples of the patch size {size}, got {height}x{width}: '
        'resize or pad the image'
      )
    rows, columns = height // size, width // size
    image = (image.astype(jnp.float32) - jnp.asarray(_IMAGE_MEAN)) / jnp.asarray(_IMAGE_STD)
    patches = image.reshape(batch, rows, size, columns, size, 3).transpose(0, 1, 3, 2, 4, 5)
    patches = self.patch_embed(patches.reshape(batch, rows * columns, -1)).astype(jnp.float32)
    cls = self.cls_token[...]
    if self.config.positions == 'learned':
      cls = cls + self.cls_position[...]
      patches = patches + self._patch_positions(rows, columns)
    prefix = jnp.concatenate([cls, self.registers[...]])
    prefix = jnp.broadcast_to(prefix, (batch, *prefix.shape))
    return jnp.concatenate([prefix, patches], axis=1), rows, columns

  def _patch_positions(self, rows: int, columns: int) -> Float[Array, 'n d']:
    """The learned grid resized to the image's: bicubic (a = -1/2), widened when it shrinks."""
    shape = (rows, columns, self.config.width)
    grid = jax.image.resize(
      self.patch_positions[...], shape, 'cubic', precision=jax.lax.Precision.HIGHEST
    )
    return grid.reshape(rows * columns, -1)
