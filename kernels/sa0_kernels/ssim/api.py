"""`ssim`: one function, one custom_vjp, several implementations."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sa0_kernels import dispatch
from sa0_kernels.ssim.types import RADIUS, SsimConfig
from sa0_kernels.typing import ArrayLike

IMPLEMENTATIONS = {
  'numba': 'sa0_kernels.ssim.numba_cpu',
  'triton': 'sa0_kernels.ssim.triton',
  'mosaic_gpu': 'sa0_kernels.ssim.mosaic_gpu',
  'mosaic_tpu': 'sa0_kernels.ssim.mosaic_tpu',
  'xla': 'sa0_kernels.ssim.xla',
  'reference': 'sa0_kernels.ssim.reference',
}


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _ssim(name: str, config: SsimConfig, image: Array, target: Array) -> Array:
  return dispatch.load(IMPLEMENTATIONS, name).index(config, image, target)


def _ssim_forward(name: str, config: SsimConfig, image: Array, target: Array) -> tuple[Array, Any]:
  return dispatch.load(IMPLEMENTATIONS, name).forward(config, image, target)


def _ssim_backward(
  name: str, config: SsimConfig, residuals: Any, cotangent: Array
) -> tuple[Array, Array]:
  gradient = dispatch.load(IMPLEMENTATIONS, name).backward(config, residuals, cotangent)
  return gradient, jnp.zeros_like(gradient)


_ssim.defvjp(_ssim_forward, _ssim_backward)


def ssim(
  image: Float[ArrayLike, '*batch h w c'],
  target: Float[ArrayLike, '*batch h w c'],
  config: SsimConfig | None = None,
  implementation: str | None = None,
) -> Float[Array, '*batch']:
  """Mean structural similarity with an 11 × 11 Gaussian window, σ = 1.5 (Wang et al. 2004).

  Channels are treated separately and averaged. Differentiable in `image`; `target` is a constant
  (the index is symmetric: swap the arguments to differentiate by the other).

  Args:
    image: [*batch, h, w, c] in [0, data_range].
    target: the same shape.
    config: border handling and range; None for the defaults.
    implementation: 'numba', 'triton', 'mosaic_gpu', 'mosaic_tpu', 'xla' or 'reference'; None picks
      the fastest that can run here.

  Returns:
    [*batch] the index, 1 for equal images.

  Raises:
    ValueError: the shapes differ, or the image is smaller than the window.
    NotImplementedError: the named implementation cannot run these inputs.
  """
  config = SsimConfig() if config is None else config
  dtype = jnp.result_type(image, target)
  image, target = jnp.asarray(image, dtype), jnp.asarray(target, dtype)
  if image.shape != target.shape or image.ndim < 3:
    raise ValueError(
      f'ssim: image {image.shape} and target {target.shape} must both be [*batch, h, w, c]'
    )
  if min(image.shape[-3:-1]) < 2 * RADIUS + 1:
    raise ValueError(f'ssim: image {image.shape} is smaller than the 11 px window')
  name = dispatch.choose('ssim', IMPLEMENTATIONS, implementation, image)
  call = functools.partial(_ssim, name, config)
  for _ in image.shape[:-3]:
    call = jax.vmap(call)
  return call(image, jax.lax.stop_gradient(target))
