"""Frames of a prepared data set become the batches that training takes."""

import jax
import numpy as np
import pytest

from sa0_jax.capture.capture import load_capture
from sa0_jax.capture.frames import load_frames
from sa0_jax.data.config import BuildConfig, DataConfig
from sa0_jax.data.pipeline import Run, make_batches
from sa0_jax.generator.sources import pack_sources
from sa0_jax.head.registry import load_head
from sa0_jax.train import parallel
from sa0_jax.train.feed import make_feed, make_put
from tests.data.scenes import prepare, save_captures
from tests.train.studio_data import pack_target

SIZE = 64


@pytest.fixture(scope='module')
def captures(tmp_path_factory):
  return save_captures(tmp_path_factory.mktemp('captures'), 2, size=SIZE)


@pytest.fixture(scope='module')
def prepared(captures, tmp_path_factory):
  splits = {'train': ['p0', 'p1']}
  return prepare(captures, tmp_path_factory.mktemp('data'), splits, BuildConfig()).path


@pytest.fixture(scope='module')
def mesh():
  return parallel.make_mesh(jax.devices()[:1])


def test_batches_are_those_made_of_captures(captures, prepared, mesh):
  head = load_head()
  frames = next(iter(make_batches(DataConfig((prepared,)), Run(2, SIZE, 3))))
  batch = make_feed(mesh, head)(make_put(mesh)(frames))
  for person in range(2):
    target, *sources = (int(row) for row in frames.rows[person] if row >= 0)
    capture = load_capture(captures / f'p{target // 7}')
    arrays = load_frames(capture, head, SIZE)
    expected = pack_sources(arrays, [row % 7 for row in sources])
    there = np.asarray(expected.mask[0])
    np.testing.assert_array_equal(batch.sources.mask[person], there)
    codes = capture.frame_codes(target % 7)
    wanted = pack_target(arrays, target % 7, codes, frames.face_box[person, 0])
    ours, theirs = jax.tree.map(lambda leaf, p=person: leaf[p], batch), (expected, wanted)
    for found, made, rows in zip(ours, theirs, (there, Ellipsis), strict=True):
      for one, two in zip(jax.tree.leaves(found), jax.tree.leaves(made), strict=True):
        np.testing.assert_allclose(one[rows], two[0][rows], atol=2e-6)
  assert batch.sources.image.sharding == parallel.spread(mesh)
