"""Puts the procedural head together from its parts (builder only)."""

import numpy as np

from sa0_jax.head.model import LandmarkEmbedding
from sa0_jax.head.procedural import landmarks, mode_fit, storage
from sa0_jax.head.procedural.anatomy import NUM_EXPRESSION, NUM_SHAPE
from sa0_jax.head.procedural.correctives import jaw_correctives
from sa0_jax.head.procedural.expressions import named_expressions
from sa0_jax.head.procedural.mesh import BuiltMesh, build_mesh
from sa0_jax.head.procedural.modes import SmoothModes
from sa0_jax.head.procedural.mouth import mouth
from sa0_jax.head.procedural.semantics import ProceduralSemantics
from sa0_jax.head.procedural.shapes import named_shapes
from sa0_jax.head.procedural.skinning import joint_regressor, skinning_weights
from sa0_jax.head.procedural.uv import UV_QUANTUM, build_atlas


def build_arrays() -> storage.Arrays:
  """Everything `head.npz` holds; seconds of work."""
  mesh = build_mesh()
  arrays: storage.Arrays = {'version': np.array(storage.FORMAT_VERSION)}
  arrays.update(_labels(mesh.semantics))
  arrays['faces'] = mesh.faces.astype(np.uint16)
  weights = skinning_weights(mesh)
  arrays['weights'] = weights.astype(np.float32)
  arrays.update(_regressor(mesh))
  arrays.update(_directions(mesh, 'shape', named_shapes(mesh), NUM_SHAPE))
  arrays.update(_directions(mesh, 'expression', named_expressions(mesh, mouth), NUM_EXPRESSION))
  columns, values = jaw_correctives(mesh, weights)
  arrays['pose_columns'] = columns.astype(np.int32)
  arrays['pose_values'] = np.round(values / storage.STEP).astype(np.int16)
  atlas = build_atlas(mesh)
  arrays['vt'] = np.round(atlas.vt / UV_QUANTUM).astype(np.uint16)
  arrays['ft'] = atlas.ft.astype(np.uint16)
  arrays.update(_embedding('landmarks68', landmarks.scheme68(mesh)))
  arrays.update(_embedding('mediapipe', landmarks.mediapipe(mesh)))
  return arrays


def _labels(labels: ProceduralSemantics) -> storage.Arrays:
  names = ('template', *storage.SEMANTIC_FIELDS)
  return {name: getattr(labels, name) for name in names}


def _regressor(mesh: BuiltMesh) -> storage.Arrays:
  regressor = joint_regressor(mesh)
  rows, columns = np.nonzero(regressor)
  return {
    'regressor_rows': rows.astype(np.int8),
    'regressor_columns': columns.astype(np.uint16),
    'regressor_values': regressor[rows, columns].astype(np.float32),
  }


def _directions(
  mesh: BuiltMesh, kind: str, basis: dict[str, np.ndarray], total: int
) -> storage.Arrays:
  names, directions = list(basis), np.stack(list(basis.values()))
  packed = storage.pack_directions(names, directions, mesh.semantics.pair)
  fit = mode_fit.identity_modes if kind == 'shape' else mode_fit.expression_modes
  modes: SmoothModes = fit(mesh, directions.transpose(1, 2, 0), total - len(names))
  out = {f'{kind}_{key}': value for key, value in packed.items()}
  for part in ('centers', 'widths', 'coefficients', 'steps'):
    out[f'{kind}_modes_{part}'] = getattr(modes, part)
  return out


def _embedding(kind: str, embedding: LandmarkEmbedding) -> storage.Arrays:
  return {
    f'{kind}_index': embedding.index.astype(np.int32),
    f'{kind}_face': embedding.face.astype(np.int32),
    f'{kind}_barycentric': embedding.barycentric.astype(np.float32),
  }
