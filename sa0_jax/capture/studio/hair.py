"""Hair as strands that leave the scalp: grown over the shaped head, gathered into locks, curled.

At portrait distance a pixel is a millimetre or more, far wider than a hair, so a strand here stands
for a wisp: a band one or two millimetres wide that always faces the camera. Hair follows the skull
and, where it hangs over neck and shoulders, gradually the body; it knows nothing of the face.
"""

import dataclasses
import types

import numpy as np
from jaxtyping import Float, Int

from sa0_jax.capture.studio import noise
from sa0_jax.capture.studio.hair_styles import STYLES, HairStyle
from sa0_jax.capture.studio.skin_paint import scalp_distance
from sa0_jax.capture.studio.subject import Look
from sa0_jax.head.model import HeadModel
from sa0_jax.head.procedural import ProceduralSemantics
from sa0_jax.head.procedural.anatomy import smoothstep, to_metres

_GRID_SPACING = 8.0
_GRID_LOW, _GRID_HIGH = np.array([-200.0, -300.0, -210.0]), np.array([200.0, 200.0, 190.0])
# Above this height hair follows the skull, below the other it lies on the body, mm.
_NECK_HIGH, _NECK_LOW = -95.0, -175.0

Points = Float[np.ndarray, 'n 3']


@dataclasses.dataclass(frozen=True, eq=False)
class Hair:
  """Strands at rest, in the frame of the shaped, neutral head.

  Attributes:
    strands: [n, k, 3] float32 metres, root first.
    widths: [n, k] float32 metres.
    reflectance: [n, k, 3] float32 linear RGB.
    normals: [n, k, 3] float32 unit, outward from the head.
    shares: [n, k] float32 how much each point follows the neck joint; the rest follows the root.
  """

  strands: Float[np.ndarray, 'n k 3']
  widths: Float[np.ndarray, 'n k']
  reflectance: Float[np.ndarray, 'n k 3']
  normals: Float[np.ndarray, 'n k 3']
  shares: Float[np.ndarray, 'n k']

  @property
  def segments(self) -> Int[np.ndarray, 's 3']:
    """First and last knot of every segment, as degenerate triangles (first, first, last)."""
    count, knots = self.widths.shape
    first = (np.arange(count)[:, None] * knots + np.arange(knots - 1)).ravel()
    return np.stack([first, first, first + 1], axis=1).astype(np.int32)

  def flat_bands(self, every: int) -> tuple[Float[np.ndarray, 'v 3'], Int[np.ndarray, 'f 3']]:
    """Some strands as bands that lie flat on the head: what stands in the way of light.

    Args:
      every: take each n-th strand, made wider in turn.

    Returns:
      (vertices in metres, triangles).
    """
    strands, knots = self.strands[::every], self.widths.shape[1]
    across = np.cross(np.gradient(strands, axis=1), self.normals[::every])
    across /= np.maximum(np.linalg.norm(across, axis=2, keepdims=True), 1e-9)
    half = 0.4 * every * self.widths[::every, :, None] * across
    vertices = np.stack([strands - half, strands + half], axis=2).reshape(-1, 3)
    first = (np.arange(len(strands))[:, None] * knots + np.arange(knots - 1)).ravel() * 2
    quads = first[:, None] + np.array([0, 1, 3, 0, 3, 2])
    return vertices.astype(np.float32), quads.reshape(-1, 3).astype(np.int32)


@dataclasses.dataclass(frozen=True, eq=False)
class Body:
  """What hair grows on and lies on, authored millimetres.

  Attributes:
    head: [v, 3] the shaped, neutral head.
    normals: [v, 3] its unit normals.
    torso: [t, 3] the shoulders.
    torso_normals: [t, 3] their unit normals.
  """

  head: Float[np.ndarray, 'v 3']
  normals: Float[np.ndarray, 'v 3']
  torso: Float[np.ndarray, 't 3']
  torso_normals: Float[np.ndarray, 't 3']


def kernels() -> types.ModuleType:
  """The compiled loops."""
  from sa0_jax.capture.studio import hair_kernels  # numba: only where hair is grown

  return hair_kernels


def grow_hair(head: HeadModel, labels: ProceduralSemantics, body: Body, look: Look) -> Hair | None:
  """Grows a subject's hair; None for a bald one."""
  if look.hair.style == 'bald':
    return None
  style = STYLES[look.hair.style]
  rng = np.random.default_rng(look.seed)
  roots, normals, template = _roots(head, labels, body, look, rng, style.strands)
  field = _distance_field(labels, body)
  traits = _traits(template, roots, style, look, rng)
  strands = kernels().grow(
    roots,
    normals,
    traits,
    (
      np.array(style.comb),
      np.array([style.lift, style.stiffness, style.gravity, style.hold]),
      np.array(style.gather),
      np.array(style.window),
    ),
    field,
    style.knots,
  )
  strands = _locks(strands, traits, style, look, rng)
  if style.gather[3] > 0:
    strands = np.concatenate([strands, _bun(style, len(strands) // 5, rng)])
  return _finish(strands, style, look, field, rng)


def _roots(
  head: HeadModel,
  labels: ProceduralSemantics,
  body: Body,
  look: Look,
  rng: np.random.Generator,
  count: int,
) -> tuple[Points, Points, Points]:
  """Roots on the shaped scalp, their normals and template positions, evenly spread."""
  scalp = (labels.component == 0) & (labels.ear_ring < 1) & (labels.template[:, 1] > -120)
  faces = head.faces[scalp[head.faces].all(axis=1)]
  middle = labels.template[faces].mean(axis=1)
  folded = middle.copy()
  folded[:, 0] = np.abs(folded[:, 0])
  faces = faces[scalp_distance(folded, look.hair.recede) > -12]
  corners = labels.template[faces].astype(np.float64)
  area = np.linalg.norm(
    np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
  )
  # Stratified by area: every face gets its share, none by chance nothing. Candidates beyond the
  # hairline are dropped below, about a third.
  total = int(1.5 * count)
  at = (np.arange(total) + rng.random(total)) / total * area.sum()
  chosen = np.minimum(np.searchsorted(np.cumsum(area), at), len(faces) - 1)
  a, b = np.sqrt(rng.random(total)), rng.random(total)
  weights = np.stack([1 - a, a * (1 - b), a * b], axis=1)[:, :, None]
  template = (labels.template[faces[chosen]] * weights).sum(axis=1)
  folded = template.copy()
  folded[:, 0] = np.abs(folded[:, 0])
  ragged = 4.0 * noise.fractal(template, 11.0, look.seed + 71, octaves=2)
  edge = scalp_distance(folded.astype(np.float32), look.hair.recede) + ragged
  # Cutting off the tail would bare one region: drop evenly instead.
  kept = np.flatnonzero(rng.random(total) < smoothstep(edge, -3.0, 7.0))
  keep = kept[np.linspace(0, len(kept) - 1, min(count, len(kept))).astype(np.int64)]
  rows, weights = faces[chosen[keep]], weights[keep]
  roots = (body.head[rows] * weights).sum(axis=1)
  normals = (body.normals[rows] * weights).sum(axis=1)
  normals /= np.linalg.norm(normals, axis=1, keepdims=True)
  return roots.astype(np.float64), normals.astype(np.float64), template[keep]


def _distance_field(
  labels: ProceduralSemantics, body: Body
) -> tuple[Float[np.ndarray, 'x y z'], Float[np.ndarray, '3'], float]:
  """Signed distance to head and shoulders on a grid: (values, origin, spacing), mm."""
  outer = (labels.component == 0) & ((labels.mouth_ring < 0) | (labels.mouth_ring > 9))
  outer &= (labels.lid_ring < 0) | (labels.lid_ring > 6)
  outer &= (labels.nostril_ring < 0) & (labels.ear_ring < 1)
  points = np.concatenate([body.head[outer], body.torso]).astype(np.float32)
  normals = np.concatenate([body.normals[outer], body.torso_normals]).astype(np.float32)
  # The face is meshed much finer than hair needs: one point a cell of 6 mm will do.
  _, kept = np.unique(np.round(points / 6.0).astype(np.int64), axis=0, return_index=True)
  points, normals = points[np.sort(kept)], normals[np.sort(kept)]
  shape = tuple(int(n) for n in np.ceil((_GRID_HIGH - _GRID_LOW) / _GRID_SPACING) + 1)
  grid = kernels().distance_grid(points, normals, _GRID_LOW, _GRID_SPACING, shape)
  axes = [low + _GRID_SPACING * np.arange(n) for low, n in zip(_GRID_LOW, shape, strict=True)]
  for ear in (0, 1):
    # Hair bridges the hollows of an ear: to hair it is a bump.
    rows = labels.ear_loops[ear].ravel()
    low, high = body.head[rows].min(axis=0), body.head[rows].max(axis=0)
    middle, radii = 0.5 * (low + high), 0.5 * (high - low)
    x, y, z = ((axis - m) / r for axis, m, r in zip(axes, middle, radii, strict=True))
    reach = np.sqrt(x[:, None, None] ** 2 + y[None, :, None] ** 2 + z[None, None, :] ** 2)
    grid = np.minimum(grid, (reach - 1) * radii.min())
  for axis in (0, 1, 2):
    before, after = np.roll(grid, 1, axis), np.roll(grid, -1, axis)
    grid = 0.5 * grid + 0.25 * (before + after)
  return np.ascontiguousarray(grid, np.float32), _GRID_LOW, _GRID_SPACING


def _traits(
  template: Points, roots: Points, style: HairStyle, look: Look, rng: np.random.Generator
) -> Float[np.ndarray, 'n 4']:
  """Length, layer height, side of the parting and cut height of every strand."""
  hair, count = look.hair, len(roots)
  top = smoothstep(template[:, 1], 28.0, 72.0)
  uneven = noise.fractal(template, 40.0, look.seed + 72, octaves=2)
  length = hair.length * (style.length[1] + (style.length[0] - style.length[1]) * top)
  length = length * np.clip(rng.normal(0.94, 0.09, count) + 0.10 * uneven, 0.4, 1.25)
  # At the hairline hair is finer and shorter.
  folded = np.column_stack([np.abs(template[:, 0]), template[:, 1:]]).astype(np.float32)
  edge = smoothstep(scalp_distance(folded, hair.recede), -3.0, 16.0)
  length = length * (0.45 + 0.55 * edge) if style.cut is None else length
  layer = style.layer[1] + (style.layer[0] - style.layer[1]) * top
  layer = hair.volume * layer * rng.random(count) ** 0.8 * (0.35 + 0.65 * edge) + 0.5
  # The parting runs from the forehead to the crown and is lost behind it.
  part = 38.0 * hair.part * smoothstep(template[:, 2], -95.0, 10.0)
  wobble = 1.5 * noise.fractal(template, 9.0, look.seed + 73)
  side = np.where(template[:, 0] + wobble > part, 1.0, -1.0)
  cut = np.full(count, -1e9)
  if style.cut is not None:
    level = style.cut[0] + 55.0 * (1.0 - hair.length)
    cut = level + style.cut[1] * (0.6 * rng.normal(size=count) + 1.2 * uneven)
  return np.column_stack([np.maximum(length, 3.0), layer, side, cut])


def _locks(
  strands: Float[np.ndarray, 'n k 3'],
  traits: Float[np.ndarray, 'n 4'],
  style: HairStyle,
  look: Look,
  rng: np.random.Generator,
) -> Float[np.ndarray, 'n k 3']:
  """Pulls strands towards the nearest lock, curls locks and ruffles strands."""
  count = len(strands)
  leaders = np.sort(rng.choice(count, min(style.locks, count), replace=False))
  # Strands on the other side of the parting are far away.
  place = np.column_stack([strands[:, 0] + 25.0 * traits[:, 2:3] * [1, 0, 0]])
  lock = kernels().nearest(place, place[leaders])
  guide = strands[leaders][lock]
  t = np.linspace(0, 1, style.knots)[None, :, None]
  loose = (rng.random(count) < 0.06)[:, None, None]
  pull = style.clump * np.where(loose, 0.3, 1.0) * smoothstep(t, 0.0, 0.7)
  offset = strands[:, :1] - guide[:, :1]
  strands = strands + pull * (guide + 0.45 * offset - strands)
  radius = style.curl[0] + 3.0 * look.hair.curl
  if style.curl[0] or style.cut is not None:
    strands = strands + radius * smoothstep(t, 0.05, 0.55) * _helix(
      strands, lock, style.curl[1] + 12.0 * (style.curl[0] == 0), rng
    )
  rough = np.stack(
    [
      noise.fractal(
        (strands + 300.0 * rng.random((count, 1, 1))).reshape(-1, 3).astype(np.float32),
        26.0,
        look.seed + 80 + axis,
      ).reshape(count, style.knots)
      for axis in range(3)
    ],
    axis=-1,
  )
  return strands + style.frizz * np.where(loose, 2.2, 1.0) * t * rough


def _helix(
  strands: Float[np.ndarray, 'n k 3'],
  lock: Int[np.ndarray, ' n'],
  wavelength: float,
  rng: np.random.Generator,
) -> Float[np.ndarray, 'n k 3']:
  """Unit circles around each strand, in step within a lock."""
  forward = np.gradient(strands, axis=1)
  length = np.linalg.norm(forward, axis=2, keepdims=True)
  forward = forward / np.maximum(length, 1e-6)
  travelled = np.cumsum(length[..., 0], axis=1)
  phase = rng.uniform(0, 2 * np.pi, lock.max() + 1)[lock]
  pace = rng.uniform(0.8, 1.25, lock.max() + 1)[lock]
  angle = phase[:, None] + 2 * np.pi * pace[:, None] * travelled / wavelength
  angle = angle + rng.normal(0, 0.25, len(lock))[:, None]
  first = np.cross(forward, [0.31, 0.17, 0.93])
  first /= np.maximum(np.linalg.norm(first, axis=2, keepdims=True), 1e-6)
  second = np.cross(forward, first)
  return np.cos(angle)[..., None] * first + np.sin(angle)[..., None] * second


def _bun(style: HairStyle, count: int, rng: np.random.Generator) -> Float[np.ndarray, 'n k 3']:
  """Hair wound around the point it is gathered at."""
  centre = np.array(style.gather[:3])
  axis = centre - np.array([0.0, 40.0, -20.0])
  axis = axis / np.linalg.norm(axis)
  first = np.cross(axis, [1.0, 0.0, 0.0])
  first /= np.linalg.norm(first)
  second = np.cross(axis, first)
  # Turns of a flattened ring: the angle around the axis runs on, the one around the ring wobbles.
  start, lean = rng.uniform(0, 2 * np.pi, count), rng.uniform(0, 2 * np.pi, count)
  t = np.linspace(0, 1, style.knots)
  around = start[:, None] + 2.2 * t
  across = lean[:, None] + 1.1 * t + 0.3 * np.sin(3 * around)
  size = rng.uniform(0.86, 1.04, (count, 1))
  ring = 15.0 + 16.0 * size * np.cos(across)
  height = 19.0 * size * np.sin(across)
  return centre + (
    (ring * np.cos(around))[..., None] * first
    + (ring * np.sin(around))[..., None] * second
    + height[..., None] * axis
  )


def _finish(
  strands: Float[np.ndarray, 'n k 3'],
  style: HairStyle,
  look: Look,
  field: tuple[np.ndarray, np.ndarray, float],
  rng: np.random.Generator,
) -> Hair:
  """Keeps strands out of the head and gives them width, colour, normals and joints."""
  count = len(strands)
  flat = np.ascontiguousarray(strands.reshape(-1, 3))
  distance, normals = kernels().sample_distance(*field, flat)
  t = np.linspace(0, 1, style.knots)[None]
  lowest = np.tile(0.8 * smoothstep(t, 0.0, 0.25), (count, 1)).ravel()
  flat = flat + np.maximum(lowest - distance, 0)[:, None] * normals
  widths = style.width * rng.uniform(0.7, 1.2, (count, 1)) * (1 - 0.85 * t**3) * (0.7 + 0.3 * t)
  tone = np.exp(rng.normal(0, 0.20, (count, 1)) - 0.30 * (1 - smoothstep(t, 0.0, 0.22)))
  tone = tone * (1 + 0.25 * smoothstep(t, 0.5, 1.0))
  reflectance = np.asarray(look.hair.color) * tone[..., None]
  # Lighter strands are also yellower, grey ones appear one by one.
  reflectance = reflectance * (1 + 0.06 * rng.normal(size=(count, 1, 1)) * [1.0, 0.0, -1.0])
  share = smoothstep(flat[:, 1], _NECK_LOW, _NECK_HIGH)
  shape = (count, style.knots)
  return Hair(
    to_metres(flat).reshape(*shape, 3).astype(np.float32),
    (1e-3 * widths).astype(np.float32),
    np.clip(reflectance, 0.004, 0.85).astype(np.float32),
    normals.reshape(*shape, 3).astype(np.float32),
    share.reshape(shape).astype(np.float32),
  )
