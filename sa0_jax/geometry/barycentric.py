"""Values at places in triangles."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def interpolate(
  values: Float[Array, '*batch v c'], corner: Int[Array, 'n 3'], weights: Float[Array, 'n 3']
) -> Float[Array, '*batch n c']:
  """What vertices have, at places in triangles: the corners' values, weighed."""
  # Term by term: XLA's older emitters for CPUs, which the tests compile with, get a sum over the
  # corners' axis wrong in a batch.
  return sum(
    (weights[:, i, None] * values[..., corner[:, i], :] for i in range(3)),
    jnp.zeros((), values.dtype),
  )
