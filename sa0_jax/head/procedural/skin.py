"""The skin mesh: rings and filler of the left half, mirrored and welded (builder only, mm)."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int

from sa0_jax.head.procedural import rings
from sa0_jax.head.procedural.anatomy import MIRROR
from sa0_jax.head.procedural.ear import ear_rings
from sa0_jax.head.procedural.filler import (
  BACK_CENTER,
  FRONT_CENTER,
  fill_region,
  flip_edges,
  relax,
  resample,
  strip,
)
from sa0_jax.head.procedural.sdf import along_rays

SEED = 7
# The front and back charts meet in this coronal plane; the neck ends at this height.
CUT_Z = -42.0
COLLAR_Y = -204.0
COLLAR_CENTER = np.array([0.0, COLLAR_Y, -40.0])


@dataclasses.dataclass(frozen=True, eq=False)
class SkinMesh:
  """A skin with its structure; lists of rings hold vertex ids of the left half.

  Attributes:
    positions: [v, 3] millimetres.
    faces: [f, 3] counter-clockwise outside.
    pair: [v] the vertex on the other side (itself on the midline).
    lids: closed rings from under the lids outwards.
    mouth: half rings, upper midline → corner → lower midline, from the throat outwards.
    nostril: closed rings from the pit outwards; the pit's centre follows alone as the last list.
    ear: closed rings from the attachment to the concha; its centre follows as the last list.
    collar: [v] whether a vertex is on the border of the neck.
    cut: left vertices of the coronal curve behind the ears, from the crown down to the collar.
    back: [f] whether a face lies behind that curve.
  """

  positions: Float[np.ndarray, 'v 3']
  faces: Int[np.ndarray, 'f 3']
  pair: Int[np.ndarray, ' v']
  lids: list[Int[np.ndarray, ' _']]
  mouth: list[Int[np.ndarray, ' _']]
  nostril: list[Int[np.ndarray, ' _']]
  ear: list[Int[np.ndarray, ' _']]
  collar: Bool[np.ndarray, ' v']
  cut: Int[np.ndarray, ' _']
  back: Bool[np.ndarray, ' f']


class _HalfSkin:
  """Vertices and triangles of the left half while they are being collected."""

  def __init__(self) -> None:
    self.points: list[np.ndarray] = []
    self.triangles: list[tuple[int, int, int]] = []

  def add(self, points: np.ndarray | list[np.ndarray]) -> list[int]:
    """Appends vertices and returns their ids."""
    start = len(self.points)
    self.points += [np.asarray(p, np.float64) for p in points]
    return list(range(start, len(self.points)))

  def close(self, ring: list[int], offset: np.ndarray, outward: bool) -> int:
    """Closes a ring with a fan around its middle, moved by `offset`."""
    center = self.add([np.mean([self.points[i] for i in ring], axis=0) + offset])[0]
    following = ring[1:] + ring[:1]
    pairs = zip(ring, following, strict=True) if outward else zip(following, ring, strict=True)
    self.triangles += [(center, a, b) for a, b in pairs]
    return center


def _reverse(triangles: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
  return [(c, b, a) for a, b, c in triangles]


def _add_rings(half: _HalfSkin) -> dict[str, list[list[int]]]:
  lids = [half.add(ring) for ring in rings.lid_rings()]
  half.triangles += _reverse(strip(lids, closed=True))
  mouth = [half.add(ring) for ring in rings.mouth_rings()]
  half.triangles += strip(mouth, closed=False)
  throat = mouth[0]
  for i in range(rings.LIP_POINTS - 1):
    a, b, c, d = throat[i], throat[i + 1], throat[-2 - i], throat[-1 - i]
    half.triangles += [t for t in ((c, b, a), (d, c, a)) if len(set(t)) == 3]
  nostril = [half.add(ring) for ring in rings.nostril_rings()]
  half.triangles += _reverse(strip(nostril, closed=True))
  nostril.append([half.close(nostril[0], np.array([0, 0.8, 0]), outward=True)])
  ear = [half.add(ring) for ring in ear_rings()]
  half.triangles += _reverse(strip(ear, closed=True))
  ear.append([half.close(ear[-1], np.array([-2.0, 0, 0]), outward=False)])
  return {'lids': lids, 'mouth': mouth, 'nostril': nostril, 'ear': ear}


def _elevation(point: np.ndarray, center: np.ndarray, sign: int) -> float:
  return float(np.degrees(np.arctan2(point[1] - center[1], sign * (point[2] - center[2]))))


def _midline(center: np.ndarray, start: float, end: float, sign: int) -> np.ndarray:
  """Profile curve on the skin between two elevations in degrees, resampled."""
  angle = np.radians(np.linspace(start, end, 420))
  rays = np.stack([0 * angle, np.sin(angle), sign * np.cos(angle)], axis=1)
  return resample(along_rays(center, rays)) * [0, 1, 1]


@dataclasses.dataclass(frozen=True)
class _Borders:
  """Ids of the curves that bound the two filled regions."""

  outer_front: list[int]
  outer_back: list[int]
  cut: list[int]
  collar: list[int]


def _add_borders(half: _HalfSkin, lip_ring: list[int]) -> _Borders:
  cut_center = np.array([0, -20.0, CUT_Z])
  crown = along_rays(cut_center, np.array([[0, 1.0, 0]]))[0]
  ends = along_rays(COLLAR_CENTER, np.array([[0, 0, 1.0], [0, 0, -1.0]]))
  lip_top, lip_bottom = half.points[lip_ring[0]], half.points[lip_ring[-1]]

  def front(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return _midline(FRONT_CENTER, _elevation(a, FRONT_CENTER, 1), _elevation(b, FRONT_CENTER, 1), 1)

  above_lip, below_lip = front(crown, lip_top), front(lip_bottom, ends[0])
  behind = _midline(
    BACK_CENTER, _elevation(crown, BACK_CENTER, -1), _elevation(ends[1], BACK_CENTER, -1), -1
  )
  turn = np.radians(np.linspace(0, 180, 300))
  collar = along_rays(COLLAR_CENTER, np.stack([np.sin(turn), 0 * turn, np.cos(turn)], axis=1))
  at_cut = int(np.argmin(np.abs(collar[:, 2] - CUT_Z)))
  collar_front, collar_back = resample(collar[: at_cut + 1]), resample(collar[at_cut:])
  lowest = np.arctan2(collar[at_cut][1] - cut_center[1], collar[at_cut][0])
  rise = np.linspace(lowest, np.pi / 2, 300)
  cut = resample(along_rays(cut_center, np.stack([np.cos(rise), np.sin(rise), 0 * rise], axis=1)))
  collar_back[-1, 0] = 0.0

  top, bottom = half.add(above_lip[:-1]), half.add(below_lip[1:])
  front_ids, cut_ids = half.add(collar_front[1:]), half.add(cut[1:-1])
  back_ids, spine = half.add(collar_back[1:]), half.add(behind[1:-1])
  return _Borders(
    outer_front=top + lip_ring + bottom + front_ids + cut_ids,
    outer_back=[top[0], *spine, *back_ids[::-1], front_ids[-1], *cut_ids],
    cut=[top[0], *cut_ids[::-1], front_ids[-1]],
    collar=[bottom[-1], *front_ids, *back_ids],
  )


def _ring_edges(loop: list[int], closed: bool) -> set[tuple[int, int]]:
  following = loop[1:] + loop[:1] if closed else loop[1:]
  return {(min(a, b), max(a, b)) for a, b in zip(loop, following, strict=False)}


def build_skin() -> SkinMesh:
  """Builds the average skin; the same mesh on every call on one machine."""
  rng = np.random.default_rng(SEED)
  half = _HalfSkin()
  parts = _add_rings(half)
  ear_border = parts['ear'][0]
  borders = _add_borders(half, parts['mouth'][-1])
  pinned = len(half.points)
  holes = [parts['lids'][-1], parts['nostril'][-2], ear_border]
  filler: list[np.ndarray] = []
  for loops, center, sign in (
    ([borders.outer_front, *holes], FRONT_CENTER, 1),
    ([borders.outer_back], BACK_CENTER, -1),
  ):
    points, triangles = fill_region(np.array(half.points), loops, center, sign, rng)
    half.add(points)
    filler.append(triangles)
  positions = np.array(half.points)
  fixed = np.arange(len(positions)) < pinned
  frozen = _ring_edges(borders.cut, closed=False)
  for hole in holes:
    frozen |= _ring_edges(hole, closed=True)
  triangles = np.concatenate(filler)
  for _ in range(3):
    positions = relax(positions, triangles, fixed, 6)
    triangles = flip_edges(positions, triangles, frozen)
  positions = relax(positions, triangles, fixed, 6)
  faces = np.concatenate([np.array(half.triangles), triangles])
  collar = np.zeros(len(positions), bool)
  collar[borders.collar] = True
  # Flips never cross the frozen cut, so each region keeps its rows.
  back = np.arange(len(faces)) >= len(faces) - len(filler[1])
  named = {name: [np.array(ring) for ring in group] for name, group in parts.items()}
  return _mirrored(
    SkinMesh(
      positions=positions,
      faces=faces,
      pair=np.arange(len(positions)),
      collar=collar,
      cut=np.array(borders.cut),
      back=back,
      **named,
    )
  )


def _mirrored(half: SkinMesh) -> SkinMesh:
  """Adds the right half, sharing the midline's vertices."""
  count = len(half.positions)
  midline = np.abs(half.positions[:, 0]) < 1e-9
  other = np.arange(count)
  other[~midline] = count + np.arange((~midline).sum())
  positions = np.concatenate([half.positions, half.positions[~midline] * MIRROR])
  faces = np.concatenate([half.faces, other[half.faces][:, ::-1]])
  a, b, c = faces.T
  proper = (a != b) & (b != c) & (c != a)
  pair = np.empty(len(positions), np.int64)
  pair[:count], pair[other] = other, np.arange(count)
  return dataclasses.replace(
    half,
    positions=positions,
    faces=faces[proper],
    pair=pair,
    collar=np.concatenate([half.collar, half.collar[~midline]]),
    back=np.tile(half.back, 2)[proper],
  )
