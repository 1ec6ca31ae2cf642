"""Gaussians, in the frames of the triangles that carry them and in the world."""

import dataclasses

from jaxtyping import Array, Float
from sa0_kernels import Camera, RasterConfig, RasterOutput, pytree, rasterize

from sa0_jax.avatar import activations


@pytree.register
@dataclasses.dataclass(frozen=True)
class BoundGaussians:
  """One Gaussian per valid UV texel, as unconstrained parameters in its triangle's frame.

  Lengths are in units of the triangle's scale (see `binding`). `activations` turns the parameters
  into attributes.

  Attributes:
    position: [*batch, n, 3] local position.
    rotation: [*batch, n, 4] local rotation, (w, x, y, z), any length.
    log_scale: [*batch, n, 3] logarithm of the local standard deviations.
    opacity_logit: [*batch, n] inverse sigmoid of the opacity.
    color_logit: [*batch, n, c] inverse sigmoid of the colour; the first three channels are RGB.
  """

  position: Float[Array, '*batch n 3']
  rotation: Float[Array, '*batch n 4']
  log_scale: Float[Array, '*batch n 3']
  opacity_logit: Float[Array, '*batch n']
  color_logit: Float[Array, '*batch n c']

  @property
  def n(self) -> int:
    """Number of Gaussians."""
    return self.position.shape[-2]


@pytree.register
@dataclasses.dataclass(frozen=True)
class Gaussians:
  """Gaussians in world space, ready to be rasterised.

  Attributes:
    means: [n, 3] metres.
    quats: [n, 4] unit quaternions (w, x, y, z).
    scales: [n, 3] standard deviations, metres.
    opacities: [n] in (0, 1).
    colors: [n, c] in (0, 1).
  """

  means: Float[Array, 'n 3']
  quats: Float[Array, 'n 4']
  scales: Float[Array, 'n 3']
  opacities: Float[Array, ' n']
  colors: Float[Array, 'n c']

  def rasterize(
    self, camera: Camera, config: RasterConfig | None = None, implementation: str | None = None
  ) -> RasterOutput:
    """Renders the Gaussians; see `sa0_kernels.rasterize`."""
    return rasterize(
      self.means,
      self.quats,
      self.scales,
      self.opacities,
      self.colors,
      camera,
      config,
      implementation,
    )


def local_attributes(bound: BoundGaussians) -> Gaussians:
  """Activates the parameters, still in the triangles' frames and units."""
  return Gaussians(
    means=bound.position,
    quats=activations.activate_rotation(bound.rotation),
    scales=activations.activate_scale(bound.log_scale),
    opacities=activations.activate_opacity(bound.opacity_logit),
    colors=activations.activate_color(bound.color_logit),
  )
