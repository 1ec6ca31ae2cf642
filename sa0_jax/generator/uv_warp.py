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
  """

  layout: UVLayout
  corner: Int[Array, 'n 3']

  @classmethod
  def from_layout(cls, layout: UVLayout, head: HeadModel) -> 'UVArrays':
    """Looks up the corners of the texels' triangles.

    Raises:
      ValueError: the layout is not of this head's mesh.
    """
    face = np.asarray(layout.face)
    if face.max() >= len(head.faces):
      raise ValueError(
        f'UVArrays: the layout names triangle {face.max()}, head {head.name!r} has '
        f'{len(head.faces)}: make the layout with UVLayout.from_head of the same head'
      )
    with jax.ensure_compile_time_eval():
      return cls(layout, jnp.asarray(head.faces[face], jnp.int32))

  @property
  def valid(self) -> Bool[Array, 'r r']:
    """Which texels of the UV image belong to Ω."""
    return self.layout.to_image(jnp.ones((self.layout.n, 1)))[..., 0] > 0


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


class _View(NamedTuple):
  """Texels as one camera sees them.

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
  weights = uv.layout.barycentric
  return sum(
    (weights[:, i, None] * vertices[..., uv.corner[:, i], :] for i in range(3)),
    jnp.zeros((), vertices.dtype),
  )


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
  view = _project(texel_points(vertices, uv), camera)
  features, rgb = (
    uv.layout.to_image(jnp.where(view.inside[:, None], _sample(image, view.place), 0.0))
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


def _project(points: Float[Array, 'n 3'], camera: Camera) -> _View:
  """Projects world points."""
  seen = _rotate(points, camera) + camera.world_to_camera[:3, 3]
  front = seen[:, 2] > _NEAR
  slope = jnp.where(front[:, None], seen[:, :2], 0.0) / jnp.where(front, seen[:, 2], 1.0)[:, None]
  size = jnp.asarray([camera.width, camera.height], points.dtype)
  focal, centre = jnp.split(jnp.asarray(camera.intrinsics), 2)
  place = (focal * slope + centre) / size
  inside = front & ((place >= 0.0) & (place <= 1.0)).all(axis=-1)
  return _View(seen, place, inside)


def _sample(image: Float[Array, 'h w c'], place: Float[Array, 'n 2']) -> Float[Array, 'n c']:
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
  view: _View,
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
