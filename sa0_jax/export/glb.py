"""glTF: the avatar's head mesh as any 3D program opens it, skinned, with morph targets.

The mesh is the head model's, shaped as the subject, with FLAME's five joints, one morph target per
expression direction and the Gaussians' colours as texture. What does not lie on the mesh is lost:
hair and everything else that only Gaussians show, and pose correctives, which glTF has no word for.
"""

import dataclasses
import os
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from sa0_jax.avatar.avatar import Avatar
from sa0_jax.capture import image_files
from sa0_jax.export.gltf_file import ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER, BinaryBuffer
from sa0_jax.export.settings import ExportSettings, posed_codes
from sa0_jax.export.texture import bake_texture
from sa0_jax.geometry.rotations import axis_angle_to_matrix, matrix_to_quaternion
from sa0_jax.head.lbs import pose_head, pose_joints
from sa0_jax.head.model import JOINT_NAMES, JOINT_PARENTS, HeadCodes, HeadModel
from sa0_jax.mesh_render import vertex_normals

JAW_OPEN = 0.35  # rad: ARKit's jawOpen = 1, as in docs/driving.md
_MAX_INFLUENCES = 4  # of joints on a vertex, in one set of glTF attributes


class SplitMesh(NamedTuple):
  """A mesh with one vertex per (position, UV) pair, as glTF wants it.

  Attributes:
    vertex: [m] vertex of the head model each is a copy of.
    uv: [m, 2] glTF's texture coordinates: v points down. 0 where there is none.
    textured: [f, 3] triangles with UV.
    plain: [g, 3] triangles without (FLAME's added teeth).
  """

  vertex: Int[np.ndarray, ' m']
  uv: Float[np.ndarray, 'm 2']
  textured: Int[np.ndarray, 'f 3']
  plain: Int[np.ndarray, 'g 3']


def export_glb(avatar: Avatar, path: str | os.PathLike[str], settings: ExportSettings) -> None:
  """Writes the rigged mesh as binary glTF.

  Codes in the settings set the joints and the morph targets' weights; the rest pose and the
  targets stay neutral.

  Args, Raises: as `export`.
  """
  head = avatar.head
  codes = posed_codes(avatar, settings.codes)
  neutral = posed_codes(avatar, None)
  vertices = np.asarray(pose_head(head, neutral), np.float32)
  joints = np.asarray(pose_joints(head, neutral), np.float64)
  mesh, buffer = split_mesh(head), BinaryBuffer()
  names, targets = morph_targets(avatar, vertices)
  attributes = _attributes(buffer, head, mesh, vertices)
  target_rows = [{'POSITION': buffer.sparse_accessor(target[mesh.vertex])} for target in targets]
  primitives = [
    {
      'attributes': attributes,
      'indices': buffer.accessor(triangles.astype(np.uint32).reshape(-1), ELEMENT_ARRAY_BUFFER),
      'material': material,
      'targets': target_rows,
    }
    for material, triangles in enumerate((mesh.textured, mesh.plain))
    if len(triangles)
  ]
  weights = np.zeros(len(names))
  weights[: head.num_expression] = np.asarray(codes.expression)
  document = {
    **_header(),
    'scenes': [{'name': avatar.name, 'nodes': [0, 1]}],
    'nodes': [{'name': 'head', 'mesh': 0, 'skin': 0}, *_joint_nodes(joints, codes)],
    'meshes': [
      {
        'name': avatar.name,
        'primitives': primitives,
        'weights': weights.tolist(),
        'extras': {'targetNames': names},
      }
    ],
    'skins': [
      {
        'joints': [1 + joint for joint in range(len(JOINT_NAMES))],
        'skeleton': 1,
        'inverseBindMatrices': buffer.accessor(_inverse_binds(joints)),
      }
    ],
    **_surface(buffer, avatar, bool(len(mesh.plain))),
  }
  buffer.write(path, document)


def split_mesh(head: HeadModel) -> SplitMesh:
  """The head's triangles with vertices doubled along the seams of its UV unwrap."""
  pairs = np.stack([head.faces.reshape(-1), head.ft.reshape(-1)], axis=1)
  unique, corner = np.unique(pairs, axis=0, return_inverse=True)
  triangles = corner.reshape(-1, 3)
  has_uv = (head.ft >= 0).all(axis=1)
  uv = head.vt[np.maximum(unique[:, 1], 0)].astype(np.float32)
  uv = np.where(unique[:, 1:] >= 0, np.stack([uv[:, 0], 1.0 - uv[:, 1]], axis=1), 0.0)
  return SplitMesh(unique[:, 0], uv.astype(np.float32), triangles[has_uv], triangles[~has_uv])


def morph_targets(
  avatar: Avatar, vertices: Float[np.ndarray, 'v 3']
) -> tuple[list[str], Float[np.ndarray, 'k v 3']]:
  """Names and displacements (metres) of the morph targets.

  The expression directions, in order, by the head's own names (ARKit's where it has them), then
  `jawOpen`: the straight way to a jaw turned by `JAW_OPEN`, for programs that only know morph
  targets. Use it or the jaw joint, not both.

  Args:
    avatar: the avatar.
    vertices: its neutral mesh.
  """
  head = avatar.head
  given = head.expression_names or ('',) * head.num_expression
  names = [name or f'expression_{number:03d}' for number, name in enumerate(given)]
  jaw = jnp.asarray([JAW_OPEN, 0.0, 0.0], jnp.float32)
  opened = dataclasses.replace(posed_codes(avatar, None), jaw=jaw)
  moved = np.asarray(pose_head(head, opened)) - vertices
  # Far from the jaw only rounding moves.
  moved = np.where(np.abs(moved).max(axis=1, keepdims=True) > 1e-6, moved, 0.0)
  directions = np.moveaxis(head.exprdirs, 2, 0)
  return [*names, 'jawOpen'], np.concatenate([directions, moved[None]]).astype(np.float32)


def _attributes(
  buffer: BinaryBuffer, head: HeadModel, mesh: SplitMesh, vertices: np.ndarray
) -> dict[str, int]:
  normals = vertex_normals(vertices, head.faces).astype(np.float32)
  length = np.linalg.norm(normals, axis=1, keepdims=True)
  normals = np.where(
    length > 0.5, normals / np.maximum(length, 1e-12), np.array([0, 0, 1], np.float32)
  )
  weights = np.asarray(head.weights, np.float64)
  # Of five joints never more than four matter to a vertex.
  strongest = np.argsort(-weights, axis=1, kind='stable')[:, :_MAX_INFLUENCES]
  kept = np.take_along_axis(weights, strongest, axis=1)
  kept = np.maximum(kept, 0.0) / np.maximum(kept, 0.0).sum(axis=1, keepdims=True)
  joints = np.where(kept > 0, strongest, 0)
  columns = {
    'NORMAL': normals,
    'TEXCOORD_0': None,
    'JOINTS_0': joints.astype(np.uint8),
    'WEIGHTS_0': kept.astype(np.float32),
  }
  rows = {name: mesh.uv if a is None else a[mesh.vertex] for name, a in columns.items()}
  return {
    'POSITION': buffer.accessor(vertices[mesh.vertex], ARRAY_BUFFER, bounds=True),
    **{name: buffer.accessor(array, ARRAY_BUFFER) for name, array in rows.items()},
  }


def _header() -> dict[str, Any]:
  return {
    'asset': {'version': '2.0', 'generator': 'SA0-JAX'},
    'extensionsUsed': ['KHR_materials_unlit'],
    'scene': 0,
  }


def _joint_nodes(joints: Float[np.ndarray, '5 3'], codes: HeadCodes) -> list[dict[str, Any]]:
  """One node a joint, turned by the codes; node 0 of the file is the mesh."""
  eyes = np.asarray(codes.eyes)
  turns = (codes.rotation, codes.neck, codes.jaw, eyes[:3], eyes[3:])
  nodes = []
  for joint, (name, parent, turn) in enumerate(zip(JOINT_NAMES, JOINT_PARENTS, turns, strict=True)):
    w, *vector = matrix_to_quaternion(axis_angle_to_matrix(jnp.asarray(turn))).tolist()
    offset = joints[joint] - joints[parent] if parent >= 0 else joints[0] + codes.translation
    node: dict[str, Any] = {
      'name': name,
      'translation': np.asarray(offset, np.float64).tolist(),
      'rotation': [*vector, w],
    }
    children = [1 + child for child, of in enumerate(JOINT_PARENTS) if of == joint]
    nodes.append({**node, 'children': children} if children else node)
  return nodes


def _inverse_binds(joints: Float[np.ndarray, '5 3']) -> Float[np.ndarray, '5 4 4']:
  """Column-major matrices from the mesh's space to each joint's."""
  matrices = np.tile(np.eye(4, dtype=np.float32), (len(joints), 1, 1))
  matrices[:, 3, :3] = -joints  # the transpose: glTF stores columns
  return matrices


def _surface(buffer: BinaryBuffer, avatar: Avatar, has_plain: bool) -> dict[str, Any]:
  """Materials, with the light that the colours already hold and none beside."""
  image = np.round(255.0 * bake_texture(avatar)).astype(np.uint8)
  encoded = image_files.encode(image, '.png')
  unlit: dict[str, Any] = {'KHR_materials_unlit': {}}
  texture = {'baseColorTexture': {'index': 0}, 'metallicFactor': 0.0, 'roughnessFactor': 1.0}
  materials = [{'name': 'skin', 'pbrMetallicRoughness': texture, 'extensions': unlit}]
  if has_plain:
    teeth = {'baseColorFactor': [0.8, 0.77, 0.7, 1.0], 'metallicFactor': 0.0}
    materials.append({'name': 'teeth', 'pbrMetallicRoughness': teeth, 'extensions': unlit})
  return {
    'materials': materials,
    'textures': [{'source': 0, 'sampler': 0}],
    'images': [{'name': 'colors', 'mimeType': 'image/png', 'bufferView': buffer.view(encoded)}],
    'samplers': [{'magFilter': 9729, 'minFilter': 9729, 'wrapS': 33071, 'wrapT': 33071}],
  }
