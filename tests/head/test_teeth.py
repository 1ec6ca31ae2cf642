"""The teeth patch: places, faces, weights and what moves them."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from sa0_jax.head import lbs, teeth
from sa0_jax.head.model import HeadCodes


@pytest.fixture(scope='module')
def patched(flame):
  return teeth.add_teeth(flame)


def _row(patched, row):
  start = 5023 + 15 * teeth._ROWS.index(row)
  return patched.v_template[start : start + 15]


def test_rows_stand_where_the_format_says(flame, patched):
  upper, lower = flame.v_template[teeth._UPPER_RING], flame.v_template[teeth._LOWER_RING]
  distance = np.linalg.norm(upper - lower, axis=1).mean()
  middle = (upper + lower) / 2
  edge = _row(patched, 'upper_edge')
  np.testing.assert_allclose(edge[:, 0], middle[:, 0], atol=1e-7)
  np.testing.assert_allclose(edge[:, 1], middle[:, 1].mean() + 0.1 * distance, atol=1e-7)
  np.testing.assert_allclose(edge[:, 2], middle[:, 2] - 1.5 * distance, atol=1e-7)
  for row, base, offset in (
    ('lower_edge', 'upper_edge', (0, -0.2, -0.4)),
    ('upper_root', 'upper_edge', (0, 2, 0)),
    ('lower_root', 'lower_edge', (0, -2, 0)),
    ('upper_root_back', 'upper_root', (0, 0, -1)),
    ('upper_edge_back', 'upper_edge', (0, 0, -1)),
    ('lower_root_back', 'lower_root', (0, 0, -1)),
    ('lower_edge_back', 'lower_edge', (0, 0, -1)),
  ):
    expected = _row(patched, base) + distance * np.array(offset)
    np.testing.assert_allclose(_row(patched, row), expected, atol=1e-7, err_msg=row)


@pytest.mark.parametrize('mirror', [1, -1])
def test_faces_look_outwards_whichever_way_the_rings_run(flame, mirror):
  head = dataclasses.replace(flame, v_template=flame.v_template * np.float32([mirror, 1, 1]))
  patched = teeth.add_teeth(head)
  new = patched.faces[9976:]
  assert new.shape == (168, 3)
  assert new.min() == 5023
  assert new.max() == 5142
  a, b, c = (patched.v_template[new[:, i]] for i in range(3))
  normals = np.cross(b - a, c - a)
  normals /= np.linalg.norm(normals, axis=1, keepdims=True)
  # Strips in the order upper front, cutting edge, back, then the lower ones.
  for strip, direction in enumerate(
    ((0, 0, 1), (0, -1, 0), (0, 0, -1), (0, 0, 1), (0, 1, 0), (0, 0, -1))
  ):
    facing = normals[28 * strip : 28 * strip + 28] @ np.array(direction)
    assert facing.min() > 0.5, strip


def test_each_strip_is_a_closed_band_without_holes(patched):
  new = patched.faces[9976:]
  edges = np.concatenate([new[:, [0, 1]], new[:, [1, 2]], new[:, [2, 0]]])
  assert len(np.unique(edges, axis=0)) == len(edges)  # consistent orientation
  undirected, counts = np.unique(np.sort(edges, axis=1), axis=0, return_counts=True)
  assert counts.max() == 2
  # Each row of teeth is one open band of 4 × 15 vertices: its outline has 14 + 14 + 3 + 3 edges.
  assert (counts == 1).sum() == 2 * (14 + 14 + 3 + 3)
  assert len(np.unique(undirected)) == 120


def test_teeth_follow_identity_and_their_own_joint(flame, patched):
  neutral = HeadCodes.neutral(patched)
  still = np.asarray(lbs.pose_head(patched, neutral))
  wide = dataclasses.replace(neutral, shape=neutral.shape.at[0].set(1.0))
  moved = np.asarray(lbs.pose_head(patched, wide)) - still
  rings = (moved[teeth._UPPER_RING] + moved[teeth._LOWER_RING]) / 2
  np.testing.assert_allclose(moved[5023:].reshape(8, 15, 3), np.tile(rings, (8, 1, 1)), atol=1e-6)
  smile = dataclasses.replace(neutral, expression=neutral.expression.at[0].set(1.0))
  np.testing.assert_allclose(lbs.pose_head(patched, smile)[5023:], still[5023:], atol=1e-6)
  opened = dataclasses.replace(neutral, jaw=jnp.array([0.3, 0.0, 0.0]))
  moved = np.abs(np.asarray(lbs.pose_head(patched, opened)) - still).max(axis=1)
  assert moved[teeth.teeth_component('upper')].max() < 1e-6
  assert moved[teeth.teeth_component('lower')].min() > 1e-3
  np.testing.assert_array_equal(patched.joint_regressor[:, 5023:], 0)
  np.testing.assert_array_equal(patched.ft[9976:], -1)


def test_other_meshes_are_refused_and_patched_ones_kept(head, patched):
  assert teeth.add_teeth(patched) is patched
  with pytest.raises(ValueError, match='60 vertices and 58 faces'):
    teeth.add_teeth(head)
