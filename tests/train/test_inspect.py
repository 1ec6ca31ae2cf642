"""What a configuration costs, before it is run."""

import dataclasses

import pytest

from sa0_jax.config import from_config_dict, load_config
from sa0_jax.train import inspect
from sa0_jax.train.config import TrainConfig


def settings(name: str) -> TrainConfig:
  return from_config_dict(TrainConfig, load_config(name))


def test_the_published_network_has_the_published_size():
  modules = {m.name: m for m in inspect.module_sizes(settings('paper'))}
  assert 40e6 <= modules['unet'].parameters <= 60e6
  assert 85e6 < modules['encoder'].parameters < 87e6
  assert (modules['encoder'].trained1, modules['encoder'].trained2) == (
    0,
    modules['encoder'].parameters,
  )
  others = [m for name, m in modules.items() if name != 'encoder']
  assert all(m.trained1 == m.trained2 == m.parameters for m in others)


def test_every_configuration_is_a_network_of_its_size():
  sizes = [
    sum(m.parameters for m in inspect.module_sizes(settings(name)))
    for name in ('debug', 'tiny', 'small')
  ]
  assert sizes == sorted(sizes)
  tiny = inspect.module_sizes(settings('tiny'))
  assert all(m.trained1 == m.parameters for m in tiny)


@pytest.mark.slow
def test_a_program_is_compiled_and_measured():
  config = settings('debug')
  report = inspect.compile_program('forward', config)
  assert report.devices >= 1
  assert report.batch_size == config.phase1.batch_size
  assert report.machine.startswith('this machine')
  assert report.fits is None
  # Parameters alone are part of it.
  assert report.argument_bytes > 4 * sum(m.parameters for m in inspect.module_sizes(config))
  assert report.peak_bytes >= report.argument_bytes + report.temporary_bytes
  assert report.flops > 1e8
  assert dataclasses.replace(report, memory_bytes=report.peak_bytes).fits
  assert not dataclasses.replace(report, memory_bytes=report.peak_bytes - 1).fits


def test_transfers_are_counted_once():
  program = """
  %all-reduce-start.2 = f32[8]{0} all-reduce-start(%a.1), metadata={name="all-reduce-start.2"}
  %all-reduce-done.2 = f32[8]{0} all-reduce-done(%all-reduce-start.2)
  ROOT %all-reduce = (f32[], f32[8]{0}) all-reduce(%b, %c), channel_id=1
  %x = f32[16]{0} all-gather(%d), dimensions={0}
  %y = f32[16]{0} fusion(%all-gather.3), calls=%fused_all-gather
"""
  assert inspect.count_collectives(program) == {'all-reduce': 2, 'all-gather': 1}


def test_programs_have_names():
  with pytest.raises(ValueError, match="one of forward, phase1, phase2, got 'backward'"):
    inspect.compile_program('backward', settings('debug'))
