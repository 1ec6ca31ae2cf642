"""What Stage 1 minimises: sources to Gaussians to an image, compared with a target (METHOD §5)."""

import dataclasses
import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, UInt8
from sa0_kernels import Camera, RasterConfig, RasterOutput

from sa0_jax.generator.decoder import geometry, optical_axis, view_encoding
from sa0_jax.generator.generator import Decoded, Generator, Identity, RigArrays, Sources
from sa0_jax.head.model import HeadCodes
from sa0_jax.losses import photometric, regularizers, stage1
from sa0_jax.losses.face_box import dilate_box, face_box_l1
from sa0_jax.losses.lpips import Lpips, lpips
from sa0_jax.losses.ms_ssim import ms_ssim_loss
from sa0_jax.losses.stage1 import LossWeights
from sa0_jax.metrics.image import psnr
from sa0_jax.render import pose_gaussians


class Targets(NamedTuple):
  """One frame of each of b people, to be reproduced.

  Attributes:
    image: [b, h, w, 3] RGB in [0, 1], the head over black.
    vertices: [b, v, 3] posed meshes, metres.
    camera: [b] cameras.
    codes: of the frames, [b].
    box: [b, 4] face boxes as tracked: left, top, right, bottom, px.
    matte: [b, h, w] 255 where the pixel belongs to the head; for random backgrounds alone.
  """

  image: Float[Array, 'b h w 3']
  vertices: Float[Array, 'b v 3']
  camera: Camera
  codes: HeadCodes
  box: Float[Array, 'b 4']
  matte: UInt8[Array, 'b h w'] | None = None


class Batch(NamedTuple):
  """What one step looks at."""

  sources: Sources
  targets: Targets


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
  """The loss.

  Attributes:
    weights: of its terms.
    phase: 1, monocular-temporal, or 2, multi-view-spatial.
    background: target and render are compared over 'black', or over a colour drawn for each target
      ('random', ours for Stage 1: over black, dark hair has no outline).
    jacobian_estimator: 'hutchinson' or 'exact'.
    capacity: of the rasterizer's instance buffer; None for its default.
    implementation: of the rasterizer; None for the fastest here.
  """

  weights: LossWeights = dataclasses.field(default_factory=LossWeights)
  phase: Literal[1, 2] = 1
  background: Literal['black', 'random'] = 'black'
  jacobian_estimator: Literal['hutchinson', 'exact'] = 'hutchinson'
  capacity: int | None = None
  implementation: str | None = None


class Metrics(NamedTuple):
  """What a step says about itself.

  Attributes:
    loss: the weighted sum.
    terms: its terms, unweighted, by name.
    psnr: mean over the targets, over black.
    num_instances: what the instance buffer has to hold.
    overflowed: an image was short of Gaussians, and the step must be done again.
  """

  loss: Float[Array, '']
  terms: dict[str, Float[Array, '']]
  psnr: Float[Array, '']
  num_instances: Int[Array, '']
  overflowed: Bool[Array, '']


def render_decoded(
  decoded: Decoded, targets: Targets, rig: RigArrays, config: ObjectiveConfig
) -> RasterOutput:
  """The decoded Gaussians on the target meshes, seen by the target cameras, over black."""
  height, width = targets.image.shape[1:3]
  raster = RasterConfig(capacity=config.capacity)
  face = rig.uv.layout.face

  def one(gaussians, vertices, view, intrinsics):  # type: ignore[no-untyped-def]
    with jax.named_scope('binding'):
      world = pose_gaussians(gaussians, vertices, rig.faces, face)
    camera = Camera(view, intrinsics, width, height)
    with jax.named_scope('rasterizer'):
      return world.rasterize(camera, raster, config.implementation)

  camera = targets.camera
  return jax.vmap(one)(
    decoded.gaussians, targets.vertices, camera.world_to_camera, camera.intrinsics
  )


class Prediction(NamedTuple):
  """What the generator makes of a batch.

  Attributes:
    identity: the people.
    decoded: their target frames.
    output: images of these, [b], over black.
  """

  identity: Identity
  decoded: Decoded
  output: RasterOutput


def predict(
  generator: Generator,
  batch: Batch,
  rig: RigArrays,
  config: ObjectiveConfig,
  key: Key[Array, ' b'] | None = None,
) -> Prediction:
  """Portraits to images of the targets.

  Args:
    generator: the network.
    batch: sources and targets; the targets' images give the size alone.
    rig: the head.
    config: the rasterizer's part of it.
    key: of each person's noise, where the network has some.
  """
  identity = generator.encode(batch.sources, rig, key)
  targets = batch.targets
  decoded = generator.decode(identity, optical_axis(targets.camera), targets.codes, rig.rest)
  return Prediction(identity, decoded, render_decoded(decoded, targets, rig, config))


def objective(
  generator: Generator,
  batch: Batch,
  rig: RigArrays,
  key: Key[Array, ' b'],
  config: ObjectiveConfig,
  perceptual: Lpips | None = None,
) -> tuple[Float[Array, ''], Metrics]:
  """The loss of one batch, to be differentiated by the generator.

  Args:
    generator: the network.
    batch: sources and targets.
    rig: the head.
    key: of this step, for each person: noise, and the draw of the Jacobian penalty. One each, so
      that draws do not depend on how a batch is spread over devices.
    config: the terms.
    perceptual: weights of LPIPS, where its term counts.

  Raises:
    ValueError: LPIPS counts and there are no weights for it, or random backgrounds and no mattes.
  """
  if config.weights.lpips and perceptual is None:
    raise ValueError(
      'objective: the LPIPS term needs weights (load_lpips with your files); or weights.lpips=0'
    )
  noise_key, draw_key = jax.vmap(jax.random.split, out_axes=1)(key)
  identity, decoded, output = predict(generator, batch, rig, config, noise_key)
  targets = batch.targets
  with jax.named_scope('losses'):
    image, wanted = output.features, targets
    if config.background == 'random':
      image, wanted = _over_colors(output, targets, draw_key)
    terms = _image_terms(image, wanted, config.weights, perceptual)
    terms |= _attribute_terms(decoded, rig, config)
    if config.weights.jacobian:
      terms['jacobian'] = regularizers.jacobian_penalty(
        functools.partial(_geometry, generator, identity),
        view_encoding(optical_axis(targets.camera)),
        draw_key,
        config.jacobian_estimator,
      )
    loss = stage1.total(terms, config.weights, config.phase)
    score = jnp.mean(jax.vmap(psnr)(output.features, targets.image))
  metrics = Metrics(
    loss=loss,
    terms=terms,
    psnr=score,
    num_instances=jnp.max(output.num_instances),
    overflowed=jnp.any(output.overflowed),
  )
  return loss, jax.lax.stop_gradient(metrics)


def _over_colors(
  output: RasterOutput, targets: Targets, key: Key[Array, ' b']
) -> tuple[Float[Array, 'b h w 3'], Targets]:
  """Render and target over one colour a target, so that alpha is drawn to the matte."""
  if targets.matte is None:
    raise ValueError('objective: random backgrounds need the mattes of the targets')
  draw = jax.vmap(lambda one: jax.random.uniform(jax.random.fold_in(one, 1), (1, 1, 3)))
  color, matte = draw(key), targets.matte.astype(jnp.float32)[..., None] / 255.0
  image = output.features + (1.0 - output.alpha[..., None]) * color
  return image, targets._replace(image=targets.image + (1.0 - matte) * color)


def _geometry(
  generator: Generator, identity: Identity, gamma: Float[Array, 'b 27']
) -> tuple[Float[Array, 'b n 3'], Float[Array, 'b n 3']]:
  return geometry(generator.decoder, identity.features, gamma)


def _image_terms(
  image: Float[Array, 'b h w 3'], targets: Targets, weights: LossWeights, perceptual: Lpips | None
) -> dict[str, Float[Array, '']]:
  """Terms that compare pictures; those of weight zero are left out."""
  terms = {}
  if weights.l1:
    terms['l1'] = photometric.l1(image, targets.image)
  if weights.ms_ssim:
    terms['ms_ssim'] = ms_ssim_loss(image, targets.image)
  if weights.lpips and perceptual is not None:
    terms['lpips'] = jnp.mean(lpips(perceptual, image, targets.image))
  if weights.face_box:
    height, width = image.shape[1:3]
    terms['face_box'] = face_box_l1(
      image, targets.image, dilate_box(targets.box, size=(width, height))
    )
  return terms


def _attribute_terms(
  decoded: Decoded, rig: RigArrays, config: ObjectiveConfig
) -> dict[str, Float[Array, '']]:
  """Terms on the attributes themselves.

  Smoothness is that of what the network says, offsets from the mesh: where a texel lies in its own
  triangle jumps from triangle to triangle.
  """
  layout, weights, terms = rig.uv.layout, config.weights, {}
  if weights.position_tv:
    terms['position_tv'] = regularizers.uv_total_variation(
      layout.to_image(decoded.maps.position), rig.uv.valid
    )
  if weights.scale_tv:
    terms['scale_tv'] = regularizers.uv_total_variation(
      layout.to_image(decoded.maps.log_scale), rig.uv.valid
    )
  if weights.residual and config.phase == 2:
    terms['residual'] = regularizers.residual_l1(decoded.residual._asdict())
  return terms
