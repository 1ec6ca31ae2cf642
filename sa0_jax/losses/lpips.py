"""LPIPS, the learned perceptual distance of Zhang et al. 2018, version 0.1, AlexNet and VGG16.

The weights are their authors' and are not part of this project: the convolutions are those of
torchvision's classifiers (alexnet-owt-7be5be79.pth, vgg16-397923af.pth), the weights of the
distance lie in the Python package `lpips` (weights/v0.1/alex.pth, vgg.pth). Both are read by path.
"""

import dataclasses
import math
import os
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float
from sa0_kernels.pytree import register

from sa0_jax.losses.torch_files import read_tensors
from sa0_jax.precision import precision_of

# Of ImageNet's channels, for images in [−1, 1] (the package's scaling layer).
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)
_EPSILON = 1e-10  # on the length of a feature vector


class _Layer(NamedTuple):
  """A convolution with ReLU, and what surrounds it.

  Attributes:
    place: in torchvision's `features`.
    shape: of its weights: [out, in, height, width].
    stride, padding: of the convolution, px.
    pool: width of the max pool of stride 2 before it; 0 for none.
    tap: whether its output takes part in the distance.
  """

  place: int
  shape: tuple[int, int, int, int]
  stride: int = 1
  padding: int = 1
  pool: int = 0
  tap: bool = False


_LAYERS = {
  'alex': (
    _Layer(0, (64, 3, 11, 11), stride=4, padding=2, tap=True),
    _Layer(3, (192, 64, 5, 5), padding=2, pool=3, tap=True),
    _Layer(6, (384, 192, 3, 3), pool=3, tap=True),
    _Layer(8, (256, 384, 3, 3), tap=True),
    _Layer(10, (256, 256, 3, 3), tap=True),
  ),
  'vgg': (
    _Layer(0, (64, 3, 3, 3)),
    _Layer(2, (64, 64, 3, 3), tap=True),
    _Layer(5, (128, 64, 3, 3), pool=2),
    _Layer(7, (128, 128, 3, 3), tap=True),
    _Layer(10, (256, 128, 3, 3), pool=2),
    _Layer(12, (256, 256, 3, 3)),
    _Layer(14, (256, 256, 3, 3), tap=True),
    _Layer(17, (512, 256, 3, 3), pool=2),
    _Layer(19, (512, 512, 3, 3)),
    _Layer(21, (512, 512, 3, 3), tap=True),
    _Layer(24, (512, 512, 3, 3), pool=2),
    _Layer(26, (512, 512, 3, 3)),
    _Layer(28, (512, 512, 3, 3), tap=True),
  ),
}
_MIN_SIZE = {'alex': 31, 'vgg': 16}  # px: smaller images leave nothing after the last pool


@register
@dataclasses.dataclass(frozen=True)
class Lpips:
  """Weights of the distance, float32.

  Attributes:
    kernels: of the convolutions, [height, width, in, out] each.
    biases: of the convolutions, [out] each.
    linear: non-negative weight of each channel of the five compared layers.
    network: 'alex' or 'vgg'.
  """

  kernels: tuple[Float[Array, '_ _ _ _'], ...]
  biases: tuple[Float[Array, ' _'], ...]
  linear: tuple[Float[Array, ' _'], ...]
  network: str = dataclasses.field(metadata={'static': True})


def load_lpips(
  backbone_path: str | os.PathLike[str],
  linear_path: str | os.PathLike[str],
  network: Literal['alex', 'vgg'] = 'alex',
) -> Lpips:
  """Reads the two weights files, .pth or .safetensors; no code in them is run.

  Args:
    backbone_path: torchvision's ImageNet classifier; what is not `features` is ignored.
    linear_path: the channel weights from the `lpips` package, keys lin0.model.1.weight and so on.
    network: 'alex', with which the paper's loss and most reported numbers are made, or 'vgg'.

  Raises:
    FileNotFoundError: a file is missing; the message says where it is got.
    ValueError: a file is damaged, or is that of another network.
  """
  if network not in _LAYERS:
    raise ValueError(f"load_lpips: network must be 'alex' or 'vgg', got {network!r}")
  layers = _LAYERS[network]
  shapes: dict[str, tuple[int, ...]] = {}
  for layer in layers:
    shapes[f'features.{layer.place}.weight'] = layer.shape
    shapes[f'features.{layer.place}.bias'] = layer.shape[:1]
  taps = [layer.shape[0] for layer in layers if layer.tap]
  linear_shapes: dict[str, tuple[int, ...]] = {
    f'lin{k}.model.1.weight': (1, width, 1, 1) for k, width in enumerate(taps)
  }
  backbone = _read(backbone_path, shapes, network, "torchvision's ImageNet weights")
  linear = _read(linear_path, linear_shapes, network, "the 'lpips' package, weights/v0.1")
  return Lpips(
    tuple(
      jnp.asarray(backbone[f'features.{layer.place}.weight'].transpose(2, 3, 1, 0))
      for layer in layers
    ),
    tuple(jnp.asarray(backbone[f'features.{layer.place}.bias']) for layer in layers),
    tuple(jnp.asarray(linear[name].reshape(-1)) for name in linear_shapes),
    network,
  )


def zero_lpips(network: Literal['alex', 'vgg'] = 'alex') -> Lpips:
  """Weights of zero, for programs that are compiled or measured without the published files."""
  layers = _LAYERS[network]
  return Lpips(
    tuple(jnp.zeros((*layer.shape[2:], layer.shape[1], layer.shape[0])) for layer in layers),
    tuple(jnp.zeros(layer.shape[0]) for layer in layers),
    tuple(jnp.zeros(layer.shape[0]) for layer in layers if layer.tap),
    network,
  )


def _read(
  path: str | os.PathLike[str], shapes: dict[str, tuple[int, ...]], network: str, origin: str
) -> dict[str, np.ndarray]:
  """The tensors of those names and shapes, as float32."""
  try:
    tensors = read_tensors(path, shapes)
  except FileNotFoundError as error:
    raise FileNotFoundError(
      f'{path}: no such file; the weights LPIPS needs for {network!r} come with {origin}'
    ) from error
  for name, shape in shapes.items():
    if name not in tensors:
      raise ValueError(f'{path}: {name!r} of shape {shape} is missing: not {network!r} of {origin}')
    if tensors[name].shape != shape:
      raise ValueError(
        f'{path}: {name!r} has shape {tensors[name].shape}, but {network!r} has {shape}'
      )
    if not np.isfinite(tensors[name].astype(np.float32)).all():
      raise ValueError(f'{path}: {name!r} of shape {shape} holds numbers that are not finite')
  return {name: tensor.astype(np.float32) for name, tensor in tensors.items()}


def lpips(
  weights: Lpips,
  image: Float[Array, '*batch h w 3'],
  target: Float[Array, '*batch h w 3'],
  dtype: DTypeLike = jnp.float32,
) -> Float[Array, '*batch']:
  """The distance between images, 0 for equal ones; about 0.05 to 0.2 between render and photograph.

  Args:
    weights: from `load_lpips`. An argument of the compiled function that calls this, too: closed
      over, they become constants of the program, which XLA then spends its time on folding.
    image: RGB in [0, 1]; scaled to the [−1, 1] of the published code here. Values beyond are not
      clipped.
    target: the same shape. Differentiable in both.
    dtype: of the convolutions; float32 is computed in full. The distance itself is always float32.

  Returns:
    float32 distances.

  Raises:
    ValueError: images smaller than 31 (AlexNet) or 16 (VGG16) pixels.
  """
  smallest = _MIN_SIZE[weights.network]
  if min(image.shape[-3:-1]) < smallest:
    raise ValueError(
      f'lpips: {weights.network!r} needs images of {smallest} px and more, got {image.shape[-3:-1]}'
    )
  batch = image.shape[:-3]
  total = jnp.zeros(math.prod(batch), jnp.float32)
  features = [
    _features(weights, x.reshape(-1, *x.shape[-3:]), jnp.dtype(dtype)) for x in (image, target)
  ]
  for a, b, channels in zip(*features, weights.linear, strict=True):
    squares = (_unit(a) - _unit(b)) ** 2
    total += jnp.mean(jnp.sum(squares * channels, axis=-1), axis=(-2, -1))
  return total.reshape(batch)


def _features(weights: Lpips, x: Float[Array, 'b h w 3'], dtype: np.dtype) -> list[Array]:
  """Outputs of the compared layers, float32."""
  x = (2.0 * x.astype(jnp.float32) - 1.0 - jnp.asarray(_SHIFT)) / jnp.asarray(_SCALE)
  x = x.astype(dtype)
  taps = []
  layers = _LAYERS[weights.network]
  for layer, kernel, bias in zip(layers, weights.kernels, weights.biases, strict=True):
    if layer.pool:
      x = _max_pool(_max_pool(x, layer.pool, 2), layer.pool, 1)
    x = jax.lax.conv_general_dilated(
      x,
      kernel.astype(dtype),
      window_strides=(layer.stride,) * 2,
      padding=[(layer.padding,) * 2] * 2,
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
      precision=precision_of(dtype),
    )
    x = jax.nn.relu(x + bias.astype(dtype))
    if layer.tap:
      taps.append(x.astype(jnp.float32))
  return taps


def _max_pool(x: Float[Array, 'b h w c'], size: int, axis: int) -> Float[Array, '...']:
  """Maximum over windows of `size` at stride 2 along one axis, incomplete ones left out.

  From shifted slices: the gradient of XLA's own window reduction adds overlapping windows in no
  fixed order on a GPU. The first of equal values gets the gradient, as in PyTorch.
  """
  count = (x.shape[axis] - size) // 2 + 1
  slices = [
    jax.lax.slice_in_dim(x, start, start + 2 * (count - 1) + 1, 2, axis) for start in range(size)
  ]
  largest = slices[0]
  for other in slices[1:]:
    largest = jnp.where(other > largest, other, largest)
  return largest


def _unit(x: Float[Array, 'b h w c']) -> Float[Array, 'b h w c']:
  """Feature vectors divided by their length; a vector of zeros stays so, with gradient zero."""
  squares = jnp.sum(x * x, axis=-1, keepdims=True)
  lengths = jnp.sqrt(jnp.where(squares > 0, squares, 1.0))
  return jnp.where(squares > 0, x / (lengths + _EPSILON), 0.0)
