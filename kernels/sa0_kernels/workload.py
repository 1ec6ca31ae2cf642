"""The standard workload: a head-like shell of Gaussians, the same on every machine.

58,173 Gaussians (the paper's count) on an ellipsoid of 9 × 12 × 10 cm, one metre in front of the
camera, filling 70% of the image height. At 512 px, 95% of them have a projected standard deviation
of 0.5 to 1.5 px, 5% of 1.5 to 6 px; along the normal they are flat. The scene does not depend on
the resolution; the camera and the output cotangents do.
"""

import dataclasses

import numpy as np

NUM_GAUSSIANS = 58_173
NUM_FEATURES = 32
_RADII = (0.09, 0.12, 0.10)
_FOCAL_512 = 0.70 * 512 / (2 * 0.12)  # px, so that the head's height fills 70% of the image


@dataclasses.dataclass(frozen=True)
class Workload:
  """One scene, its camera and the cotangents its gradients are defined by; float32 NumPy arrays.

  Attributes:
    means, quats, scales, opacities: the Gaussians ([n, 3], [n, 4] wxyz, [n, 3], [n]).
    features: [n, 32]; the first three are colours in [0, 1].
    world_to_camera: [4, 4]; intrinsics: [3, 3].
    d_features: [h, w, 32] cotangent of the image; d_alpha: [h, w] cotangent of alpha.
  """

  means: np.ndarray
  quats: np.ndarray
  scales: np.ndarray
  opacities: np.ndarray
  features: np.ndarray
  world_to_camera: np.ndarray
  intrinsics: np.ndarray
  d_features: np.ndarray
  d_alpha: np.ndarray


def standard_workload(resolution: int = 512, num_gaussians: int = NUM_GAUSSIANS) -> Workload:
  """Builds the workload at an image resolution (pixels a side)."""
  rng = np.random.default_rng(0)
  direction = rng.normal(size=(num_gaussians, 3))
  direction /= np.linalg.norm(direction, axis=1, keepdims=True)
  means = direction * _RADII * (1.0 + 0.005 * rng.normal(size=(num_gaussians, 1)))
  normal = direction / _RADII
  normal /= np.linalg.norm(normal, axis=1, keepdims=True)

  sigma = rng.uniform(0.5, 1.5, size=(num_gaussians, 2))
  large = rng.random(num_gaussians) < 0.05
  sigma[large] = np.exp(rng.uniform(np.log(1.5), np.log(6.0), size=(large.sum(), 2)))
  scales = np.concatenate([sigma, 0.2 * sigma[:, :1]], axis=1) / _FOCAL_512

  helper = np.where(np.abs(normal[:, :1]) < 0.9, [[1.0, 0, 0]], [[0, 1.0, 0]])
  tangent = np.cross(normal, helper)
  tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
  spin = rng.uniform(0, 2 * np.pi, size=(num_gaussians, 1))
  first = np.cos(spin) * tangent + np.sin(spin) * np.cross(normal, tangent)
  axes = np.stack([first, np.cross(normal, first), normal], axis=2)

  opacities = rng.uniform(0.5, 0.95, size=num_gaussians)
  colors = np.clip(0.5 + 0.35 * normal + 0.1 * rng.normal(size=(num_gaussians, 3)), 0, 1)
  features = rng.normal(size=(num_gaussians, NUM_FEATURES))
  features[:, :3] = colors

  focal = _FOCAL_512 * resolution / 512
  intrinsics = np.array([[focal, 0, resolution / 2], [0, focal, resolution / 2], [0, 0, 1]])
  world_to_camera = np.diag([1.0, -1.0, -1.0, 1.0])
  world_to_camera[2, 3] = 1.0

  cotangents = np.random.default_rng(1000 + resolution)
  d_features = cotangents.normal(size=(resolution, resolution, NUM_FEATURES))
  d_alpha = cotangents.normal(size=(resolution, resolution))
  arrays = (means, _quaternions(axes), scales, opacities, features, world_to_camera)
  return Workload(*(a.astype(np.float32) for a in (*arrays, intrinsics, d_features, d_alpha)))


def _quaternions(matrices: np.ndarray) -> np.ndarray:
  """Unit quaternions (w, x, y, z) of rotation matrices [n, 3, 3]."""
  diagonal = np.diagonal(matrices, axis1=1, axis2=2)
  signs = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
  quaternions = np.sqrt(np.maximum(0, 1 + diagonal @ signs.T)) / 2
  for column, (i, j) in enumerate([(2, 1), (0, 2), (1, 0)], start=1):
    quaternions[:, column] = np.copysign(
      quaternions[:, column], matrices[:, i, j] - matrices[:, j, i]
    )
  return quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)
