"""Runs the photometric refinement of a track: from a capture with rough codes to better codes."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from sa0_kernels.rasterize.types import next_power_of_two

from sa0_jax.capture.capture import Capture
from sa0_jax.capture.initialize import initialize_avatar
from sa0_jax.capture.track.landmark_fit import FitConfig, FitParameters, expression_is_named
from sa0_jax.capture.track.observations import LandmarkTargets
from sa0_jax.capture.track.photometric import (
  PhotometricConfig,
  TrackData,
  initial_state,
  run_steps,
)
from sa0_jax.capture.track.stages import StageStore, from_arrays, to_arrays
from sa0_jax.head.lbs import LandmarkArrays
from sa0_jax.head.model import HeadModel

_LOOKS = 40  # looks from the host at a running stage
_SAVES = 10  # of its state


@dataclasses.dataclass(frozen=True, eq=False)
class Inputs:
  """What a stage works on.

  Attributes:
    head: the head model.
    capture: frames with the codes so far.
    landmarks: [t, m, 2] px of the capture's images.
    targets: which landmarks these are.
    fit: priors on codes.
  """

  head: HeadModel
  capture: Capture
  landmarks: Float[np.ndarray, 't m 2']
  targets: LandmarkTargets
  fit: FitConfig


def refine_codes(
  inputs: Inputs,
  parameters: FitParameters,
  config: PhotometricConfig,
  store: StageStore,
  name: str,
  progress: Callable[[int, int], None] | None = None,
) -> FitParameters:
  """Refines codes and focal length until frames and one coarse avatar agree.

  Args:
    inputs: frames and landmarks.
    parameters: the codes so far.
    config: settings of this stage.
    store: keeps the result, and the state on the way there.
    name: of the stage in the store.
    progress: called with steps done and steps in all.

  Raises:
    FloatingPointError: the fit stopped being finite.
  """
  finished = store.load(name)
  if finished is not None:
    return from_arrays(finished, parameters)
  positions = np.arange(len(inputs.capture))
  avatar = initialize_avatar(inputs.capture, inputs.head, config.uv_size, positions, config.seed)
  data = _track_data(inputs, config, avatar.layout.face)
  steps = config.warm_up + config.visits * len(inputs.capture)
  state = initial_state(parameters, avatar.gaussians)
  partial = f'{name}.partial'
  kept = store.load(partial)
  if kept is not None:
    state = from_arrays(kept, state)
  capacity = None
  while (step := int(state.step)) < steps:
    count = min(_until_next(step, steps, _LOOKS), _until_next(step, steps, _SAVES))
    after, error, needed = run_steps(
      state,
      data,
      jnp.asarray(count),
      fit=inputs.fit,
      config=config,
      steps=steps,
      capacity=capacity,
    )
    if int(needed):
      capacity = next_power_of_two(int(needed))
      continue
    if not np.isfinite(float(error)):
      raise FloatingPointError(f'track: the photometric fit is not finite at step {step + count}')
    state = after
    if _until_next(step, steps, _SAVES) == count and step + count < steps:
      store.save(partial, to_arrays(state))
    if progress is not None:
      progress(step + count, steps)
  store.save(name, to_arrays(state.parameters))
  store.remove(partial)
  return state.parameters


def _until_next(step: int, steps: int, parts: int) -> int:
  """Steps until the next of `parts` evenly spread marks."""
  interval = -(-steps // parts)
  return min(interval - step % interval, steps - step)


def _track_data(inputs: Inputs, config: PhotometricConfig, face: jax.Array) -> TrackData:
  import cv2  # here: importing it takes longer than the rest of this package

  capture, head, size = inputs.capture, inputs.head, (config.resolution, config.resolution)
  images = np.empty((len(capture), *size, 3), np.uint8)
  mattes = np.empty((len(capture), *size), np.uint8)
  for row in range(len(capture)):
    image, matte = capture.source.load(row)
    images[row] = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    mattes[row] = cv2.resize(matte, size, interpolation=cv2.INTER_AREA)
  return TrackData(
    images=jnp.asarray(images),
    mattes=jnp.asarray(mattes),
    landmarks=jnp.asarray(inputs.landmarks * (config.resolution / capture.height), jnp.float32),
    weights=jnp.asarray(inputs.targets.weights, jnp.float32),
    named=jnp.asarray(expression_is_named(head)),
    head=head.arrays,
    points=LandmarkArrays.from_head(head, inputs.targets.embedding),
    faces=jnp.asarray(head.faces),
    face=face,
  )
