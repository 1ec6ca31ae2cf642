"""Where each Gaussian sits: texels of the UV unwrap, their triangles and barycentric weights."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from sa0_kernels import pytree

from sa0_jax.head.model import HeadModel

_MAX_RESOLUTION = 8192
# Candidate (face, texel) pairs examined at once: bounds memory at about 200 MB.
_CHUNK_PAIRS = 1_000_000
_DEGENERATE_AREA = 1e-6  # texels², twice the area below which a UV triangle covers nothing


@pytree.register
@dataclasses.dataclass(frozen=True)
class UVLayout:
  """The valid texels of a head's UV unwrap, one Gaussian each, in row-major order.

  A texel is valid when its centre lies in a UV triangle. Images are stored top row first and v
  points up, so the centre of texel (row, column) at resolution R is u = (column + ½)/R,
  v = 1 − (row + ½)/R: row 0 is the TOP of the texture image. The boundary of a triangle belongs to
  it; where several faces cover a centre (shared edges, overlaps) the one with the lowest index has
  it. n follows from the user's UV and the resolution alone and is the same for every subject.

  Attributes:
    texel: [n, 2] row and column.
    face: [n] row of `HeadModel.faces`.
    barycentric: [n, 3] weights of that face's corners at the texel's centre; they sum to 1.
    resolution: R, texels along each side (static).
  """

  texel: Int[Array, 'n 2']
  face: Int[Array, ' n']
  barycentric: Float[Array, 'n 3']
  resolution: int = dataclasses.field(metadata={'static': True})

  @classmethod
  def from_head(cls, head: HeadModel, resolution: int) -> 'UVLayout':
    """Rasterises the head's UV unwrap at texel centres.

    Args:
      head: a model with UV.
      resolution: texels along each side, 1 to 8192; the paper uses 256.

    Raises:
      ValueError: the head has no UV, the resolution is out of range, or no texel is covered.
    """
    if not 1 <= resolution <= _MAX_RESOLUTION:
      raise ValueError(f'UV resolution must be 1 to {_MAX_RESOLUTION}, got {resolution}')
    if not len(head.vt):
      raise ValueError(
        f'head {head.name!r} has no UV: a FLAME model gets it with '
        '`sa0 head install … --uv flame_uv.npz`'
      )
    face, texel = _rasterize(head.vt, head.ft, resolution)
    if not len(face):
      raise ValueError(
        f'no texel of a {resolution}×{resolution} image lies inside the UV of head {head.name!r}'
      )
    barycentric = _barycentric(head.vt, head.ft[face], texel, resolution)
    # Layouts may be made inside traced code; the arrays kept must not be tracers.
    with jax.ensure_compile_time_eval():
      return cls(
        jnp.stack([jnp.asarray(texel // resolution), jnp.asarray(texel % resolution)], axis=-1),
        jnp.asarray(face),
        jnp.asarray(barycentric),
        resolution,
      )

  @property
  def n(self) -> int:
    """Number of valid texels, and of Gaussians."""
    return self.face.shape[0]

  def to_image(
    self, values: Float[Array, '*batch n c'], background: float = 0.0
  ) -> Float[Array, '*batch r r c']:
    """Spreads one value a Gaussian over the UV image; other texels get `background`."""
    shape = (*values.shape[:-2], self.resolution, self.resolution, values.shape[-1])
    image = jnp.full(shape, background, values.dtype)
    row, column = self.texel[:, 0], self.texel[:, 1]
    return image.at[..., row, column, :].set(values, unique_indices=True, indices_are_sorted=True)

  def from_image(self, image: Float[Array, '*batch r r c']) -> Float[Array, '*batch n c']:
    """Picks the values of the valid texels: `to_image` undone.

    Raises:
      ValueError: the image has another resolution.
    """
    if image.shape[-3:-1] != (self.resolution, self.resolution):
      raise ValueError(
        f'the UV image is {image.shape[-3]}×{image.shape[-2]}, the layout '
        f'{self.resolution}×{self.resolution}'
      )
    return image[..., self.texel[:, 0], self.texel[:, 1], :]


def _corners(vt: np.ndarray, ft: np.ndarray, resolution: int) -> np.ndarray:
  """[f, 3, 2] corners in texel units (x = column, y = row), float64."""
  uv = vt.astype(np.float64)[ft]
  return np.stack([uv[..., 0], 1.0 - uv[..., 1]], axis=-1) * resolution


def _rasterize(
  vt: np.ndarray, ft: np.ndarray, resolution: int
) -> tuple[Int[np.ndarray, ' n'], Int[np.ndarray, ' n']]:
  """Face and flat index of each covered texel, sorted by texel."""
  corners = _corners(vt, np.maximum(ft, 0), resolution)
  area = _cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
  drawn = (ft >= 0).all(axis=1) & (np.abs(area) > _DEGENERATE_AREA)
  edges = [_edge(ft, corners, a, b, np.sign(area)) for a, b in ((0, 1), (1, 2), (2, 0))]
  # Texels whose centre, at index + ½, can lie within each face's bounds: the pairs to examine,
  # numbered face after face.
  first = np.clip(np.ceil(corners.min(axis=1) - 0.5), 0, resolution).astype(np.int64)
  last = np.clip(np.floor(corners.max(axis=1) - 0.5), -1, resolution - 1).astype(np.int64)
  width, height = np.maximum(last - first + 1, 0).T * drawn
  ends = np.cumsum(width * height)
  total = int(ends[-1])
  covering = np.full(resolution * resolution, len(ft), np.int32)
  for start in range(0, total, _CHUNK_PAIRS):
    pair = np.arange(start, min(start + _CHUNK_PAIRS, total))
    face = np.searchsorted(ends, pair, side='right')
    rank = pair - (ends - width * height)[face]
    column = first[face, 0] + rank % width[face]
    row = first[face, 1] + rank // width[face]
    inside = np.ones(len(pair), bool)
    for origin, inward in edges:
      x, y = column + 0.5 - origin[face, 0], row + 0.5 - origin[face, 1]
      inside &= inward[face, 0] * x + inward[face, 1] * y >= 0
    texel = (row * resolution + column)[inside]
    np.minimum.at(covering, texel, face[inside].astype(np.int32))
  texels = np.flatnonzero(covering < len(ft)).astype(np.int32)
  return covering[texels], texels


def _edge(
  ft: np.ndarray, corners: np.ndarray, a: int, b: int, orientation: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """A point of each face's edge and the edge's normal into the face.

  Both faces at an edge must compute the same number for it up to its sign, or rounding could leave
  a centre on the edge to neither: the endpoints are taken in the order of their UV vertices.
  """
  swap = (ft[:, a] > ft[:, b])[:, None]
  origin = np.where(swap, corners[:, b], corners[:, a])
  along = np.where(swap, corners[:, a], corners[:, b]) - origin
  inward = np.stack([-along[:, 1], along[:, 0]], axis=-1)
  return origin, inward * np.where(swap, -1.0, 1.0) * orientation[:, None]


def _barycentric(
  vt: np.ndarray, ft: np.ndarray, texel: np.ndarray, resolution: int
) -> Float[np.ndarray, 'n 3']:
  """Weights of the corners at each texel's centre, clipped to the triangle it belongs to."""
  corners = _corners(vt, ft, resolution)
  centre = np.stack([texel % resolution, texel // resolution], axis=-1) + 0.5
  a, b, c = (corners[:, i] - centre for i in range(3))
  weights = np.stack([_cross(b, c), _cross(c, a), _cross(a, b)], axis=-1)
  weights = np.clip(weights / weights.sum(axis=1, keepdims=True), 0.0, 1.0)
  return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
