"""A studio subject as a tracker would meet it: pictures, and what detectors would see in them."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from sa0_jax.capture.capture import Capture
from sa0_jax.capture.studio import StudioConfig, film
from sa0_jax.capture.track import observations
from sa0_jax.capture.track.landmark_fit import WORLD_TO_CAMERA, FitParameters
from sa0_jax.capture.track.observations import NUM_MEDIAPIPE, Observations
from sa0_jax.head.lbs import LandmarkArrays, pose_landmarks
from sa0_jax.head.procedural import load_procedural_head


@functools.cache
def filmed(frames: int = 10, resolution: int = 128) -> Capture:
  """A short video of one person."""
  return film(StudioConfig(seed=5, frames=frames, fps=5.0, resolution=resolution, hair='crop'))


def pixels(capture: Capture) -> tuple[np.ndarray, np.ndarray]:
  """All images and mattes."""
  pairs = [frame.pixels for frame in capture.frames]
  return np.stack([p.image for p in pairs]), np.stack([p.matte for p in pairs])


def seen(capture: Capture) -> Observations:
  """The true landmarks (NaN where the head has none of that number: none) and mattes."""
  head = load_procedural_head()
  targets = observations.landmark_targets(head)
  points = np.asarray(
    pose_landmarks(LandmarkArrays.from_head(head, targets.embedding), codes_of(capture))
  )
  landmarks = np.zeros((len(capture), NUM_MEDIAPIPE, 3), np.float32)
  view = np.asarray(capture.camera.world_to_camera)
  camera = np.einsum('tij,tmj->tmi', view[:, :3, :3], points) + view[:, None, :3, 3]
  fx, fy, cx, cy = (np.asarray(capture.camera.intrinsics)[:, None, i] for i in range(4))
  depth = camera[..., 2]
  x, y = fx * camera[..., 0] / depth + cx, fy * camera[..., 1] / depth + cy
  z = (depth - depth.mean(axis=1, keepdims=True)) * fx / depth.mean(axis=1, keepdims=True)
  landmarks[:, targets.columns] = np.stack([x, y, z], axis=-1)
  return Observations(landmarks, pixels(capture)[1])


def codes_of(capture: Capture):
  """Codes of all frames as JAX arrays."""
  return jax.tree.map(jnp.asarray, capture.codes)


def parameters_in_camera(capture: Capture) -> FitParameters:
  """The true codes, moved so that the studio's camera is the tracker's."""
  from sa0_jax.geometry.rotations import axis_angle_to_matrix, matrix_to_axis_angle
  from sa0_jax.head.lbs import pose_joints

  head, codes = load_procedural_head(), codes_of(capture)
  to_tracker = jnp.asarray(WORLD_TO_CAMERA).T @ jnp.asarray(capture.camera.world_to_camera)
  turn, shift = to_tracker[:, :3, :3], to_tracker[:, :3, 3]
  rotation = matrix_to_axis_angle(turn @ axis_angle_to_matrix(codes.rotation))
  turned = dataclasses.replace(codes, rotation=rotation)
  # The root turns about its joint: what that leaves out of the rigid motion is translation.
  moved = jnp.einsum('tij,tj->ti', turn, pose_joints(head, codes)[:, 0]) + shift
  translation = codes.translation + moved - pose_joints(head, turned)[:, 0]
  focal = capture.camera.intrinsics[0, 1] / capture.height
  return FitParameters(
    dataclasses.replace(turned, translation=translation), jnp.log(jnp.asarray(focal, jnp.float32))
  )
