"""Synthetic heads: random arrays in FLAME's layout, nothing of anyone's model."""

import numpy as np
import pytest

from sa0_jax.head import teeth
from sa0_jax.head.flame_pickle import export_flame_pickle
from sa0_jax.head.model import HeadModel, LandmarkEmbedding
from sa0_jax.head.teeth import FLAME_FACES, FLAME_VERTICES


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


def _make_flame():
  """A head with FLAME's sizes: a closed sphere, loose faces to fill up, lips where FLAME's are."""
  rings, segments = 70, 71
  polar = np.linspace(0, np.pi, rings + 2)[1:-1, None]
  azimuth = np.linspace(0, 2 * np.pi, segments, endpoint=False)
  sphere = np.stack(
    np.broadcast_arrays(
      np.sin(polar) * np.sin(azimuth), np.cos(polar), np.sin(polar) * np.cos(azimuth)
    ),
    axis=-1,
  ).reshape(-1, 3)
  grid = np.arange(rings * segments).reshape(rings, segments)
  right = np.roll(grid, -1, axis=1)
  north, south = rings * segments, rings * segments + 1
  faces = np.concatenate(
    [
      np.stack([grid[:-1], grid[1:], right[1:]], -1).reshape(-1, 3),
      np.stack([grid[:-1], right[1:], right[:-1]], -1).reshape(-1, 3),
      np.stack([np.full(segments, north), grid[0], right[0]], -1),
      np.stack([np.full(segments, south), right[-1], grid[-1]], -1),
    ]
  )
  loose = south + 1 + np.arange(FLAME_FACES - len(faces))
  faces = np.concatenate([faces, np.stack([loose, loose + 1, loose + 2], -1)])
  v_template = np.zeros((FLAME_VERTICES, 3))
  v_template[: len(sphere)] = sphere
  v_template[[north, south], 1] = 1, -1
  v_template *= 0.1
  across = np.linspace(-0.025, 0.025, 15)
  for ring, height in ((teeth._UPPER_RING, 0.004), (teeth._LOWER_RING, -0.004)):
    v_template[ring] = np.stack([across, height + 0.002 * np.cos(40 * across), 0.1 - across**2], -1)
  generator = np.random.default_rng(0)
  smooth = v_template @ generator.normal(size=(3, 20)).astype(np.float32)
  mix = 0.02 * generator.normal(size=(20, 3, 400)).astype(np.float32)
  directions = np.tensordot(np.sin(smooth * 20), mix, 1).astype(np.float32)
  weights = np.zeros((FLAME_VERTICES, 5), np.float32)
  joint = np.select([v_template[:, 1] < -0.05, v_template[:, 1] < 0], [0, 2], 1)
  joint[3931:4477], joint[4477:] = 3, 4
  weights[np.arange(FLAME_VERTICES), joint] = 1
  regressor = (weights / weights.sum(0)).T
  vt = 0.5 + 0.45 * np.stack([np.sin(v_template[:, 0] * 10), v_template[:, 1] * 10], -1)
  faces = faces.astype(np.int32)
  return HeadModel(
    name='flame2020',
    v_template=v_template.astype(np.float32),
    faces=faces,
    shapedirs=directions[..., :300],
    exprdirs=directions[..., 300:],
    posedirs=np.zeros((FLAME_VERTICES, 3, 36), np.float32),
    joint_regressor=regressor,
    weights=weights,
    vt=vt.astype(np.float32),
    ft=faces,
  )


@pytest.fixture(scope='session')
def flame():
  """A head with FLAME's sizes and lip rings, as published: no teeth."""
  return _make_flame()


@pytest.fixture(scope='session')
def flame_pickle(flame, tmp_path_factory):
  """That head as a FLAME model file whose folder says the edition."""
  path = tmp_path_factory.mktemp('FLAME2020') / 'generic_model.pkl'
  export_flame_pickle(flame, path)
  return path
