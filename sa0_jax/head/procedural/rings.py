"""Structured vertex rings where the face deforms most: lids, lips and mouth, nostrils.

Each function returns a list of rings, [n, 3] millimetres, of the left (x > 0) half of the head.
"""

import numpy as np
from jaxtyping import Float

from sa0_jax.head.procedural.anatomy import (
  EYE_CENTER,
  EYE_RADIUS,
  Number,
  smoothstep,
)
from sa0_jax.head.procedural.sdf import front_depth, project

Ring = Float[np.ndarray, 'n 3']

EYE_POINTS = 32  # per lid ring: 0 at the lateral corner, 16 at the medial one, upper lid between
LIP_POINTS = 17  # per half ring and lip, midline and corner included
NOSTRIL_POINTS = 14

# Rings with a name, by position in the lists below (inside to outside for lids and mouth).
LID_INNER_EDGE, LID_LASH_EDGE = 2, 3
MOUTH_THROAT_RINGS = (0, 1, 2)
MOUTH_CONTACT, MOUTH_SEAM, MOUTH_BORDER = 6, 7, 11

# Lid margin: half widths towards the outer and inner corner, heights of the upper and lower lid.
EYE_OUTER_WIDTH, EYE_INNER_WIDTH = 14.4, 15.2
UPPER_LID_HEIGHT, LOWER_LID_HEIGHT = 4.7, 5.5
CANTHAL_TILT = 0.065  # rise per mm outwards
# Depth of the corners before the eyeball's centre, and where the tissue that fills them ends.
OUTER_CORNER_DEPTH, INNER_CORNER_DEPTH = 6.8, 7.8
# Fractions of the way from the lash edge to the orbit at which lid skin has a ring, and what is
# added there to the upper lid in y and z (the crease and the fold over it) and to the lower in z.
LID_SKIN_STEPS = (0.0, 0.08, 0.17, 0.25, 0.31, 0.42, 0.58, 0.78, 1.0)
UPPER_LID_RISE = (0.0, 0.0, 0.1, 0.2, -0.55, -0.35, 0.0, 0.0, 0.0)
UPPER_LID_FORWARD = (0.0, 0.15, 0.0, -0.9, 0.65, 0.9, 0.4, 0.0, 0.0)
LOWER_LID_FORWARD = (0.0, 0.35, 0.35, 0.1, -0.1, -0.3, -0.3, 0.0, 0.0)

MOUTH_HALF_WIDTH = 25.4
# x, upper border of the red, seam between the lips, lower border of the red.
LIP_CURVES = np.array(
  [
    [0.0, -59.2, -67.0, -77.0],
    [3.0, -58.5, -66.8, -77.0],
    [5.8, -58.1, -66.6, -76.8],
    [9.0, -58.7, -66.5, -76.4],
    [14.0, -60.6, -66.7, -75.0],
    [19.0, -63.3, -67.5, -72.7],
    [23.0, -66.0, -68.05, -70.2],
    [25.4, -68.0, -68.2, -68.4],
  ]
)
# Fractions from the seam to the border of the red, and how far each bulges past the corner.
LIP_STEPS = ((0.14, 0.0), (0.42, 0.1), (0.72, 0.25), (1.0, 0.6), (1.22, 1.2))
LIP_OUTER_OFFSETS = (2.6, 5.4, 8.4)
# Half the gap between closed lips: less and rounding makes them cut each other.
CONTACT_GAP = 0.06


def lid_angles() -> Float[np.ndarray, ' n']:
  """Angle of each point of a lid ring: 0 lateral corner, π/2 upper lid, π medial corner."""
  return np.arange(EYE_POINTS) / EYE_POINTS * 2 * np.pi


def _lid_outlines() -> tuple[Float[np.ndarray, 'n 2'], Float[np.ndarray, 'n 2']]:
  """(x, y) of the lid margin and of the outermost lid ring."""
  angle = lid_angles()
  c, s = np.cos(angle), np.sin(angle)
  half = np.where(c > 0, EYE_OUTER_WIDTH, EYE_INNER_WIDTH)
  # Higher powers make sharper corners; the inner one runs out into the narrow lacrimal lake.
  body = np.abs(s) ** np.where(c > 0, 1.45, 1.65)
  upper = UPPER_LID_HEIGHT * body * (1 - 0.07 * c)
  lower = -LOWER_LID_HEIGHT * body * (1 + 0.14 * c)
  y = np.where(s >= 0, upper, lower) + CANTHAL_TILT * half * c
  margin = EYE_CENTER[:2] + np.stack([half * c, y - 0.2], axis=1)
  outer = EYE_CENTER[:2] + np.stack(
    [0.8 + np.where(c > 0, 23.0, 19.5) * c, np.where(s >= 0, 17.5, 16.5) * s + 0.5 + 1.2 * c],
    axis=1,
  )
  return margin, outer


def _ball_depth(xy: Float[np.ndarray, 'n 2'], radius: Number) -> Float[np.ndarray, ' n']:
  """z of a sphere around the eyeball's centre; beyond its outline it falls off steeply."""
  squared = ((xy - EYE_CENTER[:2]) ** 2).sum(1)
  inside = np.sqrt(np.maximum(radius * radius - squared, 0.0))
  return EYE_CENTER[2] + inside - np.maximum(np.sqrt(squared) - radius, 0.0)


def _lid_lining(margin: Float[np.ndarray, 'n 2']) -> list[Ring]:
  """The three inner rings: tucked end, conjunctiva, wet edge of the margin.

  Along the lids the lining turns outwards and vanishes between lid and eyeball. In the corners it
  turns inwards and fills the gap to the eyeball (caruncle).
  """
  c = np.cos(lid_angles())
  outer_side = c > 0
  corner = smoothstep(np.abs(c), 0.80, 0.96)
  depth = EYE_CENTER[2] + np.where(outer_side, OUTER_CORNER_DEPTH, INNER_CORNER_DEPTH)
  edge_depth = _soft_maximum(_ball_depth(margin, EYE_RADIUS + 0.5), depth, 1.5)
  edge = np.column_stack([margin, edge_depth])
  center = EYE_CENTER[:2]
  outward = (margin - center) / np.linalg.norm(margin - center, axis=1, keepdims=True)

  def ring(
    tuck: Number, clearance: Number, inwards: np.ndarray, squeeze: Number, forward: np.ndarray
  ) -> Ring:
    under = margin + tuck * outward
    under = np.column_stack([under, _ball_depth(under, EYE_RADIUS + clearance)])
    middle = center + CANTHAL_TILT * (margin[:, :1] - center[0]) * [0, 1]
    xy = np.column_stack(
      [
        margin[:, 0] - np.sign(c) * inwards,
        middle[:, 1] + (margin[:, 1] - middle[:, 1]) * squeeze,
      ]
    )
    on_ball = _ball_depth(xy, EYE_RADIUS + clearance)
    filled = np.column_stack([xy, np.maximum(depth + forward, on_ball)])
    blended = under + corner[:, None] * (filled - under) - EYE_CENTER
    radius = np.linalg.norm(blended, axis=1, keepdims=True)
    return EYE_CENTER + blended * np.maximum((EYE_RADIUS + clearance) / radius, 1.0)

  conjunctiva = ring(
    0.9, 0.65, np.where(outer_side, 1.3, 2.4), 0.75, np.where(outer_side, 0.2, 0.9)
  )
  tucked = ring(2.4, 0.65, np.where(outer_side, 3.2, 4.8), 0.8, np.where(outer_side, -0.6, -1.0))
  return [tucked, conjunctiva, edge]


def _soft_maximum(a: np.ndarray, b: np.ndarray, radius: Number) -> np.ndarray:
  overlap = np.maximum(radius - np.abs(a - b), 0.0) / radius
  return np.maximum(a, b) + overlap * overlap * radius * 0.25


def lid_rings() -> list[Ring]:
  """Twelve closed rings from under the lids to the orbit: lining, two edges, lid, crease, orbit."""
  margin, outer = _lid_outlines()
  angle = lid_angles()
  outward = margin - EYE_CENTER[:2]
  outward /= np.linalg.norm(outward, axis=1, keepdims=True)
  rings = _lid_lining(margin)
  middle = np.abs(np.sin(angle))
  # The margin is a band as wide as the lid is thick; it narrows towards the corners.
  lash = np.column_stack([margin + 0.35 * outward, rings[-1][:, 2] + 0.55 + 0.65 * middle])
  upper = np.maximum(np.sin(angle), 0.0) ** 0.6
  lower = np.maximum(-np.sin(angle), 0.0) ** 0.6
  for k, step in enumerate(LID_SKIN_STEPS):
    xy = lash[:, :2] + step * (outer - lash[:, :2])
    cover = _ball_depth(xy, EYE_RADIUS + 1.5 + 2.0 * step)
    skin = _soft_maximum(front_depth(xy[:, 0], xy[:, 1]), cover, 5.0)
    leave = smoothstep(np.full(len(xy), step), -0.05, 0.25)
    at_edge = lash[:, 2] + cover - _ball_depth(lash[:, :2], EYE_RADIUS + 1.5)
    z = at_edge + leave * (skin - at_edge)
    z = z + UPPER_LID_FORWARD[k] * upper + LOWER_LID_FORWARD[k] * lower
    rings.append(np.column_stack([xy[:, 0], xy[:, 1] + UPPER_LID_RISE[k] * upper, z]))
  return rings


def lip_sides() -> Float[np.ndarray, ' n']:
  """+1 on the upper half of a mouth ring, 0 at the corner, −1 below."""
  return np.concatenate([np.ones(LIP_POINTS - 1), [0], -np.ones(LIP_POINTS - 1)])


def lip_fractions() -> Float[np.ndarray, ' n']:
  """0 at the midline, 1 at the corner, along a half ring from top to bottom."""
  along = np.linspace(0, 1, LIP_POINTS)
  half = 0.65 * np.sin(along * np.pi / 2) + 0.35 * along  # denser towards the corner
  return np.concatenate([half, half[-2::-1]])


def _mouth_bag() -> list[Ring]:
  """Inside of the cheeks from the throat to behind the teeth."""
  ramp = np.linspace(1, 0, LIP_POINTS)
  angle = np.arctan2(
    np.concatenate([ramp, -ramp[-2::-1]]), np.concatenate([1 - ramp, 1 - ramp[-2::-1]]) + 1e-9
  )
  c, s = np.cos(angle), np.sin(angle)
  # Squarish sections clear the dental arches.
  c, s = np.abs(c) ** 0.55, np.sign(s) * np.abs(s) ** 0.55
  c[0] = c[-1] = 0.0

  def arc(x: np.ndarray, front: np.ndarray, width: Number, back: Number) -> np.ndarray:
    return back + (front - back) * np.sqrt(np.maximum(1 - (x / width) ** 2, 0.0))

  return [
    np.stack([10 * c, -69.8 + 5 * s, np.full(len(c), 42.0)], 1),
    np.stack([27 * c, -70.2 + 14 * s, np.full(len(c), 46.0)], 1),
    np.stack([31.0 * c, -68.2 + 18.0 * s, 64 - 4 * c], 1),
    np.stack([27.2 * c, -67.8 + 16.0 * s, arc(27.2 * c, 90.2 + 1.4 * lip_sides(), 37, 62)], 1),
    np.stack([26.8 * c, -68 + 10.5 * s, arc(26.8 * c, 92.2 + 1.2 * lip_sides(), 36, 64)], 1),
  ]


def _smoothed(values: np.ndarray) -> np.ndarray:
  """Three passes of a five-point mean that leave three values at each end."""
  out = values.copy()
  for _ in range(3):
    mean = np.convolve(out, np.ones(5) / 5, 'valid')
    out[3:-3] = mean[1:-1]
  return out


def mouth_rings() -> list[Ring]:
  """Sixteen half rings, throat to outer lip: bag, inner lips, contact, seam, red, skin.

  Each runs from the upper midline over the corner to the lower midline: 2 · LIP_POINTS − 1 points.
  """
  from scipy.interpolate import PchipInterpolator

  fraction, side = lip_fractions(), lip_sides()
  x = MOUTH_HALF_WIDTH * fraction
  upper, seam, lower = (PchipInterpolator(LIP_CURVES[:, 0], LIP_CURVES[:, k])(x) for k in (1, 2, 3))
  border = np.select([side > 0, side < 0], [upper, lower], seam)
  front = front_depth(x, seam + 1.6 * side)
  # Both lips meet on one surface; the corner itself lies in the seam's groove.
  front[LIP_POINTS - 1] = front[LIP_POINTS - 2 : LIP_POINTS + 1 : 2].mean()
  front = 0.5 * (front + front[::-1])
  muzzle = 64 + 31.6 * np.sqrt(np.maximum(1 - (x / 36) ** 2, 0.0))
  rings = _mouth_bag()
  rings.append(
    np.stack(
      [
        x + 1.2 * fraction**4,
        seam + side * (2.6 * (1 - fraction**4) + CONTACT_GAP),
        np.minimum(front - 5.4, muzzle),
      ],
      axis=1,
    )
  )
  contact_depth = front - 3.6 * (1 - 0.45 * fraction**2)
  rings.append(np.stack([x + 0.6 * fraction**4, seam + CONTACT_GAP * side, contact_depth], 1))
  rings.append(np.stack([x + 0.2 * fraction**4, seam + CONTACT_GAP * side, front - 1.7], 1))
  red = []
  for step, bulge in LIP_STEPS:
    ring_x = x + bulge * fraction**3
    y = seam + CONTACT_GAP * side * (1 - step) + step * (border - seam)
    red.append(np.stack([ring_x, y, front_depth(ring_x, y)], 1))
  # The roll into the seam must not dive under the contact surface.
  red[0][:, 2] = np.maximum(red[0][:, 2], 0.45 * rings[-1][:, 2] + 0.55 * red[1][:, 2])
  rings += red
  tangent = np.stack([np.gradient(x), np.gradient(border)], 1)
  normal = np.stack([-tangent[:, 1], tangent[:, 0]], 1)
  normal /= np.linalg.norm(normal, axis=1, keepdims=True)
  normal[LIP_POINTS - 1], normal[0], normal[-1] = [1, 0], [0, 1], [0, -1]
  for offset in LIP_OUTER_OFFSETS:
    ring_x = np.maximum(x + 1.2 * fraction**3 + offset * normal[:, 0], 0)
    ring_x[0] = ring_x[-1] = 0
    ring_x = _smoothed(ring_x)
    y = _smoothed(border + 0.22 * (border - seam) + offset * normal[:, 1])
    rings.append(np.stack([ring_x, y, front_depth(ring_x, y)], 1))
  for ring in rings:
    ring[0, 0] = ring[-1, 0] = 0.0
  return rings


def nostril_rings() -> list[Ring]:
  """Five closed rings, from the floor of the pit to the skin around the nostril."""
  angle = np.arange(NOSTRIL_POINTS) / NOSTRIL_POINTS * 2 * np.pi
  center = np.array([7.0, -43.5, 103.6])
  back = np.array([0.38, -0.25, -0.88])
  back /= np.linalg.norm(back)
  side = np.array([0.86, 0.10, 0.50])
  side -= (side @ back) * back
  side /= np.linalg.norm(side)
  ellipse = 4.0 * np.cos(angle)[:, None] * back + 2.4 * np.sin(angle)[:, None] * side
  skin = [project(center + scale * ellipse, 14) for scale in (1.0, 1.28)]
  middle = skin[0].mean(0)
  up = np.array([0.02, 1.0, -0.42])
  pit = [
    middle + (skin[0] - middle) * k + up * h for k, h in ((0.42, 7.5), (0.75, 5.0), (0.92, 1.6))
  ]
  return pit + skin
