"""Posing a figure: the head by its codes, hair and shoulders by the joints they follow."""

import dataclasses
from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from sa0_kernels.typing import ArrayLike

from sa0_jax.capture.studio.shading import Pose
from sa0_jax.geometry.rotations import axis_angle_to_matrix
from sa0_jax.head.lbs import pose_frames, pose_joints
from sa0_jax.head.model import HeadCodes, HeadModel


def pose_figures(head: HeadModel, codes: HeadCodes) -> Iterator[Pose]:
  """The poses of a sequence, one a frame.

  Args:
    head: the head model.
    codes: NumPy codes, [t, …] beside one shape code [s].
  """
  frames = len(codes.expression)
  vertices = pose_frames(head, codes)
  zero = np.zeros((frames, 3), np.float32)
  still = dataclasses.replace(
    codes, rotation=zero, neck=zero, jaw=zero, eyes=np.zeros((frames, 6), np.float32),
    translation=zero,
  )  # fmt: skip
  joints = np.asarray(pose_joints(head, still), np.float64)
  root = _matrices(codes.rotation)
  neck = root @ _matrices(codes.neck)
  eyes = np.stack(
    [neck @ _matrices(codes.eyes[:, :3]), neck @ _matrices(codes.eyes[:, 3:])], axis=1
  )
  translation = np.asarray(codes.translation, np.float64)
  for t in range(frames):
    transforms = _transforms(root[t], neck[t], joints[t], translation[t])
    yield Pose(vertices[t], transforms, eyes[t])


def _matrices(axis_angles: ArrayLike) -> Float[np.ndarray, 't 3 3']:
  return np.asarray(axis_angle_to_matrix(jnp.asarray(axis_angles, jnp.float32)), np.float64)


def _transforms(
  root: Float[np.ndarray, '3 3'],
  neck: Float[np.ndarray, '3 3'],
  joints: Float[np.ndarray, '5 3'],
  translation: Float[np.ndarray, '3'],
) -> Float[np.ndarray, '2 3 4']:
  """Rest to world for what follows the root, and for what follows the neck joint."""
  moved = root @ (joints[1] - joints[0]) + joints[0]
  offsets = (joints[0] - root @ joints[0], moved - neck @ joints[1])
  return np.stack(
    [
      np.concatenate([turn, (offset + translation)[:, None]], axis=1)
      for turn, offset in zip((root, neck), offsets, strict=True)
    ]
  )
