"""What every kernel for an accelerator needs around it: a batch folded into the launch."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sa0_kernels.ssim.types import SsimConfig


class Kernels(NamedTuple):
  """The two halves of an implementation, for whole batches.

  Attributes:
    forward: (config, images [b, h, w, c], targets) → sums of the index over the counted values [b],
      and its derivatives, [b, …] as `backward` likes them.
    backward: (config, images, targets, derivatives) → gradients of the sums, [b, h, w, c].
  """

  forward: Callable[[SsimConfig, Array, Array], tuple[Array, Array]]
  backward: Callable[[SsimConfig, Array, Array, Array], Array]


class EntryPoints(NamedTuple):
  """What `api.py` calls: `index`, `forward` and `backward` of `xla.py`, in this order."""

  value: Callable[[SsimConfig, Array, Array], Array]
  forward: Callable[[SsimConfig, Array, Array], tuple[Array, Any]]
  backward: Callable[[SsimConfig, Any, Array], Array]


def unsupported(image: Array) -> list[str]:
  """Reasons why a kernel cannot run."""
  if image.dtype != jnp.float32:
    return [f'it computes in float32, the image is {image.dtype}']
  return []


def count(config: SsimConfig, shape: tuple[int, ...]) -> int:
  """Values the mean is taken over."""
  height, width, channels = shape[-3:]
  return (height - 2 * config.margin) * (width - 2 * config.margin) * channels


def _folding(function: Callable[..., Any]) -> Callable[..., Any]:
  """Lets vmap lengthen the batch axis instead of adding one, which not every compiler takes."""
  call = jax.custom_batching.custom_vmap(function)

  @call.def_vmap
  def _(size: int, batched: list, *arrays: Array) -> tuple[Any, Any]:
    whole = [
      a if b else jnp.broadcast_to(a, (size, *a.shape))
      for a, b in zip(arrays, batched, strict=True)
    ]
    flat = [a.reshape(-1, *a.shape[2:]) for a in whole]
    out = _folding(function)(*flat)
    unfold = jax.tree.map(lambda a: a.reshape(size, -1, *a.shape[1:]), out)
    return unfold, jax.tree.map(lambda _: True, out)

  return call


def entry_points(kernels: Kernels) -> EntryPoints:
  """The functions of an implementation that consists of these kernels."""

  def forward(
    config: SsimConfig, image: Float[Array, 'h w c'], target: Float[Array, 'h w c']
  ) -> tuple[Array, Any]:
    run = _folding(lambda *a: kernels.forward(config, *a))
    total, derivatives = run(image[None], target[None])
    return total[0] / count(config, image.shape), (image, target, derivatives[0])

  def index(config: SsimConfig, image: Array, target: Array) -> Array:
    return forward(config, image, target)[0]

  def backward(config: SsimConfig, residuals: Any, cotangent: Array) -> Array:
    image, target, derivatives = residuals
    run = _folding(lambda *a: kernels.backward(config, *a))
    gradient = run(image[None], target[None], derivatives[None])[0]
    return gradient * (cotangent / count(config, image.shape))

  return EntryPoints(index, forward, backward)
