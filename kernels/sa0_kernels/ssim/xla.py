"""Separable SSIM with its own adjoint: the window is symmetric, so a blur is its own transpose."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from sa0_kernels.ssim import folded, formula
from sa0_kernels.ssim.types import RADIUS, WINDOW, SsimConfig


def unsupported(image: Array) -> list[str]:
  """Reasons why this implementation cannot run: none."""
  del image
  return []


def _blur(x: Float[Array, 'h w c']) -> Float[Array, 'h w c']:
  """11 × 11 Gaussian window with zeros outside, as two passes of shifted sums."""
  for axis in (0, 1):
    size = x.shape[axis]
    pads = [(RADIUS, RADIUS) if a == axis else (0, 0) for a in range(3)]
    padded = jnp.pad(x, pads)
    take = [slice(None)] * 3
    total = jnp.zeros_like(x)
    for k, weight in enumerate(WINDOW):
      take[axis] = slice(k, k + size)
      total = total + weight * padded[tuple(take)]
    x = total
  return x


def _parts(config: SsimConfig, image: Array, target: Array) -> formula.Similarity:
  """SSIM per pixel, and its derivatives by mean(a), E[aa] and E[ab]."""
  channels = image.shape[-1]
  blurred = _blur(jnp.concatenate(formula.products(image, target), axis=-1))
  moments = (blurred[..., i * channels : (i + 1) * channels] for i in range(5))
  return formula.similarity(formula.Moments(*moments), config.stabilizers)


def _inside(config: SsimConfig, image: Array) -> Array:
  """[h, w, 1] 1/count where a pixel counts, else 0."""
  height, width, _ = image.shape
  m = config.margin
  rows = (jnp.arange(height) >= m) & (jnp.arange(height) < height - m)
  columns = (jnp.arange(width) >= m) & (jnp.arange(width) < width - m)
  return (rows[:, None] & columns)[..., None].astype(image.dtype) / folded.count(
    config, image.shape
  )


def index(config: SsimConfig, image: Array, target: Array) -> Array:
  """Mean SSIM."""
  return jnp.sum(_parts(config, image, target).ratio * _inside(config, image))


def forward(config: SsimConfig, image: Array, target: Array) -> tuple[Array, Any]:
  """The index, and what `backward` needs."""
  ratio, *derivatives = _parts(config, image, target)
  return jnp.sum(ratio * _inside(config, image)), (image, target, derivatives)


def backward(config: SsimConfig, residuals: Any, cotangent: Array) -> Array:
  """Gradient of the image."""
  image, target, derivatives = residuals
  channels = image.shape[-1]
  weight = cotangent * _inside(config, image)
  blurred = _blur(jnp.concatenate([d * weight for d in derivatives], axis=-1))
  first, second, third = (blurred[..., i * channels : (i + 1) * channels] for i in range(3))
  return formula.gradient(image, target, (first, second, third))
