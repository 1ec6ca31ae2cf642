"""Two small data sets, made once."""

import pytest

from sa0_jax.data.config import BuildConfig
from tests.data.scenes import prepare, save_captures


@pytest.fixture(scope='session')
def captures(tmp_path_factory):
  """Four subjects filmed by one camera, seven frames each. Copy before changing anything."""
  return save_captures(tmp_path_factory.mktemp('captures'), 4)


@pytest.fixture(scope='session')
def monocular(captures, tmp_path_factory):
  """Folder of sa0_monocular: p0 to p2 in train, p3 in val; five frames a shard."""
  splits = {'train': ['p0', 'p1', 'p2'], 'val': ['p3']}
  config = BuildConfig('sa0_monocular', frames_per_shard=5)
  return prepare(captures, tmp_path_factory.mktemp('data'), splits, config).path


@pytest.fixture(scope='session')
def multiview(tmp_path_factory):
  """Folder of sa0_multiview: two subjects, four instants, six cameras, of 48 px."""
  folder = save_captures(tmp_path_factory.mktemp('studio'), 2, instants=4, views=6, size=48)
  config = BuildConfig('sa0_multiview')
  return prepare(folder, tmp_path_factory.mktemp('data'), {'train': ['p0', 'p1']}, config).path
