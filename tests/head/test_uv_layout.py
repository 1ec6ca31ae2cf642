"""UV layout: the valid texels against exact arithmetic, their order, ties and round trips."""

import dataclasses
import time
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sa0_jax.head import uv_layout
from sa0_jax.head.uv_layout import UVLayout


def _with_uv(head, vt, ft):
  """The head's UV replaced; its faces are stretched to as many (they do not matter here)."""
  ft = np.asarray(ft, np.int32)
  faces = np.resize(head.faces, ft.shape)
  return dataclasses.replace(head, faces=faces, vt=np.asarray(vt, np.float32), ft=ft)


def _grid(columns, rows, low=0.0, high=1.0, jitter=0.0, seed=0):
  """A triangulated rectangle [low, high]² of UV."""
  x, y = np.meshgrid(np.linspace(low, high, columns + 1), np.linspace(low, high, rows + 1))
  noise = np.random.default_rng(seed).uniform(-jitter, jitter, size=(2, *x.shape))
  noise[:, [0, -1]] = 0
  noise[:, :, [0, -1]] = 0
  vt = np.stack([x + noise[0], y + noise[1]], axis=-1).reshape(-1, 2)
  index = np.arange(len(vt)).reshape(rows + 1, columns + 1)
  a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
  ft = np.stack([np.stack([a, b, c], -1), np.stack([a, c, d], -1)], axis=2).reshape(-1, 3)
  return vt, ft


def _covering_by_definition(head, resolution):
  """The rule in exact rational arithmetic, texel by texel: the reference."""
  covering = {}
  for row in range(resolution):
    for column in range(resolution):
      u = Fraction(2 * column + 1, 2 * resolution)
      v = 1 - Fraction(2 * row + 1, 2 * resolution)
      for face, corners in enumerate(head.ft):
        if min(corners) < 0:
          continue
        (au, av), (bu, bv), (cu, cv) = (
          (Fraction(float(x)), Fraction(float(y))) for x, y in head.vt[corners]
        )
        sides = [
          (bu - au) * (v - av) - (bv - av) * (u - au),
          (cu - bu) * (v - bv) - (cv - bv) * (u - bu),
          (au - cu) * (v - cv) - (av - cv) * (u - cu),
        ]
        if sum(sides) != 0 and (min(sides) >= 0 or max(sides) <= 0):
          covering[row, column] = face, [sides[1] / sum(sides), sides[2] / sum(sides)]
          break
  return covering


@pytest.mark.parametrize('resolution', [1, 7, 16])
def test_layout_equals_exact_arithmetic(head, resolution):
  generator = np.random.default_rng(1)
  vt = np.concatenate(
    [
      generator.uniform(size=(30, 2)),
      generator.integers(0, 33, size=(30, 2)) / 32,  # on texel centres and boundaries
    ]
  )
  ft = generator.integers(0, 60, size=(12, 3))
  ft = np.concatenate([ft, [[3, 3, 9], [-1, -1, -1]]])  # degenerate, and without UV
  synthetic = _with_uv(head, vt, ft)
  expected = _covering_by_definition(synthetic, resolution)
  layout = UVLayout.from_head(synthetic, resolution)
  assert layout.n == len(expected)
  np.testing.assert_array_equal(layout.texel, sorted(expected))
  for texel, face, barycentric in zip(
    layout.texel.tolist(), layout.face.tolist(), layout.barycentric.tolist(), strict=True
  ):
    expected_face, weights = expected[tuple(texel)]
    assert face == expected_face
    np.testing.assert_allclose(barycentric[:2], [float(w) for w in weights], atol=1e-5)


def test_row_zero_is_the_top_of_the_texture(head):
  # One small triangle near u = 0, v = 1: the top left corner of the image.
  vt = [[0.0, 1.0], [0.2, 1.0], [0.0, 0.8]]
  layout = UVLayout.from_head(_with_uv(head, vt, [[0, 1, 2]]), 8)
  assert [0, 0] in layout.texel.tolist()
  assert int(layout.texel.max()) <= 1
  image = np.asarray(layout.to_image(jnp.ones((layout.n, 1))))
  assert image[0, 0, 0] == 1
  assert image[4:].sum() == 0


@pytest.mark.parametrize(('columns', 'rows', 'jitter'), [(64, 64, 0.0), (50, 40, 0.004)])
def test_shared_edges_leave_no_holes(head, columns, rows, jitter):
  # At 64 the mesh's edges and diagonals run exactly through the texel centres of 32 and 64.
  vt, ft = _grid(columns, rows, jitter=jitter)
  for resolution in (32, 64, 100, 256):
    assert UVLayout.from_head(_with_uv(head, vt, ft), resolution).n == resolution**2


def test_number_of_texels_is_that_of_the_area_covered(head):
  # [⅛, ⅞]²: centres at (i + ½)/R inside are those with R/8 ≤ i < 7R/8.
  vt, ft = _grid(20, 20, 0.125, 0.875)
  for resolution in (8, 64, 256):
    assert UVLayout.from_head(_with_uv(head, vt, ft), resolution).n == (resolution * 3 // 4) ** 2


def test_ties_and_overlaps_go_to_the_lowest_face(head):
  vt = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]
  square = [[0, 1, 2], [0, 2, 3]]
  on_diagonal = np.arange(8)
  for ft in (square, square[::-1], square + square[::-1]):
    layout = UVLayout.from_head(_with_uv(head, vt, ft), 8)
    face = np.full((8, 8), -1)
    face[tuple(np.asarray(layout.texel).T)] = layout.face
    # v = u runs from the bottom left to the top right.
    np.testing.assert_array_equal(face[7 - on_diagonal, on_diagonal], 0)
    assert face.max() == 1


def test_mirrored_charts_are_drawn(head):
  vt, ft = _grid(10, 10)
  mirrored = vt * [-1, 1] + [1, 0]
  assert UVLayout.from_head(_with_uv(head, mirrored, ft), 32).n == 32**2


def test_barycentric_weights_interpolate_the_texel_centre(head):
  vt, ft = _grid(30, 20, jitter=0.01)
  synthetic = _with_uv(head, vt, ft)
  layout = UVLayout.from_head(synthetic, 128)
  corners = synthetic.vt[synthetic.ft[np.asarray(layout.face)]]
  uv = np.einsum('nkc,nk->nc', corners, layout.barycentric)
  texel = np.asarray(layout.texel)
  expected = np.stack([(texel[:, 1] + 0.5) / 128, 1 - (texel[:, 0] + 0.5) / 128], axis=-1)
  np.testing.assert_allclose(uv, expected, atol=2e-6)
  assert layout.barycentric.min() >= 0
  np.testing.assert_allclose(layout.barycentric.sum(axis=1), 1, atol=1e-6)


def test_faces_without_uv_have_no_texels(head):
  vt, ft = _grid(4, 4)
  ft[10:] = -1
  assert int(UVLayout.from_head(_with_uv(head, vt, ft), 64).face.max()) < 10


def test_images_and_values_round_trip(head):
  layout = UVLayout.from_head(head, 64)
  values = jnp.asarray(np.random.default_rng(0).normal(size=(2, layout.n, 5)), jnp.float32)
  image = layout.to_image(values, background=-9.0)
  assert image.shape == (2, 64, 64, 5)
  np.testing.assert_array_equal(layout.from_image(image), values)
  assert int((image == -9.0).sum()) == 2 * 5 * (64 * 64 - layout.n)
  with pytest.raises(ValueError, match='32×32'):
    layout.from_image(jnp.zeros((32, 32, 1)))


def test_layout_is_a_pytree_with_a_static_resolution(head):
  layout = UVLayout.from_head(head, 32)
  image = jax.jit(lambda layout, values: layout.to_image(values))(layout, jnp.ones((layout.n, 1)))
  assert int(image.sum()) == layout.n
  assert len(jax.tree.leaves(layout)) == 3


def test_heads_without_uv_and_absurd_resolutions_are_refused(head):
  bare = dataclasses.replace(head, vt=head.vt[:0], ft=np.full_like(head.ft, -1))
  with pytest.raises(ValueError, match=r'no UV: .*--uv'):
    UVLayout.from_head(bare, 64)
  for resolution in (0, 10**6):
    with pytest.raises(ValueError, match='UV resolution'):
      UVLayout.from_head(head, resolution)
  tiny = _with_uv(head, [[0.1, 0.1], [0.11, 0.1], [0.1, 0.11]], [[0, 1, 2]])
  with pytest.raises(ValueError, match='no texel'):
    UVLayout.from_head(tiny, 2)


def test_chunks_do_not_change_the_layout(head, monkeypatch):
  synthetic = _with_uv(head, *_grid(9, 7, jitter=0.02))
  whole = UVLayout.from_head(synthetic, 40)
  monkeypatch.setattr(uv_layout, '_CHUNK_PAIRS', 17)
  chunked = UVLayout.from_head(synthetic, 40)
  for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(chunked), strict=True):
    np.testing.assert_array_equal(a, b)


def test_a_flame_sized_unwrap_takes_a_fraction_of_a_second(head):
  synthetic = _with_uv(head, *_grid(78, 77, 0.02, 0.98, jitter=0.004))  # 12,012 triangles
  UVLayout.from_head(synthetic, 16)  # arrays reach the device once before the clock runs
  start = time.perf_counter()
  layout = UVLayout.from_head(synthetic, 256)
  assert time.perf_counter() - start < 1.0  # 0.1 s on an idle machine
  assert layout.n == 246**2
