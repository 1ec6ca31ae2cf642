"""From unconstrained parameters to the attributes of a Gaussian; each map is one function.

The paper is silent on these; the choices are ours and every one is named here.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from sa0_kernels.quaternions import normalize_quaternion

# exp of these is 0.6 thousandths and 20 times the triangle's own scale: beyond both a Gaussian is a
# speck or covers the head.
LOG_SCALE_LIMITS = (-7.5, 3.0)
POSITION_BOUND = 30.0  # triangle units; hair stands 20 and more off the scalp


def soft_bound(values: Float[Array, '*shape'], bound: float) -> Float[Array, '*shape']:
  """Keeps what a network says inside ±bound, with slope 1 at 0 (feed-forward stage)."""
  return bound * jnp.tanh(values / bound)


def activate_rotation(rotation: Float[Array, '*batch 4']) -> Float[Array, '*batch 4']:
  """Unit quaternion (w, x, y, z)."""
  return normalize_quaternion(rotation)


def activate_scale(log_scale: Float[Array, '*batch 3']) -> Float[Array, '*batch 3']:
  """Scale in triangle units: exp of the clamped log-scale."""
  return jnp.exp(jnp.clip(log_scale, *LOG_SCALE_LIMITS))


def activate_opacity(logit: Float[Array, '*batch']) -> Float[Array, '*batch']:
  """Opacity in (0, 1)."""
  return jax.nn.sigmoid(logit)


def activate_color(logit: Float[Array, '*batch c']) -> Float[Array, '*batch c']:
  """Colour in (0, 1)."""
  return jax.nn.sigmoid(logit)


def logit(probability: Float[Array, '*batch'], margin: float = 1e-3) -> Float[Array, '*batch']:
  """Inverse of the sigmoid; probabilities are first moved `margin` away from 0 and 1."""
  clipped = jnp.clip(probability, margin, 1.0 - margin)
  return jnp.log(clipped) - jnp.log1p(-clipped)
