"""What a camera sees of a mesh, and how much light gets into its cavities.

Both by depth images: nothing here needs compiled kernels, for every refinement starts with it.
"""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from sa0_jax.head.lbs import pose_head
from sa0_jax.head.model import HeadCodes, HeadModel
from sa0_jax.mesh_render import vertex_normals

# Metres behind the nearest surface that still count as visible: more than triangles are uneven in
# depth, less than lips are thick.
_MARGIN = 0.003
_DIRECTIONS = 96
_OPEN_JAW = 0.25  # rad: cavities are looked into with the mouth open
_CELL = 0.003  # metres; of the depth images light is traced in
_BIAS = 0.0045  # metres an occluder must stand in front


class ProjectedMesh(NamedTuple):
  """A posed mesh in one camera.

  Attributes:
    vertices: [v, 3] camera space, metres.
    pixels: [v, 2] where they project to.
    faces: [f, 3].
    part: [v] number of the part of the surface each vertex belongs to.
  """

  vertices: Float[np.ndarray, 'v 3']
  pixels: Float[np.ndarray, 'v 2']
  faces: Int[np.ndarray, 'f 3']
  part: Int[np.ndarray, ' v']


def visible_points(
  points: Float[np.ndarray, 'n 3'],
  pixels: Float[np.ndarray, 'n 2'],
  part: Int[np.ndarray, ' n'],
  mesh: ProjectedMesh,
  size: tuple[int, int],
) -> Bool[np.ndarray, ' n']:
  """Which points of a mesh are in the image and not behind another part of the mesh.

  A point of an eyeball, a tooth or the tongue must be seen itself: a lid or a lip is thinner than
  any depth margin that a rough surface needs.

  Args:
    points: on the mesh, camera space, metres.
    pixels: where they project to.
    part: number of the part of the mesh each lies on.
    mesh: the mesh in the same view.
    size: image width and height.
  """
  import cv2  # here: importing it takes longer than the rest of this package

  front = np.full((size[1], size[0]), -1, np.int32)
  depth = mesh.vertices[mesh.faces, 2].mean(axis=1)
  corners = np.round(mesh.pixels[mesh.faces] - 0.5).astype(np.int32)
  for index in np.argsort(-depth, kind='stable'):  # the painter's order: near ones are drawn last
    if depth[index] > 0:
      cv2.fillConvexPoly(front, corners[index], int(index))
  x, y = np.floor(pixels[:, 0]).astype(int), np.floor(pixels[:, 1]).astype(int)
  inside = (x >= 0) & (x < size[0]) & (y >= 0) & (y < size[1]) & (points[:, 2] > 0)
  shown = front[np.where(inside, y, 0), np.where(inside, x, 0)]
  near = points[:, 2] <= depth[shown] + _MARGIN
  same = mesh.part[mesh.faces[shown, 0]] == part
  return inside & ((shown < 0) | (near & same))


def openness(head: HeadModel, shape: Float[np.ndarray, ' s']) -> Float[np.ndarray, ' v']:
  """Share of the light from all around that reaches each vertex when the mouth is open.

  1 on a bulge, about a half in a fold, near 0 deep in the mouth or a nostril: what makes cavities
  dark. Distant directions are drawn evenly over the sphere, weighted by the cosine to the normal.

  Args:
    head: the head model.
    shape: shape code of the subject.
  """
  codes = dataclasses.replace(HeadCodes.neutral(head), shape=jnp.asarray(shape))
  jaw = jnp.zeros(3).at[0].set(_OPEN_JAW)
  vertices = np.asarray(pose_head(head, dataclasses.replace(codes, jaw=jaw)), np.float64)
  faces = head.faces
  a, b, c = (vertices[faces[:, k]] for k in range(3))
  surface = np.concatenate([vertices, (a + b) / 2, (b + c) / 2, (c + a) / 2, (a + b + c) / 3])
  normals = vertex_normals(vertices, faces)
  index = np.arange(_DIRECTIONS) + 0.5  # a Fibonacci sphere
  height = 1.0 - 2.0 * index / _DIRECTIONS
  turn = np.pi * (1.0 + 5.0**0.5) * index
  ring = np.sqrt(1.0 - height * height)
  reached, total = np.zeros(len(vertices)), np.zeros(len(vertices))
  for direction in np.stack([ring * np.cos(turn), height, ring * np.sin(turn)], axis=1):
    weight = np.clip(normals @ direction, 0.0, None)
    reached += weight * ~_hidden(surface, len(vertices), direction)
    total += weight
  return reached / np.maximum(total, 1e-9)


def _hidden(
  surface: Float[np.ndarray, 'm 3'], count: int, direction: Float[np.ndarray, ' 3']
) -> Bool[np.ndarray, ' v']:
  """Which of the first `count` points lie behind others, seen from a distant direction."""
  helper = np.array([1.0, 0.0, 0.0] if abs(direction[1]) > 0.9 else [0.0, 1.0, 0.0])
  right = np.cross(helper, direction)
  right /= np.linalg.norm(right)
  plane = surface @ np.stack([right, np.cross(direction, right)], axis=1)
  cell = np.floor((plane - plane.min(axis=0)) / _CELL).astype(int)
  row = cell[:, 0] * (cell[:, 1].max() + 1) + cell[:, 1]
  height = surface @ direction
  highest = np.full(row.max() + 1, -np.inf)
  np.maximum.at(highest, row, height)
  return height[:count] < highest[row[:count]] - _BIAS
