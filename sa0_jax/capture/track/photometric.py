"""Photometric refinement of a track: a coarse avatar and the codes, fitted to the pictures.

Landmarks leave out hair, ears, neck and most of the skin, and detectors are biased where they are
unsure. Here every pixel of the matte speaks: each step renders the coarse avatar in one random
frame and moves its Gaussians, that frame's codes, the shape and the focal length down the gradient
of image loss, landmark loss and priors. The avatar is thrown away afterwards; refinement starts
anew and only on the frames it may see.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, UInt8
from sa0_kernels import Camera, RasterConfig, pytree

from sa0_jax.avatar.gaussians import BoundGaussians
from sa0_jax.capture.track import landmark_fit
from sa0_jax.capture.track.landmark_fit import WORLD_TO_CAMERA, FitConfig, FitParameters
from sa0_jax.head.lbs import LandmarkArrays, pose_head, pose_landmarks
from sa0_jax.head.model import HeadArrays, HeadCodes
from sa0_jax.losses import photometric
from sa0_jax.render import pose_gaussians


@dataclasses.dataclass(frozen=True)
class PhotometricConfig:
  """Settings of the photometric stage.

  Attributes:
    visits: how often each frame is drawn, on average, after the warm-up.
    warm_up: steps in which only the avatar moves.
    resolution: side of the images, px.
    uv_size: side of the coarse avatar's UV image.
    landmark: weight of the landmark error (px at 512).
    prior: weight of the code and temporal priors.
    rate: factor on all step sizes of codes.
    seed: of the frame order.
  """

  visits: int = 30
  warm_up: int = 600
  resolution: int = 256
  uv_size: int = 96
  landmark: float = 0.01
  prior: float = 0.003
  rate: float = 1.0
  seed: int = 0


class TrackData(NamedTuple):
  """What the stage sees and never changes.

  Attributes:
    images: [t, h, w, 3]; mattes: [t, h, w].
    landmarks: [t, m, 2] px at this resolution.
    weights: [m] of the landmarks.
    named: [e] which expressions are activations.
    head: posing arrays; points: of the landmarks.
    faces: [f, 3]; face: [n] triangle of each Gaussian.
  """

  images: UInt8[Array, 't h w 3']
  mattes: UInt8[Array, 't h w']
  landmarks: Float[Array, 't m 2']
  weights: Float[Array, ' m']
  named: Array
  head: HeadArrays
  points: LandmarkArrays
  faces: Array
  face: Array


@pytree.register
@dataclasses.dataclass(frozen=True)
class TrackState:
  """All that changes.

  Attributes:
    step: steps done.
    parameters: codes and focal length.
    gaussians: the coarse avatar.
    moments: Adam's first and second moments of the parameters, and how often each frame moved.
    optimizer: Adam's state of the Gaussians.
  """

  step: Array
  parameters: FitParameters
  gaussians: BoundGaussians
  moments: tuple[FitParameters, FitParameters, Array]
  optimizer: Any


# Step sizes; a frame is visited about 24 times, so rotations can move by about 3 degrees.
_CODE_RATES = {
  'shape': 2e-3,
  'expression': 1e-2,
  'rotation': 2e-3,
  'neck': 3e-3,
  'jaw': 4e-3,
  'eyes': 5e-3,
  'translation': 3e-4,
}
_FOCAL_RATE = 2e-4
# Of the avatar's fields: position in triangle units, rotation, log-scale, opacity and colour.
_GAUSSIAN_RATES = (5e-2, 2e-3, 1e-2, 5e-2, 2e-2)
_BETA1, _BETA2, _EPSILON = 0.9, 0.99, 1e-10


def initial_state(parameters: FitParameters, gaussians: BoundGaussians) -> TrackState:
  """State before the first step."""
  zeros = jax.tree.map(jnp.zeros_like, parameters)
  visits = jnp.zeros(parameters.codes.rotation.shape[0], jnp.int32)
  return TrackState(
    step=jnp.zeros((), jnp.int32),
    parameters=parameters,
    gaussians=gaussians,
    moments=(zeros, zeros, visits),
    optimizer=_gaussian_optimizer().init(gaussians),
  )


def _gaussian_optimizer() -> optax.GradientTransformation:
  return optax.scale_by_adam(eps=1e-15)


def _row(codes: HeadCodes, index: Array) -> HeadCodes:
  """Codes of one frame, with a leading axis of 1."""
  fields = {f.name: getattr(codes, f.name) for f in dataclasses.fields(codes)}
  rows = {k: jax.lax.dynamic_slice_in_dim(v, index, 1) for k, v in fields.items() if k != 'shape'}
  return HeadCodes(shape=codes.shape, **rows)


def _neighbourhood(codes: HeadCodes, index: Array) -> HeadCodes:
  """Codes of the frame and its neighbours; those are held fixed."""
  count = codes.rotation.shape[0]
  before, after = (
    jax.lax.stop_gradient(_row(codes, jnp.clip(index + d, 0, count - 1))) for d in (-1, 1)
  )
  here = _row(codes, index)
  fields = [f.name for f in dataclasses.fields(codes) if f.name != 'shape']
  rows = {
    name: jnp.concatenate([getattr(c, name) for c in (before, here, after)]) for name in fields
  }
  return HeadCodes(shape=codes.shape, **rows)


def _loss(
  moving: tuple[FitParameters, BoundGaussians],
  data: TrackData,
  sample: tuple[Array, Array],
  fit: FitConfig,
  config: PhotometricConfig,
  capacity: int | None,
) -> tuple[Array, tuple[Array, Array]]:
  parameters, gaussians = moving
  index, background = sample
  height, width = data.images.shape[1:3]
  around = _neighbourhood(parameters.codes, index)
  codes = _row(around, jnp.ones((), jnp.int32))

  focal = jnp.exp(parameters.log_focal) * height
  centre = jnp.asarray([0.5 * width, 0.5 * height])
  intrinsics = jnp.concatenate([jnp.stack([focal, focal]), centre])
  camera = Camera(jnp.asarray(WORLD_TO_CAMERA), intrinsics, width, height)
  world = pose_gaussians(gaussians, pose_head(data.head, codes)[0], data.faces, data.face)
  output = world.rasterize(camera, RasterConfig(background=background, capacity=capacity))
  image = data.images[index].astype(jnp.float32) / 255.0
  matte = data.mattes[index].astype(jnp.float32) / 255.0
  target = photometric.composite(image, matte, background)
  l1 = photometric.l1(output.features, target)
  loss = 0.8 * l1 + 0.2 * photometric.ssim_loss(output.features, target)

  points = pose_landmarks(data.points, codes)[0]
  pixels = landmark_fit.project(points, parameters.log_focal, (width, height))
  offset = (pixels - data.landmarks[index]) * (512.0 / height)
  error = jnp.sqrt(jnp.sum(jnp.square(offset), -1) + 1e-6)
  loss += config.landmark * jnp.mean(data.weights * landmark_fit.robust(error, fit.robust))
  prior = landmark_fit.code_prior(codes, data.named, fit)
  prior += landmark_fit.temporal_prior(around, fit)
  instances = jnp.where(output.overflowed, output.num_instances, 0)
  return loss + config.prior * prior, (l1, instances)


def _adam_row(
  parameters: FitParameters,
  gradient: FitParameters,
  moments: tuple[FitParameters, FitParameters, Array],
  index: Array,
  factor: Array,
) -> tuple[FitParameters, tuple[FitParameters, FitParameters, Array]]:
  """Adam for one frame's row and the shared parameters: the other frames do not move at all.

  A dense optimiser would carry every frame on by its momentum between visits.
  """
  first, second, visits = moments
  moved = visits.at[index].add(jnp.where(factor > 0, 1, 0))
  per_frame, shared = moved[index], jnp.sum(moved)

  def update(x: Array, g: Array, m: Array, v: Array, rate: float, rows: bool) -> tuple:
    count = jnp.maximum(per_frame if rows else shared, 1).astype(jnp.float32)
    at = (lambda a: a[index]) if rows else (lambda a: a)
    put = (lambda a, b: a.at[index].set(b)) if rows else (lambda a, b: b)
    g = at(g)
    new_m = _BETA1 * at(m) + (1 - _BETA1) * g
    new_v = _BETA2 * at(v) + (1 - _BETA2) * g * g
    step = new_m / (1 - _BETA1**count) / (jnp.sqrt(new_v / (1 - _BETA2**count)) + _EPSILON)
    return put(x, at(x) - factor * rate * step), put(m, new_m), put(v, new_v)

  updated: dict[str, tuple] = {}
  for field in dataclasses.fields(HeadCodes):
    name = field.name
    x, g, m, v = (getattr(t.codes, name) for t in (parameters, gradient, first, second))
    updated[name] = update(x, g, m, v, _CODE_RATES[name], name != 'shape')
  focal = update(
    parameters.log_focal,
    gradient.log_focal,
    first.log_focal,
    second.log_focal,
    _FOCAL_RATE,
    False,
  )
  trees = [
    FitParameters(HeadCodes(**{k: v[i] for k, v in updated.items()}), focal[i]) for i in range(3)
  ]
  return trees[0], (trees[1], trees[2], moved)


@functools.partial(jax.jit, static_argnames=('fit', 'config', 'steps', 'capacity'))
def run_steps(
  state: TrackState,
  data: TrackData,
  count: Array,
  *,
  fit: FitConfig,
  config: PhotometricConfig,
  steps: int,
  capacity: int | None = None,
) -> tuple[TrackState, Array, Array]:
  """Runs `count` of the stage's `steps` steps.

  Returns:
    The state, the mean absolute error over these steps, and the instances that images which
    overflowed the rasterizer's buffer needed; 0 if none did.
  """
  frames = data.images.shape[0]
  cosine = optax.cosine_decay_schedule(1.0, steps, alpha=0.05)
  optimizer = _gaussian_optimizer()
  root = jax.random.key(config.seed)
  gaussian_rates = jax.tree.unflatten(jax.tree.structure(state.gaussians), _GAUSSIAN_RATES)

  def body(_: Any, carry: tuple[TrackState, Array, Array]) -> tuple[TrackState, Array, Array]:
    state, total, needed = carry
    order_key, color_key = jax.random.split(jax.random.fold_in(root, state.step))
    index = jax.random.randint(order_key, (), 0, frames)
    background = jax.random.uniform(color_key, (3,))
    gradient, (l1, instances) = jax.grad(_loss, has_aux=True)(
      (state.parameters, state.gaussians), data, (index, background), fit, config, capacity
    )
    updates, optimizer_state = optimizer.update(gradient[1], state.optimizer)
    slow = cosine(state.step)
    gaussians = jax.tree.map(
      lambda x, u, rate: x - slow * rate * u, state.gaussians, updates, gaussian_rates
    )
    factor = jnp.where(state.step < config.warm_up, 0.0, config.rate * slow)
    parameters, moments = _adam_row(state.parameters, gradient[0], state.moments, index, factor)
    state = TrackState(state.step + 1, parameters, gaussians, moments, optimizer_state)
    return state, total + l1, jnp.maximum(needed, instances)

  start = (state, jnp.zeros(()), jnp.zeros((), jnp.int32))
  state, total, needed = jax.lax.fori_loop(0, count, body, start)
  return state, total / count, needed
