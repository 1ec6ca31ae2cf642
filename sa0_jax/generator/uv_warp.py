"""Feature maps and colours of source images, carried to the UV unwrap (SpatialAvatar-0, Stage 1).

Without parameters: every valid texel is a point of the source frame's mesh, and takes what the
source camera sees there.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from sa0_kernels import Camera, pytree

from sa0_jax.geometry.barycentric import interpolate
from sa0_jax.head.model import HeadModel
from sa0_jax.head.uv_layout import UVLayout

_NEAR = 0.01  # metres; the rasterizer draws nothing nearer either
_MIN_LENGTH = 1e-20  # m² or m; normals of collapsed triangles become zero instead of NaN


@pytree.register
@dataclasses.dataclass(frozen=True)
class UVArrays:
  """What the generator needs of a UV layout, as arrays: pass it to compiled functions.

  Attributes:
    layout: the valid texels Ω; `layout.from_image` gathers them, `layout.to_image` puts them back.
    corner: [n, 3] vertices of each texel's triangle.
    coarse: where the network's UV image has fewer texels than there are Gaussians: that image, and
      how values come from there; None where both are the same.
  """

  layout: UVLayout
  corner: Int[Array, 'n 3']
  coarse: 'CoarseTexels | None' = None

  @classmethod
  def from_layout(
    cls, layout: UVLayout, head: HeadModel, network_size: int | None = None
  ) -> 'UVArrays':
    """Looks up the corners of the texels' triangles.

    Args:
      layout: one texel a Gaussian.
      head: whose UV it lays out.
      network_size: side of the network's UV image; None for the layout's own.

    Raises:
      ValueError: the layout is not of this head's mesh.
    """
    face = np.asarray(layout.face)
    if face.max() >= len(head.faces):
      raise ValueError(
        f'UVArrays: the layout names triangle {face.max()}, head {head.name!r} has '
        f'{len(head.faces)}: make the layout with UVLayout.from_head of the same head'
      )
    coarse = None
    if network_size not in (None, layout.resolution):
      coarse = _coarse_texels(layout, UVLayout.from_head(head, network_size), head)
    with jax.ensure_compile_time_eval():
      return cls(layout, jnp.asarray(head.faces[face], jnp.int32), coarse)

  @property
  def network(self) -> 'UVArrays':
    """The texels of the network's UV image."""
    return self if self.coarse is None else self.coarse.uv

  def spread(self, values: Float[Array, '*batch m c']) -> Float[Array, '*batch n c']:
    """From the network's texels to the Gaussians', bilinear in UV."""
    if self.coarse is None:
      return values
    taps = values[..., self.coarse.index, :]
    return jnp.sum(taps * self.coarse.weight[..., None], axis=-2)

  @property
  def valid(self) -> Bool[Array, 'r r']:
    """Which texels of the UV image belong to Ω."""
    return self.layout.to_image(jnp.ones((self.layout.n, 1)))[..., 0] > 0


@pytree.register
@dataclasses.dataclass(frozen=True)
class CoarseTexels:
  """The m texels of a smaller UV image, and what each of n texels takes of them.

  Attributes:
    uv: the smaller image's.
    index: [n, 4] which of its texels.
    weight: [n, 4] how much of each; they sum to 1.
  """

  uv: UVArrays
  index: Int[Array, 'n 4']
  weight: Float[Array, 'n 4']


def _coarse_texels(layout: UVLayout, small: UVLayout, head: HeadModel) -> CoarseTexels:
  """Bilinear taps on the valid texels; the nearest one where none of the four is valid."""
  from scipy.spatial import cKDTree  # here: importing it takes longer than the rest

  texel = np.asarray(small.texel)
  ids = np.full((small.resolution + 2,) * 2, -1)
  ids[texel[:, 0] + 1, texel[:, 1] + 1] = np.arange(small.n)
  place = (np.asarray(layout.texel) + 0.5) * (small.resolution / layout.resolution) - 0.5
  low = np.floor(place).astype(int)
  share = place - low
  steps = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
  at = low[:, None] + 1 + steps
  index = ids[at[..., 0], at[..., 1]]
  weight = np.where(steps, share[:, None], 1.0 - share[:, None]).prod(axis=-1)
  weight = np.where(index >= 0, weight, 0.0)
  index = np.maximum(index, 0)
  lost = weight.sum(axis=1) < 1e-6
  if lost.any():
    index[lost, 0] = cKDTree(texel).query(place[lost])[1]
    weight[lost] = [1.0, 0.0, 0.0, 0.0]
  weight /= weight.sum(axis=1, keepdims=True)
  with jax.ensure_compile_time_eval():
    return CoarseTexels(
      UVArrays.from_layout(small, head),
      jnp.asarray(index, jnp.int32),
      jnp.asarray(weight, jnp.float32),
    )


class SourceMaps(NamedTuple):
  """Images that show the same views at any resolutions.

  Attributes:
    features: [k, hf, wf, c] dense features.
    rgb: [k, h, w, 3] colour in [0, 1].
  """

  features: Float[Array, 'k hf wf c']
  rgb: Float[Array, 'k h w 3']


class WarpedMaps(NamedTuple):
  """Sources on the UV image, row 0 on top; zero outside Ω.

  Attributes:
    features: [k, r, r, c] in the dtype of the source features.
    rgb: [k, r, r, 3] in the dtype of the source images.
    visibility: [k, r, r] float32, 1 where the source sees the texel, or None if not asked for.
  """

  features: Float[Array, 'k r r c']
  rgb: Float[Array, 'k r r 3']
  visibility: Float[Array, 'k r r'] | None


@dataclasses.dataclass(frozen=True)
class VisibilityConfig:
  """The depth test of `barycentric_warp`. The texels themselves are splatted into a z-buffer.

  Attributes:
    cells: cells of the z-buffer along each image side; None takes the UV resolution. More leave
      holes between the texels of a head that fills the image.
    margin: metres behind the nearest texel of a cell that still count as seen, beside what the
      texel's own plane rises over a cell.
    min_cosine: of the angle between normal and ray; a texel seen more grazingly counts as unseen.
  """

  cells: int | None = None
  margin: float = 0.003
  min_cosine: float = 0.15

  def __post_init__(self) -> None:
    if self.cells is not None and not 1 <= self.cells <= 4096:
      raise ValueError(f'VisibilityConfig: cells must be 1 to 4096, got {self.cells}')
    if not self.margin >= 0.0:
      raise ValueError(f'VisibilityConfig: margin must not be negative, got {self.margin}')
    # At 0 the plane of a texel seen edge-on would have no depth.
    if not 0.0 < self.min_cosine < 1.0:
      raise ValueError(
        f'VisibilityConfig: min_cosine must lie between 0 and 1, got {self.min_cosine}'
      )


class View(NamedTuple):
  """Points as one camera sees them.

  Attributes:
    points: [n, 3] camera space, metres.
    place: [n, 2] image position as fractions of width and height; 0 where behind the camera.
    inside: [n] in front of the camera and within the image.
  """

  points: Float[Array, 'n 3']
  place: Float[Array, 'n 2']
  inside: Bool[Array, ' n']


def texel_points(vertices: Float[Array, '*batch v 3'], uv: UVArrays) -> Float[Array, '*batch n 3']:
  """The point of a mesh at each valid texel.

  Args:
    vertices: posed mesh, metres.
    uv: the texels.

  Returns:
    Points in metres, in the coordinates of the vertices.
  """
  return interpolate(vertices, uv.corner, uv.layout.barycentric)


def barycentric_warp(
  sources: SourceMaps,
  vertices: Float[Array, 'k v 3'],
  camera: Camera,
  uv: UVArrays,
  visibility: VisibilityConfig | None = None,
) -> WarpedMaps:
  """Samples k source images at the texels of the UV image (SpatialAvatar-0, Stage 1, step 2).

  A texel's point on the source mesh is projected with the source camera; image position u pixels
  of the camera's width is u · w / width on a map w wide, whose sample centres lie at +0.5. Maps
  are interpolated bilinearly; within half a sample of the border the border's value holds. Texels
  behind the camera or outside the image get zeros.

  Differentiable in maps, vertices and camera; visibility carries no gradient. Further leading axes:
  jax.vmap.

  Args:
    sources: features and images; their resolutions need not be the camera's.
    vertices: each source frame's posed mesh, metres, world.
    camera: k cameras in one batch.
    uv: the texels, of the same head.
    visibility: test which texels each source sees; None, as in the paper, samples hidden texels
      too.

  Returns:
    Maps on the UV image.

  Raises:
    ValueError: the numbers of images, meshes and cameras differ.
  """
  counts = {len(sources.features), len(sources.rgb), len(vertices)}
  if len(counts) > 1 or camera.batch_shape != (len(vertices),):
    raise ValueError(
      f'barycentric_warp: {len(sources.features)} feature maps, {len(sources.rgb)} images, '
      f'{len(vertices)} meshes and cameras of shape {camera.batch_shape}: need k of each'
    )
  camera = jax.tree.map(jnp.asarray, camera)
  return jax.vmap(lambda maps, mesh, view: _warp(maps, mesh, view, uv, visibility))(
    sources, vertices, camera
  )


def _warp(
  maps: SourceMaps,
  vertices: Float[Array, 'v 3'],
  camera: Camera,
  uv: UVArrays,
  visibility: VisibilityConfig | None,
) -> WarpedMaps:
  """`barycentric_warp` of one source, without the leading axis."""
  view = project_points(texel_points(vertices, uv), camera)
  features, rgb = (
    uv.layout.to_image(jnp.where(view.inside[:, None], sample_image(image, view.place), 0.0))
    for image in maps
  )
  if visibility is None:
    return WarpedMaps(features, rgb, None)
  normals = _rotate(_face_normals(vertices, uv), camera)
  cells = uv.layout.resolution if visibility.cells is None else visibility.cells
  seen = _visible(view, normals, camera, visibility, cells)
  image = uv.layout.to_image(seen.astype(jnp.float32)[:, None])[..., 0]
  return WarpedMaps(features, rgb, image)


def _rotate(vectors: Float[Array, 'n 3'], camera: Camera) -> Float[Array, 'n 3']:
  """World axes to camera axes, written out: a GPU's matrix units would round to TF32."""
  return jnp.sum(vectors[:, None] * camera.world_to_camera[:3, :3], axis=-1)


def project_points(points: Float[Array, 'n 3'], camera: Camera) -> View:
  """Projects world points."""
  seen = _rotate(points, camera) + camera.world_to_camera[:3, 3]
  front = seen[:, 2] > _NEAR
  slope = jnp.where(front[:, None], seen[:, :2], 0.0) / jnp.where(front, seen[:, 2], 1.0)[:, None]
  size = jnp.asarray([camera.width, camera.height], points.dtype)
  focal, centre = jnp.split(jnp.asarray(camera.intrinsics), 2)
  place = (focal * slope + centre) / size
  inside = front & ((place >= 0.0) & (place <= 1.0)).all(axis=-1)
  return View(seen, place, inside)


def fill_unseen(
  image: Float[Array, 'b r r c'], seen: Bool[Array, 'b r r'], unknown: float
) -> Float[Array, 'b r r c']:
  """What is not seen takes what is seen around it in the UV image.

  Means over squares of 2, 4, 8, … texels, of those that are seen; each texel takes the smallest
  square's that has any, with steps between squares smoothed out.

  Args:
    image: values.
    seen: where they count.
    unknown: the value where nothing is seen at all.
  """
  weight = seen[..., None].astype(jnp.float32)
  value = image.astype(jnp.float32) * weight
  if image.shape[1] == 1:
    filled = value + (1.0 - weight) * unknown
  else:
    odd = image.shape[1] % 2
    pads = ((0, 0), (0, odd), (0, odd), (0, 0))
    total, count = (_sum_squares(jnp.pad(a, pads)) for a in (value, weight))
    below = fill_unseen(total / jnp.maximum(count, 1.0), count[..., 0] > 0.0, unknown)
    size = image.shape[1]
    larger = jax.image.resize(
      below, (*below.shape[:1], *(2 * s for s in below.shape[1:3]), below.shape[3]), 'linear'
    )
    filled = value + (1.0 - weight) * larger[:, :size, :size]
  return filled.astype(image.dtype)


def _sum_squares(x: Float[Array, 'b r r c']) -> Float[Array, 'b h h c']:
  """Sums of squares of 2 × 2."""
  x = x[:, 0::2] + x[:, 1::2]
  return x[:, :, 0::2] + x[:, :, 1::2]


def sample_image(image: Float[Array, 'h w c'], place: Float[Array, 'n 2']) -> Float[Array, 'n c']:
  """Bilinear samples at fractions of the image's size, summed in float32; border kept."""
  height, width, channels = image.shape
  x = jnp.clip(place[:, 0] * width - 0.5, 0.0, width - 1.0)
  y = jnp.clip(place[:, 1] * height - 0.5, 0.0, height - 1.0)
  left, top = (jnp.floor(jax.lax.stop_gradient(v)).astype(jnp.int32) for v in (x, y))
  along, down = (x - left)[:, None], (y - top)[:, None]
  right, bottom = jnp.minimum(left + 1, width - 1), jnp.minimum(top + 1, height - 1)
  flat = image.reshape(height * width, channels)

  def tap(row: Int[Array, ' n'], column: Int[Array, ' n']) -> Float[Array, 'n c']:
    return flat[row * width + column].astype(place.dtype)

  upper = (1.0 - along) * tap(top, left) + along * tap(top, right)
  lower = (1.0 - along) * tap(bottom, left) + along * tap(bottom, right)
  return ((1.0 - down) * upper + down * lower).astype(image.dtype)


def _face_normals(vertices: Float[Array, 'v 3'], uv: UVArrays) -> Float[Array, 'n 3']:
  """Outward unit normals of the texels' triangles."""
  a, b, c = (vertices[uv.corner[:, i]] for i in range(3))
  normal = jnp.cross(b - a, c - a)
  return normal / jnp.sqrt(jnp.sum(normal * normal, axis=-1, keepdims=True) + _MIN_LENGTH**2)


def _visible(
  view: View,
  normals: Float[Array, 'n 3'],
  camera: Camera,
  config: VisibilityConfig,
  cells: int,
) -> Bool[Array, ' n']:
  """Which texels face the camera with no other texel in front of them; no gradients.

  The plane of a texel at p with normal n has depth z(r) = n · p / n · r along r = (x/z, y/z, 1):
  over one cell it rises by z² (|n_x| Δr_x + |n_y| Δr_y) / |n · p|, and so far may a neighbour on
  the same surface lie in front.
  """
  view, normals, focal = jax.lax.stop_gradient((view, normals, camera.intrinsics[:2]))
  depth = jnp.where(view.inside, view.points[:, 2], jnp.inf)
  place = jnp.where(view.inside[:, None], view.place, 0.0)
  cell = jnp.clip(jnp.floor(place * cells).astype(jnp.int32), 0, cells - 1)
  index = cell[:, 1] * cells + cell[:, 0]
  # A minimum does not depend on the order of its arguments: equal on every run.
  nearest = jnp.full(cells**2, jnp.inf, depth.dtype).at[index].min(depth)[index]

  towards = -jnp.sum(normals * view.points, axis=-1)  # metres: −n · p
  distance = jnp.sqrt(jnp.sum(view.points**2, axis=-1) + _MIN_LENGTH)
  faces = towards > config.min_cosine * distance
  size = jnp.asarray([camera.width, camera.height], depth.dtype)
  step = size / (cells * focal)  # Δr
  rise = view.points[:, 2] ** 2 * jnp.sum(jnp.abs(normals[:, :2]) * step, axis=-1)
  rise = rise / jnp.maximum(towards, _MIN_LENGTH)
  return view.inside & faces & (depth <= nearest + config.margin + rise)
