"""Shards built on Beam's DirectRunner are the shards built here (extra `beam`)."""

import importlib.util
from pathlib import Path

import pytest

from sa0_jax.data import beam
from sa0_jax.data.config import BuildConfig
from tests.data.scenes import prepare, tree_hashes

_INSTALLED = importlib.util.find_spec('apache_beam') is not None


@pytest.mark.skipif(not _INSTALLED, reason='Apache Beam is not installed')
@pytest.mark.filterwarnings('ignore')
def test_the_same_bytes(captures, monocular, tmp_path):
  splits = {'train': ['p0', 'p1', 'p2'], 'val': ['p3']}
  config = BuildConfig('sa0_monocular', frames_per_shard=5)
  runner = beam.run_shards(['--runner=DirectRunner'])
  path = prepare(captures, tmp_path, splits, config, runner=runner).path
  assert tree_hashes(Path(path)) == tree_hashes(Path(monocular))


@pytest.mark.skipif(_INSTALLED, reason='Apache Beam is installed')
def test_without_beam_the_extra_is_named():
  with pytest.raises(ImportError, match=r'sa0-jax\[beam\]'):
    beam.run_shards([])
