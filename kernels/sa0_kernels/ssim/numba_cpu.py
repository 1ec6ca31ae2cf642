"""SSIM and its adjoint on the CPU: numba kernels called from jit through XLA's FFI."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from sa0_kernels import host_call
from sa0_kernels.ssim import folded, numba_kernels
from sa0_kernels.ssim.types import SsimConfig

_SCENE_RANKS = (3, 3, 1)


def unsupported(image: Array) -> list[str]:
  """Reasons why this implementation cannot run."""
  reasons = folded.unsupported(image)
  if jax.default_backend() != 'cpu':
    reasons.append(f'it runs on CPU, the default device is {jax.default_backend()}')
  return reasons


def _forward_host(arguments: list[np.ndarray], results: list[np.ndarray]) -> None:
  ranks = (*_SCENE_RANKS, 1, 4)
  for slot in host_call.slots(arguments + results, ranks[: len(arguments) + len(results)]):
    image, target, constants, total, *kept = slot
    height, width, channels = image.shape
    flat = (height, width * channels)
    derivatives = kept[0] if kept else np.empty((3, *image.shape), np.float32)
    total[0] = numba_kernels.forward(
      image.reshape(flat), target.reshape(flat), channels, constants, derivatives.reshape(3, *flat)
    )


def _backward_host(arguments: list[np.ndarray], results: list[np.ndarray]) -> None:
  for image, target, scale, derivatives, gradient in host_call.slots(
    arguments + results, (*_SCENE_RANKS, 4, 3)
  ):
    height, width, channels = image.shape
    flat = (height, width * channels)
    numba_kernels.backward(
      image.reshape(flat),
      target.reshape(flat),
      channels,
      derivatives.reshape(3, *flat),
      scale[0],
      gradient.reshape(flat),
    )


host_call.register('sa0_ssim_forward', _forward_host)
host_call.register('sa0_ssim_backward', _backward_host)


def _call(config: SsimConfig, image: Array, target: Array, keep: bool) -> Any:
  constants = jnp.asarray([*config.stabilizers, config.margin], jnp.float32)
  results = [jax.ShapeDtypeStruct((1,), np.float32)]
  if keep:
    results.append(jax.ShapeDtypeStruct((3, *image.shape), np.float32))
  total, *kept = host_call.call('sa0_ssim_forward', results, image, target, constants)
  return total[0] / folded.count(config, image.shape), kept


def index(config: SsimConfig, image: Array, target: Array) -> Array:
  """Mean SSIM."""
  return _call(config, image, target, keep=False)[0]


def forward(config: SsimConfig, image: Array, target: Array) -> tuple[Array, Any]:
  """The index, and what `backward` needs."""
  value, (derivatives,) = _call(config, image, target, keep=True)
  return value, (image, target, derivatives)


def backward(config: SsimConfig, residuals: Any, cotangent: Array) -> Array:
  """Gradient of the image."""
  image, target, derivatives = residuals
  scale = (cotangent / folded.count(config, image.shape)).reshape(1)
  result = jax.ShapeDtypeStruct(image.shape, np.float32)
  return host_call.call('sa0_ssim_backward', [result], image, target, scale, derivatives)[0]
