"""The UV atlas: a chart for face and mouth, one for the back of the head, small ones (builder).

Layout in texels of a 256² map: the front of the skin on the left, up to the coronal curve behind
the ears; to the right of it a column with eyeballs, tongue, ears, teeth and the back of the head.
Charts keep `GUTTER` texels from each other and half of that from the rim.
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
# UV coordinates are multiples of this, so that they survive any number format exactly.
UV_QUANTUM = 1.0 / 65536.0

# Place of each chart: x, y, width, height in texels; gutters are taken off all around. Numbers are
# components.
Box = tuple[float, float, float, float]
FRONT_BOX: Box = (0.0, 0.0, 196.0, 256.0)
BACK_BOX: Box = (196.0, 0.0, 60.0, 132.0)
LEFT_EAR_BOX: Box = (226.0, 160.0, 30.0, 48.0)
RIGHT_EAR_BOX: Box = (226.0, 208.0, 30.0, 48.0)
PART_BOXES: dict[int, Box] = {
  1: (196.0, 223.0, 30.0, 33.0),
  2: (196.0, 190.0, 30.0, 33.0),
  5: (196.0, 160.0, 30.0, 30.0),
  3: (196.0, 146.0, 60.0, 14.0),
  4: (196.0, 132.0, 60.0, 14.0),
}

# The upper corners of the two skin charts are the vertices of the coronal curve at these heights.
FRONT_CORNER_Y, BACK_CORNER_Y = 40.0, 75.0
# Vertices of the ear's attachment ring that become the corners of its chart.
EAR_CORNERS = (5, 15, 25, 35)
# Density given to the closed holes of eyes and ears, which nothing shows.
HOLE_DENSITY = 0.2


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
  front = smoothstep(z - 0.1 * x, -25, 35) * smoothstep(y, -128, -104) * (1 - smoothstep(y, 62, 92))
  side = smoothstep(z, -30, 30) * smoothstep(y, -150, -100)
  density = 0.16 + 0.04 * side + 0.80 * front

  def near(center: Vector, radii: Vector) -> np.ndarray:
    offset = (np.stack([x, y, z], axis=1) - center) / radii
    return np.exp(-(offset**2).sum(1))

  density = density + 0.35 * near((31.5, 0, 76), (24, 14, 20))
  density = density + 0.30 * near((0, -67, 97), (32, 15, 25))
  density = density + 0.10 * near((0, -35, 100), (22, 22, 25))
  ring = labels.mouth_ring
  inside = np.interp(ring, [0, 1, 2, 4, 5, 6], [0.9, 0.6, 0.3, 0.26, 0.45, 1.0])
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
  mesh: BuiltMesh, back: bool, size: tuple[float, float]
) -> tuple[np.ndarray, Float[np.ndarray, 'n 2']]:
  """Vertex ids of the left half of the front or back skin without ears, and their places.

  The midline is the line u = 0, the collar lies along the bottom. Seen from outside, the left half
  is on the right in front (u > 0) and on the left behind (u < 0).
  """
  labels, p = mesh.semantics, mesh.positions
  left = (p[mesh.faces][:, :, 0] > -1e-6).all(1) & labels.skin[mesh.faces].all(1)
  ear = (labels.ear_ring[mesh.faces] >= 0).all(1)
  ids, flat = np.unique(mesh.faces[left & ~ear & (mesh.back == back)], return_inverse=True)
  faces = flat.reshape(-1, 3)
  positions, density = p[ids], texel_density(mesh)[ids]
  loops = _boundary_loops(faces)
  local = {int(v): k for k, v in enumerate(ids)}
  cut = [local[int(v)] for v in mesh.cut]
  crown, low = cut[0], cut[-1]
  corner = min(
    cut, key=lambda i: abs(positions[i, 1] - (BACK_CORNER_Y if back else FRONT_CORNER_Y))
  )
  on_collar = labels.collar[ids] & (np.abs(positions[:, 0]) < 1e-6)
  middle = int(np.flatnonzero(on_collar)[0])
  corners = [low, middle, crown, corner] if back else [middle, low, corner, crown]
  filled, positions = _fill_holes(faces, positions, loops[1:])
  density = np.concatenate([density, np.full(len(positions) - len(ids), HOLE_DENSITY)])
  scale = density[filled].mean(1)
  scale = np.where((filled >= len(ids)).any(1), HOLE_DENSITY, scale)
  scale = scale * np.sqrt(size[0] * size[1] / (_areas(positions[filled]) * scale**2).sum())
  border = _outline(_split_loop(loops[0], corners), positions, density, size)
  uv = flatten(Patch(positions, filled, scale, *border))[: len(ids)]
  return ids, uv - [size[0], 0] if back else uv


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
  density = np.interp(labels.ear_ring[ids], [0, 2, 4, 6, 14], [0.5, 0.5, 0.9, 1.2, 1.2])
  scale = density[faces].mean(1)
  scale = scale * np.sqrt(width * height / (_areas(p[ids][faces]) * scale**2).sum())
  border = _outline(_split_loop(loop, corners), p[ids], np.ones(len(ids)), (width, height))
  return ids, flatten(Patch(p[ids], faces, scale, *border))


def build_atlas(mesh: BuiltMesh) -> Atlas:
  """UV coordinates of the whole head."""
  labels = mesh.semantics
  packer = _Packer(mesh)
  left = (mesh.positions[mesh.faces][:, :, 0] > -1e-6).all(1)
  ear = (labels.ear_ring[mesh.faces] >= 0).all(1)
  skin = labels.skin[mesh.faces].all(1) & ~ear
  for back, box in ((False, FRONT_BOX), (True, BACK_BOX)):
    corner, size = _inner(box)
    middle = corner + np.array([size[0] / 2, 0])
    ids, uv = _skin_chart(mesh, back, (float(size[0] / 2), float(size[1])))
    faces = skin & (mesh.back == back)
    packer.add(faces & left, ids, middle + uv)
    mirrored = middle + uv * [-1, 1]
    packer.add(faces & ~left, labels.pair[ids], mirrored, shared=uv[:, 0] == 0)
  for component, box in PART_BOXES.items():
    corner, size = _inner(box)
    ids = mesh.vertices_of(component)
    packer.add(np.isin(mesh.faces[:, 0], ids), ids, corner + mesh.part_uv[component] * size)
  corner, size = _inner(LEFT_EAR_BOX)
  ids, uv = _ear_chart(mesh, float(size[1]), float(size[0]))
  upright = np.stack([size[0] - uv[:, 1], uv[:, 0]], axis=1)
  packer.add(ear & left, ids, corner + upright)
  mirrored = _inner(RIGHT_EAR_BOX)[0] + upright * [-1, 1] + [size[0], 0]
  packer.add(ear & ~left, labels.pair[ids], mirrored)
  return packer.atlas()


def _inner(box: Box) -> tuple[np.ndarray, np.ndarray]:
  """Lower left corner and size of a box without its gutters."""
  return np.array(box[:2]) + GUTTER / 2, np.array(box[2:]) - GUTTER


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
