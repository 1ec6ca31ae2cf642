"""Gaussians that cover the texels of a mesh: where they lie and how large they are."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from sa0_kernels import pytree

from sa0_jax.avatar.binding import TriangleFrames, to_local, triangle_frames
from sa0_jax.geometry.barycentric import interpolate
from sa0_jax.geometry.rotations import matrix_to_quaternion
from sa0_jax.head.model import HeadModel
from sa0_jax.head.uv_layout import UVLayout

# Standard deviation of a new Gaussian, in texel spacings, along and across the surface: at 0.6
# neighbours just overlap.
_TANGENT_SPREAD = 0.6
_NORMAL_SPREAD = 0.2
# Where a texel is stretched farther than this its Gaussian is shorter than the texel: a needle
# would stick out of the head, and the gap closes within a few steps.
_STRETCH = 4.0
_LARGEST = 4.0  # medians of the reach of its part's texels


@pytree.register
@dataclasses.dataclass(frozen=True)
class CoverTexels:
  """What covering n texels needs of a head.

  Attributes:
    face: [n] triangle of each texel.
    corner: [n, 3] its vertices.
    barycentric: [n, 3] weights of the corners.
    step: [n, 2, 2] from one texel in u and v (columns) to the triangle's two edges (rows).
    largest: [n] a texel's reach is taken to be no more than this, metres.
  """

  face: Int[Array, ' n']
  corner: Int[Array, 'n 3']
  barycentric: Float[Array, 'n 3']
  step: Float[Array, 'n 2 2']
  largest: Float[Array, ' n']

  @classmethod
  def from_layout(cls, head: HeadModel, layout: UVLayout) -> 'CoverTexels':
    """Prepares a layout; limits are those of the model's mean head."""
    face = np.asarray(layout.face)
    step = _texel_steps(head, layout)
    with jax.ensure_compile_time_eval():
      made = cls(
        layout.face,
        jnp.asarray(head.faces[face], jnp.int32),
        layout.barycentric,
        jnp.asarray(step, jnp.float32),
        jnp.asarray(np.full(layout.n, np.inf, np.float32)),
      )
      mesh = np.asarray(head.v_template, np.float32)
      reach = np.asarray(_reach_of_mesh(made, mesh, np.asarray(head.faces)))
      largest = _typical_limits(head, face, reach)
      return dataclasses.replace(made, largest=jnp.asarray(largest, jnp.float32))


def cover_texels(
  texels: CoverTexels, vertices: Float[Array, 'v 3'], rotation: Float[Array, 'f 3 3']
) -> tuple[Float[Array, 'n 3'], Float[Array, 'n 3']]:
  """Points of a mesh at its texels, and standard deviations that cover them.

  Args:
    texels: of the head.
    vertices: the mesh, metres.
    rotation: frames of its triangles (`triangle_frames`).

  Returns:
    Points, and standard deviations along the axes of each texel's triangle, metres.
  """
  points = interpolate(vertices, texels.corner, texels.barycentric)
  tangent = jnp.minimum(_reach(texels, vertices, rotation), texels.largest[:, None])
  tangent = tangent * _TANGENT_SPREAD
  shorter = jnp.minimum(tangent[:, 0], tangent[:, 2])
  tangent = jnp.minimum(tangent, _STRETCH * shorter[:, None])
  thin = _NORMAL_SPREAD / _TANGENT_SPREAD * jnp.minimum(tangent[:, 0], tangent[:, 2])
  return points, jnp.stack([tangent[:, 0], thin, tangent[:, 2]], axis=1)


class SurfaceGaussians(NamedTuple):
  """Gaussians that cover a surface around a mesh, in the frames of the mesh's triangles.

  Attributes:
    position: [n, 3] triangle units.
    rotation: [n, 4] unit quaternions (w, x, y, z).
    log_scale: [n, 3] logarithms of triangle units.
  """

  position: Float[Array, 'n 3']
  rotation: Float[Array, 'n 4']
  log_scale: Float[Array, 'n 3']


def cover_surface(
  texels: CoverTexels,
  faces: Int[Array, 'f 3'],
  frames: TriangleFrames,
  surface: Float[Array, 'v 3'],
) -> SurfaceGaussians:
  """Gaussians that cover the texels of a surface, bound to the mesh under it.

  Args:
    texels: of the head.
    faces: its triangles.
    frames: of the mesh's triangles, which carry the Gaussians.
    surface: the mesh's vertices, moved to where the Gaussians lie; the mesh itself for none.
  """
  outer = triangle_frames(surface, faces)
  points, spacing = cover_texels(texels, surface, outer.rotation)
  exact = jax.lax.Precision.HIGHEST
  turn = jnp.einsum('fji,fjk->fik', frames.rotation, outer.rotation, precision=exact)
  spacing = spacing / frames.scale[texels.face][:, None]
  return SurfaceGaussians(
    position=to_local(points, frames, texels.face),
    rotation=matrix_to_quaternion(turn)[texels.face],
    log_scale=jnp.log(jnp.maximum(spacing, 1e-3)),
  )


def _reach(
  texels: CoverTexels, vertices: Float[Array, 'v 3'], rotation: Float[Array, 'f 3 3']
) -> Float[Array, 'n 3']:
  """How far one texel reaches along the axes of its triangle, metres.

  One texel step in u and in v moves the surface point by the columns of J; along an axis the steps
  reach √(J Jᵀ).
  """
  a, b, c = (vertices[texels.corner[:, i]] for i in range(3))
  edges = jnp.stack([b - a, c - a], axis=-1)
  # Written out: a GPU's matrix units would round to TF32.
  moved = jnp.sum(edges[..., None] * texels.step[:, None], axis=-2)  # [n, 3, 2]
  along = jnp.sum(rotation[texels.face][..., None] * moved[:, :, None], axis=1)
  return jnp.sqrt(jnp.sum(along**2, axis=-1))


@jax.jit
def _reach_of_mesh(
  texels: CoverTexels, vertices: Float[Array, 'v 3'], faces: Int[Array, 'f 3']
) -> Float[Array, 'n 3']:
  return _reach(texels, vertices, triangle_frames(vertices, faces).rotation)


def _texel_steps(head: HeadModel, layout: UVLayout) -> Float[np.ndarray, 'n 2 2']:
  """One texel in u and in v as combinations of the two edges of each texel's triangle."""
  uv = head.vt.astype(np.float64)[head.ft[np.asarray(layout.face)]]
  edges = np.stack([uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]], axis=-1)  # columns
  determinant = edges[:, 0, 0] * edges[:, 1, 1] - edges[:, 0, 1] * edges[:, 1, 0]
  safe = np.where(np.abs(determinant) < 1e-14, 1e-14, determinant)
  inverse = np.stack(
    [
      np.stack([edges[:, 1, 1], -edges[:, 0, 1]], axis=-1),
      np.stack([-edges[:, 1, 0], edges[:, 0, 0]], axis=-1),
    ],
    axis=1,
  )
  return inverse / safe[:, None, None] / layout.resolution


def _typical_limits(
  head: HeadModel, face: Int[np.ndarray, ' n'], reach: Float[np.ndarray, 'n 3']
) -> Float[np.ndarray, ' n']:
  """Largest reach of each texel: a few medians of its part of the mesh.

  The few texels on the back of an eyeball would make discs larger than the ball.
  """
  part = mesh_parts(head)[head.faces[face][:, 0]]
  medians = {index: np.median(reach[part == index][:, 0::2]) for index in np.unique(part)}
  return _LARGEST * np.array([medians[index] for index in part])


def mesh_parts(head: HeadModel) -> Int[np.ndarray, ' v']:
  """[v] number of the part of the surface each vertex belongs to."""
  if head.components is None:
    return np.zeros(len(head.v_template), int)
  return np.asarray(head.components, int)
