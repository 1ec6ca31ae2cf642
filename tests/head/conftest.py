"""Synthetic heads: random arrays in FLAME's layout, nothing of anyone's model."""

import numpy as np
import pytest

from sa0_jax.head.model import HeadModel, LandmarkEmbedding


def _embedding(generator, index, num_faces):
  weights = generator.dirichlet(np.ones(3), size=len(index)).astype(np.float32)
  faces = generator.integers(0, num_faces, size=len(index)).astype(np.int32)
  return LandmarkEmbedding(np.asarray(index, np.int32), faces, weights)


def _make_head(num_vertices=60, num_shape=7, num_expression=4, *, seed=0, name='synthetic'):
  """A head of random arrays; its mesh is a strip, its UV a row of squares."""
  generator = np.random.default_rng(seed)

  def normal(*shape, scale=0.01):
    return (scale * generator.normal(size=shape)).astype(np.float32)

  corners = np.arange(num_vertices - 2)
  faces = np.stack([corners, corners + 1, corners + 2], axis=-1).astype(np.int32)
  faces[1::2] = faces[1::2][:, [1, 0, 2]]
  vt = np.stack(
    [np.linspace(0.05, 0.95, num_vertices), np.arange(num_vertices) % 2 * 0.5 + 0.2], axis=-1
  ).astype(np.float32)
  regressor = generator.dirichlet(np.full(num_vertices, 0.2), size=5).astype(np.float32)
  weights = generator.dirichlet(np.full(5, 0.3), size=num_vertices).astype(np.float32)
  return HeadModel(
    name=name,
    v_template=normal(num_vertices, 3, scale=0.1),
    faces=faces,
    shapedirs=normal(num_vertices, 3, num_shape),
    exprdirs=normal(num_vertices, 3, num_expression),
    posedirs=normal(num_vertices, 3, 36),
    joint_regressor=regressor,
    weights=weights,
    vt=vt,
    ft=faces.copy(),
    landmarks68=_embedding(generator, range(68), len(faces)),
    landmarks_mediapipe=_embedding(generator, range(0, 210, 2), len(faces)),
    shape_names=tuple(f'shape {i}' for i in range(num_shape)),
    expression_names=tuple(f'expression {i}' for i in range(num_expression)),
    components=(np.arange(num_vertices) * 3 // num_vertices).astype(np.int32),
    component_names=('skin', 'left_eye', 'right_eye'),
  )


@pytest.fixture(scope='session')
def make_head():
  """Factory: make_head(num_vertices, num_shape, num_expression, seed=, name=)."""
  return _make_head


@pytest.fixture(scope='session')
def head():
  """One small synthetic head."""
  return _make_head()
