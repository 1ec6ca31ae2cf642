"""A subject built for the camera: meshes, texture and baked visibility, everything that stays."""

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from sa0_jax.capture.studio.beard import Beard, grow_beard
from sa0_jax.capture.studio.glasses import Glasses, make_glasses
from sa0_jax.capture.studio.hair import Body, Hair, grow_hair
from sa0_jax.capture.studio.lashes import Lashes, make_lashes
from sa0_jax.capture.studio.light import light_directions
from sa0_jax.capture.studio.subject import Subject
from sa0_jax.capture.studio.texture import Texture, TextureSize, bake_texture
from sa0_jax.capture.studio.torso import COLLAR_DROP, Torso, make_torso
from sa0_jax.head.lbs import pose_head
from sa0_jax.head.model import HeadCodes, HeadModel
from sa0_jax.head.procedural import ProceduralSemantics
from sa0_jax.head.procedural.anatomy import EYE_CENTER, to_millimetres
from sa0_jax.head.procedural.paint import PaintFields
from sa0_jax.mesh_render import vertex_normals, vertex_visibility

# Authored height of the collar's edge at the sides of the neck, and the band above it over which
# the matte fades out, mm.
COLLAR_HEIGHT = -163.0
FADE_START, FADE_END = -134.0, -158.0
# Jaw angle at which light inside the mouth is baked, radians.
BAKE_JAW = 0.30

SKIN_FACE, EYE_FACE, LIT_FACE = 0, 1, 2
RIGHT_EYE = 16


@dataclasses.dataclass(frozen=True, eq=False)
class Baked:
  """Visibility of the baked directions, in the axes of the resting head.

  Attributes:
    directions: [d, 3] unit vectors.
    head: [v, d] share of each direction every vertex of the head sees.
    torso: [t, d].
    hair: [n · k, d].
    beard: [m · k, d].
    glasses: [g, d].
  """

  directions: Float[np.ndarray, 'd 3']
  head: Float[np.ndarray, 'v d']
  torso: Float[np.ndarray, 't d']
  hair: Float[np.ndarray, 'h d']
  beard: Float[np.ndarray, 'b d']
  glasses: Float[np.ndarray, 'g d']


@dataclasses.dataclass(frozen=True, eq=False)
class Topology:
  """Faces of head, torso, lashes and glasses, then segments of hair and beard.

  Attributes:
    corners: [f, 3] int32 vertices: the head's, the torso's, the lashes', those of the glasses, the
      knots of hair and beard.
    corners_uv: [g, 3] int32 UV vertices of the head's faces.
    solid: how many faces are triangles; the rest are segments of strands.
    kinds: [f] uint8 material of each face.
    starts: [v + 1] int32 where each head vertex' neighbours begin.
    neighbours: [e] int32 neighbours of skin vertices, for light under the skin.
  """

  corners: Int[np.ndarray, 'f 3']
  corners_uv: Int[np.ndarray, 'g 3']
  solid: int
  kinds: UInt8[np.ndarray, ' f']
  starts: Int[np.ndarray, ' v1']
  neighbours: Int[np.ndarray, ' e']


@dataclasses.dataclass(frozen=True, eq=False)
class Figure:
  """A subject ready to be filmed.

  Attributes:
    subject: who.
    head: the head model.
    labels: its semantics.
    texture: the painted atlas.
    hair: strands, or None.
    torso: shoulders.
    lashes: eyelashes.
    baked: visibility.
    topology: all triangles.
    offsets: [v, 3] float32 mm from the eye's centre, for eyeball vertices.
    matte_share: [v] float32 height over the collar: the matte is empty where it is below 0, full
      where it is above 1, and eased between.
    cavity: [v] float32 1 inside the mouth, where light depends on how far it is open.
    resting: [v, 3] float32 metres, the shaped, neutral head.
    beard: strands on the face, or None.
    glasses: spectacles, or None.
  """

  subject: Subject
  head: HeadModel
  labels: ProceduralSemantics
  texture: Texture
  hair: Hair | None
  torso: Torso
  lashes: Lashes
  baked: Baked
  topology: Topology
  offsets: Float[np.ndarray, 'v 3']
  matte_share: Float[np.ndarray, ' v']
  cavity: Float[np.ndarray, ' v']
  resting: Float[np.ndarray, 'v 3']
  beard: Beard | None
  glasses: Glasses | None


class Added(NamedTuple):
  """What a subject wears and grows."""

  torso: Torso
  hair: Hair | None
  beard: Beard | None
  glasses: Glasses | None


_NOTHING: Float[np.ndarray, '0 3'] = np.zeros((0, 3), np.float32)


def build_figure(
  subject: Subject, head: HeadModel, labels: ProceduralSemantics, size: TextureSize
) -> Figure:
  """Makes everything of a subject that does not depend on pose, light and camera.

  Args:
    subject: who.
    head: the procedural head.
    labels: its semantics.
    size: how finely the skin is painted.
  """
  still = dataclasses.replace(HeadCodes.neutral(head), shape=np.asarray(subject.shape, np.float32))
  resting = np.asarray(pose_head(head, still))
  shaped = to_millimetres(resting.astype(np.float64))
  neck = labels.skin & (labels.template[:, 1] < COLLAR_HEIGHT + 12)
  # A longer or shorter neck takes its collar along.
  moved = float((shaped[neck, 1] - labels.template[neck, 1]).mean())
  torso = make_torso(shaped[neck], COLLAR_HEIGHT + moved, subject.look.clothing, subject.look.seed)
  normals = vertex_normals(shaped, head.faces)
  torso_points = to_millimetres(torso.vertices.astype(np.float64))
  body = Body(shaped, normals, torso_points, torso.normals.astype(np.float64))
  hair = grow_hair(head, labels, body, subject.look)
  opened = dataclasses.replace(still, jaw=np.array([BAKE_JAW, 0, 0], np.float32))
  fields = PaintFields.of_vertices(labels)
  cavity = np.clip(fields.mouth * (1 - fields.lips) + fields.teeth + fields.tongue, 0, 1)
  beard = grow_beard(head, labels, body, subject.look)
  added = Added(torso, hair, beard, make_glasses(labels, shaped, subject.look.glasses))
  baked = _bake(head, labels, resting, np.asarray(pose_head(head, opened)), added, cavity)
  lashes = make_lashes(labels, subject.look.eyes.lashes)
  side = np.where(labels.component == 2, -1.0, 1.0)[:, None] * [1.0, 0, 0] + [0, 1.0, 1.0]
  on_eye = (labels.component == 1) | (labels.component == 2)
  offsets = np.where(on_eye[:, None], labels.template - EYE_CENTER * side, 0.0)
  tilted = labels.template[:, 1] + COLLAR_DROP * _forward(labels.template)
  return Figure(
    subject=subject,
    head=head,
    labels=labels,
    texture=bake_texture(head, labels, subject.look, size),
    hair=hair,
    torso=torso,
    lashes=lashes,
    baked=baked,
    topology=_topology(head, labels, added, lashes, cavity),
    offsets=offsets.astype(np.float32),
    matte_share=((tilted - FADE_END) / (FADE_START - FADE_END)).astype(np.float32),
    cavity=cavity.astype(np.float32),
    resting=resting,
    beard=beard,
    glasses=added.glasses,
  )


def _forward(template: Float[np.ndarray, 'v 3']) -> Float[np.ndarray, ' v']:
  """−1 at the nape, 1 at the throat: cosine of the angle around the neck."""
  return np.clip((template[:, 2] + 30.0) / 55.0, -1, 1)


def _bake(
  head: HeadModel,
  labels: ProceduralSemantics,
  resting: Float[np.ndarray, 'v 3'],
  opened: Float[np.ndarray, 'v 3'],
  added: Added,
  cavity: Float[np.ndarray, ' v'],
) -> Baked:
  directions = light_directions()
  # First the points whose view is asked for, in this order, then those that only stand in the way.
  parts = [resting, added.torso.vertices]
  faces = [head.faces, added.torso.faces + len(resting)]
  strands = [added.hair, None if added.beard is None else added.beard.hair]
  parts += [_NOTHING if part is None else part.strands.reshape(-1, 3) for part in strands]
  if added.glasses is not None:
    faces.append(added.glasses.faces + sum(map(len, parts)))
  parts.append(_NOTHING if added.glasses is None else added.glasses.vertices)
  ends = np.cumsum(list(map(len, parts)))
  for part in strands:
    if part is not None:
      bands, triangles = part.flat_bands(every=3)
      faces.append(triangles + sum(map(len, parts)))
      parts.append(bands)
  seen = vertex_visibility(
    np.concatenate(parts), np.concatenate(faces), directions, resolution=384, bias=2.0e-3
  )
  visible, torso, hair, beard, glasses = np.split(seen[: ends[-1]], ends[:-1])
  inside = cavity > 0.02
  wide = vertex_visibility(opened, head.faces, directions, bias=1.0e-3)
  # Light bounces around in a mouth: it is never black.
  visible[inside] = 0.18 + 0.82 * wide[inside]
  for component, eye in ((1, 0), (2, 1)):
    # A ball turns under its lids: it sees what they see; the lids' own shade is added per frame.
    rows = labels.component == component
    visible[rows] = visible[labels.lid_loops[eye, 3:6].ravel()].mean(axis=0)
  # Light goes on through hair: what is hidden is not black.
  hair, beard = 0.05 + 0.95 * hair, 0.08 + 0.92 * beard
  return Baked(
    directions.astype(np.float32),
    *(np.ascontiguousarray(part, np.float32) for part in (visible, torso, hair, beard, glasses)),
  )


def _topology(
  head: HeadModel,
  labels: ProceduralSemantics,
  added: Added,
  lashes: Lashes,
  cavity: Float[np.ndarray, ' v'],
) -> Topology:
  count, torso, glasses = len(head.v_template), added.torso, added.glasses
  after_torso = count + len(torso.vertices)
  corners = [head.faces, torso.faces + count, lashes.faces + after_torso]
  start = after_torso + 3 * len(lashes.blend)
  if glasses is not None:
    corners.append(glasses.faces + start)
    start += len(glasses.vertices)
  solid = sum(map(len, corners))
  for strands in (added.hair, None if added.beard is None else added.beard.hair):
    if strands is not None:
      corners.append(strands.segments + start)
      start += strands.widths.size
  part = labels.component[head.faces[:, 0]]
  kinds = np.full(sum(map(len, corners)), LIT_FACE, np.uint8)
  kinds[: len(part)] = np.select(
    [part == 1, part == 2], [EYE_FACE, EYE_FACE | RIGHT_EYE], SKIN_FACE
  )
  soft = (labels.component == 0) & (cavity < 0.5)
  edges = np.concatenate([head.faces[:, [0, 1]], head.faces[:, [1, 2]], head.faces[:, [2, 0]]])
  edges = np.unique(np.sort(edges, axis=1), axis=0)
  edges = edges[soft[edges].all(axis=1)]
  both = np.concatenate([edges, edges[:, ::-1]])
  both = both[np.lexsort((both[:, 1], both[:, 0]))]
  starts = np.searchsorted(both[:, 0], np.arange(count + 1))
  return Topology(
    np.concatenate(corners).astype(np.int32),
    np.ascontiguousarray(np.maximum(head.ft, 0), np.int32),
    solid,
    kinds,
    starts.astype(np.int32),
    np.ascontiguousarray(both[:, 1], np.int32),
  )
