"""First weights, drawn on the host.

`jax.random` compiles a program for every shape, half a minute of them for a network on a cold CPU;
NumPy compiles none, and its bits are the same whatever device the network will run on.
"""

import math
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Key


@runtime_checkable
class Initializer(Protocol):
  """What Flax calls for the first values of a parameter."""

  def __call__(
    self, key: Key[Array, ''], shape: Sequence[int], dtype: DTypeLike = jnp.float32
  ) -> Array:
    """Draws an array."""
    ...


_CUT = 2.0  # truncated normals end at two standard deviations
_CUT_STD = 0.87962566103423978  # what the cut leaves of a standard deviation of one


def _draw(
  key: Key[Array, ''], shape: Sequence[int], dtype: DTypeLike, std: float, cut: bool
) -> Float[Array, '...']:
  result = jax.ShapeDtypeStruct(tuple(shape), dtype)

  def on_host(words: Array) -> np.ndarray:
    seed = np.random.SeedSequence([int(word) for word in np.asarray(words).ravel()])
    generator = np.random.Generator(np.random.Philox(seed))
    values = generator.standard_normal(math.prod(result.shape), np.float32)
    while cut and len(outside := np.flatnonzero(np.abs(values) > _CUT)):
      values[outside] = generator.standard_normal(len(outside), np.float32)
    return (np.float32(std) * values).astype(result.dtype).reshape(result.shape)

  words = jax.random.key_data(key)
  if isinstance(words, jax.core.Tracer):  # networks can be made inside jit and eval_shape too
    return jax.pure_callback(on_host, result, words)
  return jnp.asarray(on_host(words))


def normal(std: float = 1.0) -> Initializer:
  """Independent normals of standard deviation `std`; an initialiser as Flax takes them."""
  return lambda key, shape, dtype=jnp.float32: _draw(key, shape, dtype, std, cut=False)


def truncated_normal(std: float) -> Initializer:
  """Normals of standard deviation `std`, drawn again where they lie beyond two of it."""
  return lambda key, shape, dtype=jnp.float32: _draw(key, shape, dtype, std, cut=True)


def lecun_normal() -> Initializer:
  """Truncated normals of variance 1 / fan-in; all axes but the last are fan-in (LeCun 1998)."""

  def draw(key: Key[Array, ''], shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> Array:
    std = 1.0 / math.sqrt(math.prod(shape[:-1]))
    return _draw(key, shape, dtype, std / _CUT_STD, cut=True)

  return draw
