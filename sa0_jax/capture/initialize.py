"""An avatar to start from when there is none: shape from mattes, colours warped into UV."""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from sa0_kernels import Camera

from sa0_jax.avatar.activations import logit
from sa0_jax.avatar.avatar import Avatar
from sa0_jax.avatar.binding import triangle_frames
from sa0_jax.avatar.cover import CoverTexels, cover_surface, mesh_parts
from sa0_jax.avatar.gaussians import BoundGaussians
from sa0_jax.capture.capture import Capture
from sa0_jax.capture.hair import mesh_edges, outer_skin, outward, shell_thickness
from sa0_jax.capture.visibility import ProjectedMesh, openness, visible_points
from sa0_jax.head.lbs import pose_frames, pose_head
from sa0_jax.head.model import HeadCodes, HeadModel
from sa0_jax.head.uv_layout import UVLayout

INITIAL_OPACITY = 0.8
_INITIAL_LOGIT = math.log(INITIAL_OPACITY / (1.0 - INITIAL_OPACITY))
_JAW_CLOSED = 1e-3  # rad
_MAX_VIEWS = 24  # that hair is measured in; the first few also give colours
_COLOR_VIEWS = 8
# Light in a cavity that comes from its own walls, as a share of what arrives in the open.
_INDIRECT = 0.02


class _View(NamedTuple):
  """What one frame shows of the texels: colour [n, 3] and a weight [n], 0 where unseen."""

  color: np.ndarray
  weight: np.ndarray


def reference_frame(capture: Capture, positions: np.ndarray, seed: int) -> int:
  """The frame an avatar starts at: the one with the least jaw rotation (METHOD §7).

  When even the least is under 1e-3 rad many frames are equally closed, and a random one of the
  lowest decile is taken instead.
  """
  jaw = np.abs(np.asarray(capture.codes.jaw)[positions]).sum(axis=1)
  if jaw.min() >= _JAW_CLOSED:
    return int(positions[np.argmin(jaw)])
  lowest = np.argsort(jaw, kind='stable')[: max(1, len(positions) // 10)]
  return int(positions[np.random.default_rng(seed).choice(lowest)])


def initialize_avatar(
  capture: Capture, head: HeadModel, uv_size: int, positions: np.ndarray, seed: int = 0
) -> Avatar:
  """An avatar on and around the mesh, coloured from the capture (`init="uv_warp"`).

  Texels start on a shell as far off the mesh as hair is thick (see `hair`). Each is projected
  into the reference frame and into frames that show other sides and the
  open mouth; colours are averaged where visible. Skin and hair no frame shows take the colours of
  what is seen nearest to them on the mesh, other parts the head model's own.

  Args:
    capture: the subject.
    head: its head model.
    uv_size: side of the UV image.
    positions: frames that may be looked at.
    seed: for the choice of the reference frame.

  Returns:
    The avatar, with scales that just overlap.
  """
  layout = UVLayout.from_head(head, uv_size)
  reference = reference_frame(capture, positions, seed)
  views = choose_views(capture, positions, reference, _MAX_VIEWS)
  vertices = pose_frames(head, capture.frame_codes(views))
  thickness = shell_thickness(capture, head, views, vertices)
  shells = [v + thickness[:, None] * outward(v, head.faces) for v in vertices]
  color = _warp_colors(capture, head, layout, views[:_COLOR_VIEWS], shells)
  neutral = dataclasses.replace(HeadCodes.neutral(head), shape=capture.codes.shape)
  mesh = np.asarray(pose_head(head, neutral))
  shell = mesh + thickness[:, None] * outward(mesh, head.faces)
  gaussians = shell_gaussians(head, layout, mesh, shell, color)
  return Avatar(gaussians, layout, jnp.asarray(capture.codes.shape), head, capture.name)


def shell_gaussians(
  head: HeadModel,
  layout: UVLayout,
  mesh: Float[np.ndarray, 'v 3'],
  shell: Float[np.ndarray, 'v 3'],
  color: Float[np.ndarray, 'n c'],
) -> BoundGaussians:
  """Gaussians on a shell around a mesh, bound to the mesh.

  Args:
    head: the head model.
    layout: the texels.
    mesh: vertices whose triangles carry the Gaussians.
    shell: the same vertices, moved to where the Gaussians start; the mesh itself for none.
    color: [n, c] in [0, 1].

  Returns:
    Gaussians at the texels' points of the shell, as large as the texels are there.
  """
  arrays = (np.asarray(a, np.float32) for a in (mesh, shell, color))
  return _gaussians_on(CoverTexels.from_layout(head, layout), np.asarray(head.faces), *arrays)


@jax.jit
def _gaussians_on(
  texels: CoverTexels,
  faces: Int[Array, 'f 3'],
  mesh: Float[Array, 'v 3'],
  shell: Float[Array, 'v 3'],
  color: Float[Array, 'n c'],
) -> BoundGaussians:
  """`shell_gaussians`: one program compiles in less time than its sixty operations one by one."""
  surface = cover_surface(texels, faces, triangle_frames(mesh, faces), shell)
  return BoundGaussians(
    **surface._asdict(),
    opacity_logit=jnp.full(len(color), _INITIAL_LOGIT, jnp.float32),
    color_logit=logit(color, margin=0.02),
  )


def choose_views(
  capture: Capture, positions: np.ndarray, reference: int, count: int
) -> Int[np.ndarray, ' k']:
  """Frames that show as much as possible of a head.

  Args:
    capture: the subject.
    positions: frames to choose from.
    reference: the first of them.
    count: how many at most; fewer where all frames look alike.

  Returns:
    The reference, then frames as different as possible in viewing direction and mouth opening.
  """
  to_camera = np.asarray(capture.camera.world_to_camera)[positions, :3, :3]
  rotation = np.asarray(capture.codes.rotation)[positions]
  neck = np.asarray(capture.codes.neck)[positions]
  jaw = np.asarray(capture.codes.jaw)[positions]
  # Small rotations add up nearly like vectors; this only ranks frames by difference.
  features = np.concatenate([to_camera[:, 2], rotation + neck, jaw], axis=1)
  chosen = [int(np.flatnonzero(positions == reference)[0])]
  while len(chosen) < min(count, len(positions)):
    distance = np.linalg.norm(features[:, None] - features[chosen], axis=-1).min(axis=1)
    farthest = int(np.argmax(distance))
    if distance[farthest] < 1e-6:
      break
    chosen.append(farthest)
  return positions[chosen]


def _warp_colors(
  capture: Capture,
  head: HeadModel,
  layout: UVLayout,
  views: np.ndarray,
  vertices: list[np.ndarray],
) -> Float[np.ndarray, 'n 3']:
  """Colour of every texel, [n, 3] in [0, 1]."""
  total = np.zeros((layout.n, 3))
  weight = np.zeros(layout.n)
  for index, position in enumerate(views):
    frame = capture.frames[int(position)]
    view = _look(frame.image, frame.matte, frame.camera, head, layout, vertices[index])
    importance = 4.0 if index == 0 else 1.0  # the reference shows the neutral face
    total += importance * view.weight[:, None] * view.color
    weight += importance * view.weight
  if not (weight > 0).any():
    raise ValueError(
      f'capture {capture.name!r}: no texel of the head falls into the matte; the tracking or the '
      'mattes are off'
    )
  seen = weight > 0.05
  color = np.where(seen[:, None], total / np.maximum(weight, 1e-6)[:, None], 0.0)
  return _fill_unseen(head, layout, np.asarray(capture.codes.shape), color, seen)


def _look(
  image: np.ndarray,
  matte: np.ndarray,
  camera: Camera,
  head: HeadModel,
  layout: UVLayout,
  vertices: Float[np.ndarray, 'v 3'],
) -> _View:
  """Samples one frame at every texel's point; the weight is visibility times facing."""
  corners = vertices[head.faces[np.asarray(layout.face)]]
  points = np.einsum('nk,nkc->nc', np.asarray(layout.barycentric), corners)
  normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
  normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
  view = np.asarray(camera.world_to_camera)
  in_camera = points @ view[:3, :3].T + view[:3, 3]
  depth = np.maximum(in_camera[:, 2], 1e-6)
  fx, fy, cx, cy = np.asarray(camera.intrinsics)
  x = (fx * in_camera[:, 0] / depth + cx).astype(np.float32)
  y = (fy * in_camera[:, 1] / depth + cy).astype(np.float32)
  ray = in_camera / np.linalg.norm(in_camera, axis=1, keepdims=True)
  facing = np.clip(-np.sum((normal @ view[:3, :3].T) * ray, axis=1), 0.0, 1.0)
  mesh = vertices @ view[:3, :3].T + view[:3, 3]
  mesh_pixels = mesh[:, :2] / np.maximum(mesh[:, 2:], 1e-6) * [fx, fy] + [cx, cy]
  part = mesh_parts(head)
  visible = visible_points(
    in_camera,
    np.stack([x, y], axis=1),
    part[head.faces[np.asarray(layout.face), 0]],
    ProjectedMesh(mesh, mesh_pixels, head.faces, part),
    (camera.width, camera.height),
  )
  weight = np.where(visible, facing**2, 0.0) * (_sample(matte[..., None], x, y)[:, 0] > 0.9)
  return _View(_sample(image, x, y), weight)


def _sample(image: np.ndarray, x: np.ndarray, y: np.ndarray) -> Float[np.ndarray, 'n c']:
  """Bilinear samples of an image [h, w, c] at pixel coordinates (centres at +0.5), border kept."""
  height, width = image.shape[:2]
  x, y = np.clip(x - 0.5, 0, width - 1), np.clip(y - 0.5, 0, height - 1)
  left, top = np.floor(x).astype(int), np.floor(y).astype(int)
  right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
  fx, fy = (x - left)[:, None], (y - top)[:, None]
  upper = (1 - fx) * image[top, left] + fx * image[top, right]
  lower = (1 - fx) * image[bottom, left] + fx * image[bottom, right]
  return (1 - fy) * upper + fy * lower


def _fill_unseen(
  head: HeadModel,
  layout: UVLayout,
  shape: Float[np.ndarray, ' s'],
  color: Float[np.ndarray, 'n 3'],
  seen: Bool[np.ndarray, ' n'],
) -> Float[np.ndarray, 'n 3']:
  """Colours for texels no frame shows.

  Skin and hair go on as they are seen nearby. Eyes, teeth and tongue are what the head model says
  they are, in this video's light: brighter or darker by as much as the skin is. And what has never
  been seen because it is inside the mouth or a nostril will be dark when it is.
  """
  faces = head.faces[np.asarray(layout.face)]
  weights = np.asarray(layout.barycentric)
  skin = outer_skin(head)
  known = seen & skin[faces[:, 0]]
  own = np.full((len(skin), 3), 0.5) if head.default_colors is None else head.default_colors
  if known.any():
    usual = np.einsum('nk,nkc->nc', weights[known], own[faces[known]])
    own = own * (np.median(color[known].mean(axis=1)) / max(np.median(usual.mean(axis=1)), 1e-3))
  spread = _spread_over_mesh(head.faces, faces[known], weights[known], color[known], len(skin))
  own = np.where((skin & np.isfinite(spread[:, 0]))[:, None], spread, own)
  # Light is linear, colours are not.
  light = (_INDIRECT + (1.0 - _INDIRECT) * openness(head, shape)) ** (1.0 / 2.2)
  own = np.clip(own * light[:, None], 0.0, 1.0)
  return np.where(seen[:, None], color, np.einsum('nk,nkc->nc', weights, own[faces]))


def _spread_over_mesh(
  faces: np.ndarray,
  corners: np.ndarray,
  weights: np.ndarray,
  color: np.ndarray,
  count: int,
) -> Float[np.ndarray, 'v 3']:
  """Colours of all vertices from points on the mesh, each ring of the unseen after the one before.

  Args:
    faces: the mesh.
    corners: [n, 3] vertices around each point.
    weights: [n, 3] barycentric coordinates.
    color: [n, 3].
    count: number of vertices.

  Returns:
    Vertex colours; NaN on parts of the mesh without any point.
  """

  def summed(rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.stack([np.bincount(rows, v, count) for v in values.T], axis=1)

  total = np.zeros((count, 4))
  for corner, weight in zip(corners.T, weights.T, strict=True):
    total += summed(corner, weight[:, None] * np.insert(color, 3, 1.0, axis=1))
  field = np.full((count, 3), np.nan)
  known = total[:, 3] > 0.0
  field[known] = total[known, :3] / total[known, 3:]
  both, _ = mesh_edges(faces, count)
  both = np.concatenate([both, both[:, ::-1]])
  while True:
    front = both[known[both[:, 0]] & ~known[both[:, 1]]]
    if not len(front):
      return field
    ring = summed(front[:, 1], np.insert(field[front[:, 0]], 3, 1.0, axis=1))
    reached = ring[:, 3] > 0
    field[reached] = ring[reached, :3] / ring[reached, 3:]
    known = known | reached
