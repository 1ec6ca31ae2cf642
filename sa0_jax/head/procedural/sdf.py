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
    [70, 80.5, 57.0, 20.0, 2.30],
    [45, 90.5, 60.0, 18.0, 2.30],
    [20, 91.0, 62.5, 18.0, 2.30],
    [5, 87.0, 65.5, 18.0, 2.30],
    [-15, 85.5, 70.5, 22.0, 2.20],
    [-34, 88.0, 66.0, 19.0, 2.10],
    [-47, 91.5, 59.5, 14.0, 2.05],
    [-59, 93.5, 52.0, 12.0, 2.00],
    [-67, 93.0, 47.2, 11.0, 2.00],
    [-77, 90.5, 43.2, 12.0, 1.95],
    [-89, 88.0, 41.5, 18.0, 2.00],
    [-100, 88.0, 36.5, 26.0, 2.05],
    [-109, 86.0, 31.5, 33.0, 2.10],
    [-122, 80.0, 28.0, 38.0, 2.20],
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
  cranium = ellipsoid(p, (0, 36, -19), (75.5, 74, 75))
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
  center = -14 - 17 * drop
  flare = np.maximum(drop - 0.40, 0) ** 2
  width, depth = 53.5 + 47.0 * flare, 53.0 + 12.0 * flare
  level = np.sqrt((x / width) ** 2 + ((z - center) / depth) ** 2)
  column = np.sqrt(x * x + (z - center) ** 2) * (1 - 1 / np.maximum(level, 0.05)) * 0.95
  neck = smooth_max(column, y + 20, 30)
  larynx = cone(p, (0, -140, 31), (0, -160, 26), 6, 6)
  neck = smooth_min(neck, larynx, 18)
  sternomastoid = cone(p, (50, -62, -16), (12, -210, 22), 7, 7)
  neck = smooth_min(neck, sternomastoid, 16)
  trapezius = cone(p, (18, -112, -62), (74, -218, -62), 8, 20)
  return smooth_min(neck, trapezius, 28)


def _add_soft_tissue(head: Field, p: Points) -> Field:
  brow_ridge = tube(
    p,
    [(4, 13, 84), (20, 19, 82), (38, 20, 74.0), (51, 12, 60.5), (52, -8, 56)],
    (6.8, 6.0, 6.2, 6.5, 7),
  )
  head = smooth_min(head, brow_ridge, 18)
  cheekbone = ellipsoid(p, (47, -21, 55), (16, 10.5, 15), (0, 32, -18))
  head = smooth_min(head, cheekbone, 22)
  cheek = ellipsoid(p, (35, -55, 54), (18, 21, 20), (0, 30, -10))
  head = smooth_min(head, cheek, 26)
  muzzle = ellipsoid(p, (0, -63, 71), (31, 27, 27))
  head = smooth_min(head, muzzle, 24)
  chin = ellipsoid(p, (0, -100, 77.5), (15, 11, 16))
  head = smooth_min(head, chin, 16)
  chin_side = ellipsoid(p, (9, -100, 77.5), (8, 8, 12))
  head = smooth_min(head, chin_side, 16)
  jaw_angle = ellipsoid(p, (37.0, -59, 14), (8, 17, 14))
  head = smooth_min(head, jaw_angle, 20)
  jaw_border = tube(p, [(33.5, -73, 22), (26.5, -89.5, 54), (14, -100, 75)], (7, 7.5, 8))
  return smooth_min(head, jaw_border, 24)


def _carve_orbits(head: Field, p: Points) -> Field:
  socket = ellipsoid(p, (31.5, 0.5, 92.0), (20, 13.5, 14.5), (0, 15, -4))
  head = smooth_max(head, -socket, 14)
  inner_corner = ellipsoid(p, (16.5, -0.5, 92.0), (6.5, 9.0, 17.0), (0, -18, 0))
  head = smooth_max(head, -inner_corner, 8)
  lid_fat = tube(
    p, [(17, 10.5, 77), (24, 14, 77.5), (35, 15, 74), (46, 10.5, 64.5)], (5.0, 7.0, 8.0, 7.0)
  )
  return smooth_min(head, lid_fat, 9)


def _add_nose(head: Field, p: Points) -> Field:
  bridge = [(0, 10, 82), (0, -5, 87.2), (0, -20.5, 97), (0, -32, 104)]
  nose = tube(p, bridge, (6.6, 5.2, 6.0, 7.4))
  nose = smooth_min(nose, ellipsoid(p, (0, -34, 108.4), (9.2, 8.2, 8.4)), 7)
  nose = smooth_min(nose, ellipsoid(p, (4.0, -34.8, 109.6), (5.4, 6.0, 6.4)), 6)
  nose = smooth_min(nose, ellipsoid(p, (0, -22, 82), (13.5, 24, 17.5), (-20, 0, 0)), 13)
  ala = ellipsoid(p, (11.4, -37.8, 97.5), (5.3, 7.0, 10.3), (0, 22, 10))
  nose = smooth_min(nose, ala, 7)
  columella = cone(p, (0, -44.2, 97), (0, -41.0, 108.5), 4.0, 4.0)
  nose = smooth_min(nose, columella, 5)
  head = smooth_min(head, nose, 8)
  alar_crease = cone(p, (16.0, -32, 95), (18.0, -41.6, 91.5), 0.5, 0.8)
  return smooth_max(head, -alar_crease, 5)


def _add_lips(head: Field, p: Points) -> Field:
  upper = tube(
    p,
    [(0.0, -62.4, 98.2), (5.5, -61.5, 98.4), (14, -63.7, 93.4), (25, -68.0, 82.0)],
    (5.9, 6.0, 4.9, 2.0),
  )
  lower = tube(
    p,
    [(0.0, -72.2, 96.4), (8, -72.2, 95.9), (16, -70.6, 91.0), (25, -68.2, 81.8)],
    (6.4, 6.5, 5.2, 2.0),
  )
  head = smooth_min(smooth_min(head, upper, 6), lower, 6)
  seam = tube(
    p,
    [(0.0, -67.2, 106.2), (6, -66.7, 105.8), (15, -67.2, 99.6), (27, -68.4, 88.0)],
    (0.8, 0.8, 0.5, 0.1),
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
