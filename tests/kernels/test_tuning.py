"""Tuned tile sizes: measured, kept by device, taken from then on."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sa0_kernels import RasterOutput, bench, tuning
from sa0_kernels.rasterize import api, tile_sizes
from sa0_kernels.rasterize.types import MAX_CHANNELS

from sa0_jax.cache import cache_home


@pytest.fixture
def table(tmp_path, monkeypatch):
  path = tmp_path / 'cache' / 'tuning.json'
  monkeypatch.setenv('SA0_TUNING', str(path))
  return path


def kind():
  return jax.devices()[0].device_kind


def test_without_a_file_nothing_is_tuned(table):
  assert tuning.tuned_tile_size('xla', 3) is None
  assert not table.exists()


@pytest.mark.parametrize('named', ['SA0_CACHE', 'XDG_CACHE_HOME', None])
def test_the_file_lies_in_the_cache_folder_of_sa0(tmp_path, monkeypatch, named):
  """Which this package cannot ask: it knows nothing of `sa0_jax`."""
  for name in ('SA0_TUNING', 'SA0_CACHE', 'XDG_CACHE_HOME'):
    monkeypatch.delenv(name, raising=False)
  if named:
    monkeypatch.setenv(named, str(tmp_path))
  assert tuning.tuning_file() == cache_home() / 'tuning.json'


def test_what_is_saved_is_found_by_device_and_channels(table):
  tuning.save({'xla': {'few': 8, 'many': 32}})
  assert tuning.tuned_tile_size('xla', 3) == 8
  assert tuning.tuned_tile_size('xla', MAX_CHANNELS) == 32
  assert tuning.tuned_tile_size('triton', 3) is None
  tuning.save({'triton': {'few': 16}})
  assert tuning.tuned_tile_size('xla', 3) == 8
  assert tuning.tuned_tile_size('triton', 3) == 16
  table.write_text(json.dumps({'another device': {'xla': {'few': 4}}}))
  assert tuning.tuned_tile_size('xla', 3) is None


@pytest.mark.parametrize(
  'text',
  [
    '',
    '{',
    '[1]',
    '{"cpu": 3}',
    '{"cpu": {"xla": {"few": 7}}}',
    '{"cpu": {"xla": 8}}',
    pytest.param(99_999 * '[', id='deep'),
  ],
)
def test_a_damaged_file_is_one_clear_line(table, text):
  table.parent.mkdir()
  table.write_text(text)
  with pytest.raises(ValueError, match=r'not a table of tile sizes .*delete it') as error:
    tuning.load()
  assert '\n' not in str(error.value)
  assert str(table) in str(error.value)


def test_a_file_that_cannot_be_written_leaves_the_old_one(table, monkeypatch):
  tuning.save({'xla': {'few': 8}})

  def full(*_, **__):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(json, 'dump', full)
  with pytest.raises(OSError, match='No space left'):
    tuning.save({'xla': {'few': 32}})
  assert tuning.tuned_tile_size('xla', 3) == 8
  assert [p.name for p in table.parent.iterdir()] == ['tuning.json']


def test_rasterize_takes_the_tuned_size_unless_one_is_named(table, monkeypatch):
  case = bench.Case(64, 3, num_gaussians=50)
  arrays, _ = bench.arguments(case)
  seen = []

  def record(name, settings, inputs):
    seen.append(settings)
    size = (settings.height, settings.width)
    none = jnp.zeros((), jnp.int32)
    return RasterOutput(jnp.zeros((*size, 3)), jnp.zeros(size), none, none > 0, none)

  monkeypatch.setattr(api, '_rasterize', record)
  tuning.save({'xla': {'few': 32}})
  bench.render(case, 'xla', arrays)
  bench.render(dataclasses.replace(case, tile_size=8), 'xla', arrays)
  assert [s.config.tile_size for s in seen] == [32, 8]


def test_tuning_times_every_size_and_keeps_the_fastest(table, monkeypatch, capsys):
  times = {8: 3.0, 16: 1.0, 32: 2.0}

  def measured(name, case, seconds):
    return {'milliseconds_median': times[case.tile_size] * (1 if case.channels == 3 else -1)}

  monkeypatch.setattr(bench, 'measure', measured)
  assert bench.main(['--tune', '--implementation', 'xla', '--implementation', 'numba']) == 0
  assert json.loads(table.read_text()) == {kind(): {'xla': {'few': 16, 'many': 8}}}
  assert f'kept in {table}' in capsys.readouterr().out


def test_every_size_worth_timing_gives_the_same_image(table):
  case = bench.Case(32, 3, num_gaussians=50)
  arrays, _ = bench.arguments(case)
  first, *others = (
    bench.render(dataclasses.replace(case, tile_size=size), 'xla', arrays).features
    for size in tile_sizes('xla')
  )
  assert others
  for image in others:
    np.testing.assert_allclose(image, first, atol=1e-6)
  assert tile_sizes('numba') == []
