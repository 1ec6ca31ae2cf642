"""The UV atlas: one chart for skin and mouth, cut at the back, and small charts above (builder).

Layout in texels of a 256² map: skin across the full width, and over it a strip with eyeballs,
tongue, teeth and ears. Charts keep `GUTTER` texels from each other and half of that from the rim.
"""

import dataclasses
import itertools

import numpy as np
from jaxtyping import Float, Int

from sa0_jax.head.procedural.anatomy import Number, Vector, smoothstep
from sa0_jax.head.procedural.flatten import Patch, flatten
from sa0_jax.head.procedural.mesh import BuiltMesh

SIDE = 256.0
GUTTER = 2.0
STRIP_HEIGHT = 31.0
# UV coordinates are multiples of this, so that they survive any number format exactly.
UV_QUANTUM = 1.0 / 65536.0

# The cut up the back of the skin ends over the crown at this z; the chart's upper corners are the
# cut's vertices at this height.
CUT_END_Z, CORNER_HEIGHT = -42.0, 0.0
# Vertices of the ear's attachment ring that become the corners of its chart.
EAR_CORNERS = (4, 11, 19, 26)
# Density given to the closed holes of eyes and ears, which nothing shows.
HOLE_DENSITY = 0.2

# Charts of the strip: component (or 'left_ear', 'right_ear'), x, y, width, height in texels,
# counted from the strip's lower left corner; gutters are taken off all around.
STRIP_BOXES: dict[str | int, tuple[float, float, float, float]] = {
  1: (0.0, 0.0, 33.0, 31.0),
  2: (33.0, 0.0, 33.0, 31.0),
  5: (66.0, 0.0, 24.0, 31.0),
  3: (90.0, 15.5, 70.0, 15.5),
  4: (90.0, 0.0, 70.0, 15.5),
  'left_ear': (160.0, 0.0, 48.0, 31.0),
  'right_ear': (208.0, 0.0, 48.0, 31.0),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Atlas:
  """UV coordinates.

  Attributes:
    vt: [t, 2] float64 multiples of `UV_QUANTUM` in (0, 1), v up.
    ft: [f, 3] rows of vt for each corner of each face.
  """

  vt: Float[np.ndarray, 't 2']
  ft: Int[np.ndarray, 'f 3']


def texel_density(mesh: BuiltMesh) -> Float[np.ndarray, ' v']:
  """Relative number of texels each vertex's surroundings get, per length."""
  labels, p = mesh.semantics, mesh.positions
  x, y, z = np.abs(p[:, 0]), p[:, 1], p[:, 2]
  front = smoothstep(z - 0.25 * x, 0, 42) * smoothstep(y, -128, -104) * (1 - smoothstep(y, 62, 92))
  side = smoothstep(z, -30, 30) * smoothstep(y, -150, -100)
  density = 0.17 + 0.06 * side + 0.77 * front

  def near(center: Vector, radii: Vector) -> np.ndarray:
    offset = (np.stack([x, y, z], axis=1) - center) / radii
    return np.exp(-(offset**2).sum(1))

  density = density + 0.35 * near((31.5, 0, 76), (24, 14, 20))
  density = density + 0.30 * near((0, -67, 97), (32, 15, 25))
  density = density + 0.10 * near((0, -35, 100), (22, 22, 25))
  ring = labels.mouth_ring
  inside = np.select([ring <= 3, ring == 4, ring == 5], [0.22, 0.25, 0.45], 1.0)
  density = density * np.where(ring >= 0, inside, 1.0)
  lid = labels.lid_ring
  lining = np.select([lid == 0, lid == 1], [0.5, 0.7], 1.0)
  density = density * np.where(lid >= 0, lining, 1.0)
  pit = np.select([labels.nostril_ring == 0, labels.nostril_ring == 1], [0.35, 0.5], 1.0)
  return density * np.where(labels.nostril_ring >= 0, pit, 1.0)


def _boundary_loops(faces: Int[np.ndarray, 'f 3']) -> list[list[int]]:
  """Loops of directed boundary edges, longest first."""
  edges = {(int(a), int(b)) for t in faces for a, b in zip(t, np.roll(t, -1), strict=True)}
  following = {a: b for a, b in edges if (b, a) not in edges}
  loops = []
  while following:
    start, at = following.popitem()
    loop = [start]
    while at != start:
      loop.append(at)
      at = following.pop(at)
    loops.append(loop)
  return sorted(loops, key=len, reverse=True)


def _fill_holes(
  faces: np.ndarray, positions: np.ndarray, holes: list[list[int]]
) -> tuple[np.ndarray, np.ndarray]:
  """Adds one vertex in the middle of each hole and a fan around it."""
  fans = []
  for hole in holes:
    center = len(positions)
    positions = np.concatenate([positions, positions[hole].mean(0)[None]])
    fans += [(b, a, center) for a, b in zip(hole, hole[1:] + hole[:1], strict=True)]
  return np.concatenate([faces, np.array(fans, int).reshape(-1, 3)]), positions


def _split_loop(loop: list[int], corners: list[int]) -> list[list[int]]:
  """Sides of a loop between successive corners, both ends included."""
  turn = loop.index(corners[0])
  ordered = loop[turn:] + loop[:turn] + [corners[0]]
  at = [ordered.index(c) for c in corners] + [len(ordered) - 1]
  return [ordered[a : b + 1] for a, b in itertools.pairwise(at)]


def _spread(side: list[int], weight: np.ndarray, positions: np.ndarray) -> np.ndarray:
  """Fractions 0..1 along a side in proportion to weighted length."""
  points, w = positions[side], weight[side]
  steps = np.linalg.norm(np.diff(points, axis=0), axis=1) * 0.5 * (w[1:] + w[:-1])
  along = np.concatenate([[0], np.cumsum(steps)])
  return along / along[-1]


def _skin_chart(
  mesh: BuiltMesh, width: Number, height: Number
) -> tuple[np.ndarray, Float[np.ndarray, 'n 2']]:
  """Vertex ids of the left half of the skin without ears, and their places.

  The midline is the line u = 0; collar along the bottom, the cut along the back on the right and
  top sides.
  """
  labels, p = mesh.semantics, mesh.positions
  left = (p[mesh.faces][:, :, 0] > -1e-6).all(1) & labels.skin[mesh.faces].all(1)
  ear = (labels.ear_ring[mesh.faces] >= 0).all(1)
  ids, flat = np.unique(mesh.faces[left & ~ear], return_inverse=True)
  faces = flat.reshape(-1, 3)
  positions, density = p[ids], texel_density(mesh)[ids]
  loops = _boundary_loops(faces)
  outline, holes = loops[0], loops[1:]
  midline = np.abs(positions[:, 0]) < 1e-6
  collar = labels.collar[ids] & midline
  chest = int(np.flatnonzero(collar & (positions[:, 2] > -40))[0])
  nape = int(np.flatnonzero(collar & (positions[:, 2] <= -40))[0])
  on_top = [i for i in outline if midline[i] and positions[i, 1] > 40]
  tip = min(on_top, key=lambda i: abs(positions[i, 2] - CUT_END_Z))
  behind = [i for i in outline if midline[i] and positions[i, 2] < -45]
  corner = min(behind, key=lambda i: abs(positions[i, 1] - CORNER_HEIGHT))
  sides = _split_loop(outline, [chest, nape, corner, tip])
  filled, positions = _fill_holes(faces, positions, holes)
  density = np.concatenate([density, np.full(len(holes), HOLE_DENSITY)])
  scale = density[filled].mean(1)
  scale = np.where((filled >= len(ids)).any(1), HOLE_DENSITY, scale)
  scale = scale * np.sqrt(width * height / (_areas(positions[filled]) * scale**2).sum())
  patch = Patch(positions, filled, scale, *_outline(sides, positions, density, (width, height)))
  return ids, flatten(patch)[: len(ids)]


def _areas(corners: Float[np.ndarray, 'f 3 3']) -> Float[np.ndarray, ' f']:
  cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
  return 0.5 * np.linalg.norm(cross, axis=1)


def _outline(
  sides: list[list[int]], positions: np.ndarray, density: np.ndarray, size: tuple[Number, Number]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Border vertices, places and free coordinates of a rectangle's bottom, right, top, left."""
  width, height = size
  corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
  border: list[int] = []
  places, slides = [], []
  for k, side in enumerate(sides):
    t = _spread(side, density, positions)[:-1, None]
    places.append((1 - t) * corners[k] + t * corners[(k + 1) % 4])
    slides += [(False, False)] + [(k % 2 == 0, k % 2 == 1)] * (len(side) - 2)
    border += side[:-1]
  return np.array(border), np.concatenate(places), np.array(slides)


def _ear_chart(
  mesh: BuiltMesh, width: Number, height: Number
) -> tuple[np.ndarray, Float[np.ndarray, 'n 2']]:
  """Vertex ids of the left ear and their places; the ear's height runs along u."""
  labels, p = mesh.semantics, mesh.positions
  left = (p[mesh.faces][:, :, 0] > 0).all(1) & (labels.ear_ring[mesh.faces] >= 0).all(1)
  ids, flat = np.unique(mesh.faces[left], return_inverse=True)
  faces = flat.reshape(-1, 3)
  loop = _boundary_loops(faces)[0]
  local = {int(v): k for k, v in enumerate(ids)}
  attachment = [local[int(v)] for v in labels.ear_loops[0, 0]]
  corners = [attachment[k] for k in EAR_CORNERS]
  if loop[(loop.index(corners[0]) + 1) % len(loop)] != attachment[EAR_CORNERS[0] + 1]:
    corners = corners[::-1]
  density = np.interp(labels.ear_ring[ids], [0, 2, 4, 6, 12], [0.5, 0.5, 0.9, 1.2, 1.2])
  scale = density[faces].mean(1)
  scale = scale * np.sqrt(width * height / (_areas(p[ids][faces]) * scale**2).sum())
  border = _outline(_split_loop(loop, corners), p[ids], np.ones(len(ids)), (width, height))
  return ids, flatten(Patch(p[ids], faces, scale, *border))


def build_atlas(mesh: BuiltMesh) -> Atlas:
  """UV coordinates of the whole head."""
  labels = mesh.semantics
  packer = _Packer(mesh)
  half, height = SIDE / 2 - GUTTER / 2, SIDE - STRIP_HEIGHT - GUTTER
  ids, uv = _skin_chart(mesh, half, height)
  uv = uv + np.array([SIDE / 2, GUTTER / 2])
  left = (mesh.positions[mesh.faces][:, :, 0] > -1e-6).all(1)
  ear = (labels.ear_ring[mesh.faces] >= 0).all(1)
  skin = labels.skin[mesh.faces].all(1) & ~ear
  packer.add(skin & left, ids, uv)
  packer.add(skin & ~left, labels.pair[ids], uv * [-1, 1] + [SIDE, 0], shared=uv[:, 0] == SIDE / 2)
  for key, (x, y, width, box_height) in STRIP_BOXES.items():
    corner = np.array([x, y + SIDE - STRIP_HEIGHT]) + GUTTER / 2
    size = np.array([width, box_height]) - GUTTER
    if isinstance(key, int):
      ids = mesh.vertices_of(key)
      packer.add(np.isin(mesh.faces[:, 0], ids), ids, corner + mesh.part_uv[key] * size)
      continue
    ids, uv = _ear_chart(mesh, *size)
    if key == 'left_ear':
      packer.add(ear & left, ids, corner + uv)
    else:
      packer.add(ear & ~left, labels.pair[ids], corner + uv * [-1, 1] + [size[0], 0])
  return packer.atlas()


class _Packer:
  """Collects the charts' coordinates, in texels, and the faces that use them."""

  def __init__(self, mesh: BuiltMesh) -> None:
    self.faces = mesh.faces
    self.ft = np.full(mesh.faces.shape, -1)
    self.places: list[np.ndarray] = []
    self.by_vertex = np.full(len(mesh.positions), -1)
    self.count = 0

  def add(
    self, faces: np.ndarray, ids: np.ndarray, uv: np.ndarray, shared: np.ndarray | None = None
  ) -> None:
    """Adds a chart of some faces; `shared` vertices keep the place the last chart gave them."""
    fresh = np.ones(len(ids), bool) if shared is None else ~shared
    numbers = np.full(len(self.by_vertex), -1)
    numbers[ids] = self.by_vertex[ids]
    numbers[ids[fresh]] = self.count + np.arange(fresh.sum())
    self.count += int(fresh.sum())
    self.places.append(uv[fresh])
    self.ft[faces] = numbers[self.faces[faces]]
    self.by_vertex = numbers

  def atlas(self) -> Atlas:
    """The finished atlas, on the grid of `UV_QUANTUM`."""
    if self.ft.min() < 0:
      raise RuntimeError(f'{int((self.ft < 0).any(1).sum())} faces are in no chart')
    steps = np.round(np.concatenate(self.places) / SIDE / UV_QUANTUM)
    return Atlas(steps * UV_QUANTUM, self.ft)
