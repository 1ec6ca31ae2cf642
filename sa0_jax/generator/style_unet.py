"""StyleUNet: a U-shaped StyleGAN2 in UV space (StyleAvatar, Wang et al. 2023).

An encoder halves the UV features down to a small map; a StyleGAN2 decoder (Karras et al. 2020)
doubles them up again, with the encoder's maps beside it at every size. The style is made of the
source's CLS token. At every size a spatial feature transform (SFT, Wang et al. 2018) of encoder map
and style scales and shifts what the decoder has.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Key

from sa0_jax.generator.initializers import normal
from sa0_jax.precision import precision_of

_FIR = (0.125, 0.375, 0.375, 0.125)  # [1, 3, 3, 1] / 8
_SLOPE, _GAIN = 0.2, math.sqrt(2.0)  # of leaky ReLUs, and what keeps their variance
_EPSILON = 1e-8
_QUIET = 0.1  # of layers that change what passes by: they begin near doing nothing


@dataclasses.dataclass(frozen=True)
class StyleUNetConfig:
  """The shape of a StyleUNet; the defaults are for 256² UV images and 256 dense features.

  Attributes:
    size: side of the UV image.
    channels: of each size, from the UV image's down to the smallest map's, each half as wide.
    in_channels: of the UV image: dense features and RGB.
    out_channels: of the result.
    style_dim: of the style vector.
    mapping_layers: from CLS token to style.
    noise: add learned noise; calls then need a key. Off: the result is a function of the inputs.
    remat: recompute each size in the backward pass instead of keeping its activations.
  """

  size: int = 256
  channels: tuple[int, ...] = (64, 128, 256, 512, 512, 512)
  in_channels: int = 259
  out_channels: int = 32
  style_dim: int = 512
  mapping_layers: int = 2
  noise: bool = False
  remat: bool = False

  def __post_init__(self) -> None:
    smallest = 2 ** (len(self.channels) - 1)
    if len(self.channels) < 2 or min(self.channels) < 1:
      raise ValueError(f'StyleUNetConfig: channels are two or more counts, got {self.channels}')
    if self.size < 1 or self.size % smallest:
      raise ValueError(
        f'StyleUNetConfig: size must be a multiple of {smallest} for {len(self.channels)} sizes, '
        f'got {self.size}'
      )
    for name in ('in_channels', 'out_channels', 'style_dim', 'mapping_layers'):
      if getattr(self, name) < 1:
        raise ValueError(f'StyleUNetConfig: {name} must be positive, got {getattr(self, name)}')


def activate(x: Float[Array, '*shape']) -> Float[Array, '*shape']:
  """Leaky ReLU that keeps the variance."""
  return _GAIN * jax.nn.leaky_relu(x, _SLOPE)


def _convolve(
  x: Float[Array, 'b h w i'], kernel: Float[Array, 'kh kw i o']
) -> Float[Array, 'b h w o']:
  pad = kernel.shape[0] // 2
  return jax.lax.conv_general_dilated(
    x,
    kernel.astype(x.dtype),
    (1, 1),
    [(pad, pad)] * 2,
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    precision=precision_of(x.dtype),
  )


def halve(x: Float[Array, 'b h w c']) -> Float[Array, 'b h2 w2 c']:
  """Every second sample of the blurred map, the border's value beyond it.

  In sums of slices: a convolution that keeps channels apart is slow on every device.
  """
  for axis in (1, 2):
    pads = [(1, 1) if a == axis else (0, 0) for a in range(4)]
    padded, length = jnp.pad(x, pads, mode='edge'), x.shape[axis]
    total = jnp.zeros((), x.dtype)
    for k, weight in enumerate(_FIR):
      total = total + weight * jax.lax.slice_in_dim(padded, k, k + length - 1, 2, axis)
    x = total
  return x


def double(x: Float[Array, 'b h w c']) -> Float[Array, 'b h2 w2 c']:
  """Twice the size: zeros between the samples, blurred; linear interpolation at quarter points."""
  for axis in (1, 2):
    pads = [(1, 1) if a == axis else (0, 0) for a in range(4)]
    padded, length = jnp.pad(x, pads, mode='edge'), x.shape[axis]
    before = jax.lax.slice_in_dim(padded, 0, length, 1, axis)
    after = jax.lax.slice_in_dim(padded, 2, length + 2, 1, axis)
    pair = jnp.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis=axis + 1)
    shape = list(x.shape)
    shape[axis] *= 2
    x = pair.reshape(shape)
  return x


class EqualLinear(nnx.Module):
  """Linear layer with equalised learning rate: weights of unit variance, scaled in use."""

  def __init__(
    self, inputs: int, outputs: int, *, rngs: nnx.Rngs, bias: float = 0.0, std: float = 1.0
  ):
    self.kernel = nnx.Param(normal(std)(rngs.params(), (inputs, outputs)))
    self.bias = nnx.Param(jnp.full(outputs, bias, jnp.float32))

  def __call__(self, x: Float[Array, 'b i']) -> Float[Array, 'b o']:
    """float32."""
    kernel = self.kernel[...] / math.sqrt(self.kernel.shape[0])
    return jnp.matmul(x, kernel, precision=jax.lax.Precision.HIGHEST) + self.bias[...]


class EqualConv(nnx.Module):
  """Convolution with equalised learning rate."""

  def __init__(self, inputs: int, outputs: int, size: int, *, rngs: nnx.Rngs, std: float = 1.0):
    self.kernel = nnx.Param(normal(std)(rngs.params(), (size, size, inputs, outputs)))
    self.bias = nnx.Param(jnp.zeros(outputs))

  def __call__(self, x: Float[Array, 'b h w i']) -> Float[Array, 'b h w o']:
    """In the dtype of x."""
    height, width, inputs, _ = self.kernel.shape
    kernel = self.kernel[...] / math.sqrt(height * width * inputs)
    return _convolve(x, kernel) + self.bias[...].astype(x.dtype)


def modulated_convolution(
  x: Float[Array, 'b h w i'],
  kernel: Float[Array, 'kh kw i o'],
  style: Float[Array, 'b i'],
  demodulate: bool = True,
) -> Float[Array, 'b h w o']:
  """Convolution with kernels scaled per image by a style (StyleGAN2, equations 1 and 3).

  Scaling the inputs by the style and the outputs by what normalises the kernels is the same, and
  leaves one kernel for the whole batch.

  Args:
    x: inputs.
    kernel: shared by all images; the equalised scale is applied here.
    style: gain of each input channel.
    demodulate: divide by the expected standard deviation of each output channel.
  """
  height, width, inputs, _ = kernel.shape
  kernel = kernel / math.sqrt(height * width * inputs)
  y = _convolve(x * style[:, None, None].astype(x.dtype), kernel)
  if not demodulate:
    return y
  power = jnp.matmul(style**2, jnp.sum(kernel**2, axis=(0, 1)), precision=jax.lax.Precision.HIGHEST)
  return y * jax.lax.rsqrt(power + _EPSILON)[:, None, None].astype(x.dtype)


class StyledConv(nnx.Module):
  """Modulated convolution, optional noise, bias, leaky ReLU."""

  def __init__(self, inputs: int, outputs: int, config: StyleUNetConfig, *, rngs: nnx.Rngs):
    self.kernel = nnx.Param(normal()(rngs.params(), (3, 3, inputs, outputs)))
    self.bias = nnx.Param(jnp.zeros(outputs))
    self.style = EqualLinear(config.style_dim, inputs, rngs=rngs, bias=1.0, std=_QUIET)
    if config.noise:
      self.strength = nnx.Param(jnp.zeros(()))

  def __call__(
    self, x: Float[Array, 'b h w i'], style: Float[Array, 'b s'], key: Key[Array, ' b'] | None
  ) -> Float[Array, 'b h w o']:
    """In the dtype of x."""
    y = modulated_convolution(x, self.kernel[...], self.style(style))
    if key is not None:
      noise = jax.vmap(lambda k: jax.random.normal(k, (*y.shape[1:3], 1)))(key)
      y = y + (self.strength[...] * noise).astype(y.dtype)
    return activate(y + self.bias[...].astype(y.dtype))


class SpatialTransform(nnx.Module):
  """SFT: scale and shift of every pixel, from the encoder's map and the style."""

  def __init__(self, channels: int, config: StyleUNetConfig, *, rngs: nnx.Rngs):
    self.from_map = EqualConv(channels, channels, 1, rngs=rngs)
    self.from_style = EqualLinear(config.style_dim, channels, rngs=rngs)
    self.out = EqualConv(channels, 2 * channels, 1, rngs=rngs, std=_QUIET)

  def __call__(
    self,
    x: Float[Array, 'b h w c'],
    encoded: Float[Array, 'b h w c'],
    style: Float[Array, 'b s'],
  ) -> Float[Array, 'b h w c']:
    """x (1 + scale) + shift."""
    hidden = self.from_map(encoded) + self.from_style(style)[:, None, None].astype(x.dtype)
    scale, shift = jnp.split(self.out(activate(hidden)), 2, axis=-1)
    return x * (1.0 + scale) + shift


class DownBlock(nnx.Module):
  """Residual block that halves the size."""

  def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs):
    self.first = EqualConv(inputs, inputs, 3, rngs=rngs)
    self.second = EqualConv(inputs, outputs, 3, rngs=rngs)
    self.skip = EqualConv(inputs, outputs, 1, rngs=rngs)

  def __call__(self, x: Float[Array, 'b h w i']) -> Float[Array, 'b h2 w2 o']:
    """Blurred before it is sampled, so that nothing aliases."""
    y = activate(self.second(halve(activate(self.first(x)))))
    return (y + self.skip(halve(x))) / _GAIN


class UpBlock(nnx.Module):
  """One size of the decoder: what came from below, the encoder's map, and the style."""

  def __init__(
    self, inputs: int, channels: int, smallest: bool, config: StyleUNetConfig, *, rngs: nnx.Rngs
  ):
    if not smallest:
      self.up = StyledConv(inputs, channels, config, rngs=rngs)
    total = channels if smallest else 2 * channels
    self.merge = StyledConv(total, channels, config, rngs=rngs)
    self.transform = SpatialTransform(channels, config, rngs=rngs)
    self.out = nnx.Param(normal()(rngs.params(), (1, 1, channels, config.out_channels)))
    self.out_style = EqualLinear(config.style_dim, channels, rngs=rngs, bias=1.0, std=_QUIET)

  def __call__(
    self,
    below: Float[Array, 'b h w i'] | None,
    encoded: Float[Array, 'b h2 w2 c'],
    style: Float[Array, 'b s'],
    key: Key[Array, ' b'] | None,
  ) -> tuple[Float[Array, 'b h2 w2 c'], Float[Array, 'b h2 w2 o']]:
    """Features of this size, and its share of the result."""
    keys = (None, None) if key is None else _split(key, 2)
    x = encoded
    if below is not None:
      x = jnp.concatenate([self.up(double(below), style, keys[0]), encoded], axis=-1)
    x = self.transform(self.merge(x, style, keys[1]), encoded, style)
    share = modulated_convolution(x, self.out[...], self.out_style(style), demodulate=False)
    return x, share


class StyleUNet(nnx.Module):
  """UV features and CLS token to a UV map. Parameters are float32, convolutions in `dtype`."""

  def __init__(
    self, config: StyleUNetConfig, cls_width: int, *, rngs: nnx.Rngs, dtype: DTypeLike = jnp.float32
  ):
    """Makes a network with random weights.

    Args:
      config: its shape.
      cls_width: channels of the CLS token.
      rngs: where the weights come from.
      dtype: of convolutions; styles, demodulation and the result are float32.
    """
    channels = config.channels
    widths = [cls_width, *[config.style_dim] * config.mapping_layers]
    self.mapping = nnx.List(EqualLinear(a, b, rngs=rngs) for a, b in itertools.pairwise(widths))
    self.enter = EqualConv(config.in_channels, channels[0], 1, rngs=rngs)
    self.down = nnx.List(DownBlock(a, b, rngs=rngs) for a, b in itertools.pairwise(channels))
    self.up = nnx.List(
      UpBlock(channels[min(i + 1, len(channels) - 1)], c, i == len(channels) - 1, config, rngs=rngs)
      for i, c in enumerate(channels)
    )
    self.bias = nnx.Param(jnp.zeros(config.out_channels))
    self.config = config
    self.dtype = dtype

  def __call__(
    self,
    uv: Float[Array, 'b s s i'],
    cls: Float[Array, 'b d'],
    valid: Bool[Array, 's s'],
    key: Key[Array, ' b'] | None = None,
  ) -> Float[Array, 'b s s o']:
    """Runs the network.

    Args:
      uv: UV features; what lies outside Ω is not looked at.
      cls: CLS tokens.
      valid: Ω.
      key: of each image's noise, where the configuration asks for some; unused otherwise.

    Returns:
      float32 map, zero outside Ω.

    Raises:
      ValueError: another size or number of channels, or noise without a key.
    """
    config = self.config
    if uv.shape[1:] != (config.size, config.size, config.in_channels):
      raise ValueError(
        f'StyleUNet: the UV image is {list(uv.shape[1:])}, this network takes '
        f'{[config.size, config.size, config.in_channels]}'
      )
    keys: tuple = (None,) * len(self.up)
    if config.noise:
      if key is None:
        raise ValueError('StyleUNet: noise needs a key')
      keys = _split(key, len(self.up))
    style = self._style(cls)
    x = activate(self.enter(jnp.where(valid[..., None], uv, 0.0).astype(self.dtype)))
    run: Callable[..., Any] = jax.checkpoint(_run) if config.remat else _run
    encoded = [x]
    for block in self.down:
      encoded.append(run(block, encoded[-1]))
    below, total = None, None
    for block, at, at_key in reversed(list(zip(self.up, encoded, keys, strict=True))):
      below, share = run(block, below, at, style, at_key)
      share = share.astype(jnp.float32)
      total = share if total is None else double(total) + share
    return jnp.where(valid[..., None], total + self.bias[...], 0.0)

  def _style(self, cls: Float[Array, 'b d']) -> Float[Array, 'b s']:
    """The mapping network; its input has unit length per channel."""
    x = cls.astype(jnp.float32)
    x = x * jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + _EPSILON)
    for layer in self.mapping:
      x = activate(layer(x))
    return x


def _split(key: Key[Array, ' b'], count: int) -> tuple[Key[Array, ' b'], ...]:
  """Several keys for each image."""
  return tuple(jax.vmap(lambda k: jax.random.split(k, count), out_axes=1)(key))


def _run(block: nnx.Module, *arguments: Any) -> Any:
  return block(*arguments)
