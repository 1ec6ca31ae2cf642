"""The definition: a 2D convolution per moment, differentiated by JAX."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sa0_kernels.ssim.types import RADIUS, WINDOW, SsimConfig


def unsupported(image: Array) -> list[str]:
  """Reasons why this implementation cannot run: none."""
  del image
  return []


def _blur(x: Float[Array, 'h w c']) -> Float[Array, 'h w c']:
  window = jnp.outer(jnp.asarray(WINDOW, x.dtype), jnp.asarray(WINDOW, x.dtype))
  blurred = jax.lax.conv_general_dilated(
    x.transpose(2, 0, 1)[:, None],
    window[None, None],
    window_strides=(1, 1),
    padding=[(RADIUS, RADIUS)] * 2,
    precision=jax.lax.Precision.HIGHEST,
  )
  return blurred[:, 0].transpose(1, 2, 0)


def index(
  config: SsimConfig, image: Float[Array, 'h w c'], target: Float[Array, 'h w c']
) -> Float[Array, '']:
  """Mean SSIM."""
  c1, c2 = config.stabilizers
  mean_a, mean_b = _blur(image), _blur(target)
  var_a = _blur(image * image) - mean_a * mean_a
  var_b = _blur(target * target) - mean_b * mean_b
  cov = _blur(image * target) - mean_a * mean_b
  ratio = (2 * mean_a * mean_b + c1) * (2 * cov + c2)
  ratio /= (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
  m = config.margin
  return jnp.mean(ratio[m : ratio.shape[0] - m, m : ratio.shape[1] - m])


def forward(config: SsimConfig, image: Array, target: Array) -> tuple[Array, Any]:
  """The index, and what `backward` needs."""
  return index(config, image, target), (image, target)


def backward(config: SsimConfig, residuals: Any, cotangent: Array) -> Array:
  """Gradient of the image."""
  image, target = residuals
  return jax.vjp(lambda x: index(config, x, target), image)[1](cotangent)[0]
