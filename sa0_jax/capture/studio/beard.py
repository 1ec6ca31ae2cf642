"""Beards: strands on chin, cheeks and upper lip that follow the skin they grow from.

Scalp hair is rigid; a beard sits on the most mobile part of the face. Every strand therefore moves
with its root, and turns as the skin around it turns.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from sa0_jax.capture.studio import noise
from sa0_jax.capture.studio.hair import Body, Hair, kernels
from sa0_jax.capture.studio.skin_paint import beard_density
from sa0_jax.capture.studio.subject import BeardLook, Look
from sa0_jax.head.model import HeadModel
from sa0_jax.head.procedural import ProceduralSemantics
from sa0_jax.head.procedural.anatomy import smoothstep, to_metres
from sa0_jax.head.procedural.paint import BEARD_TOP, BEARD_Z, PaintFields

Points = Float[np.ndarray, 'n 3']

# Places whose turning the strands around them share, and how far each one's say reaches, mm.
_GUIDES, _REACH = 40, 14.0
_KNOTS = 7


@dataclasses.dataclass(frozen=True)
class BeardStyle:
  """How a beard grows; lengths in mm.

  Attributes:
    strands: how many at full density.
    width: of a strand at its root.
    chin, cheek, lip: lengths there; 0 leaves the place bare.
    lift: 1 hair leaves the skin upright, 0 lies flat.
    fall: how far strands have turned downwards at their tips, 0 to 1.
    clump: how strongly strands follow the nearest lock.
    frizz: irregularity of single strands at their tips.
  """

  strands: int
  width: float
  chin: float
  cheek: float
  lip: float
  lift: float
  fall: float
  clump: float
  frizz: float


STYLES: dict[str, BeardStyle] = {
  'moustache': BeardStyle(1300, 0.95, 0.0, 0.0, 11.0, 0.30, 0.35, 0.35, 1.0),
  'goatee': BeardStyle(2600, 1.00, 12.0, 0.0, 8.0, 0.40, 0.45, 0.40, 1.6),
  'short': BeardStyle(6500, 0.80, 5.5, 4.0, 4.5, 0.50, 0.25, 0.25, 0.8),
  'full': BeardStyle(6500, 1.10, 24.0, 12.0, 9.0, 0.50, 0.60, 0.45, 2.6),
  'long': BeardStyle(6000, 1.35, 68.0, 22.0, 12.0, 0.42, 0.85, 0.60, 4.5),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Beard:
  """A beard at rest and what it hangs on.

  Attributes:
    hair: the strands, in the frame of the shaped, neutral head.
    corners: [n, 3] vertices of the triangle each root lies on.
    weights: [n, 3] weights of those vertices.
    influence: [n, g] how much each strand turns with each of the guides; rows sum to 1.
  """

  hair: Hair
  corners: Int[np.ndarray, 'n 3']
  weights: Float[np.ndarray, 'n 3']
  influence: Float[np.ndarray, 'n g']


def grow_beard(
  head: HeadModel, labels: ProceduralSemantics, body: Body, look: Look
) -> Beard | None:
  """Grows a subject's beard of strands; None for those who have none.

  Args:
    head: the procedural head.
    labels: its semantics.
    body: the shaped, neutral head.
    look: whose beard.
  """
  if look.beard is None:
    return None
  style, beard = STYLES[look.beard.style], look.beard
  rng = np.random.default_rng([look.seed, 61])
  corners, weights = _roots(head, labels, look, style, rng)
  template = _at(labels.template, corners, weights)
  roots = _at(body.head, corners, weights)
  normals = _at(body.normals, corners, weights)
  normals /= np.linalg.norm(normals, axis=1, keepdims=True)
  lengths = _lengths(template, style, beard) * np.clip(rng.normal(0.95, 0.2, len(roots)), 0.4, 1.5)
  strands = _grow(roots, normals, template, lengths, style)
  strands = _tangle(strands, lengths, style, beard, look.seed, rng)
  hair = _finish(strands, normals, style, beard, rng)
  return Beard(hair, corners.astype(np.int32), weights, _influence(roots, rng))


def pose_beard(
  beard: Beard, resting: Float[np.ndarray, 'v 3'], posed: Float[np.ndarray, 'v 3']
) -> tuple[Float[np.ndarray, 'n k 3'], Float[np.ndarray, 'n k 3']]:
  """Moves a beard with the skin.

  Args:
    beard: from `grow_beard`.
    resting: [v, 3] the shaped, neutral head, metres.
    posed: [v, 3] the head in a frame, metres.

  Returns:
    ([n, k, 3] points, [n, k, 3] float32 unit tangents), world.
  """
  before = _at(resting, beard.corners, beard.weights)
  after = _at(posed, beard.corners, beard.weights)
  turns = _turns(before, after, beard.influence)
  offsets = beard.hair.strands.astype(np.float64) - before[:, None]
  points = after[:, None] + np.matmul(offsets, turns.transpose(0, 2, 1))
  tangents = np.gradient(points, axis=1)
  tangents /= np.maximum(np.linalg.norm(tangents, axis=2, keepdims=True), 1e-12)
  return points, tangents.astype(np.float32)


def _turns(
  before: Points, after: Points, influence: Float[np.ndarray, 'n g']
) -> Float[np.ndarray, 'n 3 3']:
  """How the skin around each root has turned: the guides' best rotations, blended."""
  total = influence.sum(axis=0)[:, None]
  middle, moved = influence.T @ before / total, influence.T @ after / total
  pairs = (after[:, :, None] * before[:, None, :]).reshape(-1, 9)
  covariance = (influence.T @ pairs).reshape(-1, 3, 3)
  covariance -= total[:, :, None] * moved[:, :, None] * middle[:, None, :]
  # Kabsch (1976): the rotation nearest to the covariance; the sign keeps it from mirroring.
  u, _, vt = np.linalg.svd(covariance)
  sign = np.sign(np.linalg.det(u @ vt))
  u[:, :, 2] *= sign[:, None]
  return (influence @ (u @ vt).reshape(-1, 9)).reshape(-1, 3, 3)


def _at(
  values: Float[np.ndarray, 'v 3'], corners: Int[np.ndarray, 'n 3'], weights: Points
) -> Points:
  return (values[corners].astype(np.float64) * weights[:, :, None]).sum(axis=1)


def _roots(
  head: HeadModel,
  labels: ProceduralSemantics,
  look: Look,
  style: BeardStyle,
  rng: np.random.Generator,
) -> tuple[Int[np.ndarray, 'n 3'], Points]:
  """Corners and weights of roots, evenly spread where the style has hair."""
  template = labels.template
  low = (labels.component == 0) & (template[:, 1] < -25) & (template[:, 1] > -150)
  faces = head.faces[(low & (template[:, 2] > -15))[head.faces].all(axis=1)]
  corners = template[faces].astype(np.float64)
  area = np.linalg.norm(
    np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
  )
  beard = look.beard
  if beard is None:
    raise ValueError('studio: this look has no beard to grow')
  # Twelve candidates for a strand: most of the lower face and neck is bare.
  total = 12 * style.strands
  at = (np.arange(total) + rng.random(total)) / total * area.sum()
  chosen = np.minimum(np.searchsorted(np.cumsum(area), at), len(faces) - 1)
  a, b = np.sqrt(rng.random(total)), rng.random(total)
  weights = np.stack([1 - a, a * (1 - b), a * b], axis=1)
  columns = PaintFields.of_vertices(labels).stacked()[faces[chosen]]
  fields = PaintFields.from_stacked((columns * weights[:, :, None].astype(np.float32)).sum(axis=1))
  points = np.ascontiguousarray(fields.template)
  density = beard_density(fields, points, look.seed)
  if style.cheek > 0:
    density = np.maximum(density, _sideburns(fields, points, look.seed))
  density = density * (_lengths(points, style, beard) > 1.5)
  kept = np.flatnonzero(rng.random(total) < density)
  count = min(round(style.strands * beard.density), len(kept))
  keep = kept[np.linspace(0, len(kept) - 1, count).astype(np.int64)]
  return faces[chosen[keep]], weights[keep]


def _sideburns(fields: PaintFields, points: Points, seed: int) -> Float[np.ndarray, ' n']:
  """Where a beard goes on upwards before the ears, 0 to 1."""
  x, y, z = np.abs(points[:, 0]), points[:, 1], points[:, 2]
  ragged = 3.0 * noise.fractal(points, 7.0, seed + 130, octaves=2)
  border = np.interp(z, BEARD_Z, BEARD_TOP)
  strip = smoothstep(border - y + ragged, -4.0, 6.0) * smoothstep(z + ragged, -8.0, 2.0)
  return strip * (x > 40) * (y > -100) * (1 - np.clip(3.0 * fields.ear, 0, 1))


def _lengths(template: Points, style: BeardStyle, beard: BeardLook) -> Float[np.ndarray, ' n']:
  """Length of the hair at points of the skin, mm; 0 where the style is bare."""
  x, y, z = np.abs(template[:, 0]), template[:, 1], template[:, 2]
  lip = smoothstep(y, -70.0, -66.0) * (1 - smoothstep(x, 27.0, 36.0)) * (z > 55)
  # Beside and below the mouth a goatee is as wide as the mouth; a beard has no such border.
  chin = (1 - smoothstep(x, 20.0, 44.0)) * (1 - smoothstep(y, -82.0, -64.0)) * (z > 20)
  if style.cheek == 0:
    beside = 1 - smoothstep(x + 0.12 * (y + 90), 27.0, 30.0)
    chin = beside * (y < -66.0) * smoothstep(y, -132.0, -122.0) * (z > 52)
  # Longer downwards: whiskers at the ears are short.
  cheek = style.cheek * (0.55 + 0.45 * smoothstep(y, -40.0, -95.0))
  mixed = cheek + chin * (style.chin - cheek)
  return beard.length * (mixed * (1 - lip) + style.lip * lip)


def _grow(
  roots: Points,
  normals: Points,
  template: Points,
  lengths: Float[np.ndarray, ' n'],
  style: BeardStyle,
) -> Float[np.ndarray, 'n k 3']:
  """Strands that leave the skin at an angle and bend down; those of a moustache part sideways."""
  x, y = template[:, 0], template[:, 1]
  lip = smoothstep(y, -70.0, -62.0) * (np.abs(x) < 36)
  comb = np.stack([0.25 * np.tanh(x / 12), np.full(len(x), -1.0), np.full(len(x), 0.10)], axis=1)
  sideways = np.stack([0.95 * np.tanh(x / 7), np.full(len(x), -0.75), np.full(len(x), 0.1)], axis=1)
  comb = comb + lip[:, None] * (sideways - comb)
  comb -= (comb * normals).sum(axis=1, keepdims=True) * normals
  comb /= np.maximum(np.linalg.norm(comb, axis=1, keepdims=True), 1e-6)
  heading = style.lift * normals + (1 - style.lift) * comb
  heading /= np.linalg.norm(heading, axis=1, keepdims=True)
  # Past the edge of the jaw gravity takes over; the tips of a moustache stay off the lips.
  fall = style.fall * (1 - 0.7 * lip)[:, None]
  t = np.linspace(0, 1, _KNOTS)
  points, at = [roots], roots
  for step in t[1:]:
    direction = heading + fall * step * (np.array([0.0, -1.0, 0.0]) - heading)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    at = at + direction * (lengths / (_KNOTS - 1))[:, None]
    points.append(at)
  return np.stack(points, axis=1)


def _tangle(
  strands: Float[np.ndarray, 'n k 3'],
  lengths: Float[np.ndarray, ' n'],
  style: BeardStyle,
  beard: BeardLook,
  seed: int,
  rng: np.random.Generator,
) -> Float[np.ndarray, 'n k 3']:
  """Gathers strands in locks and ruffles them."""
  count = len(strands)
  leaders = np.sort(rng.choice(count, min(max(count // 14, 1), count), replace=False))
  roots = np.ascontiguousarray(strands[:, 0])
  lock = kernels().nearest(roots, roots[leaders])
  t = np.linspace(0, 1, _KNOTS)[None, :, None]
  guide = strands[leaders][lock]
  offset = strands[:, :1] - guide[:, :1]
  strands = strands + style.clump * smoothstep(t, 0.1, 1.0) * (guide + 0.5 * offset - strands)
  rough = np.stack(
    [
      noise.fractal(
        (strands + 300.0 * rng.random((count, 1, 1))).reshape(-1, 3).astype(np.float32),
        (9.0 + 9.0 * (1 - beard.curl)),
        seed + 120 + axis,
      ).reshape(count, _KNOTS)
      for axis in range(3)
    ],
    axis=-1,
  )
  size = style.frizz * (0.5 + beard.curl) * np.minimum(lengths / 8.0, 1.0)[:, None, None]
  return strands + size * smoothstep(t, 0.0, 1.0) * rough


def _finish(
  strands: Float[np.ndarray, 'n k 3'],
  normals: Points,
  style: BeardStyle,
  beard: BeardLook,
  rng: np.random.Generator,
) -> Hair:
  count = len(strands)
  t = np.linspace(0, 1, _KNOTS)[None]
  widths = style.width * rng.uniform(0.7, 1.25, (count, 1)) * (1 - 0.8 * t**2)
  tone = np.exp(rng.normal(0, 0.25, (count, 1)) - 0.25 * (1 - smoothstep(t, 0.0, 0.3)))
  color = np.asarray(beard.color) * tone[..., None]
  return Hair(
    to_metres(strands.reshape(-1, 3)).reshape(strands.shape).astype(np.float32),
    (1e-3 * widths).astype(np.float32),
    np.clip(color, 0.004, 0.85).astype(np.float32),
    np.repeat(normals[:, None], _KNOTS, axis=1).astype(np.float32),
    np.ones((count, _KNOTS), np.float32),
  )


def _influence(roots: Points, rng: np.random.Generator) -> Float[np.ndarray, 'n g']:
  guides = roots[np.sort(rng.choice(len(roots), min(_GUIDES, len(roots)), replace=False))]
  squared = ((roots[:, None] - guides[None]) ** 2).sum(axis=2)
  # The nearest guide counts fully, however far it is.
  squared -= squared.min(axis=1, keepdims=True)
  weights = np.exp(-0.5 * squared / _REACH**2)
  return weights / weights.sum(axis=1, keepdims=True)
