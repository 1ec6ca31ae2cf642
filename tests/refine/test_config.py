"""Settings that make no sense are refused when they are made."""

import dataclasses

import pytest

from sa0_jax.refine.config import AntiSpike, LearningRates, RefineConfig

BAD = {
  'steps': 0,
  'steps_per_call': 0,
  'checkpoint_every': -1,
  'held_out': 1.0,
  'resolution': 8,
  'uv_size': 0,
  'background': (0.0, 0.0, 1.5),
  'l1_weight': -0.1,
  'ssim_weight': -0.1,
  'color_prior': -1.0,
}


@pytest.mark.parametrize('name', list(BAD))
def test_values_out_of_range_name_the_setting(name):
  with pytest.raises(ValueError, match=name):
    RefineConfig(**{name: BAD[name]})


@pytest.mark.parametrize('name', [f.name for f in dataclasses.fields(LearningRates)])
def test_learning_rates_are_not_negative(name):
  with pytest.raises(ValueError, match='LearningRates'):
    LearningRates(**{name: -1e-3})


@pytest.mark.parametrize(
  'values',
  [{'start': -1}, {'log_scale_min': 3.0}, {'spread': 0.0}, {'weight': -0.5}, {'threshold': -1.0}],
)
def test_anti_spike_bounds_are_in_order(values):
  with pytest.raises(ValueError, match='AntiSpike'):
    AntiSpike(**values)


def test_the_published_numbers_are_the_defaults():
  """METHOD §7, and its [decided] values that tuning on the studio has not moved."""
  config = RefineConfig()
  assert config.steps == 10_000
  assert config.uv_size == 256
  assert (config.l1_weight, config.ssim_weight) == (0.8, 0.2)
  assert config.random_background
  spike = config.anti_spike
  assert (spike.start, spike.weight) == (500, 0.5)
  assert spike.freeze
  assert spike.clamp
  assert spike.penalty
