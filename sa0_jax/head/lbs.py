"""FLAME's linear blend skinning: codes to vertices, joints and landmarks.

The model is that of Li et al., "Learning a model of facial shape and expression from 4D scans"
(SIGGRAPH Asia 2017): T(β, θ, ψ) = template + shape(β) + expression(ψ) + correctives(θ), joints
regressed from the shaped head without correctives, each vertex moved by its weighted mean of the
joints' rigid transforms, the translation last.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from sa0_kernels import pytree
from sa0_kernels.typing import ArrayLike

from sa0_jax.geometry.rotations import axis_angle_to_matrix
from sa0_jax.head.model import (
  JOINT_PARENTS,
  HeadArrays,
  HeadCodes,
  HeadModel,
  LandmarkEmbedding,
)

# Accelerators multiply float32 matrices in reduced precision unless told otherwise; a tenth of a
# millimetre on a face is visible.
_PRECISION = jax.lax.Precision.HIGHEST


@pytree.register
@dataclasses.dataclass(frozen=True)
class LandmarkArrays:
  """The part of a head its landmarks rest on; posing it costs hundreds of vertices, not thousands.

  Make it once, outside any loop or `jax.jit`, and pass it as an argument like `HeadArrays`.

  Attributes:
    corners: the head's arrays for 3·m vertices, the corners of the landmarks' triangles.
    barycentric: [m, 3] weights of those corners.
  """

  corners: HeadArrays
  barycentric: Float[Array, 'm 3']

  @classmethod
  def from_head(cls, head: HeadModel, embedding: LandmarkEmbedding) -> 'LandmarkArrays':
    """Picks the vertices that the points of `embedding` need.

    Args:
      head: the model.
      embedding: points on its surface, such as `head.require_landmarks('mediapipe')`.
    """
    # Corners are repeated where triangles share them, so that a landmark is a reshape and a
    # weighted sum; an index would turn into a scatter in the gradient.
    vertices = head.faces[embedding.face].reshape(-1)
    with jax.ensure_compile_time_eval():
      barycentric = jnp.asarray(embedding.barycentric, jnp.float32)
    return cls(head.vertex_arrays(vertices), barycentric)


def pose_head(head: HeadModel | HeadArrays, codes: HeadCodes) -> Float[Array, '*batch v 3']:
  """Vertices of a head driven by codes.

  Args:
    head: the model. Inside your own `jax.jit` pass `head.arrays` in as an argument instead of
      closing over the model: its bases would become constants of the program.
    codes: codes of this head's basis, any leading shape. A shape code without the leading axes of
      the rest shapes the template once for all frames.

  Returns:
    Vertices in metres; zero codes give the template. Differentiable in every code.

  Raises:
    ValueError: the codes have other lengths than this head's bases.
  """
  arrays = _arrays_for(head, codes)
  return _pose(arrays, codes)


def pose_joints(head: HeadModel | HeadArrays, codes: HeadCodes) -> Float[Array, '*batch 5 3']:
  """Posed positions of the five joints (`JOINT_NAMES`), metres, translation included.

  Args and errors as `pose_head`.
  """
  arrays = _arrays_for(head, codes)
  return _pose_joints(arrays, codes)


def pose_landmarks(landmarks: LandmarkArrays, codes: HeadCodes) -> Float[Array, '*batch m 3']:
  """Landmarks of a head driven by codes, without posing the rest of it.

  Args:
    landmarks: from `LandmarkArrays.from_head`.
    codes: as in `pose_head`; hundreds of frames at once are what this is for.

  Returns:
    Points in metres, in the embedding's order. Differentiable in every code.

  Raises:
    ValueError: the codes have other lengths than this head's bases.
  """
  arrays = _arrays_for(landmarks.corners, codes)
  return _pose_landmarks(dataclasses.replace(landmarks, corners=arrays), codes)


def pose_frames(
  head: HeadModel | HeadArrays, codes: HeadCodes, *, chunk: int = 32
) -> Float[np.ndarray, 't v 3']:
  """Vertices of a sequence on the host, posed a few frames at a time.

  Device memory is bounded by `chunk` frames whatever the length of the sequence.

  Args:
    head: the model.
    codes: codes with one leading axis of t frames; parts without it (a shared shape code) serve
      every frame.
    chunk: frames posed at once.

  Returns:
    [t, v, 3] float32 vertices, metres.

  Raises:
    ValueError: the codes have no single leading axis, or `chunk` is not positive.
  """
  arrays = _arrays_for(head, codes)
  if len(codes.batch_shape) != 1:
    raise ValueError(
      f'pose_frames: codes must have one leading axis of frames, got the shape {codes.batch_shape}'
    )
  if chunk < 1:
    raise ValueError(f'pose_frames: chunk must be at least 1, got {chunk}')
  frames = codes.batch_shape[0]
  vertices = np.empty((frames, arrays.template.shape[-1], 3), np.float32)
  for start in range(0, frames, chunk):
    # Clipped indices repeat the last frame, so that every chunk has one shape and one program.
    rows = np.minimum(np.arange(start, start + min(chunk, frames)), frames - 1)
    part = jax.tree.map(
      lambda leaf, rows=rows: leaf[rows] if leaf.ndim == 2 and len(leaf) == frames else leaf,
      codes,
    )
    stop = min(start + chunk, frames)
    vertices[start:stop] = np.asarray(_pose(arrays, part))[: stop - start]
  return vertices


def _arrays_for(head: HeadModel | HeadArrays, codes: HeadCodes) -> HeadArrays:
  """The head's arrays, after checking that the codes are as long as its bases."""
  arrays = head.arrays if isinstance(head, HeadModel) else head
  name = f'head {head.name!r}' if isinstance(head, HeadModel) else 'this head'
  for part, basis in (
    ('shape', arrays.joint_shape_basis),
    ('expression', arrays.joint_expression_basis),
  ):
    given, expected = getattr(codes, part).shape[-1], len(basis)
    if given != expected:
      raise ValueError(
        f'codes have {given} {part} coefficients, {name} has {expected} {part} directions: '
        'pad or cut the codes, or load the head they were made with'
      )
  return arrays


@jax.jit
def _pose(arrays: HeadArrays, codes: HeadCodes) -> Float[Array, '*batch v 3']:
  rotations, joints = _joint_rotations(codes), _rest_joints(arrays, codes)
  correctives = rotations[..., 1:, :, :] - jnp.eye(3, dtype=rotations.dtype)
  batch = codes.batch_shape
  motion = jnp.concatenate(
    [
      jnp.broadcast_to(codes.expression, (*batch, codes.expression.shape[-1])),
      jnp.broadcast_to(correctives.reshape(*correctives.shape[:-3], 36), (*batch, 36)),
    ],
    axis=-1,
  )
  shaped = arrays.template.reshape(-1) + _product(codes.shape, arrays.shape_basis)
  unposed = (shaped + _product(motion, arrays.motion_basis)).reshape(*batch, 3, -1)
  transforms = _skinning_transforms(rotations, joints)
  return _skin(arrays.weights, *transforms, unposed) + codes.translation[..., None, :]


@jax.jit
def _pose_joints(arrays: HeadArrays, codes: HeadCodes) -> Float[Array, '*batch 5 3']:
  joints = _rest_joints(arrays, codes)
  rotations, offsets = _skinning_transforms(_joint_rotations(codes), joints)
  moved = jnp.einsum('...jab,...jb->...ja', rotations, joints, precision=_PRECISION) + offsets
  return moved + codes.translation[..., None, :]


@jax.jit
def _pose_landmarks(landmarks: LandmarkArrays, codes: HeadCodes) -> Float[Array, '*batch m 3']:
  corners = _pose(landmarks.corners, codes)
  corners = corners.reshape(*corners.shape[:-2], -1, 3, 3)
  return jnp.sum(corners * landmarks.barycentric[..., None], axis=-2)


def _product(
  codes: Float[ArrayLike, '*batch k'], basis: Float[Array, 'k n']
) -> Float[Array, '*batch n']:
  return jnp.matmul(codes, basis, precision=_PRECISION)


def _joint_rotations(codes: HeadCodes) -> Float[Array, '*batch 5 3 3']:
  """Rotation matrix of each joint relative to its parent."""
  batch = codes.batch_shape
  left, right = codes.eyes[..., :3], codes.eyes[..., 3:]
  parts = (codes.rotation, codes.neck, codes.jaw, left, right)
  return axis_angle_to_matrix(
    jnp.stack([jnp.broadcast_to(part, (*batch, 3)) for part in parts], axis=-2)
  )


def _rest_joints(arrays: HeadArrays, codes: HeadCodes) -> Float[Array, '*batch 5 3']:
  """Joints of the shaped, expressive, unposed head."""
  offsets = _product(codes.shape, arrays.joint_shape_basis) + _product(
    codes.expression, arrays.joint_expression_basis
  )
  return arrays.joint_template + offsets.reshape(*offsets.shape[:-1], 5, 3)


def _skinning_transforms(
  rotations: Float[Array, '*batch 5 3 3'], joints: Float[Array, '*#batch 5 3']
) -> tuple[Float[Array, '*batch 5 3 3'], Float[Array, '*batch 5 3']]:
  """Each joint's transform from the rest pose to the posed one: x ↦ R·x + t, down the tree."""
  chain: list[tuple[Array, Array]] = []
  for joint, parent in enumerate(JOINT_PARENTS):
    local, centre = rotations[..., joint, :, :], joints[..., joint, :]
    if parent < 0:
      rotation, origin = local, centre
    else:
      rotation = jnp.matmul(chain[parent][0], local, precision=_PRECISION)
      origin = _apply(*chain[parent], centre)
    # Rotation about the joint's own centre, wherever its parent has carried it.
    chain.append((rotation, origin - _rotate(rotation, centre)))
  return jnp.stack([r for r, _ in chain], axis=-3), jnp.stack([t for _, t in chain], axis=-2)


def _rotate(
  rotation: Float[Array, '*batch 3 3'], point: Float[Array, '*#batch 3']
) -> Float[Array, '*batch 3']:
  return jnp.einsum('...ab,...b->...a', rotation, point, precision=_PRECISION)


def _apply(
  rotation: Float[Array, '*batch 3 3'],
  offset: Float[Array, '*batch 3'],
  point: Float[Array, '*#batch 3'],
) -> Float[Array, '*batch 3']:
  return _rotate(rotation, point) + offset


def _skin(
  weights: Float[Array, '5 v'],
  rotations: Float[Array, '*batch 5 3 3'],
  offsets: Float[Array, '*batch 5 3'],
  points: Float[Array, '*batch 3 v'],
) -> Float[Array, '*batch v 3']:
  """Σ_j w_j (R_j x + t_j) for every vertex: blended transforms, then applied."""
  transforms = jnp.concatenate([rotations, offsets[..., None]], axis=-1)
  blended = jnp.einsum('...jab,jv->...abv', transforms, weights, precision=_PRECISION)
  turned = sum(blended[..., b, :] * points[..., None, b, :] for b in range(3))
  return jnp.swapaxes(turned + blended[..., 3, :], -1, -2)
