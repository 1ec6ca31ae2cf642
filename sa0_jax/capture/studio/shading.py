"""Rendering one posed figure: triangles at twice the resolution, skin, eyes, hair, then averaging.

Nothing here is differentiable and nothing is a splat: what learns from these pictures shares no
code with what made them.
"""

import dataclasses
import types

import numpy as np
from jaxtyping import Float, UInt8
from sa0_kernels import Camera

from sa0_jax.capture.studio.beard import pose_beard
from sa0_jax.capture.studio.figure import Figure
from sa0_jax.capture.studio.glasses import pose_glasses
from sa0_jax.capture.studio.hair import Hair
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
# Sharpness of the mirror images of sources on the frame of glasses, and their strength on metal.
_POLISH, _SHINE = 60.0, 1.1
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
    attributes: [a, 13] float32 of head, torso, lash and glasses vertices, see `shading_kernels`.
    lashes: [l, 3] float64 vertices of the lashes.
    hair: light on the hair's knots, (irradiance, share of each source seen), or None.
    sources: [3, 17] float64 rows of `light.source_table`.
    dome: [2, 3] float64 sky and ground.
    beard: as `hair`.
    glasses: [g, 3] float32 how much of each source the glasses' vertices see.
  """

  pose: Pose
  attributes: Float[np.ndarray, 'a 13']
  lashes: Float[np.ndarray, 'l 3']
  hair: tuple[Float[np.ndarray, 'h 3'], Float[np.ndarray, 'h 3']] | None
  sources: Float[np.ndarray, '3 17']
  dome: Float[np.ndarray, '2 3']
  beard: tuple[Float[np.ndarray, 'b 3'], Float[np.ndarray, 'b 3']] | None
  glasses: Float[np.ndarray, 'g 3'] | None


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
  beard = None if figure.beard is None else figure.beard.hair
  glasses = _light_glasses(figure, pose, head_light)
  return Lit(
    pose,
    attributes if glasses is None else np.concatenate([attributes, glasses]),
    lashes,
    _light_strands(figure, figure.hair, baked.hair, head_light),
    source_table(rig, exposure),
    dome,
    _light_strands(figure, beard, baked.beard, head_light),
    None if glasses is None else glasses[:, kernels.SEEN : kernels.SEEN + 3],
  )


def _light_glasses(
  figure: Figure,
  pose: Pose,
  arriving: tuple[Float[np.ndarray, '3 d'], Float[np.ndarray, '3 d']],
) -> Float[np.ndarray, 'g 13'] | None:
  """Attributes of the glasses' vertices, without what the camera sees mirrored in them."""
  glasses, kernels = figure.glasses, _kernels()
  if glasses is None:
    return None
  axes = np.ascontiguousarray(figure.baked.directions.T)
  light, seen = kernels.vertex_light(
    glasses.normals, figure.baked.glasses, axes, *arriving, np.zeros(3, np.float32)
  )
  attributes = np.zeros((len(light), kernels.ATTRIBUTES), np.float32)
  attributes[:, kernels.NORMAL : kernels.NORMAL + 3] = glasses.normals @ pose.transforms[
    1, :, :3
  ].T.astype(np.float32)
  attributes[:, kernels.LIGHT : kernels.LIGHT + 3] = light * glasses.reflectance
  attributes[:, kernels.SEEN : kernels.SEEN + 3] = seen
  attributes[:, kernels.SHARE] = 1.0
  return attributes


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


def _light_strands(
  figure: Figure,
  hair: Hair | None,
  visibility: Float[np.ndarray, 'h d'],
  arriving: tuple[Float[np.ndarray, '3 d'], Float[np.ndarray, '3 d']],
) -> tuple[Float[np.ndarray, 'h 3'], Float[np.ndarray, 'h 3']] | None:
  """Light on the knots. Hair is lit at rest under turned light: it bends little."""
  if hair is None:
    return None
  tangents = np.gradient(hair.strands, axis=1)
  tangents /= np.maximum(np.linalg.norm(tangents, axis=2, keepdims=True), 1e-9)
  return _strand_kernels().hair_light(
    tangents.reshape(-1, 3),
    hair.normals.reshape(-1, 3),
    visibility,
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
) -> tuple[Float[np.ndarray, 'h w 3'], Float[np.ndarray, 'h w']]:
  """Renders a lit figure.

  Args:
    figure: who.
    lit: from `light_figure`.
    camera: one camera.
    backdrop: [h, w, 3] float32 linear background.
    factor: samples along each side of a pixel.

  Returns:
    (linear image over the background, matte: covered share of each pixel, fading at the collar).
  """
  kernels = _kernels()
  fine = supersampled(camera, factor)
  stand = lit.pose.transforms[0]
  shoulders = figure.torso.vertices @ stand[:, :3].T + stand[:, 3]
  vertices = np.concatenate([lit.pose.vertices.astype(np.float64), shoulders, lit.lashes])
  attributes = lit.attributes
  eye = _eye(fine)
  if figure.glasses is not None and lit.glasses is not None:
    worn = pose_glasses(figure.glasses, lit.pose.transforms[1])
    rows = slice(len(attributes) - len(worn), None)
    attributes = attributes.copy()
    attributes[rows, kernels.LIGHT : kernels.LIGHT + 3] += _mirrored(
      attributes[rows], worn, eye, lit.sources, figure.glasses.gloss
    )
    vertices = np.concatenate([vertices, worn])
  topology = figure.topology
  buffers = rasterize_mesh(vertices, topology.corners[: topology.solid], fine)
  first = topology.solid
  if figure.hair is not None and lit.hair is not None:
    hair = figure.hair
    posed = _strand_kernels().pose_strands(hair.strands, hair.shares, lit.pose.transforms)
    drawn = _draw_strands(hair, posed, (lit.hair, lit.sources), fine, (first, buffers))
    attributes, first = np.concatenate([attributes, drawn]), first + len(hair.segments)
  if figure.beard is not None and lit.beard is not None:
    posed = pose_beard(figure.beard, figure.resting, lit.pose.vertices)
    lights = (lit.beard, lit.sources)
    drawn = _draw_strands(figure.beard.hair, posed, lights, fine, (first, buffers))
    attributes = np.concatenate([attributes, drawn])
  turns = np.concatenate([lit.pose.eyes, lit.pose.transforms[1:, :, :3]])
  return kernels.shade_frame(
    (buffers.face, buffers.barycentric),
    (topology.corners, topology.corners_uv, topology.kinds, attributes),
    (figure.head.vt, figure.texture.texels),
    (lit.sources, lit.dome, turns, _rays(fine)),
    backdrop,
    factor,
  )


def _mirrored(
  attributes: Float[np.ndarray, 'g 13'],
  points: Float[np.ndarray, 'g 3'],
  eye: Float[np.ndarray, '3'],
  sources: Float[np.ndarray, '3 17'],
  gloss: float,
) -> Float[np.ndarray, 'g 3']:
  """Highlights of the sources on the frame of the glasses."""
  kernels = _kernels()
  normals = attributes[:, kernels.NORMAL : kernels.NORMAL + 3]
  view = eye - points
  view /= np.linalg.norm(view, axis=1, keepdims=True)
  mirror = 2 * (view * normals).sum(axis=1, keepdims=True) * normals - view
  total = np.zeros((len(points), 3))
  for number, source in enumerate(sources):
    # A polished tube blurs a source about as a lobe of this sharpness does.
    sharpness = source[6] * _POLISH / (source[6] + _POLISH)
    lobe = np.exp(sharpness * (mirror @ source[:3] - 1))
    lobe *= attributes[:, kernels.SEEN + number]
    total += gloss * _SHINE * lobe[:, None] * source[14:17]
  return total


def _eye(camera: Camera) -> Float[np.ndarray, '3']:
  extrinsics = np.asarray(camera.world_to_camera, np.float64)
  return -extrinsics[:3, :3].T @ extrinsics[:3, 3]


def _draw_strands(
  hair: Hair,
  posed: tuple[Float[np.ndarray, 'n k 3'], Float[np.ndarray, 'n k 3']],
  lights: tuple[tuple[Float[np.ndarray, 'h 3'], Float[np.ndarray, 'h 3']], np.ndarray],
  camera: Camera,
  canvas: tuple[int, MeshBuffers],
) -> Float[np.ndarray, 'h 13']:
  """Draws strands into buffers.

  Args:
    hair: the strands at rest.
    posed: their points and unit tangents, world.
    lights: (from `_light_strands`, the table of sources).
    camera: whose buffers they are.
    canvas: (number of the first segment as a face, the buffers).

  Returns:
    The attributes of their knots.
  """
  kernels, (points, tangents), (first, buffers) = _strand_kernels(), posed, canvas
  extrinsics = np.asarray(camera.world_to_camera, np.float64)
  attributes = np.zeros((points.size // 3, _kernels().ATTRIBUTES), np.float32)
  attributes[:, _kernels().SHARE] = 1.0
  (light, seen), sources = lights
  kernels.strand_color(
    points, tangents, light, seen, hair.reflectance, sources, _eye(camera), attributes
  )
  intrinsics = np.asarray(camera.intrinsics, np.float64)
  bands = kernels.project_strands(points, hair.widths, extrinsics, intrinsics, NEAR)
  kernels.draw_strands(
    bands.reshape(-1, 10), first, buffers.face, buffers.barycentric, buffers.depth
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
