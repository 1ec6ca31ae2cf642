"""How far hair stands off the head mesh, measured from mattes.

A head mesh ends at the skin; hair, and with it most of a head's outline, lies centimetres outside.
Gaussians that start on the skin find the outline in the training views but at any depth, and miss
it in others. So they start on a shell around the mesh instead: where the mesh's own outline is seen
in a frame, the distance from it to the matte's border along the surface normal is the thickness
there; between such places, and over the unseen back, thickness is interpolated over the surface,
with zero on the face.
"""

import numpy as np
from jaxtyping import Bool, Float, Int
from sa0_kernels import Camera

from sa0_jax.capture.capture import Capture
from sa0_jax.head.model import JOINT_NAMES, HeadModel
from sa0_jax.mesh_render import vertex_normals

_JAW = JOINT_NAMES.index('jaw')

MAX_THICKNESS = 0.10  # metres
_GRAZING = 0.35  # |normal · ray| under which a vertex is on the outline
_OUTSIDE_MESH = 4.0  # px along the normal by which an outline vertex must have left the mesh
_PERCENTILE = 30.0  # of a vertex's measurements: loose strands make single ones large
_CONFIDENCE = 5.0  # weight of a measurement against one edge of the surface
_ITERATIONS = 600
# Hair beside the jaw does not swing with it: what moves more than this with the jaw carries none.
_JAW_SHARE = 0.3
_SMOOTHING = 60  # averages of normals with their neighbours': ears vanish, the skull stays


def shell_thickness(
  capture: Capture,
  head: HeadModel,
  positions: Int[np.ndarray, ' k'],
  vertices: Float[np.ndarray, 'k v 3'],
) -> Float[np.ndarray, ' v']:
  """Thickness of hair over every vertex, metres; zero where the mesh's outline is the matte's.

  Args:
    capture: the subject.
    head: its head model.
    positions: frames to measure in; more directions measure more of the head.
    vertices: posed mesh of these frames.
  """
  outer = outer_skin(head)
  samples = np.full((len(positions), len(head.v_template)), np.nan)
  for row, position in enumerate(positions):
    frame = capture.frames[int(position)]
    samples[row] = _measure(frame.matte, frame.camera, head.faces, vertices[row], outer)
  measured = np.isfinite(samples).sum(axis=0) >= min(2, len(positions))
  thickness = np.zeros(len(head.v_template))
  if measured.any():
    thickness[measured] = np.nanpercentile(samples[:, measured], _PERCENTILE, axis=0)
  bare = bare_vertices(head)
  return _interpolate(head.faces, thickness, measured & ~bare, bare)


def outward(
  vertices: Float[np.ndarray, 'v 3'], faces: Int[np.ndarray, 'f 3']
) -> Float[np.ndarray, 'v 3']:
  """Directions in which a shell grows: normals with ears and folds averaged out."""
  edges, degree = mesh_edges(faces, len(vertices))
  direction = vertex_normals(vertices, faces)
  for _ in range(_SMOOTHING):
    total = np.zeros_like(direction)
    for k in range(3):
      total[:, k] = np.bincount(edges[:, 0], direction[edges[:, 1], k], len(vertices))
      total[:, k] += np.bincount(edges[:, 1], direction[edges[:, 0], k], len(vertices))
    direction = 0.5 * (direction + total / np.maximum(degree, 1.0)[:, None])
  return direction / np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-9)


def mesh_edges(faces: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
  """Undirected edges [e, 2], and how many each vertex has [v]."""
  edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
  edges = np.unique(np.sort(edges, axis=1), axis=0)
  return edges, np.bincount(edges.ravel(), minlength=count).astype(float)


def outer_skin(head: HeadModel) -> Bool[np.ndarray, ' v']:
  """[v] vertices of the skin, when the model knows its parts."""
  if head.components is None or 'skin' not in head.component_names:
    return np.ones(len(head.v_template), bool)
  return np.asarray(head.components) == head.component_names.index('skin')


def face_vertices(head: HeadModel) -> Bool[np.ndarray, ' v']:
  """Vertices near facial landmarks: bare skin."""
  bare = np.zeros(len(head.v_template), bool)
  for embedding in (head.landmarks_mediapipe, head.landmarks68):
    if embedding is not None:
      bare[head.faces[embedding.face]] = True
  # The landmarks are sparse: what lies between them, two edges away, is face as well.
  for _ in range(2):
    bare[head.faces[bare[head.faces].any(axis=1)]] = True
  return bare


def bare_vertices(head: HeadModel) -> Bool[np.ndarray, ' v']:
  """[v] vertices that carry no hair: the face, what is not skin, and what moves with the jaw."""
  swings = np.asarray(head.weights)[:, _JAW] > _JAW_SHARE
  return face_vertices(head) | ~outer_skin(head) | swings


def _measure(
  matte: np.ndarray,
  camera: Camera,
  faces: np.ndarray,
  vertices: np.ndarray,
  outer: np.ndarray,
) -> Float[np.ndarray, ' v']:
  """Distance from each outline vertex to the matte's border, metres; NaN elsewhere."""
  import cv2  # here: importing it takes longer than the rest of this package

  view = np.asarray(camera.world_to_camera)
  fx, fy, cx, cy = np.asarray(camera.intrinsics)
  points = vertices @ view[:3, :3].T + view[:3, 3]
  normals = outward(vertices, faces) @ view[:3, :3].T
  depth = np.maximum(points[:, 2], 1e-6)
  pixels = np.stack([fx * points[:, 0] / depth + cx, fy * points[:, 1] / depth + cy], axis=1)
  mesh = np.zeros(matte.shape, np.uint8)
  for triangle in np.round(pixels[faces]).astype(np.int32):
    cv2.fillConvexPoly(mesh, triangle, 1)

  ray = points / np.linalg.norm(points, axis=1, keepdims=True)
  flat = normals[:, :2] * [fx, fy]
  direction = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9)
  grazing = np.abs(np.sum(normals * ray, axis=1)) < _GRAZING
  inside = ((pixels >= 0) & (pixels < [camera.width, camera.height])).all(axis=1)
  on_outline = outer & grazing & inside
  on_outline &= ~_value_at(mesh, pixels + _OUTSIDE_MESH * direction, outside=0.0).astype(bool)

  steps = np.arange(0.0, MAX_THICKNESS * fx / np.median(depth))
  chosen = np.flatnonzero(on_outline)
  path = pixels[chosen, None] + steps[None, :, None] * direction[chosen, None]
  # A path that leaves the picture still inside the matte tells nothing.
  covered = _value_at(matte, path, outside=np.nan)
  left = np.isnan(covered)
  ends = (covered < 0.5) | left
  first = np.where(ends.any(axis=1), ends.argmax(axis=1), len(steps) - 1)
  # A vertex counts as on the outline while it still lies a little inside it.
  inset = (_value_at(mesh, path, outside=0.0) == 0).argmax(axis=1)
  distance = np.maximum(first - inset, 0) * depth[chosen] / fx
  distance[left[np.arange(len(chosen)), first]] = np.nan
  result = np.full(len(vertices), np.nan)
  result[chosen] = distance
  return result


def _value_at(image: np.ndarray, pixels: np.ndarray, outside: float) -> np.ndarray:
  """Nearest pixel's value."""
  x, y = np.floor(pixels[..., 0]).astype(int), np.floor(pixels[..., 1]).astype(int)
  inside = (x >= 0) & (y >= 0) & (x < image.shape[1]) & (y < image.shape[0])
  values = image[np.where(inside, y, 0), np.where(inside, x, 0)]
  return np.where(inside, values, outside)


def _interpolate(
  faces: np.ndarray, value: np.ndarray, measured: np.ndarray, fixed: np.ndarray
) -> np.ndarray:
  """Smoothest field over the surface near the measurements, zero on fixed vertices (Jacobi)."""
  count = len(value)
  edges, degree = mesh_edges(faces, count)
  weight = np.where(measured, _CONFIDENCE * np.maximum(degree, 1.0), 0.0)
  field = np.where(measured, value, 0.0)
  for _ in range(_ITERATIONS):
    total = np.bincount(edges[:, 0], field[edges[:, 1]], count)
    total += np.bincount(edges[:, 1], field[edges[:, 0]], count)
    field = (total + weight * value) / np.maximum(degree + weight, 1e-9)
    field[fixed] = 0.0
  return np.clip(field, 0.0, MAX_THICKNESS)
