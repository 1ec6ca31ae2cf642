"""Host-side triangle rasterizer with soft light: for synthetic studios and for looking at meshes.

Not the splatter: nothing here is differentiable. Several meshes are drawn together by concatenating
their vertices and faces. Loops run in numba (extra `sa0-jax[cpu]`).
"""

import dataclasses
import types
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from sa0_kernels.camera import Camera

NEAR = 0.01  # metres
_PORTRAIT_DISTANCE = 0.95  # metres
_PORTRAIT_MARGIN = 1.3  # hair reaches beyond the mesh

# Largest image side and number of triangles accepted, to fail before allocating for a typing error.
MAX_SIDE = 16384
MAX_FACES = 20_000_000


@dataclasses.dataclass(frozen=True, eq=False)
class MeshBuffers:
  """What `rasterize_mesh` saw through each pixel.

  Attributes:
    face: [h, w] int32 row of the faces array; −1 where nothing was hit.
    barycentric: [h, w, 3] float32 perspective-correct weights of that face's corners; 0 where
      nothing was hit.
    depth: [h, w] float32 camera-space z in metres; +inf where nothing was hit.
  """

  face: Int[np.ndarray, 'h w']
  barycentric: Float[np.ndarray, 'h w 3']
  depth: Float[np.ndarray, 'h w']


@dataclasses.dataclass(frozen=True, eq=False)
class Lights:
  """Distant lights.

  Attributes:
    directions: [l, 3] unit vectors from the surface to the light, world axes.
    colors: [l, 3] linear RGB irradiance each gives a surface that faces it.
  """

  directions: Float[np.ndarray, 'l 3']
  colors: Float[np.ndarray, 'l 3']


def _kernels() -> types.ModuleType:
  try:
    from sa0_jax import mesh_render_kernels
  except ImportError as error:
    raise ImportError(
      f'mesh rendering needs numba ({error}): install the extra `sa0-jax[cpu]`'
    ) from error
  return mesh_render_kernels


def rasterize_mesh(
  vertices: Any, faces: Any, camera: Camera, *, near: float = NEAR, cull_backfaces: bool = False
) -> MeshBuffers:
  """Draws triangles into a z-buffer.

  One thread draws one picture, and holds no lock: draw several pictures in several threads.
  Triangles that cross the near plane or the image border are drawn where they are visible.

  Args:
    vertices: [v, 3] world positions, metres.
    faces: [f, 3] vertex rows, counter-clockwise seen from outside.
    camera: one camera (no batch).
    near: nothing nearer than this depth in metres is drawn.
    cull_backfaces: leave out triangles seen from behind.

  Returns:
    Buffers of the camera's size.

  Raises:
    ImportError: numba is missing.
    ValueError: wrong shapes, a face that names no vertex, a batch of cameras, an absurd size.
  """
  points = np.asarray(vertices, np.float64)
  triangles = _checked_faces(points, faces)
  if camera.batch_shape != ():
    raise ValueError(f'rasterize_mesh: one camera at a time, got a batch {camera.batch_shape}')
  if max(camera.width, camera.height) > MAX_SIDE:
    raise ValueError(f'rasterize_mesh: image side over {MAX_SIDE}: {camera.width}x{camera.height}')
  kernels = _kernels()
  transform = np.asarray(camera.world_to_camera, np.float64)
  seen = points @ transform[:3, :3].T + transform[:3, 3]
  size = (camera.width, camera.height)
  planes, boxes = kernels.setup_triangles(
    np.ascontiguousarray(seen),
    triangles,
    np.asarray(camera.intrinsics, np.float64),
    near,
    size,
    cull_backfaces,
  )
  face = np.full((camera.height, camera.width), -1, np.int32)
  barycentric = np.zeros((camera.height, camera.width, 3), np.float32)
  depth = np.full((camera.height, camera.width), np.inf, np.float32)
  kernels.fill_triangles(planes, boxes, near, face, barycentric, depth)
  return MeshBuffers(face, barycentric, depth)


def _checked_faces(points: np.ndarray, faces: Any) -> np.ndarray:
  triangles = np.ascontiguousarray(faces, np.int32)
  if points.ndim != 2 or points.shape[1] != 3 or triangles.ndim != 2 or triangles.shape[1] != 3:
    raise ValueError(
      f'mesh: need vertices [v, 3] and faces [f, 3], got {points.shape} and {triangles.shape}'
    )
  if len(triangles) > MAX_FACES:
    raise ValueError(f'mesh: {len(triangles)} faces, more than the {MAX_FACES} allowed')
  if len(triangles) and (triangles.min() < 0 or triangles.max() >= len(points)):
    raise ValueError(
      f'mesh: faces name vertices {triangles.min()}..{triangles.max()} of {len(points)}'
    )
  return triangles


def interpolate(
  buffers: MeshBuffers, faces: Int[np.ndarray, 'f 3'], attributes: Float[np.ndarray, 'v c']
) -> Float[np.ndarray, 'h w c']:
  """Vertex attributes at every pixel; 0 where nothing was hit. float32."""
  out = np.zeros((*buffers.face.shape, attributes.shape[1]), np.float32)
  hit = buffers.face >= 0
  corners = faces[buffers.face[hit]]
  weights = buffers.barycentric[hit]
  values = np.asarray(attributes, np.float32)
  out[hit] = sum(weights[:, k, None] * values[corners[:, k]] for k in range(3))
  return out


def vertex_normals(
  vertices: Float[np.ndarray, 'v 3'], faces: Int[np.ndarray, 'f 3']
) -> Float[np.ndarray, 'v 3']:
  """Area-weighted unit normals; zero for a vertex of no face or of degenerate faces only."""
  corners = vertices[faces]
  normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
  total = np.stack(
    [
      sum(
        np.bincount(faces[:, k], weights=normal[:, axis], minlength=len(vertices)) for k in range(3)
      )
      for axis in range(3)
    ],
    axis=-1,
  )
  length = np.linalg.norm(total, axis=-1, keepdims=True)
  return (total / np.maximum(length, 1e-30)).astype(vertices.dtype)


def supersampled(camera: Camera, factor: int) -> Camera:
  """The same view with `factor` times the pixels each way, to be brought back by `box_filter`."""
  if factor < 1:
    raise ValueError(f'supersampled: factor must be at least 1, got {factor}')
  return camera.resized(camera.width * factor, camera.height * factor)


def box_filter(image: Float[np.ndarray, 'H W c'], factor: int) -> Float[np.ndarray, 'h w c']:
  """Mean over factor × factor blocks: the antialiasing half of supersampling.

  Raises:
    ValueError: the image is no whole number of blocks.
  """
  height, width, channels = image.shape
  if factor < 1 or height % factor or width % factor:
    raise ValueError(f'box_filter: {height}x{width} is no multiple of {factor}')
  blocks = image.reshape(height // factor, factor, width // factor, factor, channels)
  return blocks.mean(axis=(1, 3))


def look_at_camera(
  target: Any, *, distance: float, yaw: float, pitch: float, focal: float, size: tuple[int, int]
) -> Camera:
  """A camera that looks at a point, upright.

  Args:
    target: [3] world point in the middle of the image.
    distance: metres from it.
    yaw: radians around the y axis; 0 looks along −z (into the face), positive sees the subject's
      left side.
    pitch: radians; positive looks down on the subject.
    focal: focal length in image heights.
    size: (width, height) in pixels.
  """
  offset = np.array(
    [np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)], np.float64
  )
  forward = -offset
  right = np.cross(forward, [0.0, 1.0, 0.0])
  right /= np.linalg.norm(right)
  rotation = np.stack([right, np.cross(forward, right), forward])
  center = np.asarray(target, np.float64) + distance * offset
  extrinsics = np.concatenate([rotation, -(rotation @ center)[:, None]], axis=1)
  width, height = size
  intrinsics = np.array([focal * height, focal * height, width / 2, height / 2])
  return Camera.from_matrices(extrinsics, intrinsics, width=width, height=height)


def portrait_camera(
  vertices: Float[np.ndarray, 'v 3'], *, yaw: float, pitch: float, size: int
) -> Camera:
  """A camera of square images that frames a head, from the distance of a portrait.

  Args:
    vertices: the head, metres.
    yaw, pitch: as in `look_at_camera`; from the side a head is no wider than it is high.
    size: side of the images, px.
  """
  points = np.asarray(vertices, np.float64)
  low, high = points.min(axis=0), points.max(axis=0)
  return look_at_camera(
    (low + high) / 2,
    distance=_PORTRAIT_DISTANCE,
    yaw=yaw,
    pitch=pitch,
    focal=_PORTRAIT_DISTANCE / (_PORTRAIT_MARGIN * float(np.max(high - low))),
    size=(size, size),
  )


def studio_lights(count: int = 64) -> Lights:
  """A large soft key light, a weaker fill from the other side and a sky-over-ground ambience.

  Directions are a Fibonacci sphere, so that shadows are soft and the result is deterministic.
  """
  index = np.arange(count) + 0.5
  y = 1 - 2 * index / count
  angle = np.pi * (1 + 5**0.5) * index
  radius = np.sqrt(1 - y * y)
  directions = np.stack([radius * np.cos(angle), y, radius * np.sin(angle)], axis=-1)

  def lobe(center: tuple[float, float, float], sharpness: float) -> np.ndarray:
    axis = np.asarray(center) / np.linalg.norm(center)
    return np.exp(sharpness * (directions @ axis - 1))[:, None]

  colors = (
    2.6 * lobe((-0.55, 0.55, 0.75), 6.0) * np.array([1.0, 0.96, 0.90])
    + 0.85 * lobe((0.85, 0.10, 0.60), 4.0) * np.array([0.92, 0.96, 1.0])
    + 0.55 * lobe((0.4, 0.5, -0.9), 6.0) * np.array([0.95, 0.97, 1.0])
    + (0.30 + 0.16 * directions[:, 1:2]) * np.array([0.97, 0.98, 1.0])
  )
  return Lights(directions, colors * (4.0 / count))


def vertex_visibility(
  vertices: Float[np.ndarray, 'v 3'],
  faces: Int[np.ndarray, 'f 3'],
  directions: Float[np.ndarray, 'd 3'],
  *,
  resolution: int = 320,
  bias: float = 1.5e-3,
) -> Float[np.ndarray, 'v d']:
  """How much of each distant direction every vertex sees past the mesh, in [0, 1].

  Args:
    vertices: [v, 3] metres.
    faces: [f, 3].
    directions: [d, 3] unit vectors.
    resolution: side of the depth maps.
    bias: metres an occluder must stand in front; about the size of a triangle.
  """
  triangles = _checked_faces(vertices, faces)
  center = 0.5 * (vertices.min(0) + vertices.max(0))
  radius = np.linalg.norm(vertices - center, axis=1).max() * 1.001
  helper = np.where(np.abs(directions[:, 1:2]) > 0.9, [[1.0, 0, 0]], [[0, 1.0, 0]])
  right = np.cross(helper, directions)
  right /= np.linalg.norm(right, axis=1, keepdims=True)
  frames = np.stack([right, np.cross(directions, right), directions], axis=1)
  points = ((vertices - center) / radius).astype(np.float64)
  return _kernels().visible_from(
    np.ascontiguousarray(points), triangles, np.ascontiguousarray(frames), resolution, bias / radius
  )


def irradiance(
  normals: Float[np.ndarray, 'n 3'],
  visibility: Float[np.ndarray, 'n l'],
  lights: Lights,
  *,
  wrap: tuple[float, float, float] = (0.22, 0.10, 0.07),
) -> Float[np.ndarray, 'n 3']:
  """Light that arrives at points of the skin.

  `wrap` lets each colour leak past the terminator (red most), the cheapest stand-in for light
  scattered under the skin.
  """
  cosine = normals @ lights.directions.T
  total = np.zeros((len(normals), 3))
  for channel, leak in enumerate(wrap):
    falloff = np.clip((cosine + leak) / (1 + leak), 0, None) * visibility
    total[:, channel] = falloff @ lights.colors[:, channel]
  return total


def shade(
  buffers: MeshBuffers,
  albedo: Float[np.ndarray, 'h w 3'],
  normal: Float[np.ndarray, 'h w 3'],
  light: Float[np.ndarray, 'h w 3'],
  gloss: Float[np.ndarray, 'h w 1'],
  camera: Camera,
  *,
  background: tuple[float, float, float] = (0.90, 0.91, 0.92),
) -> Float[np.ndarray, 'h w 3']:
  """Skin-like picture from per-pixel albedo, normal and arriving light.

  Args:
    buffers: what the pixels see.
    albedo: sRGB colour in [0, 1].
    normal: interpolated world normals (any length).
    light: linear irradiance, `irradiance` interpolated.
    gloss: strength of the highlight, 0 none, 1 wet.
    camera: the camera the buffers were made with.
    background: sRGB colour where nothing was hit.

  Returns:
    sRGB image in [0, 1].
  """
  length = np.linalg.norm(normal, axis=-1, keepdims=True)
  unit = normal / np.maximum(length, 1e-6)
  towards = -_view_rays(camera)
  key = np.array([-0.55, 0.55, 0.75]) / np.linalg.norm([-0.55, 0.55, 0.75])
  half = towards + key
  half /= np.linalg.norm(half, axis=-1, keepdims=True)
  facing = np.clip((unit * half).sum(-1, keepdims=True), 0, 1)
  exponent = 18 + 500 * gloss**3
  highlight = gloss * facing**exponent * light.mean(-1, keepdims=True)
  grazing = 1 - np.clip((unit * towards).sum(-1, keepdims=True), 0, 1)
  sheen = 0.10 * grazing**4 * light
  linear = np.clip(albedo, 0, 1) ** 2.2 * light + 0.55 * highlight + sheen * (0.3 + 0.7 * albedo)
  # A soft shoulder keeps highlights from clipping to flat white.
  picture = np.where(linear > 0.7, 1 - 0.3 * np.exp(-(linear - 0.7) / 0.3), linear) ** (1 / 2.2)
  return np.where((buffers.face >= 0)[..., None], picture, np.asarray(background))


def _view_rays(camera: Camera) -> np.ndarray:
  """[h, w, 3] unit world directions of the pixels' rays."""
  fx, fy, cx, cy = np.asarray(camera.intrinsics, np.float64)
  x = (np.arange(camera.width) + 0.5 - cx) / fx
  y = (np.arange(camera.height) + 0.5 - cy) / fy
  rays = np.stack([*np.meshgrid(x, y), np.ones((camera.height, camera.width))], axis=-1)
  rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
  return rays @ np.asarray(camera.world_to_camera, np.float64)[:3, :3]
