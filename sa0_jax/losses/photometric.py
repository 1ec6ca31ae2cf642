"""Terms that compare a rendered image with its target."""

import jax.numpy as jnp
from jaxtyping import Array, Float
from sa0_kernels import ssim


def composite(
  image: Float[Array, '*batch h w c'],
  matte: Float[Array, '*batch h w'],
  background: Float[Array, '*#batch c'],
) -> Float[Array, '*batch h w c']:
  """Puts the matted part of an image over a flat colour: m·I + (1 − m)·b."""
  weight = matte[..., None]
  return weight * image + (1.0 - weight) * background[..., None, None, :]


def l1(image: Float[Array, '*shape'], target: Float[Array, '*shape']) -> Float[Array, '']:
  """Mean absolute error."""
  return jnp.mean(jnp.abs(image - target))


def ssim_loss(
  image: Float[Array, '*batch h w c'], target: Float[Array, '*batch h w c']
) -> Float[Array, '']:
  """1 − SSIM with an 11 × 11 window, averaged over every pixel."""
  return 1.0 - jnp.mean(ssim(image, target))
