"""Rendering one posed figure: triangles at twice the resolution, skin, eyes, hair, then averaging.

Nothing here is differentiable and nothing is a splat: what learns from these pictures shares no
code with what made them.
"""

import dataclasses
import types

import numpy as np
from jaxtyping import Float, UInt8
from sa0_kernels import Camera

from sa0_jax.capture.studio.figure import Figure
from sa0_jax.capture.studio.lashes import pose_lashes
from sa0_jax.capture.studio.light import LightRig, incident, source_table
from sa0_jax.mesh_render import (
  NEAR,
  MeshBuffers,
  rasterize_mesh,
  supersampled,
  vertex_normals,
)

# How far red, green and blue leak past the terminator at a vertex, and rounds of exchange with its
# neighbours: light wanders farther under the skin the redder it is.
_WRAP = np.array([0.14, 0.07, 0.04], np.float32)
_ROUNDS = (5, 2, 1)
# Gap between the lips, metres, at which the mouth gets the light it was baked with.
_WIDE_OPEN = 0.011
# Linear grey of lashes: too thin to be lit.
_LASH = 0.012


@dataclasses.dataclass(frozen=True, eq=False)
class Pose:
  """A figure in one frame.

  Attributes:
    vertices: [v, 3] float32 the head's world vertices, metres.
    transforms: [2, 3, 4] float64 of the root and of the neck joint, rest to world.
    eyes: [2, 3, 3] float64 world rotations of the left and right eye.
  """

  vertices: Float[np.ndarray, 'v 3']
  transforms: Float[np.ndarray, '2 3 4']
  eyes: Float[np.ndarray, '2 3 3']


@dataclasses.dataclass(frozen=True, eq=False)
class Lit:
  """A posed figure with the part of its light that no camera changes.

  Attributes:
    pose: the pose.
    attributes: [a, 13] float32 of head, torso and lash vertices, see `shading_kernels`.
    lashes: [l, 3] float64 vertices of the lashes.
    hair: light on the hair's knots, (irradiance, share of each source seen), or None.
    sources: [3, 17] float64 rows of `light.source_table`.
    dome: [2, 3] float64 sky and ground.
  """

  pose: Pose
  attributes: Float[np.ndarray, 'a 13']
  lashes: Float[np.ndarray, 'l 3']
  hair: tuple[Float[np.ndarray, 'h 3'], Float[np.ndarray, 'h 3']] | None
  sources: Float[np.ndarray, '3 17']
  dome: Float[np.ndarray, '2 3']


def _kernels() -> types.ModuleType:
  from sa0_jax.capture.studio import shading_kernels  # numba: only where frames are rendered

  return shading_kernels


def _strand_kernels() -> types.ModuleType:
  from sa0_jax.capture.studio import strand_kernels

  return strand_kernels


def light_figure(figure: Figure, pose: Pose, rig: LightRig, exposure: float) -> Lit:
  """Light on a posed figure.

  Args:
    figure: who.
    pose: how they stand.
    rig: the light, fixed in the world.
    exposure: factor on all light.
  """
  kernels = _kernels()
  head, torso, baked = figure.head, figure.torso, figure.baked
  turn, stand = pose.transforms[1, :, :3], pose.transforms[0, :, :3]
  dome = exposure * np.array([rig.sky, rig.ground])
  normals = vertex_normals(pose.vertices, head.faces)
  axes = np.ascontiguousarray(baked.directions.T)
  head_light = _incident(rig, baked.directions @ turn.T, exposure)
  light, seen = kernels.vertex_light(
    (normals @ turn).astype(np.float32), baked.head, axes, *head_light, _WRAP
  )
  shade = _mouth_and_lid_shade(figure, pose)
  light *= shade[:, None]
  seen *= shade[:, None]
  for channel, rounds in enumerate(_ROUNDS):
    kernels.diffuse_over_mesh(
      light, figure.topology.starts, figure.topology.neighbours, rounds, channel
    )
  count, shoulders = len(normals), len(torso.vertices)
  lashes = _lashes(figure, pose)
  attributes = np.zeros((count + shoulders + len(lashes), kernels.ATTRIBUTES), np.float32)
  attributes[:count, kernels.NORMAL : kernels.NORMAL + 3] = normals
  attributes[:count, kernels.LIGHT : kernels.LIGHT + 3] = light
  attributes[:count, kernels.SEEN : kernels.SEEN + 3] = seen
  attributes[:count, kernels.OFFSET : kernels.OFFSET + 3] = figure.offsets
  attributes[:count, kernels.SHARE] = figure.matte_share
  body_light = _incident(rig, baked.directions @ stand.T, exposure)
  cloth, _ = kernels.vertex_light(
    torso.normals, baked.torso, axes, *body_light, np.zeros(3, np.float32)
  )
  after = count + shoulders
  attributes[count:after, kernels.LIGHT : kernels.LIGHT + 3] = cloth * torso.reflectance
  attributes[after:, kernels.LIGHT : kernels.LIGHT + 3] = _LASH
  attributes[after:, kernels.SHARE] = 1.0
  return Lit(
    pose, attributes, lashes, _light_hair(figure, head_light), source_table(rig, exposure), dome
  )


def _lashes(figure: Figure, pose: Pose) -> Float[np.ndarray, 'l 3']:
  part = figure.labels.component
  points = pose.vertices.astype(np.float64)
  centers = np.stack([points[part == 1].mean(axis=0), points[part == 2].mean(axis=0)])
  return pose_lashes(figure.lashes, points, centers)


def _incident(
  rig: LightRig, directions: Float[np.ndarray, 'd 3'], exposure: float
) -> tuple[Float[np.ndarray, '3 d'], Float[np.ndarray, '3 d']]:
  colors, shares = incident(rig, directions.astype(np.float64))
  return (
    np.ascontiguousarray((exposure * colors).T, np.float32),
    np.ascontiguousarray(shares.T, np.float32),
  )


def _light_hair(
  figure: Figure, arriving: tuple[Float[np.ndarray, '3 d'], Float[np.ndarray, '3 d']]
) -> tuple[Float[np.ndarray, 'h 3'], Float[np.ndarray, 'h 3']] | None:
  """Light on the knots. Hair is lit at rest under turned light: it bends little."""
  hair = figure.hair
  if hair is None:
    return None
  tangents = np.gradient(hair.strands, axis=1)
  tangents /= np.maximum(np.linalg.norm(tangents, axis=2, keepdims=True), 1e-9)
  return _strand_kernels().hair_light(
    tangents.reshape(-1, 3),
    hair.normals.reshape(-1, 3),
    figure.baked.hair,
    np.ascontiguousarray(figure.baked.directions.T),
    *arriving,
  )


def _mouth_and_lid_shade(figure: Figure, pose: Pose) -> Float[np.ndarray, ' v']:
  """Factor on the light of each head vertex: what moving lips and lids hide."""
  labels, points = figure.labels, pose.vertices
  shade = np.ones(len(points), np.float32)
  seam = labels.mouth_loops[7]
  gap = float(np.linalg.norm(points[seam[0]] - points[seam[32]]))
  opening = np.float32(0.25 + 0.75 * min(gap / _WIDE_OPEN, 1.0))
  shade *= 1 - figure.cavity * (1 - opening)
  for component, eye in ((1, 0), (2, 1)):
    rows = np.flatnonzero(labels.component == component)
    rim = points[labels.lid_loops[eye, 3]]
    distance = np.linalg.norm(points[rows][:, None] - rim[None], axis=2)
    # Upper lid and lashes shade some millimetres, the lower lid hardly any.
    upper = distance[:, 1:16].min(axis=1) * 1e3
    lower = distance[:, 16:].min(axis=1) * 1e3
    above = 1 - 0.62 * np.exp(-((upper / 2.6) ** 2))
    below = 1 - 0.30 * np.exp(-((lower / 1.5) ** 2))
    shade[rows] = above * below
  return shade


def render(
  figure: Figure,
  lit: Lit,
  camera: Camera,
  backdrop: Float[np.ndarray, 'h w 3'],
  factor: int = 2,
) -> tuple[UInt8[np.ndarray, 'h w 3'], UInt8[np.ndarray, 'h w']]:
  """Renders a lit figure.

  Args:
    figure: who.
    lit: from `light_figure`.
    camera: one camera.
    backdrop: [h, w, 3] float32 linear background.
    factor: samples along each side of a pixel.

  Returns:
    (sRGB image over the background, matte: covered share of each pixel, fading at the collar).
  """
  kernels = _kernels()
  fine = supersampled(camera, factor)
  stand = lit.pose.transforms[0]
  shoulders = figure.torso.vertices @ stand[:, :3].T + stand[:, 3]
  vertices = np.concatenate([lit.pose.vertices.astype(np.float64), shoulders, lit.lashes])
  topology = figure.topology
  buffers = rasterize_mesh(vertices, topology.corners[: topology.solid], fine)
  attributes = lit.attributes
  if figure.hair is not None:
    attributes = np.concatenate([attributes, _draw_hair(figure, lit, fine, buffers)])
  turns = np.concatenate([lit.pose.eyes, lit.pose.transforms[1:, :, :3]])
  linear, matte = kernels.shade_frame(
    (buffers.face, buffers.barycentric),
    (topology.corners, topology.corners_uv, topology.kinds, attributes),
    (figure.head.vt, figure.texture.texels),
    (lit.sources, lit.dome, turns, _rays(fine)),
    backdrop,
    factor,
  )
  return to_srgb8(linear), np.round(255 * np.clip(matte, 0, 1)).astype(np.uint8)


def _draw_hair(
  figure: Figure, lit: Lit, camera: Camera, buffers: MeshBuffers
) -> Float[np.ndarray, 'h 13']:
  """Draws the strands into the buffers; returns the attributes of their knots."""
  kernels, hair = _strand_kernels(), figure.hair
  if hair is None or lit.hair is None:
    raise ValueError('studio: this figure has no hair to draw')
  extrinsics = np.asarray(camera.world_to_camera, np.float64)
  eye = -extrinsics[:3, :3].T @ extrinsics[:3, 3]
  points, tangents = kernels.pose_strands(hair.strands, hair.shares, lit.pose.transforms)
  attributes = np.zeros((points.size // 3, _kernels().ATTRIBUTES), np.float32)
  attributes[:, _kernels().SHARE] = 1.0
  kernels.strand_color(points, tangents, *lit.hair, hair.reflectance, lit.sources, eye, attributes)
  intrinsics = np.asarray(camera.intrinsics, np.float64)
  bands = kernels.project_strands(points, hair.widths, extrinsics, intrinsics, NEAR)
  kernels.draw_strands(
    bands.reshape(-1, 10),
    figure.topology.solid,
    buffers.face,
    buffers.barycentric,
    buffers.depth,
  )
  return attributes


def _rays(camera: Camera) -> Float[np.ndarray, '3 3']:
  """Matrix from (x, y, 1) in pixels to the world direction of the ray."""
  fx, fy, cx, cy = np.asarray(camera.intrinsics, np.float64)
  inverse = np.array([[1 / fx, 0, -cx / fx], [0, 1 / fy, -cy / fy], [0, 0, 1]])
  return np.asarray(camera.world_to_camera, np.float64)[:3, :3].T @ inverse


def to_srgb8(linear: Float[np.ndarray, '*n']) -> UInt8[np.ndarray, '*n']:
  """Linear values to 8-bit sRGB (IEC 61966-2-1)."""
  linear = np.clip(linear, 0, 1)
  curve = 1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055
  return np.round(255 * np.where(linear <= 0.0031308, 12.92 * linear, curve)).astype(np.uint8)
