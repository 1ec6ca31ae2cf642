"""Temporal fit of a head model to landmarks: one shape, one focal length, codes for every frame.

All frames are optimised together by Adam on robust reprojection errors, with priors on shape and
expression and smoothness in time. The camera stands still at the origin and looks along −z; the
root carries the shoulders and is kept calm, the neck carries what the head does on top of that.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float
from sa0_kernels import pytree
from sa0_kernels.typing import ArrayLike

from sa0_jax.capture.track.observations import LandmarkTargets
from sa0_jax.geometry.rotations import matrix_to_axis_angle
from sa0_jax.head.lbs import LandmarkArrays, pose_landmarks
from sa0_jax.head.model import HeadCodes, HeadModel
from sa0_jax.head.procedural.sway import SWAY_PREFIX

# OpenCV axes from the head's: x stays, y and z turn over.
WORLD_TO_CAMERA = np.diag([1.0, -1.0, -1.0, 1.0]).astype(np.float32)
_REFERENCE_SIZE = 512.0  # px; weights below are for errors in an image of this size
_JAW_RANGE = (0.0, 0.6)  # rad of opening
_EYE_RANGE = 0.6  # rad
# Names of expression directions that are centred: shapes of no meaning, and hair that sways.
_CENTRED = ('smooth_', SWAY_PREFIX)
# Directions with an ARKit name live in [0, 1] (a little beyond is tolerated), others are centred.
_NAMED_RANGE = (0.0, 1.1)


@dataclasses.dataclass(frozen=True)
class FitConfig:
  """Settings of the landmark fit.

  Attributes:
    steps: optimisation steps over all frames at once.
    focal_ratio: expected focal length in image heights.
    focal_spread: standard deviation of its logarithm; 0 fixes it.
    robust: landmark error beyond which influence no longer grows, px at 512.
    shape, expression: weight of their priors.
    neck: weight of neck rotation.
    root: weight of the root's departure from its mean over the clip (shoulders are calm).
    smooth_expression, smooth_pose: weight of changes from frame to frame.
  """

  steps: int = 1500
  focal_ratio: float = 2.6
  focal_spread: float = 0.25
  robust: float = 3.0
  shape: float = 0.001
  expression: float = 0.01
  neck: float = 0.02
  root: float = 200.0
  smooth_expression: float = 0.5
  smooth_pose: float = 40.0


@pytree.register
@dataclasses.dataclass(frozen=True)
class FitParameters:
  """What the fit changes.

  Attributes:
    codes: codes of t frames; `shape` is [s].
    log_focal: logarithm of the focal length in image heights.
  """

  codes: HeadCodes
  log_focal: Float[Array, '']


@functools.partial(jax.jit, static_argnames='size')
def project(
  points: Float[Array, '*batch 3'], log_focal: Float[Array, ''], size: tuple[int, int]
) -> Float[Array, '*batch 2']:
  """Pixels of world points for a camera at the origin; `size` is width and height."""
  focal = jnp.exp(log_focal) * size[1]
  depth = jnp.maximum(-points[..., 2], 1e-3)
  x = focal * points[..., 0] / depth + 0.5 * size[0]
  y = -focal * points[..., 1] / depth + 0.5 * size[1]
  return jnp.stack([x, y], axis=-1)


def initial_parameters(
  head: HeadModel,
  targets: LandmarkTargets,
  landmarks: Float[np.ndarray, 't 478 3'],
  size: tuple[int, int],
  config: FitConfig,
) -> FitParameters:
  """Head pose of every frame by aligning the head's landmarks with the detector's rough 3D ones."""
  arrays = LandmarkArrays.from_head(head, targets.embedding)
  model = np.asarray(pose_landmarks(arrays, HeadCodes.neutral(head)), np.float64)
  focal = config.focal_ratio * size[1]
  frames = len(landmarks)
  rotation, translation = np.zeros((frames, 3, 3)), np.zeros((frames, 3))
  centre = np.array([0.5 * size[0], 0.5 * size[1], 0.0])
  for index in range(frames):
    # The detector's z is in pixels like x and y: up to scale a picture of the head in space.
    seen = (landmarks[index, targets.columns].astype(np.float64) - centre) * [1.0, -1.0, -1.0]
    turn, scale, shift = _similarity(model, seen, targets.weights)
    depth = focal / scale
    rotation[index] = turn
    translation[index] = [shift[0] / scale, shift[1] / scale, -depth]
  neutral = HeadCodes.neutral(head, (frames,))
  codes = dataclasses.replace(
    neutral,
    shape=jnp.zeros(head.num_shape),
    rotation=matrix_to_axis_angle(jnp.asarray(rotation, jnp.float32)),
    translation=jnp.asarray(translation, jnp.float32),
  )
  return FitParameters(codes, jnp.log(jnp.asarray(config.focal_ratio, jnp.float32)))


def _similarity(
  source: np.ndarray, target: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, float, np.ndarray]:
  """Rotation, scale and shift that take source points to target points (Umeyama 1991)."""
  weights = weights / weights.sum()
  mean_source, mean_target = weights @ source, weights @ target
  a, b = source - mean_source, target - mean_target
  u, values, vt = np.linalg.svd((weights[:, None] * b).T @ a)
  flip = np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
  rotation = u @ flip @ vt
  scale = float((values * np.diag(flip)).sum() / (weights @ (a * a)).sum())
  return rotation, scale, mean_target - scale * rotation @ mean_source


def expression_is_seen(head: HeadModel) -> np.ndarray:
  """[e] which expression directions landmarks can tell: all but those of hair.

  Hair beside the face carries a few landmarks of its oval along. An optimiser that takes steps of
  one size, however small the gradient, would explain their errors by hair that hangs anywhere.
  """
  seen = np.ones(head.num_expression, bool)
  for index, name in enumerate(head.expression_names):
    seen[index] = not name.startswith(SWAY_PREFIX)
  return seen


def expression_is_named(head: HeadModel) -> np.ndarray:
  """[e] which expression directions are activations in [0, 1] rather than centred modes."""
  named = np.zeros(head.num_expression, bool)
  for index, name in enumerate(head.expression_names):
    named[index] = bool(name) and not name.startswith(_CENTRED)
  return named


def _outside(x: ArrayLike, low: float, high: float) -> Array:
  """Squared distance to an interval."""
  below, above = jnp.maximum(low - x, 0.0), jnp.maximum(x - high, 0.0)
  return jnp.square(below) + jnp.square(above)


def code_prior(codes: HeadCodes, named: Array, config: FitConfig) -> Array:
  """Cost of implausible codes, mean over frames; `named` says which expressions are activations."""
  expression = codes.expression
  cost = config.shape * jnp.sum(jnp.square(codes.shape))
  cost += config.expression * jnp.mean(jnp.sum(jnp.square(expression), -1))
  beyond = jnp.where(named, _outside(expression, *_NAMED_RANGE), 0.0)
  cost += 5.0 * jnp.mean(jnp.sum(beyond, -1))
  opening, sideways = codes.jaw[..., 0], codes.jaw[..., 1:]
  cost += 20.0 * jnp.mean(_outside(opening, *_JAW_RANGE))
  cost += 5.0 * jnp.mean(jnp.sum(jnp.square(sideways), -1))
  eyes = codes.eyes
  cost += 20.0 * jnp.mean(jnp.sum(_outside(eyes, -_EYE_RANGE, _EYE_RANGE), -1))
  # Both eyes look at one thing: equal elevation, nearly equal azimuth, no roll.
  cost += 5.0 * jnp.mean(jnp.square(eyes[..., 0] - eyes[..., 3]))
  cost += 1.0 * jnp.mean(jnp.square(eyes[..., 1] - eyes[..., 4]))
  cost += 5.0 * jnp.mean(jnp.square(eyes[..., 2]) + jnp.square(eyes[..., 5]))
  return cost + config.neck * jnp.mean(jnp.sum(jnp.square(codes.neck), -1))


def temporal_prior(codes: HeadCodes, config: FitConfig) -> Array:
  """Cost of changes from frame to frame, and of restless shoulders."""

  def change(x: ArrayLike) -> Array:
    x = jnp.asarray(x)
    return jnp.sum(jnp.square(x[1:] - x[:-1]), -1).mean() if x.shape[0] > 1 else jnp.zeros(())

  cost = config.smooth_expression * change(codes.expression)
  for x, weight in (
    (codes.rotation, 1.0),
    (codes.neck, 0.5),
    (codes.translation, 10.0),
    (codes.jaw, 0.2),
    (codes.eyes, 0.05),
  ):
    cost += config.smooth_pose * weight * change(x)
  for x, weight in ((codes.rotation, 1.0), (codes.translation, 10.0)):
    away = x - jnp.mean(x, axis=0, keepdims=True)
    cost += config.root * weight * jnp.mean(jnp.sum(jnp.square(away), -1))
  return cost


@functools.partial(jax.jit, static_argnames='size')
def landmark_errors(
  parameters: FitParameters,
  arrays: LandmarkArrays,
  observed: Float[Array, 't m 2'],
  size: tuple[int, int],
) -> Float[Array, 't m']:
  """Distance of every landmark from where it was seen, px at 512."""
  points = pose_landmarks(arrays, parameters.codes)
  offset = (project(points, parameters.log_focal, size) - observed) * (_REFERENCE_SIZE / size[1])
  return jnp.sqrt(jnp.sum(jnp.square(offset), -1) + 1e-6)


def robust(error: Array, width: float) -> Array:
  """Quadratic near 0, linear far away (pseudo-Huber), slope 1."""
  return jnp.sqrt(jnp.square(error) + width * width) - width


def _cost(
  parameters: FitParameters,
  arrays: LandmarkArrays,
  data: tuple[Array, Array, Array],
  config: FitConfig,
  size: tuple[int, int],
) -> tuple[Array, Array]:
  observed, weights, named = data
  error = landmark_errors(parameters, arrays, observed, size)
  cost = jnp.mean(weights * robust(error, config.robust))
  cost += code_prior(parameters.codes, named, config)
  cost += temporal_prior(parameters.codes, config)
  if config.focal_spread:
    away = (parameters.log_focal - jnp.log(config.focal_ratio)) / config.focal_spread
    cost += 0.5 * jnp.square(away)
  return cost, jnp.mean(error)


# Step sizes of the codes.
_RATES = {
  'shape': 2e-2,
  'expression': 1e-2,
  'rotation': 3e-3,
  'neck': 5e-3,
  'jaw': 5e-3,
  'eyes': 5e-3,
  'translation': 1e-3,
}
_FOCAL_RATE = 2e-3


@functools.partial(jax.jit, static_argnames=('config', 'size'))
def _optimize(
  parameters: FitParameters,
  arrays: LandmarkArrays,
  data: tuple[Array, Array, Array],
  free: dict[str, Array],
  *,
  config: FitConfig,
  size: tuple[int, int],
) -> tuple[FitParameters, Array]:
  focal_rate = _FOCAL_RATE if config.focal_spread else 0.0
  rates = {name: rate * free.get(name, 1.0) for name, rate in _RATES.items()}
  schedule = optax.cosine_decay_schedule(1.0, config.steps, alpha=0.02)
  adam = optax.scale_by_adam()

  def step(carry: tuple[FitParameters, optax.OptState], index: Array) -> tuple[tuple, Array]:
    parameters, state = carry
    gradient, error = jax.grad(_cost, has_aux=True)(parameters, arrays, data, config, size)
    updates, state = adam.update(gradient, state)
    slow = schedule(index)
    codes = {
      name: getattr(parameters.codes, name) - slow * rate * getattr(updates.codes, name)
      for name, rate in rates.items()
    }
    log_focal = parameters.log_focal - slow * focal_rate * updates.log_focal
    return (FitParameters(HeadCodes(**codes), log_focal), state), error

  carry = (parameters, adam.init(parameters))
  (parameters, _), errors = jax.lax.scan(step, carry, jnp.arange(config.steps))
  return parameters, errors[-1]


def fit_landmarks(
  head: HeadModel,
  targets: LandmarkTargets,
  landmarks: Float[np.ndarray, 't 478 3'],
  size: tuple[int, int],
  config: FitConfig | None = None,
  shape: Float[ArrayLike, ' s'] | None = None,
) -> tuple[FitParameters, float]:
  """Fits codes and focal length to the landmarks of consecutive frames.

  Args:
    head: the head model.
    targets: which landmarks, from `landmark_targets`.
    landmarks: [t, 478, 3] finite detections, pixels.
    size: image width and height.
    config: settings.
    shape: identity code where it is known: it is kept; None fits one.

  Returns:
    The parameters, and the mean landmark error in px at 512.
  """
  config = config or FitConfig()
  parameters = initial_parameters(head, targets, landmarks, size, config)
  if shape is not None:
    codes = dataclasses.replace(parameters.codes, shape=jnp.asarray(shape, jnp.float32))
    parameters = dataclasses.replace(parameters, codes=codes)
  arrays = LandmarkArrays.from_head(head, targets.embedding)
  data = (
    jnp.asarray(landmarks[:, targets.columns, :2]),
    jnp.asarray(targets.weights, jnp.float32),
    jnp.asarray(expression_is_named(head)),
  )
  free = {
    'expression': jnp.asarray(expression_is_seen(head), jnp.float32),
    'shape': jnp.float32(shape is None),
  }
  parameters, error = _optimize(parameters, arrays, data, free, config=config, size=size)
  return parameters, float(error)
