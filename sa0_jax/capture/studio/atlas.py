"""Texture images in a head's UV layout, filled across the borders of its charts."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int
from sa0_kernels import Camera

from sa0_jax import mesh_render
from sa0_jax.head.model import HeadModel

# Texels painted past each chart's border, so that bilinear look-ups never see the outside.
GUTTER = 4


@dataclasses.dataclass(frozen=True, eq=False)
class Atlas:
  """Which point of the surface each texel shows.

  Attributes:
    covered: [r, r] whether a triangle covers the texel's centre; row 0 is v = 1.
    face: [n] face of each covered texel, in row-major order.
    barycentric: [n, 3] weights of its corners.
  """

  covered: Bool[np.ndarray, 'r r']
  face: Int[np.ndarray, ' n']
  barycentric: Float[np.ndarray, 'n 3']

  @classmethod
  def from_head(cls, head: HeadModel, resolution: int) -> 'Atlas':
    """Rasterizes the UV layout.

    Args:
      head: a head with UV.
      resolution: texels along each side.
    """
    # Seen at depth 1 the UV square is its own image: perspective weights are affine there.
    flat = np.column_stack([head.vt[:, 0], 1.0 - head.vt[:, 1], np.ones(len(head.vt))])
    intrinsics = np.array([resolution, resolution, 0.0, 0.0])
    camera = Camera.from_matrices(np.eye(4), intrinsics, width=resolution, height=resolution)
    buffers = mesh_render.rasterize_mesh(flat, np.maximum(head.ft, 0), camera)
    covered = buffers.face >= 0
    return cls(covered, buffers.face[covered], buffers.barycentric[covered])

  def interpolate(
    self, faces: Int[np.ndarray, 'f 3'], attributes: Float[np.ndarray, 'v c']
  ) -> Float[np.ndarray, 'n c']:
    """Vertex attributes at the covered texels."""
    corners = faces[self.face]
    total = self.barycentric[:, 0, None] * attributes[corners[:, 0]]
    for k in (1, 2):
      total += self.barycentric[:, k, None] * attributes[corners[:, k]]
    return total

  def image(self, values: Float[np.ndarray, 'n c']) -> Float[np.ndarray, 'r r c']:
    """Spreads values over the image and past the charts' borders."""
    out = np.zeros((*self.covered.shape, values.shape[1]), np.float32)
    out[self.covered] = values
    known = self.covered
    for _ in range(GUTTER):
      out, known = _grow(out, known)
    return out


def _grow(
  image: Float[np.ndarray, 'r r c'], known: Bool[np.ndarray, 'r r']
) -> tuple[Float[np.ndarray, 'r r c'], Bool[np.ndarray, 'r r']]:
  """Gives unknown texels beside known ones the mean of those."""
  padded = np.pad(known, 1)
  size = len(known)
  shifts = [(1, 0), (1, 2), (0, 1), (2, 1), (0, 0), (0, 2), (2, 0), (2, 2)]
  beside = np.zeros_like(known)
  for dy, dx in shifts:
    beside |= padded[dy : dy + size, dx : dx + size]
  rows, columns = np.nonzero(beside & ~known)
  total = np.zeros((len(rows), image.shape[2]), np.float32)
  count = np.zeros(len(rows), np.float32)
  for dy, dx in shifts:
    y, x = np.clip(rows + dy - 1, 0, size - 1), np.clip(columns + dx - 1, 0, size - 1)
    weight = known[y, x].astype(np.float32)
    total += weight[:, None] * image[y, x]
    count += weight
  out = image.copy()
  out[rows, columns] = total / np.maximum(count, 1)[:, None]
  grown = known.copy()
  grown[rows, columns] = True
  return out, grown
