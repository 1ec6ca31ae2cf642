"""The field's conventions turned into ours, in NumPy and float64: the edge all importers share.

Ours: OpenCV axes (x right, y down, z forward), column vectors, metres, pixel centres at +0.5,
rotations as axis-angle vectors.
"""

import numpy as np
from jaxtyping import Float

from sa0_jax.head.model import HeadModel

Matrices = Float[np.ndarray, 't 4 4']

# How far a matrix may stray from a rotation: text files round to six digits, float16 to three.
_ROTATION_TOLERANCE = 5e-3


def from_opencv(
  rotation: Float[np.ndarray, 't 3 3'], translation: Float[np.ndarray, 't 3'], scale: float = 1.0
) -> Matrices:
  """World-to-camera matrices of OpenCV's R and t.

  Args:
    rotation: acts on column vectors.
    translation: in units of the scaled mesh.
    scale: what the tool multiplies meshes with; scaling the world and the camera's place alike
      changes no picture, so it is undone in the translation.
  """
  matrices = np.tile(np.eye(4), (len(rotation), 1, 1))
  matrices[:, :3, :3] = rotation
  matrices[:, :3, 3] = translation / scale
  return matrices


def from_pytorch3d(transforms: Float[np.ndarray, 't 3 4'], scale: float) -> Matrices:
  """World-to-camera matrices of PyTorch3D's [R|T]: row vectors, Xc = Xw·R + T, +X left, +Y up.

  Args:
    transforms: R in the first three columns, T in the last.
    scale: what meshes were multiplied with.
  """
  turn = np.array([-1.0, -1.0, 1.0])
  rotation = turn[:, None] * transforms[:, :, :3].transpose(0, 2, 1)
  return from_opencv(rotation, turn * transforms[:, :, 3], scale)


def from_camera_poses(poses: Matrices, axes: str) -> Matrices:
  """World-to-camera matrices of camera-to-world ones.

  Args:
    poses: rigid transforms.
    axes: of the camera: 'opencv', or 'opengl' (x right, y up, z backward) as NeRF data sets have.

  Raises:
    ValueError: the axes are unknown.
  """
  if axes not in ('opencv', 'opengl'):
    raise ValueError(f"camera axes must be 'opencv' or 'opengl', got {axes!r}")
  flip = np.diag([1.0, -1.0, -1.0, 1.0]) if axes == 'opengl' else np.eye(4)
  poses = poses @ flip
  rotation = poses[:, :3, :3].transpose(0, 2, 1)
  return from_opencv(rotation, -np.einsum('tij,tj->ti', rotation, poses[:, :3, 3]))


def check_rotations(matrices: Float[np.ndarray, 't 3 3'], name: str, source: str) -> None:
  """Raises ValueError unless all are proper rotations, up to rounding."""
  error = np.abs(matrices @ matrices.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2))
  bad = np.flatnonzero(~((error < _ROTATION_TOLERANCE) & (np.linalg.det(matrices) > 0)))
  if len(bad):
    raise ValueError(f'{source}: {name} of frame {bad[0]} is no rotation')


def check_poses(matrices: Matrices, name: str, source: str) -> None:
  """Raises ValueError unless all are rigid transforms, up to rounding."""
  last = np.abs(matrices[:, 3] - np.array([0.0, 0.0, 0.0, 1.0])).max(initial=0.0)
  if last > 1e-6:
    raise ValueError(f'{source}: the last row of {name} must be 0 0 0 1')
  check_rotations(matrices[:, :3, :3], name, source)


def axis_angle_of_matrices(matrices: Float[np.ndarray, 't 3 3']) -> Float[np.ndarray, 't 3']:
  """Axis-angle vectors of rotation matrices."""
  from scipy.spatial.transform import Rotation

  return Rotation.from_matrix(matrices).as_rotvec()


def axis_angle_of_rotation_6d(
  values: Float[np.ndarray, 't 6'], name: str, source: str
) -> Float[np.ndarray, 't 3']:
  """Axis-angle vectors of the six-number form: the first two ROWS of the matrix, as PyTorch3D has.

  Raises:
    ValueError: the two rows are zero or parallel, so that they span no rotation.
  """
  first, second = values[:, :3], values[:, 3:]
  length = np.linalg.norm(first, axis=1, keepdims=True)
  first = first / np.maximum(length, 1e-12)
  second = second - (first * second).sum(axis=1, keepdims=True) * first
  rest = np.linalg.norm(second, axis=1, keepdims=True)
  bad = np.flatnonzero((length < 1e-6) | (rest < 1e-6))
  if len(bad):
    raise ValueError(f'{source}: {name} of frame {bad[0]} spans no rotation')
  second = second / rest
  return axis_angle_of_matrices(np.stack([first, second, np.cross(first, second)], axis=1))


def matrices_of_euler_xyz(angles: Float[np.ndarray, 't 3']) -> Float[np.ndarray, 't 3 3']:
  """Rotation matrices of intrinsic Euler angles XYZ: R = Rx·Ry·Rz."""
  from scipy.spatial.transform import Rotation

  return Rotation.from_euler('XYZ', angles).as_matrix()


def fold_offsets(
  head: HeadModel, offsets: Float[np.ndarray, 'v 3']
) -> tuple[Float[np.ndarray, ' s'], float]:
  """The identity code that comes closest to per-vertex offsets of the template.

  Least squares against all identity directions, with the prior the directions are made for (unit
  variance) at one millimetre of noise: what the directions cannot say is not forced into them.

  Args:
    head: the model.
    offsets: metres; fewer rows than vertices stand for the first ones (teeth come last).

  Returns:
    What to add to the shape code, and the RMS length of what is left out, mm.
  """
  basis = head.shapedirs[: len(offsets)].reshape(-1, head.num_shape).astype(np.float64)
  target = offsets.reshape(-1)
  normal = basis.T @ basis + (1e-3) ** 2 * np.eye(head.num_shape)
  code = np.linalg.solve(normal, basis.T @ target)
  left = (target - basis @ code).reshape(-1, 3)
  return code, float(1e3 * np.sqrt((left**2).sum(axis=1).mean()))


def mean_shape(
  head: HeadModel, shapes: Float[np.ndarray, 't s']
) -> tuple[Float[np.ndarray, ' s'], float]:
  """One identity code for all frames, and the RMS distance of vertices it costs, mm."""
  mean = shapes.mean(axis=0)
  basis = head.shapedirs[..., : shapes.shape[1]].reshape(-1, shapes.shape[1]).astype(np.float64)
  gram = basis.T @ basis / len(head.v_template)
  strays = shapes - mean
  squared = np.einsum('ts,sr,tr->t', strays, gram, strays, optimize=True).mean()
  return mean, float(1e3 * np.sqrt(max(squared, 0.0)))
