"""Flattening of disc-like patches into convex charts without folds (builder only).

A patch starts as Tutte's embedding, which cannot fold, and is relaxed to the least symmetric
Dirichlet energy against a wanted size for every triangle, by scalable locally injective mappings
(Rabinovich et al. 2017). The energy is infinite at a fold, so a line search that keeps it finite
never makes one.
"""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int


@dataclasses.dataclass(frozen=True, eq=False)
class Patch:
  """A disc to flatten.

  Attributes:
    positions: [v, 3] vertices.
    faces: [f, 3] triangles over them, holes filled; every vertex used.
    scale: [f] wanted size in the chart of one unit of length in space.
    border: [b] boundary vertices, counter-clockwise in the chart.
    border_uv: [b, 2] their places on a convex outline.
    slides: [b, 2] which coordinates of a border vertex may change while relaxing.
  """

  positions: Float[np.ndarray, 'v 3']
  faces: Int[np.ndarray, 'f 3']
  scale: Float[np.ndarray, ' f']
  border: Int[np.ndarray, ' b']
  border_uv: Float[np.ndarray, 'b 2']
  slides: Bool[np.ndarray, 'b 2']


def flatten(patch: Patch, iterations: int = 60) -> Float[np.ndarray, 'v 2']:
  """Chart coordinates of the patch's vertices.

  Raises:
    RuntimeError: the starting embedding has a triangle without area.
  """
  laplacian = _mean_value_laplacian(patch.positions, patch.faces)
  start = _embed(laplacian, patch.border, patch.border_uv)
  free = np.ones((len(start), 2), bool)
  free[patch.border] = patch.slides
  energy = _SymmetricDirichlet(patch)
  if not np.isfinite(energy.value(start)):
    worst = np.argmin(energy.areas(start))
    raise RuntimeError(f'flatten: triangle {worst} {patch.faces[worst]} has no area to start with')
  return _minimize(energy, start, free, iterations)


def _mean_value_laplacian(positions: np.ndarray, faces: np.ndarray) -> Any:
  """Sparse Laplacian with mean value weights, positive on any triangulation."""
  import scipy.sparse as sparse

  rows, columns, values = [], [], []
  for k in range(3):
    at, u, v = faces[:, k], faces[:, (k + 1) % 3], faces[:, (k + 2) % 3]
    a, b = positions[u] - positions[at], positions[v] - positions[at]
    la, lb = (np.linalg.norm(e, axis=1) + 1e-6 for e in (a, b))
    cosine = np.clip((a * b).sum(1) / la / lb, -1, 0.9999)
    half = np.clip(np.tan(0.5 * np.arccos(cosine)), 0.02, 20)
    rows += [at, at]
    columns += [u, v]
    values += [half / la, half / lb]
  count = len(positions)
  weights = sparse.coo_matrix(
    (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=(count, count)
  ).tocsr()
  return (sparse.diags(np.asarray(weights.sum(1)).ravel()) - weights).tocsr()


def _embed(laplacian: Any, border: np.ndarray, border_uv: np.ndarray) -> np.ndarray:
  import scipy.sparse.linalg as linalg

  count = laplacian.shape[0]
  inner = np.setdiff1d(np.arange(count), border)
  uv = np.zeros((count, 2))
  uv[border] = border_uv
  right = -laplacian[inner][:, border] @ border_uv
  uv[inner] = linalg.splu(laplacian[inner][:, inner].tocsc()).solve(right)
  return uv


class _SymmetricDirichlet:
  """Σ wanted area · (|J|² + |J⁻¹|²) over triangles, J from the wanted triangle to the chart's."""

  def __init__(self, patch: Patch) -> None:
    corners = patch.positions[patch.faces]
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    length = np.maximum(np.linalg.norm(a, axis=1), 1e-9)
    x = (a * b).sum(1) / length
    y = np.maximum(np.linalg.norm(np.cross(a, b), axis=1) / length, 1e-3 * length)
    length, x, y = length * patch.scale, x * patch.scale, y * patch.scale
    self.faces = patch.faces
    self.weight = 0.5 * length * y
    # Inverse of the wanted triangle's edge matrix [[length, x], [0, y]].
    self.inverse = np.zeros((len(x), 2, 2))
    self.inverse[:, 0, 0], self.inverse[:, 0, 1] = 1 / length, -x / (length * y)
    self.inverse[:, 1, 1] = 1 / y

  def _jacobian(self, uv: np.ndarray) -> np.ndarray:
    corners = uv[self.faces]
    edges = np.stack([corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]], axis=-1)
    return edges @ self.inverse

  def areas(self, uv: np.ndarray) -> np.ndarray:
    """Signed area of each triangle relative to the wanted one."""
    return np.linalg.det(self._jacobian(uv))

  def value(self, uv: np.ndarray) -> float:
    """The energy; infinite where a triangle is folded."""
    jacobian = self._jacobian(uv)
    area = jacobian[:, 0, 0] * jacobian[:, 1, 1] - jacobian[:, 0, 1] * jacobian[:, 1, 0]
    if area.min() <= 1e-9:
      return np.inf
    square = (jacobian**2).sum((1, 2))
    return float((self.weight * square * (1 + 1 / area**2)).sum())

  def proxy(self, uv: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Local quadratic stand-in Σ area · |W (J − R)|²: the matrices W and the rotations R.

    W is chosen so that the stand-in has the energy's gradient at `uv` (equation 7 of the paper).
    """
    left, stretch, right = np.linalg.svd(self._jacobian(uv))
    flip = np.sign(np.linalg.det(left) * np.linalg.det(right))
    left[:, :, 1] *= flip[:, None]
    rotation = left @ right
    stretch = np.where(np.abs(stretch - 1) < 1e-6, 1 + 1e-6, stretch)
    weight = np.sqrt((stretch - stretch**-3) / (stretch - 1))
    return (left * weight[:, None, :]) @ left.transpose(0, 2, 1), rotation

  def system(self, uv: np.ndarray) -> tuple[Any, np.ndarray]:
    """Normal equations of the proxy: sparse [2v, 2v] matrix and [2v] right side (u, then v)."""
    import scipy.sparse as sparse

    weight, rotation = self.proxy(uv)
    count, number = len(uv), len(self.faces)
    # J = edges · inverse is linear in the corners: derivative [f, corner, column].
    by_corner = np.stack([-self.inverse.sum(1), self.inverse[:, 0], self.inverse[:, 1]], axis=1)
    rows, columns, values, wanted = [], [], [], []
    area = np.sqrt(self.weight)
    target = weight @ rotation
    for i in range(2):
      for column in range(2):
        row = (2 * i + column) * number + np.arange(number)
        wanted.append(area * target[:, i, column])
        for axis in range(2):
          for corner in range(3):
            rows.append(row)
            columns.append(axis * count + self.faces[:, corner])
            values.append(area * weight[:, i, axis] * by_corner[:, corner, column])
    matrix = sparse.coo_matrix(
      (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))),
      shape=(4 * number, 2 * count),
    ).tocsr()
    return matrix.T @ matrix, matrix.T @ np.concatenate(wanted)


def _minimize(
  energy: _SymmetricDirichlet, start: np.ndarray, free: np.ndarray, iterations: int
) -> np.ndarray:
  """Solves the proxy and backtracks, again and again."""
  import scipy.sparse as sparse
  import scipy.sparse.linalg as linalg

  rows = np.flatnonzero(free.T.ravel())
  uv, value = start.copy(), energy.value(start)
  for _ in range(iterations):
    matrix, right = energy.system(uv)
    block = matrix[rows][:, rows] + 1e-9 * sparse.eye(len(rows))
    flat = uv.T.ravel()
    step = np.zeros_like(flat)
    step[rows] = linalg.spsolve(block.tocsc(), (right - matrix @ flat)[rows])
    direction = step.reshape(2, -1).T
    length = 1.0
    while length > 1e-9 and energy.value(uv + length * direction) >= value:
      length *= 0.6
    if length <= 1e-9:
      break
    uv = uv + length * direction
    previous, value = value, energy.value(uv)
    if previous - value < 1e-5 * value:
      break
  return uv
