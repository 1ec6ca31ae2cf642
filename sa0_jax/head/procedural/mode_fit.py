"""Chooses the smooth directions: principal modes of a Gaussian process beyond the named ones.

Builder only. Displacements are a priori independent Gaussian bells with a standard deviation per
bell width (a Gaussian process morphable model, Lüthi et al. 2018). What the named directions
already span is projected out before the modes are ordered by the variance they carry.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from sa0_jax.head.procedural.mesh import BuiltMesh
from sa0_jax.head.procedural.modes import (
  SmoothModes,
  expression_rows,
  identity_rows,
  mirrored_centers,
)
from sa0_jax.mesh_render import vertex_normals

COEFFICIENT_RANGE = 32000


@dataclasses.dataclass(frozen=True)
class BellLayer:
  """Bells of one width.

  Attributes:
    count: how many centres on the left half and midline.
    width: mm.
    deviation: standard deviation of each bell's coefficient per axis, mm.
  """

  count: int
  width: float
  deviation: float


IDENTITY_LAYERS = (BellLayer(26, 34.0, 0.85), BellLayer(70, 17.0, 0.55))
EXPRESSION_LAYERS = (BellLayer(14, 20.0, 0.9), BellLayer(30, 11.0, 0.7))


def identity_modes(mesh: BuiltMesh, named: Float[np.ndarray, 'v 3 k'], count: int) -> SmoothModes:
  """The `count` smooth identity directions of most variance beyond the named ones."""
  z = mesh.positions[:, 2]
  region = mesh.semantics.skin & (mesh.positions[:, 1] > -150)
  importance = np.where(z > 20, 1.0, 0.45) * region
  return _fit(mesh, named, IDENTITY_LAYERS, importance, count, identity_rows)


def expression_modes(mesh: BuiltMesh, named: Float[np.ndarray, 'v 3 k'], count: int) -> SmoothModes:
  """The `count` smooth expression directions of most variance beyond the named ones."""
  y, z = mesh.positions[:, 1], mesh.positions[:, 2]
  importance = mesh.semantics.skin * (z > 35) * (y > -125) * (y < 55)
  return _fit(mesh, named, EXPRESSION_LAYERS, importance.astype(float), count, expression_rows)


def _fit(  # type: ignore[no-untyped-def]
  mesh: BuiltMesh, named: np.ndarray, layers: tuple[BellLayer, ...], importance, count: int, rows_of
) -> SmoothModes:
  centers, widths, deviations = _place(mesh, layers, importance)
  rows = rows_of(mesh.semantics, centers, widths).astype(np.float64)
  weight = np.sqrt(importance * _vertex_areas(mesh))
  weighted = rows * weight[:, None] * deviations
  bells = weighted.shape[1]
  spanned, _ = np.linalg.qr((named * weight[:, None, None]).reshape(-1, named.shape[2]))
  spanned = spanned.reshape(len(rows), 3, -1)
  # Gram matrix of the residuals of every (bell, axis) pair.
  overlap = np.einsum('vb,vak->bak', weighted, spanned).reshape(bells * 3, -1)
  gram = np.einsum('bc,ij->bicj', weighted.T @ weighted, np.eye(3)).reshape(bells * 3, -1)
  variance, modes = np.linalg.eigh(gram - overlap @ overlap.T)
  order = np.argsort(variance)[::-1][:count]
  coefficients = deviations[:, None, None] * modes[:, order].reshape(bells, 3, count)
  # A fixed sign keeps rebuilt files comparable.
  flat = coefficients.reshape(-1, count)
  flat *= np.sign(flat[np.abs(flat).argmax(0), np.arange(count)])
  steps = np.abs(flat).max(0) / COEFFICIENT_RANGE
  return SmoothModes(
    centers.astype(np.float32),
    widths.astype(np.float32),
    np.round(flat / steps).astype(np.int16).reshape(bells, 3, count),
    steps.astype(np.float32),
  )


def _vertex_areas(mesh: BuiltMesh) -> np.ndarray:
  corners = mesh.positions[mesh.faces]
  area = np.linalg.norm(
    np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
  )
  return np.bincount(mesh.faces.ravel(), np.repeat(area / 6, 3), minlength=len(mesh.positions))


def _place(
  mesh: BuiltMesh, layers: tuple[BellLayer, ...], importance: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Centres by farthest-point sampling of the left half, 4 mm under the skin, then mirrored."""
  normals = vertex_normals(mesh.positions, mesh.faces)
  rows = np.flatnonzero((importance > 0) & (mesh.positions[:, 0] > -1e-6))
  inside = mesh.positions[rows] - 4.0 * normals[rows]
  inside[mesh.positions[rows, 0] < 4.0, 0] = 0.0
  centers, widths, deviations = [], [], []
  for layer in layers:
    chosen = [int(np.argmax(mesh.positions[rows, 2]))]
    distance = np.full(len(rows), np.inf)
    while len(chosen) < layer.count:
      gap = np.linalg.norm(inside - inside[chosen[-1]], axis=1) * np.sqrt(importance[rows])
      distance = np.minimum(distance, gap)
      chosen.append(int(distance.argmax()))
    both = mirrored_centers(inside[chosen])
    centers.append(both)
    widths.append(np.full(len(both), layer.width))
    deviations.append(np.full(len(both), layer.deviation))
  return np.concatenate(centers), np.concatenate(widths), np.concatenate(deviations)
