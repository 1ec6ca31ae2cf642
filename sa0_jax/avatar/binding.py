"""Triangle frames, and Gaussians carried along by them (SpatialAvatar-0, representation).

For a triangle v0, v1, v2 with centroid c:

    a0 = unit(v1 − v0)                     along the first edge
    a1 = unit(a0 × (v2 − v0))              the outward normal
    a2 = a0 × a1                           completes a proper rotation R = [a0 a1 a2]
    s  = ½ (‖v1 − v0‖ + |a2 · (v2 − v0)|)  mean of an edge and its altitude

The paper prints a2 = a1 × a0, whose determinant is −1 and which is therefore no rotation. A bound
Gaussian follows as x = s R x_local + c, q = q_R ⊗ q_local, scale = s · scale_local.
"""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from sa0_kernels import pytree

from sa0_jax.avatar.gaussians import BoundGaussians, Gaussians, local_attributes
from sa0_jax.geometry.rotations import matrix_to_quaternion, quaternion_multiply

# Added to squared lengths before their root: 1e-8 m, far under any edge of a head mesh, keeps
# collapsed triangles (eye corners, lip and ear seams) finite in value and gradient.
_EPSILON = 1e-16


@pytree.register
@dataclasses.dataclass(frozen=True)
class TriangleFrames:
  """One similarity transform per triangle.

  Attributes:
    center: [*batch, f, 3] centroids, metres.
    rotation: [*batch, f, 3, 3] columns a0, a1, a2.
    scale: [*batch, f] metres per local unit.
  """

  center: Float[Array, '*batch f 3']
  rotation: Float[Array, '*batch f 3 3']
  scale: Float[Array, '*batch f']


def _length(x: Float[Array, '*batch 3']) -> Float[Array, '*batch 1']:
  return jnp.sqrt(jnp.sum(x * x, axis=-1, keepdims=True) + _EPSILON)


def triangle_frames(
  vertices: Float[Array, '*batch v 3'], faces: Int[Array, 'f 3']
) -> TriangleFrames:
  """Frames of a mesh's triangles; differentiable in the vertices, degenerate triangles included."""
  v0, v1, v2 = (vertices[..., faces[:, i], :] for i in range(3))
  edge, other = v1 - v0, v2 - v0
  length = _length(edge)
  a0 = edge / length
  normal = jnp.cross(a0, other)
  a1 = normal / _length(normal)
  a2 = jnp.cross(a0, a1)
  altitude = jnp.abs(jnp.sum(a2 * other, axis=-1))
  return TriangleFrames(
    center=(v0 + v1 + v2) / 3.0,
    rotation=jnp.stack([a0, a1, a2], axis=-1),
    scale=0.5 * (length[..., 0] + altitude),
  )


def bind(bound: BoundGaussians, frames: TriangleFrames, face: Int[Array, ' n']) -> Gaussians:
  """Carries bound Gaussians into the world.

  Args:
    bound: n Gaussians in triangle frames, without batch axes.
    frames: the posed mesh's frames, without batch axes.
    face: [n] triangle of each Gaussian (`UVLayout.face`).

  Returns:
    World-space Gaussians; differentiable in both.
  """
  local = local_attributes(bound)
  # A triangle carries several Gaussians: quaternions are made per triangle, then gathered.
  quats = matrix_to_quaternion(frames.rotation)[face]
  scale = frames.scale[face][:, None]
  # Written out, as in the rasterizer: a GPU's matrix units would round it to TF32.
  offset = jnp.sum(frames.rotation[face] * local.means[:, None], axis=-1)
  return Gaussians(
    means=scale * offset + frames.center[face],
    quats=quaternion_multiply(quats, local.quats),
    scales=scale * local.scales,
    opacities=local.opacities,
    colors=local.colors,
  )


def to_local(
  points: Float[Array, 'n 3'], frames: TriangleFrames, face: Int[Array, ' n']
) -> Float[Array, 'n 3']:
  """Local coordinates of world points in the frames of their triangles: `bind` undone."""
  offset = (points - frames.center[face]) / frames.scale[face][:, None]
  return jnp.sum(frames.rotation[face] * offset[..., None], axis=-2)
