"""What is left out to save time is what would have been nothing."""

import dataclasses

import numpy as np
import pytest

from sa0_jax.capture.studio import skin_paint
from sa0_jax.capture.studio.hair import kernels
from sa0_jax.capture.studio.subject import Look, sample_subject
from sa0_jax.head.procedural import load_procedural_head, load_procedural_semantics
from sa0_jax.head.procedural.anatomy import smoothstep
from sa0_jax.head.procedural.paint import PaintFields

pytest.importorskip('numba')


def _extreme_look() -> Look:
  """The widest brows, a full beard and a hairline that has moved up."""
  look = sample_subject(1, load_procedural_head()).look
  return dataclasses.replace(
    look,
    brows=dataclasses.replace(look.brows, density=1.0, thickness=1.3, raised=3.0, arch=1.5),
    skin=dataclasses.replace(look.skin, stubble=1.0),
    hair=dataclasses.replace(look.hair, recede=9.0),
  )


def _surface() -> tuple[PaintFields, np.ndarray, np.ndarray]:
  """Vertices and the middles of faces: 18,000 points."""
  columns = PaintFields.of_vertices(load_procedural_semantics()).stacked()
  middles = columns[load_procedural_head().faces].mean(axis=1)
  fields = PaintFields.from_stacked(np.concatenate([columns, middles]).astype(np.float32))
  points = np.ascontiguousarray(fields.template, np.float32)
  folded = points.copy()
  folded[:, 0] = np.abs(folded[:, 0])
  return fields, points, folded


def test_the_grid_of_distances_is_that_of_all_points() -> None:
  rng = np.random.default_rng(0)
  directions = rng.normal(size=(900, 3))
  directions /= np.linalg.norm(directions, axis=1, keepdims=True)
  points = (directions * [70, 100, 85] + [5, -10, 3]).astype(np.float32)
  normals = directions.astype(np.float32)
  origin, spacing, shape = np.array([-120.0, -150.0, -130.0]), 17.0, (14, 18, 15)
  found = kernels().distance_grid(points, normals, origin, spacing, shape)
  nodes = np.stack(np.meshgrid(*map(np.arange, shape), indexing='ij'), axis=-1) * spacing + origin
  offsets = nodes.reshape(-1, 1, 3) - points.astype(np.float64)[None]
  distances = np.linalg.norm(offsets, axis=2)
  nearest = distances.argmin(axis=1)
  rows = np.arange(len(nearest))
  straight = distances[rows, nearest]
  plane = (offsets[rows, nearest] * normals[nearest]).sum(axis=1)
  far = np.minimum(straight / 40, 1)
  wanted = plane * (1 - far) + np.where(plane > 0, straight, -straight) * far
  np.testing.assert_allclose(found.ravel(), wanted, atol=2e-3)


def test_brows_lie_where_they_are_looked_for() -> None:
  _, points, folded = _surface()
  look = _extreme_look()
  everywhere = skin_paint._brow_hairs(points, folded, look.brows, look.seed)
  np.testing.assert_array_equal(skin_paint._brows(points, folded, look), everywhere)
  assert everywhere.max() > 0.5


def test_stubble_lies_where_it_is_looked_for() -> None:
  fields, points, folded = _surface()
  look = _extreme_look()
  everywhere = skin_paint.beard_density(fields, points, look.seed)
  found = skin_paint._stubble(fields, points, folded, look)
  np.testing.assert_array_equal(found > 0, everywhere > 0)
  assert found.max() > 0.5


def test_the_scalp_is_where_it_is_looked_for() -> None:
  fields, points, folded = _surface()
  look = _extreme_look()
  distance = skin_paint.scalp_distance(folded, look.hair.recede)
  ragged = skin_paint.noise.fractal(points, 12.0, look.seed + 31, octaves=3, gain=0.6)
  possible = smoothstep(distance + 5.0 * ragged, -2.0, 10.0) > 0
  found = skin_paint._scalp(fields, points, folded, look)
  bare = np.clip(2.0 * fields.ear, 0, 1) < 1
  np.testing.assert_array_equal(found > 0, possible & bare)
