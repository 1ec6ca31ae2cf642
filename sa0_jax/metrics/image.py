"""Image metrics as the field computes them; always name the background and the region with them."""

import jax.numpy as jnp
from jaxtyping import Array, Float
from sa0_kernels import SsimConfig
from sa0_kernels import ssim as ssim_index

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, what `cv2.cvtColor(…, RGB2GRAY)` uses


def psnr(
  image: Float[Array, 'h w c'],
  target: Float[Array, 'h w c'],
  mask: Float[Array, 'h w'] | None = None,
) -> Float[Array, '']:
  """Peak signal-to-noise ratio in dB, of values in [0, 1].

  Args:
    image, target: the images.
    mask: weight of each pixel; None takes the whole image.
  """
  error = jnp.mean((jnp.clip(image, 0.0, 1.0) - target) ** 2, axis=-1)
  weight = jnp.ones_like(error) if mask is None else mask
  mean = jnp.sum(error * weight) / jnp.maximum(jnp.sum(weight), 1e-8)
  return -10.0 * jnp.log10(jnp.maximum(mean, 1e-12))


def ssim_rgb(image: Float[Array, 'h w c'], target: Float[Array, 'h w c']) -> Float[Array, '']:
  """SSIM, 11 × 11 window with σ = 1.5, each channel by itself, averaged inside the border."""
  return ssim_index(jnp.clip(image, 0.0, 1.0), target, SsimConfig('valid'))


def ssim_padded(image: Float[Array, 'h w c'], target: Float[Array, 'h w c']) -> Float[Array, '']:
  """SSIM as the code of 3D Gaussian splatting computes it: zeros around, averaged everywhere."""
  return ssim_index(jnp.clip(image, 0.0, 1.0), target, SsimConfig('same'))


def ssim_gray(image: Float[Array, 'h w 3'], target: Float[Array, 'h w 3']) -> Float[Array, '']:
  """SSIM of the luminance, as the GAGAvatar family reports it."""
  luma = jnp.asarray(_LUMA, image.dtype)
  pair = (jnp.clip(image, 0.0, 1.0), target)
  gray, gray_target = (jnp.sum(x * luma, axis=-1, keepdims=True) for x in pair)
  return ssim_index(gray, gray_target, SsimConfig('valid'))
