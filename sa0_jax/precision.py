"""How exactly matrix products are computed."""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike


def precision_of(dtype: DTypeLike) -> jax.lax.Precision | None:
  """In full where a layer computes in float32, which a GPU would round to TF32; else None."""
  return jax.lax.Precision.HIGHEST if jnp.dtype(dtype) == jnp.float32 else None
