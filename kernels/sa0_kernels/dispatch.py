"""Picks an implementation of an operation from static facts, and says why not when it cannot."""

import contextlib
import contextvars
import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import jax

from sa0_kernels import numba_cache

# Platform a kernel is compiled for; the others run anywhere or say themselves where they do not.
_PLATFORMS = {'triton': 'gpu', 'mosaic_gpu': 'gpu', 'mosaic_tpu': 'tpu'}

# What is tried first when nothing is named: the fastest that has been run and checked on such a
# device. `xla` runs everywhere.
_PREFERRED = {
  'rasterize': {'cpu': 'numba', 'gpu': 'triton'},
  'ssim': {'cpu': 'numba'},
}

_foreign = contextvars.ContextVar('_foreign', default=False)


@contextlib.contextmanager
def allow_other_platforms() -> Iterator[None]:
  """Inside, kernels of a platform that this machine lacks can be named.

  For tests and for compiling ahead of time: on a CPU such a kernel runs in Pallas' interpreter,
  hundreds of times slower than `xla`; lowered for its own platform it is compiled.
  """
  token = _foreign.set(True)
  try:
    yield
  finally:
    _foreign.reset(token)


def load(implementations: Mapping[str, str], name: str) -> ModuleType:
  """The module of an implementation; imported when first used, for numba's import is slow."""
  return importlib.import_module(implementations[name])


def choose(
  operation: str, implementations: Mapping[str, str], name: str | None, *inputs: Any
) -> str:
  """Name of the implementation to run.

  Args:
    operation: for messages.
    implementations: name → module with `unsupported(*inputs) -> list of reasons`.
    name: the caller's choice, or None for the fastest that can run.
    *inputs: passed to `unsupported`.

  Raises:
    ValueError: no implementation of this name.
    NotImplementedError: the chosen one cannot run these inputs; the message says why.
  """
  if name is None:
    best = preferred(operation)
    return _ready(best) if not load(implementations, best).unsupported(*inputs) else 'xla'
  if name not in implementations:
    known = ', '.join(sorted(implementations))
    raise ValueError(f'{operation}: no implementation {name!r}; there are {known}')
  reason = missing(name)
  reasons = [reason] if reason else load(implementations, name).unsupported(*inputs)
  if reasons:
    raise NotImplementedError(
      f'{operation}: implementation {name!r} cannot run this: ' + '; '.join(reasons)
    )
  return _ready(name)


def preferred(operation: str, platform: str | None = None) -> str:
  """What is tried first when no implementation is named.

  Args:
    operation: 'rasterize' or 'ssim'.
    platform: 'cpu', 'gpu' or 'tpu'; None is this machine's.
  """
  here = jax.default_backend() if platform is None else platform
  if here in _PREFERRED[operation]:
    best = _PREFERRED[operation][here]
    if not missing(best):
      return best
  return 'xla'


def _ready(name: str) -> str:
  """The name, once its code is compiled."""
  if name == 'numba':
    numba_cache.compile_ahead()
  return name


def missing(name: str) -> str:
  """What an implementation lacks on this machine, or ''."""
  if name == 'numba' and importlib.util.find_spec('numba') is None:
    return 'numba is not installed: pip install "sa0-jax[cpu]"'
  needed, here = _PLATFORMS.get(name), jax.default_backend()
  if needed and needed != here and not _foreign.get():
    return f'it needs a {needed.upper()}, and JAX runs on {here} here'
  if name == 'triton':
    if importlib.util.find_spec('jax.experimental.pallas.triton') is None:
      return f'JAX {jax.__version__} has no Triton backend of Pallas any more'
    if not _foreign.get() and 'rocm' in jax.devices()[0].client.platform_version.lower():
      return 'it has only been run on NVIDIA GPUs, and this is ROCm'
  if name == 'mosaic_gpu':
    if importlib.util.find_spec('absl') is None:
      return 'this part of JAX needs absl: pip install absl-py'
    if here == 'gpu':
      capability = float(getattr(jax.devices()[0], 'compute_capability', '0'))
      if capability < 9.0:
        return f'it needs compute capability 9.0 (Hopper), this GPU has {capability}'
  return ''
