"""Corrections that depend on the target frame's FLAME codes (SpatialAvatar-0, Stage 1, step 7)."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from sa0_jax.generator.decoder import DecodedMaps
from sa0_jax.generator.initializers import lecun_normal
from sa0_jax.head.model import HeadCodes

_EXPRESSIONS = 100
CONDITION_CHANNELS = _EXPRESSIONS + 6 + 6
# Opacity is left out on purpose: it made alpha pump during animation. So is the shape code, which
# acts through the mesh.
_OUTPUTS = {'position': 3, 'rotation': 4, 'log_scale': 3, 'color_logit': 3}
_PRECISION = jax.lax.Precision.HIGHEST
_NEGATIVE_SLOPE = 0.2


def condition_from_codes(codes: HeadCodes) -> Float[Array, '*batch 112']:
  """Expression (the first 100) ⊕ pose (root rotation, jaw) ⊕ eyes, of any batch of frames.

  Raises:
    ValueError: the head model has fewer than 100 expression directions.
  """
  count = codes.expression.shape[-1]
  if count < _EXPRESSIONS:
    raise ValueError(
      f'condition_from_codes: {count} expression coefficients, the residual head needs at least '
      f'{_EXPRESSIONS}: use a head model with more expression directions, or switch the residual '
      'head off'
    )
  parts = (codes.expression[..., :_EXPRESSIONS], codes.rotation, codes.jaw, codes.eyes)
  batch = jnp.broadcast_shapes(*(part.shape[:-1] for part in parts))
  return jnp.concatenate(
    [jnp.broadcast_to(jnp.asarray(part), (*batch, part.shape[-1])) for part in parts], axis=-1
  )


@dataclasses.dataclass(frozen=True)
class ResidualConfig:
  """The residual head.

  Attributes:
    channels: of the UV features.
    hidden: channels between the two layers that make the modulation.
  """

  channels: int = 32
  hidden: int = 128

  def __post_init__(self) -> None:
    for name in ('channels', 'hidden'):
      if getattr(self, name) < 1:
        raise ValueError(f'ResidualConfig: {name} must be positive, got {getattr(self, name)}')


class Residual(NamedTuple):
  """What is added to the decoded maps of the same names, before activation; float32."""

  position: Float[Array, '*batch n 3']
  rotation: Float[Array, '*batch n 4']
  log_scale: Float[Array, '*batch n 3']
  color_logit: Float[Array, '*batch n 3']


class ResidualHead(nnx.Module):
  """FiLM-modulated UV features to corrections of position, rotation, scale and colour.

  A two-layer MLP makes γ_a and β_a of the condition for each attribute a, and its correction is
  W_a ((1 + γ_a) x + β_a) + b_a, texel by texel. The MLP's second layer and W_a, b_a start at zero:
  so does every correction, exactly. The view direction is no input.
  """

  def __init__(self, config: ResidualConfig, *, rngs: nnx.Rngs):
    """Makes a head that corrects nothing; it is small, and float32 throughout."""

    def zeros(inputs: int, outputs: int) -> nnx.Linear:
      return nnx.Linear(
        inputs, outputs, precision=_PRECISION, kernel_init=nnx.initializers.zeros_init(), rngs=rngs
      )

    self.embed = nnx.Linear(
      CONDITION_CHANNELS,
      config.hidden,
      precision=_PRECISION,
      kernel_init=lecun_normal(),
      rngs=rngs,
    )
    self.film = zeros(config.hidden, len(_OUTPUTS) * 2 * config.channels)
    self.out = nnx.Dict({name: zeros(config.channels, width) for name, width in _OUTPUTS.items()})
    self.config = config

  def __call__(
    self, features: Float[Array, '*batch n c'], condition: Float[Array, '*batch 112']
  ) -> Residual:
    """Corrections for one target frame per batch entry.

    Args:
      features: UV features of the valid texels, those the decoder sees.
      condition: `condition_from_codes` of the target frames.
    """
    film = self.film(jax.nn.leaky_relu(self.embed(condition), _NEGATIVE_SLOPE))
    film = film.reshape(*condition.shape[:-1], len(_OUTPUTS), 2, self.config.channels)
    kernels, biases = [], []
    for index, name in enumerate(_OUTPUTS):
      kernel, bias = self.out[name].kernel[...], self.out[name].bias[...]
      gain, shift = film[..., index, 0, :], film[..., index, 1, :]
      # W ((1 + γ) x + β) + b = (W diag(1 + γ)) x + (W β + b): modulating the few weights instead
      # of the features of every texel.
      kernels.append((1.0 + gain)[..., None] * kernel)
      biases.append(jnp.matmul(shift, kernel, precision=_PRECISION) + bias)
    total = jnp.matmul(
      features.astype(jnp.float32), jnp.concatenate(kernels, axis=-1), precision=_PRECISION
    )
    total = total + jnp.concatenate(biases, axis=-1)[..., None, :]
    ends = np.cumsum(list(_OUTPUTS.values()))[:-1]
    return Residual(*jnp.split(total, ends, axis=-1))


def no_residual(decoded: DecodedMaps) -> Residual:
  """No corrections."""
  return Residual(**{name: jnp.zeros_like(getattr(decoded, name)) for name in _OUTPUTS})


def apply_residual(decoded: DecodedMaps, residual: Residual) -> DecodedMaps:
  """Adds the corrections; opacity stays."""
  corrected = {name: getattr(decoded, name) + getattr(residual, name) for name in _OUTPUTS}
  return decoded._replace(**corrected)
