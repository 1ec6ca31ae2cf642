"""The parametric head: FLAME's arrays, whoever made them, and the codes that drive them."""

import dataclasses
import functools
import hashlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from sa0_kernels import pytree
from sa0_kernels.typing import ArrayLike

JOINT_NAMES = ('root', 'neck', 'jaw', 'left_eye', 'right_eye')
JOINT_PARENTS = (-1, 0, 1, 1, 1)


@dataclasses.dataclass(frozen=True, eq=False)
class LandmarkEmbedding:
  """Points of the surface with a meaning, as (triangle, barycentric weights).

  Attributes:
    index: [m] number of each point in its scheme: 0..67 for the 68-point scheme, 0..477 for
      MediaPipe's; a head model carries those that have a meaning on its surface.
    face: [m] row of `HeadModel.faces`.
    barycentric: [m, 3] weights of that triangle's corners; each row sums to 1.
  """

  index: Int[np.ndarray, ' m']
  face: Int[np.ndarray, ' m']
  barycentric: Float[np.ndarray, 'm 3']

  def select(self, numbers: Sequence[int]) -> 'LandmarkEmbedding | None':
    """Points by their numbers, in that order; None where one is missing."""
    row = {int(number): at for at, number in enumerate(self.index)}
    if not row.keys() >= set(numbers):
      return None
    rows = [row[number] for number in numbers]
    return LandmarkEmbedding(self.index[rows], self.face[rows], self.barycentric[rows])


@pytree.register
@dataclasses.dataclass(frozen=True)
class HeadArrays:
  """What posing needs of a head, on the device and laid out for it: `HeadModel.arrays`.

  A pytree, so that the bases (20 MB and more) travel to compiled functions as arguments and are
  never baked into them. Inside your own `jax.jit`, take it as an argument too. Vectors are stored
  component by component (all x, then all y, then all z): skinning then runs along vertices.

  Attributes:
    template: [3, v] neutral vertices, metres.
    shape_basis: [s, 3·v] identity directions.
    motion_basis: [e + 36, 3·v] expression directions, then pose correctives: one product for both.
    joint_template: [5, 3] joints of the neutral head.
    joint_shape_basis: [s, 15] what each identity direction does to the joints. Regressing joints is
      linear, so it is applied to the directions once instead of to every shaped head.
    joint_expression_basis: [e, 15] the same for the expression directions.
    weights: [5, v] skinning weights.
  """

  template: Float[Array, '3 v']
  shape_basis: Float[Array, 's v_times_3']
  motion_basis: Float[Array, 'e_plus_36 v_times_3']
  joint_template: Float[Array, '5 3']
  joint_shape_basis: Float[Array, 's 15']
  joint_expression_basis: Float[Array, 'e 15']
  weights: Float[Array, '5 v']


@dataclasses.dataclass(frozen=True, eq=False)
class HeadModel:
  """A FLAME-format head on the host: NumPy arrays, metres, x = the subject's left, y up, z forward.

  Attributes:
    name: which basis the codes belong to: 'procedural', 'flame2020', 'flame2023',
      'flame2023_open' or a user's own word. Codes of one never drive another.
    v_template: [v, 3] neutral vertices.
    faces: [f, 3] counter-clockwise seen from outside.
    shapedirs: [v, 3, s] identity directions, unit coefficient = one standard deviation.
    exprdirs: [v, 3, e] expression directions.
    posedirs: [v, 3, 36] pose correctives for the rotation matrices of joints 1..4 minus identity.
    joint_regressor: [5, v] joint positions from shaped vertices.
    weights: [v, 5] skinning weights, rows sum to 1. Joints and their parents are those of
      `JOINT_NAMES` and `JOINT_PARENTS`.
    vt: [t, 2] UV vertices in [0, 1], v up.
    ft: [f, 3] UV vertex of each face corner; −1 where a face has no UV (FLAME's added teeth).
    landmarks68: the 68-point scheme, or None where the user's model came without one.
    landmarks_mediapipe: the MediaPipe face mesh points that have a meaning here, or None.
    shape_names: name of each shape direction ('' where it has none).
    expression_names: name of each expression direction; ARKit's names where it is one of them.
    components: [v] index into `component_names` for each vertex.
    component_names: names of the parts of the surface: 'skin', 'left_eye', 'teeth_upper', …
    default_colors: [v, 3] RGB of each vertex for parts no picture shows (teeth, tongue, the mouth's
      inside), or None.
  """

  name: str
  v_template: Float[np.ndarray, 'v 3']
  faces: Int[np.ndarray, 'f 3']
  shapedirs: Float[np.ndarray, 'v 3 s']
  exprdirs: Float[np.ndarray, 'v 3 e']
  posedirs: Float[np.ndarray, 'v 3 36']
  joint_regressor: Float[np.ndarray, '5 v']
  weights: Float[np.ndarray, 'v 5']
  vt: Float[np.ndarray, 't 2']
  ft: Int[np.ndarray, 'f 3']
  landmarks68: LandmarkEmbedding | None = None
  landmarks_mediapipe: LandmarkEmbedding | None = None
  shape_names: tuple[str, ...] = ()
  expression_names: tuple[str, ...] = ()
  components: Int[np.ndarray, ' v'] | None = None
  component_names: tuple[str, ...] = ('skin',)
  default_colors: Float[np.ndarray, 'v 3'] | None = None

  @functools.cached_property
  def fingerprint(self) -> str:
    """Hash of the topology and UV an avatar is bound to: 16 hexadecimal digits.

    Local rotations only have a meaning on the mesh they were made on (vertex order is part of the
    format), so avatar files record this and refuse another mesh.
    """
    digest = hashlib.sha256()
    for array, dtype in ((self.faces, '<i4'), (self.ft, '<i4'), (np.round(self.vt * 65536), '<i4')):
      digest.update(str(array.shape).encode())
      digest.update(np.ascontiguousarray(array, dtype=dtype).tobytes())
    digest.update(str(len(self.v_template)).encode())
    return digest.hexdigest()[:16]

  @functools.cached_property
  def arrays(self) -> HeadArrays:
    """This head on the default device, ready for posing; made once and kept."""
    return self.vertex_arrays(np.arange(len(self.v_template)))

  def vertex_arrays(self, vertices: Int[np.ndarray, ' n']) -> HeadArrays:
    """The same for some vertices alone: posing them costs their share.

    Args:
      vertices: [n] which vertices, in the order wanted; repeats are allowed.
    """

    def component_major(directions: np.ndarray) -> np.ndarray:
      return directions[vertices].transpose(2, 1, 0).reshape(-1, 3 * len(vertices))

    # The first call may happen while something is being traced; what is kept must not be a tracer.
    with jax.ensure_compile_time_eval():
      return HeadArrays(
        *(
          jnp.asarray(array, jnp.float32)
          for array in (
            self.v_template[vertices].T,
            component_major(self.shapedirs),
            np.concatenate([component_major(self.exprdirs), component_major(self.posedirs)]),
            *self._joint_bases,
            self.weights[vertices].T,
          )
        )
      )

  @functools.cached_property
  def _joint_bases(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Joints of the template [5, 3] and of each shape and expression direction [·, 15]."""
    regressor = self.joint_regressor.astype(np.float64)

    def regress(directions: np.ndarray) -> np.ndarray:
      return np.einsum('jv,vck->kjc', regressor, directions, optimize=True).reshape(-1, 15)

    return regressor @ self.v_template, regress(self.shapedirs), regress(self.exprdirs)

  def require_landmarks(self, scheme: str) -> LandmarkEmbedding:
    """The landmarks of a scheme, for work that cannot do without them.

    Args:
      scheme: '68' or 'mediapipe'.

    Raises:
      ValueError: the scheme is neither, or this head came without it; the message names the file
        to install.
    """
    schemes = {
      '68': (self.landmarks68, 'landmark_embedding.npy or flame_static_embedding.pkl'),
      'mediapipe': (self.landmarks_mediapipe, 'mediapipe_landmark_embedding.npz'),
    }
    if scheme not in schemes:
      raise ValueError(f'landmark scheme {scheme!r} is unknown: use one of {", ".join(schemes)}')
    embedding, file = schemes[scheme]
    if embedding is None:
      raise ValueError(
        f'head {self.name!r} has no {scheme} landmarks: a FLAME model gets them with '
        f'`sa0 head install … --landmarks {file}`'
      )
    return embedding

  @property
  def num_shape(self) -> int:
    """Number of identity directions."""
    return self.shapedirs.shape[-1]

  @property
  def num_expression(self) -> int:
    """Number of expression directions."""
    return self.exprdirs.shape[-1]


@pytree.register
@dataclasses.dataclass(frozen=True)
class HeadCodes:
  """What drives a head model (the tracker's output), one frame or any batch of them.

  Rotations are axis-angle vectors in radians. Leading shapes broadcast: one shape code [s] beside
  [t, …] of everything else is t frames of one person.

  Attributes:
    shape: [*batch, s] identity code.
    expression: [*batch, e] expression code.
    rotation: [*batch, 3] rotation of the root joint.
    neck: [*batch, 3] rotation of the neck joint.
    jaw: [*batch, 3] rotation of the jaw joint.
    eyes: [*batch, 6] rotations of the left, then the right eye.
    translation: [*batch, 3] metres, added after skinning.
  """

  shape: Float[ArrayLike, '*#batch s']
  expression: Float[ArrayLike, '*#batch e']
  rotation: Float[ArrayLike, '*#batch 3']
  neck: Float[ArrayLike, '*#batch 3']
  jaw: Float[ArrayLike, '*#batch 3']
  eyes: Float[ArrayLike, '*#batch 6']
  translation: Float[ArrayLike, '*#batch 3']

  @property
  def batch_shape(self) -> tuple[int, ...]:
    """The leading shape all parts broadcast to: () for one frame."""
    return jnp.broadcast_shapes(*(leaf.shape[:-1] for leaf in jax.tree.leaves(self)))

  @classmethod
  def neutral(cls, head: HeadModel, batch: tuple[int, ...] = ()) -> 'HeadCodes':
    """All-zero codes: the template, at the origin."""
    sizes = (head.num_shape, head.num_expression, 3, 3, 3, 6, 3)
    return cls(*(jnp.zeros((*batch, size), jnp.float32) for size in sizes))
