"""The picture of a run: every part in its place, the right way up, in the right colours."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sa0_kernels import Camera, RasterOutput

from sa0_jax.avatar.gaussians import BoundGaussians
from sa0_jax.generator.decoder import DecodedMaps
from sa0_jax.generator.generator import Decoded, Identity, Sources
from sa0_jax.generator.residual import Residual
from sa0_jax.head.model import HeadCodes
from sa0_jax.head.registry import load_head
from sa0_jax.head.uv_layout import UVLayout
from sa0_jax.metrics.error_map import error_map
from sa0_jax.train import pictures
from sa0_jax.train.objective import Batch, Prediction, Targets

SIZE, UV, PEOPLE = 16, 32, 2


@functools.cache
def layout():
  return UVLayout.from_head(load_head(), UV)


def half(axis, size=SIZE):
  """White where a row (axis 0) or column (1) is in the first half, [size, size, 3]."""
  at = np.indices((size, size))[axis]
  return np.repeat((at < size // 2)[..., None], 3, axis=-1).astype(np.float32)


def filled(*shape, value=0.0):
  return jnp.full(shape, value, jnp.float32)


@functools.cache
def made() -> pictures.Pictures:
  """Sources lit at the top, the target on the left; the second source of the second is absent."""
  cameras = lambda *b: Camera(filled(*b, 4, 4), filled(*b, 4), SIZE, SIZE)  # noqa: E731
  sources = Sources(
    image=jnp.broadcast_to(half(0), (PEOPLE, 2, SIZE, SIZE, 3)),
    vertices=filled(PEOPLE, 2, 5, 3),
    camera=cameras(PEOPLE, 2),
    mask=jnp.asarray([[True, True], [True, False]]),
  )
  target = jnp.broadcast_to(half(1), (PEOPLE, SIZE, SIZE, 3))
  codes = HeadCodes.neutral(load_head())
  codes = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (PEOPLE, *leaf.shape)), codes)
  targets = Targets(target, filled(PEOPLE, 5, 3), cameras(PEOPLE), codes, filled(PEOPLE, 4))
  n = layout().n
  row, column = np.asarray(layout().texel).T
  # Colours: red by row, green by column. Positions: +x is 1 triangle unit, −y more than the range.
  low, high = -20.0, 20.0
  logits = np.stack([np.where(row < UV // 2, high, low), np.where(column < UV // 2, high, low)], -1)
  logits = np.concatenate([logits, np.full((n, 1), low)], -1).astype(np.float32)
  b3, b4 = filled(PEOPLE, n, 3), filled(PEOPLE, n, 4)
  color = jnp.broadcast_to(logits, (PEOPLE, n, 3))
  position = b3.at[..., 0].set(1.0).at[..., 1].set(-9.0)
  maps = DecodedMaps(position, b4, b3 + 1.0, filled(PEOPLE, n), color)
  residual = Residual(b3.at[..., 0].set(0.6).at[..., 1].set(0.8), b4, b3, b3.at[..., 2].set(0.2))
  gaussians = BoundGaussians(position, b4, b3, filled(PEOPLE, n, value=-20.0), color)
  render = target.at[:, 0, 0].add(-0.1)
  output = RasterOutput(
    features=render,
    alpha=filled(PEOPLE, SIZE, SIZE),
    num_instances=jnp.zeros(PEOPLE, jnp.int32),
    overflowed=jnp.zeros(PEOPLE, bool),
    num_invalid=jnp.zeros(PEOPLE, jnp.int32),
  )
  identity = Identity(filled(PEOPLE, n, 4), b3)
  prediction = Prediction(identity, Decoded(gaussians, maps, residual), output)
  return jax.jit(pictures.to_images)(Batch(sources, targets), prediction, layout())


def valid():
  mask = np.zeros((UV, UV), bool)
  mask[tuple(np.asarray(layout().texel).T)] = True
  return mask


def test_photographs_are_as_they_were_and_absent_ones_dark():
  sources = np.asarray(made().sources)
  top = (255 * half(0)).astype(np.uint8)
  np.testing.assert_array_equal(sources[0], [top, top])
  np.testing.assert_array_equal(sources[1, 0], top)
  assert np.unique(sources[1, 1]).tolist() == [40]
  np.testing.assert_array_equal(made().target[0], 255 * half(1))


def test_maps_lie_as_the_texture_does():
  color, inside = np.asarray(made().color)[0], valid()
  upper, left = half(0, UV)[..., 0] > 0, half(1, UV)[..., 0] > 0
  np.testing.assert_array_equal(color[inside][:, 0], 255 * upper[inside])
  np.testing.assert_array_equal(color[inside][:, 1], 255 * left[inside])
  assert color[inside][:, 2].max() == 0
  assert np.unique(color[~inside]).tolist() == [26]  # dark grey where there is no Gaussian


@pytest.mark.parametrize(
  ('name', 'rgb'),
  [
    ('position', [191, 0, 128]),  # +1 of ±2, below −2, none
    ('log_scale', [191, 191, 191]),
    ('opacity', [0, 0, 0]),
    ('residual', [255, 0, 51]),  # lengths 1, 0 and 0.2
  ],
)
def test_values_have_their_fixed_colours(name, rgb):
  image = np.asarray(getattr(made(), name))[1]
  assert np.unique(image[valid()], axis=0).tolist() == [rgb]


def test_numbers_that_are_none_are_black_or_white():
  bad = jnp.asarray([jnp.nan, jnp.inf, -jnp.inf, 0.5])
  assert np.asarray(pictures._bytes(bad)).tolist() == [0, 255, 0, 128]


def test_a_row_a_person_and_a_column_a_kind():
  side, gap, header = 16, 2, 14
  sheet = pictures.compose(made(), side)
  columns = 2 + 8
  assert sheet.shape == (header + 2 * (gap + side), columns * (side + gap) - gap, 3)
  for person in range(PEOPLE):
    top = header + gap + person * (side + gap)
    for column, picture in enumerate(
      (
        made().sources[person, 0],
        made().sources[person, 1],
        made().target[person],
        made().render[person],
        error_map(np.asarray(made().render[person]), np.asarray(made().target[person])),
      )
    ):
      left = column * (side + gap)
      np.testing.assert_array_equal(sheet[top : top + side, left : left + side], picture)
  gaps = [column * (side + gap) - i for column in range(1, columns) for i in (1, 2)]
  assert sheet[:, gaps].max() == 0
  assert sheet[:header].max() > 100  # words
  bare = pictures.compose(made(), side, labels=False)
  np.testing.assert_array_equal(bare, sheet[header + gap :])
  assert len(pictures.compose(made(), side, people=1, labels=False)) == side


def test_tiles_keep_their_proportions():
  tile = pictures._tile(np.full((20, 10, 3), 255, np.uint8), 8)
  assert tile[:, :4].min() == 255
  assert tile[:, 4:].max() == 0


def test_sizes_are_checked():
  with pytest.raises(ValueError, match='must be positive, got 0 and 4'):
    pictures.compose(made(), 0)
