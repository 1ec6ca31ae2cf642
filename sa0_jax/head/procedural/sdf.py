"""The average head's skin as an implicit surface: smooth unions of simple solids, in millimetres.

All of the likeness is in the numbers of this file. They were set by eye against anthropometric
tables (see `docs/procedural_head.md` for the measurements they lead to). Ears, lips' inner side and
nostrils are added as explicit rings by `rings.py`.
"""

import functools
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from sa0_jax.head.procedural.anatomy import Number, Vector

Points = Float[np.ndarray, 'n 3']
Field = Float[np.ndarray, ' n']
Numbers = Sequence[Number]

# Horizontal sections of the face block, a superellipse each:
# height, front z, half width, z of the widest place, exponent (2 = ellipse, more = boxier).
FACE_SECTIONS = np.array(
  [
    [70, 82.0, 58.0, 20.0, 2.30],
    [45, 92.5, 62.0, 18.0, 2.35],
    [20, 94.0, 64.0, 18.0, 2.35],
    [5, 88.0, 66.0, 18.0, 2.30],
    [-15, 85.0, 71.0, 22.0, 2.20],
    [-34, 88.0, 66.0, 19.0, 2.10],
    [-47, 92.0, 60.0, 14.0, 2.05],
    [-59, 93.5, 54.0, 12.0, 2.00],
    [-67, 92.5, 50.0, 11.0, 2.00],
    [-77, 90.5, 46.5, 12.0, 1.95],
    [-89, 88.5, 44.5, 18.0, 2.00],
    [-100, 89.5, 42.0, 26.0, 2.10],
    [-109, 87.5, 38.0, 33.0, 2.15],
    [-122, 80.0, 32.0, 38.0, 2.20],
  ]
)


def smooth_min(a: Field, b: Field, radius: Number) -> Field:
  """Union of two fields, rounded over `radius` (polynomial smooth minimum)."""
  overlap = np.maximum(radius - np.abs(a - b), 0.0) / radius
  return np.minimum(a, b) - overlap * overlap * radius * 0.25


def smooth_max(a: Field, b: Field, radius: Number) -> Field:
  """Intersection of two fields, rounded over `radius`; with −b it carves b out of a."""
  return -smooth_min(-a, -b, radius)


def rotation(degrees: Vector) -> Float[np.ndarray, '3 3']:
  """Rotation about x, then y, then z; its columns are the turned axes."""
  (cx, cy, cz), (sx, sy, sz) = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
  about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
  about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
  about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
  return about_z @ about_y @ about_x


def ellipsoid(p: Points, center: Vector, radii: Vector, degrees: Vector = (0, 0, 0)) -> Field:
  """Approximate signed distance of an ellipsoid, exact in sign and near its surface."""
  q = p - np.asarray(center, np.float64)
  if any(degrees):
    q = q @ rotation(degrees)
  r = np.asarray(radii, np.float64)
  scaled = np.sqrt(((q / r) ** 2).sum(-1)) + 1e-9
  slope = np.sqrt(((q / (r * r)) ** 2).sum(-1)) + 1e-9
  return scaled * (scaled - 1.0) / slope


def cone(p: Points, start: Vector, end: Vector, start_radius: Number, end_radius: Number) -> Field:
  """Capsule whose radius runs linearly from one end to the other."""
  a, b = np.asarray(start, np.float64), np.asarray(end, np.float64)
  t = np.clip(((p - a) @ (b - a)) / ((b - a) @ (b - a)), 0, 1)
  radius = start_radius + (end_radius - start_radius) * t
  return np.linalg.norm(p - a - t[:, None] * (b - a), axis=-1) - radius


def tube(p: Points, path: Sequence[Vector], radii: Numbers) -> Field:
  """Chain of cones through a path."""
  parts = [cone(p, path[i], path[i + 1], radii[i], radii[i + 1]) for i in range(len(path) - 1)]
  return np.minimum.reduce(parts)


@functools.cache
def _section_tables() -> tuple[Field, Float[np.ndarray, '4 n']]:
  from scipy.interpolate import PchipInterpolator

  heights = np.arange(-122, 70.5, 1.0)
  rows = FACE_SECTIONS[::-1]
  columns = [PchipInterpolator(rows[:, 0], rows[:, k])(heights) for k in range(1, 5)]
  return heights, np.stack(columns)


def _face_block(p: Points) -> Field:
  heights, table = _section_tables()
  y = np.clip(p[:, 1], heights[0], heights[-1])
  front, half_width, widest, exponent = (np.interp(y, heights, row) for row in table)
  x, z = np.sqrt(p[:, 0] ** 2 + 1.0), p[:, 2] - widest
  depth = np.where(z > 0, front - widest, 55.0 + widest)
  level = ((x / half_width) ** exponent + (np.abs(z) / depth) ** exponent) ** (1 / exponent)
  return np.sqrt(x * x + z * z) * (1 - 1 / np.maximum(level, 0.05)) * 0.92


def _skull(p: Points) -> Field:
  y, z = p[:, 1], p[:, 2]
  cranium = ellipsoid(p, (0, 36, -20), (75.5, 75, 77))
  cranium = smooth_min(cranium, ellipsoid(p, (0, 40, 22), (62, 66, 70)), 24)
  occiput = ellipsoid(p, (0, -8, -38), (60, 58, 54))
  cranium = smooth_min(cranium, occiput, 30)
  underside = (-111.0 + (84.0 - z) * 0.50 - y) * 0.894
  face = smooth_max(smooth_max(_face_block(p), underside, 15), y - 62.0, 20)
  head = smooth_min(cranium, face, 18)
  temple = ellipsoid(p, (89, 26, 44), (18, 40, 36), (0, 20, 0))
  return smooth_max(head, -temple, 34)


def _neck(p: Points) -> Field:
  x, y, z = p.T
  drop = (-100 - np.clip(y, -260, -40)) / 100.0
  center = -18 - 15 * drop
  width, depth = 51.5 + 35.0 * np.maximum(drop - 0.45, 0) ** 2, 53.5 + 1.5 * drop
  level = np.sqrt((x / width) ** 2 + ((z - center) / depth) ** 2)
  column = np.sqrt(x * x + (z - center) ** 2) * (1 - 1 / np.maximum(level, 0.05)) * 0.95
  neck = smooth_max(column, y + 20, 30)
  larynx = cone(p, (0, -140, 25), (0, -165, 20), 6, 6)
  neck = smooth_min(neck, larynx, 18)
  sternomastoid = cone(p, (54, -62, -18), (14, -205, 12), 7, 8)
  return smooth_min(neck, sternomastoid, 18)


def _add_soft_tissue(head: Field, p: Points) -> Field:
  brow_ridge = tube(
    p,
    [(4, 12, 86), (20, 18, 83), (38, 19, 74.0), (51, 11, 60), (52, -8, 55)],
    (7.5, 7, 6.5, 6.5, 7),
  )
  head = smooth_min(head, brow_ridge, 18)
  cheekbone = ellipsoid(p, (47, -21, 55), (16, 10.5, 15), (0, 32, -18))
  head = smooth_min(head, cheekbone, 22)
  cheek = ellipsoid(p, (35, -55, 54), (18, 21, 20), (0, 30, -10))
  head = smooth_min(head, cheek, 26)
  muzzle = ellipsoid(p, (0, -63, 71), (31, 27, 27))
  head = smooth_min(head, muzzle, 24)
  chin = ellipsoid(p, (0, -100, 78), (17, 11, 16))
  head = smooth_min(head, chin, 16)
  chin_side = ellipsoid(p, (10, -100, 78), (9, 8, 12))
  head = smooth_min(head, chin_side, 16)
  jaw_angle = ellipsoid(p, (41, -62, 14), (8, 18, 14))
  head = smooth_min(head, jaw_angle, 20)
  jaw_border = tube(p, [(34.5, -73, 22), (28.5, -90, 54), (15, -100, 76)], (7, 7.5, 8))
  return smooth_min(head, jaw_border, 24)


def _carve_orbits(head: Field, p: Points) -> Field:
  socket = ellipsoid(p, (31.5, 0.5, 90.0), (20, 13.5, 14.5), (0, 15, -4))
  head = smooth_max(head, -socket, 14)
  inner_corner = ellipsoid(p, (16.5, -0.5, 90.0), (6.5, 9.0, 17.0), (0, -18, 0))
  head = smooth_max(head, -inner_corner, 8)
  lid_fat = tube(
    p, [(17, 10.0, 75.5), (24, 13.5, 76.0), (35, 14.5, 72.5), (46, 10.5, 63)], (5.0, 7.0, 8.0, 7.0)
  )
  return smooth_min(head, lid_fat, 9)


def _add_nose(head: Field, p: Points) -> Field:
  bridge = [(0, 9, 83.5), (0, -6, 88.5), (0, -21, 97), (0, -32, 104)]
  nose = tube(p, bridge, (7.2, 6.0, 6.8, 8.0))
  nose = smooth_min(nose, ellipsoid(p, (0, -34, 107.2), (9.4, 8.2, 8.4)), 7)
  nose = smooth_min(nose, ellipsoid(p, (4.0, -34.8, 108.5), (5.4, 6.0, 6.4)), 6)
  nose = smooth_min(nose, ellipsoid(p, (0, -21, 83), (16, 25, 17), (-20, 0, 0)), 13)
  ala = ellipsoid(p, (12.2, -37.6, 97.5), (5.9, 7.0, 10.5), (0, 24, 10))
  nose = smooth_min(nose, ala, 7)
  columella = cone(p, (0, -43.3, 97), (0, -40.2, 108.5), 4.2, 4.2)
  nose = smooth_min(nose, columella, 5)
  head = smooth_min(head, nose, 8)
  alar_crease = cone(p, (17.0, -32, 95), (19.0, -41.4, 91.5), 0.5, 0.8)
  return smooth_max(head, -alar_crease, 5)


def _add_lips(head: Field, p: Points) -> Field:
  upper = tube(
    p,
    [(0.0, -62.6, 97.2), (5.5, -61.7, 97.3), (14, -63.9, 92.6), (25, -68.0, 81.8)],
    (5.6, 5.7, 4.6, 2.0),
  )
  lower = tube(
    p,
    [(0.0, -72.0, 95.6), (8, -72.0, 95.1), (16, -70.4, 90.5), (25, -68.2, 81.6)],
    (5.9, 6.0, 4.8, 2.0),
  )
  head = smooth_min(smooth_min(head, upper, 6), lower, 6)
  seam = tube(
    p,
    [(0.0, -67.2, 104.8), (6, -66.7, 104.5), (15, -67.2, 98.6), (27, -68.4, 87.8)],
    (1.0, 1.0, 0.8, 0.1),
  )
  head = smooth_max(head, -seam, 4)
  philtrum = cone(p, (0, -48.2, 103.6), (0, -55.8, 107.0), 1.3, 1.8)
  head = smooth_max(head, -philtrum, 6)
  mentolabial = ellipsoid(p, (0, -86.0, 108.2), (22, 5.0, 10.5))
  head = smooth_max(head, -mentolabial, 14)
  nasolabial = tube(p, [(20, -40.5, 96), (28, -52, 95), (33, -62.5, 92)], (0.4, 0.8, 0.4))
  return smooth_max(head, -nasolabial, 9)


def skin_field(points: Points) -> Field:
  """Signed distance-like field of the skin without ears: negative inside, mm, symmetric in x."""
  p = np.array(points, np.float64)
  # A rounded |x| mirrors the head without a crease at the midline.
  p[:, 0] = np.sqrt(p[:, 0] ** 2 + 0.16)
  head = smooth_min(_skull(p), _neck(p), 20)
  head = _add_soft_tissue(head, p)
  head = _carve_orbits(head, p)
  head = _add_nose(head, p)
  return _add_lips(head, p)


def gradient(field: Callable[[Points], Field], p: Points, step: float = 0.05) -> Points:
  """Central differences of a field."""
  offsets = step * np.eye(3)
  return np.stack([(field(p + o) - field(p - o)) / (2 * step) for o in offsets], axis=-1)


def project(
  p: Points, iterations: int = 12, field: Callable[[Points], Field] = skin_field
) -> Points:
  """Newton steps along the gradient onto the zero set."""
  out = p.copy()
  for _ in range(iterations):
    slope = gradient(field, out)
    length = np.clip(field(out), -6, 6) / np.maximum((slope * slope).sum(-1), 0.15)
    out = out - length[:, None] * slope
  return out


def along_rays(origin: Float[np.ndarray, '3'], directions: Points, far: Number = 230.0) -> Points:
  """Surface points of a star-shaped field: bisection along rays from inside."""
  near = np.full(len(directions), 5.0)
  end = np.full(len(directions), far)
  start = np.broadcast_to(origin, directions.shape)
  for _ in range(26):
    middle = 0.5 * (near + end)
    inside = skin_field(start + middle[:, None] * directions) < 0
    near, end = np.where(inside, middle, near), np.where(inside, end, middle)
  return start + (0.5 * (near + end))[:, None] * directions


def front_depth(x: Field, y: Field) -> Field:
  """z of the outermost skin on lines parallel to the z axis."""
  depth = np.full(len(x), 30.0)
  open_rays = np.arange(len(x))
  for z in np.arange(135.0, 30.0, -1.0):
    inside = skin_field(np.stack([x[open_rays], y[open_rays], np.full(len(open_rays), z)], 1)) < 0
    depth[open_rays[inside]] = z
    open_rays = open_rays[~inside]
    if not len(open_rays):
      break
  near, far = depth, depth + 1.0
  for _ in range(12):
    middle = 0.5 * (near + far)
    inside = skin_field(np.stack([x, y, middle], axis=1)) < 0
    near, far = np.where(inside, middle, near), np.where(inside, far, middle)
  return 0.5 * (near + far)
