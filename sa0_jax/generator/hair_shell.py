"""How far hair stands off the head in the sources, and Gaussians that start out there.

Ours: the paper leaves it to the network to carry Gaussians from the scalp to the hair, which a
small network does not learn. As in `capture.hair`, where the head's own outline is seen in a
source, the way from there to the border of the matte is the thickness of the hair, and between such
places, and over the back, it is the smoothest field that vanishes on the face. Here that field is a
sum of the mesh's lowest harmonics, so that measuring is a small system of equations: one compiled
function for many people at once, in training as in use.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from sa0_kernels import Camera, pytree

from sa0_jax.avatar.binding import TriangleFrames, triangle_frames
from sa0_jax.avatar.cover import CoverTexels, cover_surface
from sa0_jax.capture import hair
from sa0_jax.generator.decoder import RestGaussians
from sa0_jax.generator.uv_warp import project_points, sample_image
from sa0_jax.geometry.barycentric import interpolate
from sa0_jax.head.model import HeadModel
from sa0_jax.head.uv_layout import UVLayout

_HARMONICS = 128
_NODES = 1200  # places that are measured
_STEP = 0.005  # metres between samples of the matte
_GRAZING = 0.35  # |direction · ray| up to which a place counts as on the outline
_BESIDE_WAY = 0.010  # metres from a place's way out, up to which the scalp tells where it ends
_FORWARD = 0.35  # of the direction of the way out below the mouth: the throat is bare
_CELLS = 48  # of the picture's side, to tell what lies beside the head
_BESIDE = 2.0  # cells by which an outline place must have left the mesh
_HANGS = 0.010  # metres of matte beyond the mesh that are hair, beside the neck
_OUT, _DOWN = 0.015, 0.03  # metres from where a matte ends to where it is of shoulders
_FALLS = 0.4  # of the way inside the outline that such hair does not follow down from ear to neck
_SIDEWAYS = 0.7  # of the upward and backward parts of directions that hair beside the neck lacks
_SIDEWAYS_OVER = 0.02  # metres of height over which it begins to
_BEHIND = 0.5  # of the thickness of hair beside a neck, by which there is more of it behind
_SMOOTH = 0.004  # metres over which the field smooths out what is measured everywhere
_LEAST_ANGLE = 0.05  # of a triangle's corner as far as stiffness goes: slivers are too stiff


@pytree.register
@dataclasses.dataclass(frozen=True)
class HairShell:
  """What measuring needs of a head.

  Attributes:
    template: [v, 3] the neutral mean head, metres.
    faces: [f, 3] its triangles.
    harmonics: [v, r] lowest vibrations of the mesh outside the face; zero on the face.
    stiffness: [r] their eigenvalues.
    behind: [v] how many times their sum thickness is: hair goes on thicker behind a neck than it is
      beside it.
    direction: [v, 3] in which hair stands off, in the frame of one of the vertex's triangles.
    triangle: [v] that triangle.
    corner: [q, 3] vertices of the triangles in which places that are measured lie.
    barycentric: [q, 3] where; the places are spread evenly.
    hanging: [q] places from which no hair grows but before which it hangs: beside the neck.
    below: [q] places below the mouth, where a matte may go on into shoulders.
    area: square metres that each of the places stands for.
    texels: how texels are covered by Gaussians.
  """

  template: Float[Array, 'v 3']
  faces: Int[Array, 'f 3']
  harmonics: Float[Array, 'v r']
  stiffness: Float[Array, ' r']
  behind: Float[Array, ' v']
  direction: Float[Array, 'v 3']
  triangle: Int[Array, ' v']
  corner: Int[Array, 'q 3']
  barycentric: Float[Array, 'q 3']
  hanging: Bool[Array, ' q']
  below: Bool[Array, ' q']
  area: Float[Array, '']
  texels: CoverTexels

  @classmethod
  def from_head(cls, head: HeadModel, layout: UVLayout) -> 'HairShell':
    """Prepares a head; takes about a second."""
    template = np.asarray(head.v_template, np.float64)
    outward = hair.outward(template, head.faces)
    heights = template[hair.face_vertices(head), 1]
    middle = np.median(heights)
    beside_neck = np.clip((middle - template[:, 1]) / _SIDEWAYS_OVER, 0.0, 1.0)
    # A neck is slimmer than the head from which hair hangs straight down behind it. What views show
    # there is met all the same; it is what they do not show that follows.
    behind = 1.0 + _BEHIND * beside_neck * np.sqrt(np.maximum(-outward[:, 2], 0.0))
    outward *= 1.0 - beside_neck[:, None] * [0.0, _SIDEWAYS, _SIDEWAYS]
    outward /= np.maximum(np.linalg.norm(outward, axis=1, keepdims=True), 1e-9)
    low = template[:, 1] < 0.5 * (heights.min() + middle)
    # Hair hangs beside and behind a neck, not before it.
    bald = hair.bare_vertices(head) | (low & (outward[:, 2] > _FORWARD))
    harmonics, stiffness = _harmonics(template, head.faces, ~bald)
    triangle = np.zeros(len(template), np.int32)
    for corner in range(3):
      triangle[head.faces[:, corner]] = np.arange(len(head.faces))
    face, barycentric, area = _spread(template, head.faces, ~bald)
    corner = np.asarray(head.faces)[face]
    with jax.ensure_compile_time_eval():
      frames = jax.jit(triangle_frames)(template.astype(np.float32), np.asarray(head.faces))
      rotation = np.asarray(frames.rotation)[triangle]
      return cls(
        template=jnp.asarray(template, jnp.float32),
        faces=jnp.asarray(head.faces),
        harmonics=jnp.asarray(harmonics, jnp.float32),
        stiffness=jnp.asarray(stiffness, jnp.float32),
        behind=jnp.asarray(behind, jnp.float32),
        direction=jnp.asarray(np.einsum('vji,vj->vi', rotation, outward), jnp.float32),
        triangle=jnp.asarray(triangle),
        corner=jnp.asarray(corner, jnp.int32),
        barycentric=jnp.asarray(barycentric, jnp.float32),
        hanging=jnp.asarray((beside_neck > 0.0)[corner].all(axis=1)),
        below=jnp.asarray(low[corner].any(axis=1)),
        area=jnp.asarray(area, jnp.float32),
        texels=CoverTexels.from_layout(head, layout),
      )


def _harmonics(
  vertices: Float[np.ndarray, 'v 3'], faces: Int[np.ndarray, 'f 3'], free: Bool[np.ndarray, ' v']
) -> tuple[Float[np.ndarray, 'v r'], Float[np.ndarray, ' r']]:
  """Eigenfunctions of the surface's Laplacian, zero on the others, and eigenvalues, 1/m²."""
  from scipy import sparse  # here: importing them takes longer than the rest
  from scipy.sparse.linalg import eigsh

  count = len(free)
  area = np.zeros(count)
  rows, columns, weights = [], [], []
  for i in range(3):
    at, one, two = (faces[:, (i + k) % 3] for k in range(3))
    a, b = vertices[one] - vertices[at], vertices[two] - vertices[at]
    double = np.linalg.norm(np.cross(a, b), axis=1)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    # Half the cotangent of the corner belongs to the edge opposite. Never negative: no overshoot.
    cotangent = np.sum(a * b, axis=1) / np.maximum(double, _LEAST_ANGLE * lengths + 1e-12)
    half = 0.5 * np.clip(cotangent, 1e-3, None)
    rows += [one, two]
    columns += [two, one]
    weights += [half, half]
    area += np.bincount(at, double / 6.0, count)
  places = (np.concatenate(rows), np.concatenate(columns))
  links = sparse.csr_matrix((np.concatenate(weights), places), shape=(count, count))
  total = np.asarray(links.sum(axis=1)).ravel()
  inside = (sparse.diags(total) - links)[free][:, free]
  mass = sparse.diags(np.maximum(area, 1e-9)[free])
  number = min(_HARMONICS, inside.shape[0] - 2)
  # From a shift below zero: vertices without edges make the matrix singular.
  start = np.ones(inside.shape[0])
  values, vectors = eigsh(inside.tocsc(), number, M=mass.tocsc(), sigma=-1.0, v0=start)
  whole = np.zeros((count, number))
  whole[free] = vectors
  return whole, values


def _spread(
  vertices: Float[np.ndarray, 'v 3'], faces: Int[np.ndarray, 'f 3'], free: Bool[np.ndarray, ' v']
) -> tuple[Int[np.ndarray, ' q'], Float[np.ndarray, 'q 3'], float]:
  """Places spread evenly over triangles with a free corner: triangle, place in it, area."""
  a, b, c = (vertices[faces[:, i]] for i in range(3))
  area = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1) * free[faces].any(axis=1)
  ends = np.cumsum(area)
  # Equal steps through the triangles' areas, one after the other, and within them by the golden
  # ratio, folded where it leaves a triangle.
  where = (np.arange(_NODES) + 0.5) / _NODES * ends[-1]
  face = np.minimum(np.searchsorted(ends, where), len(faces) - 1)
  u, v = (np.arange(_NODES) * step % 1.0 for step in (0.7548776662466927, 0.5698402909980532))
  out = u + v > 1.0
  u, v = np.where(out, 1.0 - u, u), np.where(out, 1.0 - v, v)
  return face, np.stack([1.0 - u - v, u, v], axis=1), float(ends[-1] / _NODES)


def directions(shell: HairShell, frames: TriangleFrames) -> Float[Array, 'v 3']:
  """Unit vectors in which hair stands off a posed mesh, world axes."""
  rotation = frames.rotation[shell.triangle]
  return jnp.sum(rotation * shell.direction[:, None], axis=-1)


def _at_places(shell: HairShell, values: Float[Array, 'v c']) -> Float[Array, 'q c']:
  """What vertices have, at the places that are measured."""
  return interpolate(values, shell.corner, shell.barycentric)


def measure(
  shell: HairShell,
  vertices: Float[Array, 'k v 3'],
  camera: Camera,
  matte: Float[Array, 'k h w'],
  mask: Bool[Array, ' k'],
) -> Float[Array, ' v']:
  """Thickness of one person's hair over every vertex, metres; no gradients.

  Args:
    shell: of the head.
    vertices: posed mesh of each source, metres, world.
    camera: of each source.
    matte: 1 where the pixel belongs to the head.
    mask: False for padding.
  """
  vertices, camera = jax.lax.stop_gradient((vertices, camera))
  thickness, weight = jax.vmap(lambda *one: _outline(shell, *one))(vertices, camera, matte)
  weight = shell.area / _SMOOTH**2 * jnp.where(mask[:, None], weight, 0.0)
  basis = shell.harmonics * shell.behind[:, None]
  at_places = _at_places(shell, basis)
  total, pull = jnp.sum(weight, axis=0), jnp.sum(weight * thickness, axis=0)
  exact = jax.lax.Precision.HIGHEST
  normal = jnp.matmul((at_places * total[:, None]).T, at_places, precision=exact)
  normal = normal + jnp.diag(shell.stiffness)
  target = jnp.matmul(at_places.T, pull, precision=exact)
  share = jax.scipy.linalg.solve(normal, target, assume_a='pos')
  field = jnp.matmul(basis, share, precision=exact)
  return jnp.clip(field, 0.0, hair.MAX_THICKNESS)


def _outline(
  shell: HairShell, vertices: Float[Array, 'v 3'], camera: Camera, matte: Float[Array, 'h w']
) -> tuple[Float[Array, ' q'], Float[Array, ' q']]:
  """What one source tells about each place: thickness in metres, and a weight from 0 to 1."""
  frames = triangle_frames(vertices, shell.faces)
  towards = _at_places(shell, directions(shell, frames))
  towards = towards / jnp.maximum(jnp.linalg.norm(towards, axis=-1, keepdims=True), 1e-9)
  start = _at_places(shell, vertices)
  steps = jnp.arange(0.0, hair.MAX_THICKNESS + _STEP, _STEP)
  path = start[:, None] + steps[:, None] * towards[:, None]
  seen = project_points(path.reshape(-1, 3), camera)
  shape = path.shape[:2]
  inside = seen.inside.reshape(shape)
  covered = sample_image(matte[..., None], seen.place).reshape(shape)
  ends = (covered < 0.5) | ~inside
  first = jnp.where(ends.any(axis=1), jnp.argmax(ends, axis=1), len(steps) - 1)
  after = jnp.take_along_axis(covered, first[:, None], 1)[:, 0]
  before = jnp.take_along_axis(covered, jnp.maximum(first - 1, 0)[:, None], 1)[:, 0]
  back = jnp.clip((0.5 - after) / jnp.maximum(before - after, 1e-3), 0.0, 1.0)
  way = jnp.where(first > 0, steps[first] - _STEP * back, 0.0)

  points = seen.points.reshape(*shape, 3)
  ray = points[:, 0] / jnp.linalg.norm(points[:, 0], axis=-1, keepdims=True)
  cosine = jnp.sum((points[:, 1] - points[:, 0]) * ray, axis=-1) / _STEP
  # Across the picture, in metres at the place's depth: how far to the matte's border, and how much
  # of that lies within the scalp's own outline.
  sine = jnp.sqrt(jnp.maximum(1.0 - cosine**2, 0.0))
  inset = _inset(points[:, 0], points[:, 1])
  thickness = jnp.clip(way * sine - inset, 0.0, hair.MAX_THICKNESS)

  place = seen.place.reshape(*shape, 2)
  aside = place[:, 1] - place[:, 0]
  length = jnp.maximum(jnp.linalg.norm(aside, axis=-1, keepdims=True), 1e-9)
  shift = aside * (inset / jnp.maximum(_STEP * sine, 1e-6))[:, None]
  beside = place[:, 0] + shift + _BESIDE / _CELLS * aside / length
  both = jnp.concatenate([beside[:, None], place], axis=1)
  on_mesh = _on_mesh(vertices, frames, camera, both.reshape(-1, 2)).reshape(both.shape[:2])
  free, covers = ~on_mesh[:, 0], on_mesh[:, 1:]
  # Beside the neck, behind the jaw and under the ears: where the matte goes on beyond all of the
  # mesh, hair hangs from above, however far inside the outline the neck lies.
  mesh_ends = jnp.max(jnp.where(covers & (steps < way[:, None]), steps, 0.0), axis=1)
  hangs = jnp.where(shell.hanging, jnp.clip((way - mesh_ends) / _HANGS - 1.0, 0.0, 1.0), 0.0)
  thickness = (1.0 - hangs) * thickness + hangs * (way - _FALLS * inset)
  weight = jnp.maximum(1.0 - (cosine / _GRAZING) ** 2, 0.0) * jnp.where(free, 1.0, hangs)
  left = jnp.take_along_axis(inside, first[:, None], 1)[:, 0]  # else the picture ended first
  # A matte that does not end, or widens below where it does, is of shoulders.
  down = jnp.asarray(camera.world_to_camera)[1, :3]
  probe = start + (way[:, None] + _OUT) * towards + _DOWN * down
  beneath = project_points(probe, camera)
  wider = beneath.inside & (sample_image(matte[..., None], beneath.place)[:, 0] > 0.5)
  known = (ends.any(axis=1) & ~wider) | ~shell.below
  return thickness, jnp.where(left & known & inside[:, 0], weight, 0.0)


def _inset(points: Float[Array, 'q 3'], moved: Float[Array, 'q 3']) -> Float[Array, ' q']:
  """How far inside the scalp's outline each place lies, on its way out; metres at its depth.

  Args:
    points: the places, in the camera's axes.
    moved: the same, a step on their way.
  """
  depth = jnp.maximum(points[:, 2:], 1e-3)
  flat = points[:, :2] / depth
  way = moved[:, :2] / jnp.maximum(moved[:, 2:], 1e-3) - flat
  way = way / jnp.maximum(jnp.linalg.norm(way, axis=-1, keepdims=True), 1e-9)
  # From each place (rows) to every other (columns).
  x, y = ((flat[None, :, i] - flat[:, None, i]) * depth for i in range(2))
  along = x * way[:, :1] + y * way[:, 1:]
  across = jnp.abs(y * way[:, :1] - x * way[:, 1:])
  return jnp.max(jnp.where(across < _BESIDE_WAY, along, 0.0), axis=1)


def _on_mesh(
  vertices: Float[Array, 'v 3'],
  frames: TriangleFrames,
  camera: Camera,
  place: Float[Array, 'q 2'],
) -> Bool[Array, ' q']:
  """Whether the mesh is seen at places, fractions of the picture; to a cell."""
  mesh = project_points(jnp.concatenate([vertices, frames.center]), camera)
  taken = jnp.zeros(_CELLS**2 + 1, bool).at[_cell(mesh.place, mesh.inside)].set(True)
  beyond = ((place < 0.0) | (place > 1.0)).any(axis=-1)
  return taken.at[-1].set(False)[_cell(place, ~beyond)]


def _cell(place: Float[Array, 'n 2'], inside: Bool[Array, ' n']) -> Int[Array, ' n']:
  """Number of the cell of a place; one more for those outside the picture."""
  at = jnp.clip(jnp.floor(place * _CELLS).astype(jnp.int32), 0, _CELLS - 1)
  return jnp.where(inside, at[:, 1] * _CELLS + at[:, 0], _CELLS**2)


def raised(
  shell: HairShell, vertices: Float[Array, 'v 3'], thickness: Float[Array, ' v']
) -> Float[Array, 'v 3']:
  """A posed mesh with its hair: each vertex moved out by the thickness."""
  frames = triangle_frames(vertices, shell.faces)
  return vertices + thickness[:, None] * directions(shell, frames)


def rest_on_shell(
  shell: HairShell, thickness: Float[Array, ' v'], vertices: Float[Array, 'v 3']
) -> RestGaussians:
  """Gaussians that lie on the hair and cover its texels, bound to the head under it.

  Args:
    shell: of the head.
    thickness: of the person's hair, metres.
    vertices: a posed mesh of the person, for the size of the head.
  """
  frames = triangle_frames(shell.template, shell.faces)
  own = triangle_frames(vertices, shell.faces)
  used = shell.triangle[shell.corner[:, 0]]
  size = jnp.sum(own.scale[used]) / jnp.sum(frames.scale[used])
  outer = raised(shell, shell.template, thickness / size)
  surface = cover_surface(shell.texels, shell.faces, frames, outer)
  return RestGaussians(surface.position, surface.log_scale, surface.rotation)
