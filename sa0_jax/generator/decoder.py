"""UV features and a view direction to Gaussians on the head mesh (SpatialAvatar-0, Stage 1)."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float
from sa0_kernels import Camera

from sa0_jax.avatar.activations import POSITION_BOUND, logit, soft_bound
from sa0_jax.avatar.gaussians import BoundGaussians
from sa0_jax.capture.initialize import INITIAL_OPACITY, shell_gaussians
from sa0_jax.generator.initializers import normal
from sa0_jax.geometry.rotations import quaternion_multiply
from sa0_jax.head.model import HeadModel
from sa0_jax.head.uv_layout import UVLayout
from sa0_jax.precision import precision_of

_OCTAVES = 4
VIEW_CHANNELS = 3 + 3 * 2 * _OCTAVES
_NEGATIVE_SLOPE = 0.2  # of leaky ReLUs, as in StyleGAN2
# Colours are kept so far from black and white: beyond, a logit is too far out to be corrected.
_COLOR_MARGIN = 0.02
_GROWN = 0.3  # logarithm of how much larger or smaller than their texels held Gaussians may be
_TURNED = 0.2  # how far their quaternions may be from no rotation, in each of the four numbers


def optical_axis(camera: Camera) -> Float[Array, '*batch 3']:
  """The direction a camera looks in: a unit vector in world coordinates.

  The third ROW of the rotation in x_camera = R x_world + t, whose camera axes are its rows. (The
  paper's "third column" is the same vector where points are rows, as in PyTorch3D.)
  """
  axis = jnp.asarray(camera.world_to_camera)[..., 2, :3]
  return axis / jnp.sqrt(jnp.sum(axis * axis, axis=-1, keepdims=True))


def view_encoding(direction: Float[Array, '*batch 3']) -> Float[Array, '*batch 27']:
  """γ(d): a direction at several frequencies, 27 numbers.

  Ordered d, sin(π d), cos(π d), sin(2π d), cos(2π d), sin(4π d), cos(4π d), sin(8π d), cos(8π d),
  three numbers (x, y, z) each.

  Args:
    direction: unit vectors.
  """
  parts = [direction]
  for octave in range(_OCTAVES):
    angle = (2.0**octave * np.pi) * direction
    parts += [jnp.sin(angle), jnp.cos(angle)]
  return jnp.concatenate(parts, axis=-1)


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
  """The five heads that read Gaussians off UV features.

  Attributes:
    channels: of the UV features.
    hidden: channels of the hidden layers.
    layers: number of hidden layers of each head.
    output_std: standard deviation of the initial weights of the output layers: small, so that an
      untrained avatar is the head mesh.
    colors_from_rgb: start colours from what the sources show at each texel (`rgb` in calls). Ours:
      the paper does not say how colour gets through; a network of any quality then shows the
      person. False decodes colour from the features alone.
  """

  channels: int = 32
  hidden: int = 64
  layers: int = 2
  output_std: float = 1e-3
  colors_from_rgb: bool = True

  def __post_init__(self) -> None:
    for name in ('channels', 'hidden', 'layers', 'output_std'):
      if not getattr(self, name) > 0:
        raise ValueError(f'DecoderConfig: {name} must be positive, got {getattr(self, name)}')


class DecodedMaps(NamedTuple):
  """What the heads say about each Gaussian, before activation; float32.

  Attributes:
    position: [*batch, n, 3] offset from the texel's own point, triangle units.
    rotation: [*batch, n, 4] offset from the identity quaternion (w, x, y, z).
    log_scale: [*batch, n, 3] offset from the logarithm of the texel's size.
    opacity_logit: [*batch, n] offset from the initial opacity's.
    color_logit: [*batch, n, 3] inverse sigmoid of the RGB colour; 0 is mid-grey.
  """

  position: Float[Array, '*batch n 3']
  rotation: Float[Array, '*batch n 4']
  log_scale: Float[Array, '*batch n 3']
  opacity_logit: Float[Array, '*batch n']
  color_logit: Float[Array, '*batch n 3']


class AttributeHead(nnx.Module):
  """A small MLP, texel by texel, on features ⊕ γ(d): a stack of 1×1 convolutions."""

  def __init__(
    self, config: DecoderConfig, outputs: int, *, rngs: nnx.Rngs, dtype: DTypeLike = jnp.float32
  ):
    def linear(inputs: int, fan_in: int, use_bias: bool = True) -> nnx.Linear:
      return nnx.Linear(
        inputs,
        config.hidden,
        use_bias=use_bias,
        dtype=dtype,
        precision=precision_of(dtype),
        kernel_init=normal((2.0 / fan_in) ** 0.5),
        rngs=rngs,
      )

    # One layer on the concatenation, in two parts: γ is the same for all texels of a view, and so
    # is what it adds.
    total = config.channels + VIEW_CHANNELS
    self.from_features = linear(config.channels, total)
    self.from_view = linear(VIEW_CHANNELS, total, use_bias=False)
    self.hidden = nnx.List(linear(config.hidden, config.hidden) for _ in range(config.layers - 1))
    # Float32 always: positions need more than the eight bits of bfloat16.
    self.out = nnx.Linear(
      config.hidden,
      outputs,
      dtype=jnp.float32,
      precision=jax.lax.Precision.HIGHEST,
      kernel_init=normal(config.output_std),
      rngs=rngs,
    )

  def __call__(
    self, features: Float[Array, '*batch n c'], gamma: Float[Array, '*batch 27']
  ) -> Float[Array, '*batch n outputs']:
    """Raw values of one attribute, float32."""
    x = self.from_features(features) + self.from_view(gamma)[..., None, :]
    x = jax.nn.leaky_relu(x, _NEGATIVE_SLOPE)
    for layer in self.hidden:
      x = jax.nn.leaky_relu(layer(x), _NEGATIVE_SLOPE)
    return self.out(x)


class Decoder(nnx.Module):
  """Five parallel heads: position, rotation, log-scale, colour, opacity.

  They run on the valid texels only: gather features with `UVLayout.from_image` first.
  """

  def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs, dtype: DTypeLike = jnp.float32):
    """Makes heads with random weights and nearly silent output layers.

    Args:
      config: their shape.
      rngs: where the weights come from.
      dtype: of the hidden layers, float32 or bfloat16; parameters and outputs are float32.
    """
    self.position = AttributeHead(config, 3, rngs=rngs, dtype=dtype)
    self.rotation = AttributeHead(config, 4, rngs=rngs, dtype=dtype)
    self.log_scale = AttributeHead(config, 3, rngs=rngs, dtype=dtype)
    self.color = AttributeHead(config, 3, rngs=rngs, dtype=dtype)
    self.opacity = AttributeHead(config, 1, rngs=rngs, dtype=dtype)
    self.config = config

  def __call__(
    self,
    features: Float[Array, '*batch n c'],
    gamma: Float[Array, '*batch 27'],
    rgb: Float[Array, '*batch n 3'] | None = None,
  ) -> DecodedMaps:
    """Decodes Gaussians.

    Args:
      features: UV features of the valid texels.
      gamma: `view_encoding` of the target camera's `optical_axis`.
      rgb: the sources' mean colour at the texels in [0, 1]; needed with `colors_from_rgb`, unused
        without. 0.5 where nothing is known.

    Raises:
      ValueError: `rgb` is missing.
    """
    color = self.color(features, gamma)
    if self.config.colors_from_rgb:
      if rgb is None:
        raise ValueError('Decoder: colors_from_rgb needs rgb, the mean colour of the sources')
      color = color + logit(rgb.astype(jnp.float32), _COLOR_MARGIN)
    return DecodedMaps(
      position=self.position(features, gamma),
      rotation=self.rotation(features, gamma),
      log_scale=self.log_scale(features, gamma),
      opacity_logit=self.opacity(features, gamma)[..., 0],
      color_logit=color,
    )


def geometry(
  decoder: Decoder, features: Float[Array, '*batch n c'], gamma: Float[Array, '*batch 27']
) -> tuple[Float[Array, '*batch n 3'], Float[Array, '*batch n 3']]:
  """Position and log-scale as the decoder's functions of γ, for the Jacobian penalty.

  Local and before activation: neither the bound on positions nor the limits of scales, where
  slopes vanish, can hide a dependence on the view.
  """
  return decoder.position(features, gamma), decoder.log_scale(features, gamma)


class RestGaussians(NamedTuple):
  """Gaussians that lie on the neutral mesh, or on the hair over it, and cover their texels.

  Attributes:
    position: [n, 3] the texel's point in its triangle's frame, triangle units.
    log_scale: [n, 3] of Gaussians that just overlap their neighbours.
    rotation: [n, 4] from the triangle's frame to theirs (w, x, y, z); None for no rotation.
    coarser: [n] how many times as large texels were in training; None for as large as these.
  """

  position: Float[Array, '*batch n 3']
  log_scale: Float[Array, '*batch n 3']
  rotation: Float[Array, '*batch n 4'] | None = None
  coarser: Float[Array, '*batch n'] | None = None


def rest_gaussians(head: HeadModel, layout: UVLayout) -> RestGaussians:
  """Where decoded Gaussians start from: the neutral head, one Gaussian to a texel."""
  mesh = head.v_template
  # May be called inside traced code; the arrays kept must not be tracers.
  with jax.ensure_compile_time_eval():
    bound = shell_gaussians(head, layout, mesh, mesh, np.full((layout.n, 3), 0.5))
  return RestGaussians(bound.position, bound.log_scale)


def to_bound_gaussians(
  decoded: DecodedMaps,
  rest: RestGaussians,
  position_bound: float = POSITION_BOUND,
  hold: bool = False,
) -> BoundGaussians:
  """Decoded values as the parameters of Gaussians.

  Zeros give Gaussians on the mesh, unrotated, as large as their texels, of opacity 0.8, grey.

  Args:
    decoded: from `Decoder`, residual included where there is one.
    rest: what zeros mean, from `rest_gaussians`.
    position_bound: local positions stay within ± this, triangle units.
    hold: keep Gaussians within their own size of where they rest, near that size, and turned by
      less than 29 degrees about each axis: nothing else asks discs to lie on the surface, and those
      that stand on edge are a rough start for refinement. Where texels were coarser in training
      Gaussians may go as far as then, or an outline that was learned is not met; and they are
      larger than these texels ask for by the root of it, or what was learned about neighbours that
      overlap more would open gaps.

  Raises:
    ValueError: the bound is not positive.
  """
  if not position_bound > 0:
    raise ValueError(f'to_bound_gaussians: position_bound must be positive, got {position_bound}')
  identity = jnp.asarray([1.0, 0.0, 0.0, 0.0], decoded.rotation.dtype)
  opacity = jnp.asarray(INITIAL_OPACITY, decoded.opacity_logit.dtype)
  turned, moved, grown = decoded.rotation, decoded.position, decoded.log_scale
  if hold:
    turned = soft_bound(turned, _TURNED)
    size = jnp.exp(jnp.max(rest.log_scale, axis=-1, keepdims=True))
    grown = soft_bound(grown, _GROWN)
    if rest.coarser is not None:
      size = size * rest.coarser[..., None]
      grown = grown + 0.5 * jnp.log(rest.coarser[..., None])
    moved = soft_bound(moved / size, 1.0) * size
  rotation = identity + turned
  if rest.rotation is not None:
    rotation = quaternion_multiply(rest.rotation, rotation)
  return BoundGaussians(
    position=soft_bound(rest.position + moved, position_bound),
    rotation=rotation,
    log_scale=rest.log_scale + grown,
    opacity_logit=logit(opacity) + decoded.opacity_logit,
    color_logit=decoded.color_logit,
  )
