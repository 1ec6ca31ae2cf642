"""Dense prediction head on a vision transformer (DPT, Ranftl et al. 2021).

Patch maps from four depths are reassembled at four scales and fused from coarse to fine, as the
depth heads on DINO encoders do. There is no
normalisation on the way, as in those without batch norm, but one at the end.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from sa0_jax.generator.initializers import lecun_normal
from sa0_jax.precision import precision_of

# Of the patch grid, per level: two are enlarged by transposed convolutions, the last is halved.
_SCALES = (4, 2, 1, 0.5)


@dataclasses.dataclass(frozen=True)
class DptConfig:
  """The shape of a DPT head.

  Attributes:
    level_channels: of the reassembled maps, finest first; one for each of the encoder's taps.
    features: channels in which levels are fused.
    out_channels: of the result.
    output_stride: image pixels per pixel of the result, 4 or 2.
    readout: 'project' mixes the CLS token into every patch, 'ignore' leaves it out.
    concat_rgb: give each level the image at its size, too.
  """

  level_channels: tuple[int, ...] = (96, 192, 384, 768)
  features: int = 256
  out_channels: int = 256
  output_stride: int = 4
  readout: Literal['ignore', 'project'] = 'project'
  concat_rgb: bool = False

  def __post_init__(self) -> None:
    if len(self.level_channels) != len(_SCALES) or min(self.level_channels) < 1:
      raise ValueError(
        f'DptConfig: level_channels are {len(_SCALES)} positive numbers, got {self.level_channels}'
      )
    if min(self.features, self.out_channels) < 1:
      raise ValueError('DptConfig: features and out_channels must be positive')
    if self.output_stride not in (2, 4):
      raise ValueError(f'DptConfig: output_stride is 2 or 4, got {self.output_stride}')
    if self.readout not in ('ignore', 'project'):
      raise ValueError(f"DptConfig: readout is 'ignore' or 'project', got {self.readout!r}")


def _conv(
  inputs: int, outputs: int, size: int, *, rngs: nnx.Rngs, dtype: DTypeLike, stride: int = 1
) -> nnx.Conv:
  return nnx.Conv(
    inputs,
    outputs,
    (size, size),
    strides=stride,
    padding=size // 2,
    dtype=dtype,
    precision=precision_of(dtype),
    kernel_init=lecun_normal(),
    rngs=rngs,
  )


def _resize(x: Float[Array, 'b h w c'], height: int, width: int) -> Float[Array, 'b i j c']:
  """Bilinear, averaging where it shrinks."""
  if x.shape[1:3] == (height, width):
    return x
  shape = (len(x), height, width, x.shape[3])
  return jax.image.resize(x, shape, 'linear', precision=jax.lax.Precision.HIGHEST)


class Reassemble(nnx.Module):
  """One tap's patch tokens as a map of its level's size."""

  def __init__(
    self, config: DptConfig, level: int, width: int, *, rngs: nnx.Rngs, dtype: DTypeLike
  ):
    channels, scale = config.level_channels[level], _SCALES[level]
    if config.readout == 'project':
      self.readout = nnx.Linear(
        2 * width,
        width,
        dtype=dtype,
        precision=precision_of(dtype),
        kernel_init=lecun_normal(),
        rngs=rngs,
      )
    self.project = _conv(width, channels, 1, rngs=rngs, dtype=dtype)
    if scale > 1:
      size = int(scale)
      self.resample: Callable[[Array], Array] = nnx.ConvTranspose(
        channels,
        channels,
        (size, size),
        strides=size,
        padding='VALID',
        dtype=dtype,
        precision=precision_of(dtype),
        kernel_init=lecun_normal(),
        rngs=rngs,
      )
    elif scale < 1:
      self.resample = _conv(channels, channels, 3, rngs=rngs, dtype=dtype, stride=2)
    total = channels + 3 * config.concat_rgb
    self.lateral = _conv(total, config.features, 3, rngs=rngs, dtype=dtype)
    self.scale, self.config = scale, config

  def __call__(
    self,
    tokens: Float[Array, 'b rows columns d'],
    cls: Float[Array, 'b d'],
    image: Float[Array, 'b h w 3'],
  ) -> Float[Array, 'b i j features']:
    """Mixes CLS in, resamples, and projects to the channels of the fusion."""
    if self.config.readout == 'project':
      spread = jnp.broadcast_to(cls[:, None, None], tokens.shape)
      tokens = jax.nn.gelu(self.readout(jnp.concatenate([tokens, spread], axis=-1)))
    x = self.project(tokens)
    if self.scale != 1:
      x = self.resample(x)
    if self.config.concat_rgb:
      x = jnp.concatenate([x, _resize(image, *x.shape[1:3]).astype(x.dtype)], axis=-1)
    return self.lateral(x)


class ResidualUnit(nnx.Module):
  """Two 3 × 3 convolutions around ReLUs, beside the identity."""

  def __init__(self, features: int, *, rngs: nnx.Rngs, dtype: DTypeLike):
    self.first = _conv(features, features, 3, rngs=rngs, dtype=dtype)
    self.second = _conv(features, features, 3, rngs=rngs, dtype=dtype)

  def __call__(self, x: Float[Array, 'b h w c']) -> Float[Array, 'b h w c']:
    """Adds the unit's correction."""
    return x + self.second(jax.nn.relu(self.first(jax.nn.relu(x))))


class Fusion(nnx.Module):
  """Adds a level to what came from below it (RefineNet)."""

  def __init__(self, features: int, coarsest: bool, *, rngs: nnx.Rngs, dtype: DTypeLike):
    if not coarsest:
      self.lateral = ResidualUnit(features, rngs=rngs, dtype=dtype)
    self.merged = ResidualUnit(features, rngs=rngs, dtype=dtype)
    self.out = _conv(features, features, 1, rngs=rngs, dtype=dtype)

  def __call__(
    self, level: Float[Array, 'b h w c'], below: Float[Array, 'b h w c'] | None
  ) -> Float[Array, 'b h w c']:
    """Fuses; `below` has the level's size already, and is None for the coarsest."""
    x = level if below is None else below + self.lateral(level)
    return self.out(self.merged(x))


class DptHead(nnx.Module):
  """Maps of four depths to one dense feature map. Parameters are float32, products in `dtype`."""

  def __init__(
    self, config: DptConfig, width: int, *, rngs: nnx.Rngs, dtype: DTypeLike = jnp.float32
  ):
    """Makes a head with random weights.

    Args:
      config: its shape.
      width: channels of the encoder's tokens.
      rngs: where the weights come from.
      dtype: of products and of the result.
    """
    levels = range(len(_SCALES))
    self.reassemble = nnx.List(
      Reassemble(config, level, width, rngs=rngs, dtype=dtype) for level in levels
    )
    self.fusion = nnx.List(
      Fusion(config.features, level == levels[-1], rngs=rngs, dtype=dtype) for level in levels
    )
    self.out = _conv(config.features, config.out_channels, 3, rngs=rngs, dtype=dtype)
    # Ours. Convolutions fresh from the draw answer one step of Adam with features fourteen times as
    # large, and a U-Net that multiplies by what it sees answers those with thousands.
    self.norm = nnx.LayerNorm(
      config.out_channels, dtype=jnp.float32, use_fast_variance=False, rngs=rngs
    )
    self.config = config

  def __call__(
    self,
    maps: tuple[Float[Array, 'b rows columns d'], ...],
    cls: Float[Array, 'b d'],
    image: Float[Array, 'b h w 3'],
  ) -> Float[Array, 'b i j c']:
    """Dense features, of mean 0 and variance 1 over the channels of each pixel at first.

    Args:
      maps: patch maps of as many taps as there are levels, shallow first.
      cls: CLS tokens.
      image: RGB the maps were made of; its size gives that of the result.

    Raises:
      ValueError: another number of maps, or an image whose sides are no multiples of the stride.
    """
    stride = self.config.output_stride
    if len(maps) != len(self.reassemble):
      raise ValueError(f'DptHead: {len(maps)} maps, this head takes {len(self.reassemble)}')
    height, width = image.shape[1:3]
    if height % stride or width % stride:
      raise ValueError(
        f'DptHead: image sides must be multiples of {stride}, got {height} x {width}'
      )
    levels = [
      reassemble(tokens, cls, image)
      for reassemble, tokens in zip(self.reassemble, maps, strict=True)
    ]
    below = self.fusion[-1](levels[-1], None)
    for level, fusion in reversed(list(zip(levels, self.fusion, strict=True))[:-1]):
      below = fusion(level, _resize(below, *level.shape[1:3]))
    dense = self.out(_resize(below, height // stride, width // stride))
    return self.norm(dense).astype(dense.dtype)
