"""Has every process run the same machine code, the one that compiles it included.

Numba optimises the body of a parallel loop twice: as a function of its own, which the process that
compiles it executes, and again as part of the program it stores, which every later process loads.
With `fastmath` the two round differently, so the very first run on a machine would not give the
bits of the second. Therefore the kernels are compiled by another process; this one loads them.
"""

import contextlib
import functools
import os
import subprocess
import sys
from typing import Any

_CHILD = 'SA0_NUMBA_COMPILING'
_PROGRAM = 'from sa0_kernels.numba_cache import compile_kernels; compile_kernels()'


@functools.cache
def compile_ahead() -> None:
  """Has another process compile the kernels that are not in numba's cache; half a minute, once.

  Where that fails this process compiles them itself, when it calls them.
  """
  if os.environ.get(_CHILD) or _all_stored():
    return
  environment = {
    **os.environ,
    _CHILD: '1',
    'JAX_PLATFORMS': 'cpu',
    'PYTHONPATH': os.pathsep.join(path or os.curdir for path in sys.path),
  }
  # Whoever listens for compilation (numba.core.event) hears of it as if it happened here.
  with _announced(), contextlib.suppress(OSError):
    subprocess.run(
      [sys.executable, '-c', _PROGRAM],
      env=environment,
      stdin=subprocess.DEVNULL,
      capture_output=True,
      check=False,
    )


def _announced() -> contextlib.AbstractContextManager[Any]:
  from numba.core import event

  return event.trigger_event('numba:compile', {'dispatcher': None, 'args': (), 'return_type': None})


def _all_stored() -> bool:
  """Whether numba's cache holds every kernel, for this processor and these sources."""
  from sa0_kernels.rasterize import numba_binning, numba_composite, numba_project
  from sa0_kernels.ssim import numba_kernels

  modules = (numba_binning, numba_composite, numba_project, numba_kernels)
  found = [value for module in modules for value in vars(module).values()]
  try:
    return all(_is_stored(value) for value in found if hasattr(value, '_cache'))
  except AttributeError:  # another numba keeps its cache in another way: nothing can be said
    return True


def _is_stored(dispatcher: Any) -> bool:
  """Whether a function is in the cache; True for functions that are not meant to be."""
  if not hasattr(dispatcher._cache, '_cache_file'):
    return True
  processor = dispatcher.targetctx.codegen().magic_tuple()
  return any(key[1] == processor for key in dispatcher._cache._cache_file._load_index())


def compile_kernels() -> None:
  """Calls every kernel once, with every kind of argument it gets."""
  import jax
  import jax.numpy as jnp

  from sa0_kernels import Camera, RasterConfig, rasterize, ssim

  camera = Camera(jnp.eye(4), jnp.asarray([20.0, 20.0, 8.0, 8.0]), 16, 16)
  means = jnp.asarray([[0.0, 0.0, 2.0], [0.1, 0.0, 3.0]])
  others = (jnp.ones((2, 4)), jnp.full((2, 3), 0.1), jnp.full(2, 0.5), jnp.ones((2, 3)))

  # The second capacity is too small to keep the lists for the backward pass.
  @functools.partial(jax.jit, static_argnames='capacity')
  def loss(means: Any, capacity: int | None) -> Any:
    config = RasterConfig(background=jnp.ones(3), capacity=capacity)
    image = rasterize(means, *others, camera, config, 'numba').features
    return jnp.mean(ssim(image, jnp.zeros_like(image)))

  for capacity in (None, 1):
    jax.block_until_ready(jax.grad(loss)(means, capacity))
    jax.block_until_ready(loss(means, capacity))
