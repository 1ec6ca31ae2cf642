"""Machines to compile for: names and what is said when a compiler is missing."""

import importlib.util

import pytest
from sa0_kernels import targets


@pytest.mark.parametrize('name', ['h100x8', 'gtx:1', 'v5p', 'v5p:2', 'h100:2x2', '', 'v5p:axb'])
def test_unknown_machines_are_refused(name):
  with pytest.raises(ValueError, match=r'no machine .* to compile for'):
    targets.target(name)


@pytest.mark.parametrize(
  ('name', 'compiler', 'message'),
  [
    ('h100:8', 'jax_plugins', 'needs the plugins of JAX'),
    ('v5p:2x2x2', 'libtpu', 'pip install libtpu'),
  ],
)
def test_a_missing_compiler_is_named(name, compiler, message):
  if importlib.util.find_spec(compiler) is not None:
    pytest.skip(f'{compiler} is installed here')
  with pytest.raises(RuntimeError, match=message):
    targets.target(name)


@pytest.mark.parametrize('gpu', targets.GPUS.values(), ids=list(targets.GPUS))
def test_descriptions_are_of_this_gpu(gpu):
  text = gpu.description()
  assert f'name: "{gpu.name}"' in text
  assert f'major: {gpu.capability[0]} minor: {gpu.capability[1]}' in text
  assert gpu.arch.endswith('a') == (gpu.capability >= (9, 0))
