"""Fixtures of the whole suite."""

import os
import pathlib
import tempfile

import jax
import jaxtyping
import pytest

from tests import machine_code

machine_code.share()
# For JAX that is imported already.
jax.config.update('jax_disable_most_optimizations', True)
jax.config.update('jax_compilation_cache_dir', os.environ['JAX_COMPILATION_CACHE_DIR'])
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.1)
# Tile sizes that the user of this machine has tuned are not what is tested.
os.environ['SA0_TUNING'] = os.path.join(tempfile.gettempdir(), 'sa0-nothing-tuned', 'tuning.json')

# Linux gives a process 65,530 memory maps, and each program XLA compiles for the CPU takes some.
# Without any left it fails in strange places ("Failed to materialize symbols").
_MAPS = pathlib.Path('/proc/self/maps')
_ENOUGH_MAPS = 20_000


@pytest.fixture(autouse=True)
def _room_for_programs():
  """Forgets the compiled programs when the tests before have left too many."""
  yield
  if _MAPS.exists() and _MAPS.read_bytes().count(b'\n') > _ENOUGH_MAPS:
    jax.clear_caches()


@pytest.fixture
def optimized():
  """For what trains for minutes: compiled as users' programs are."""
  jax.config.update('jax_disable_most_optimizations', False)
  yield
  jax.config.update('jax_disable_most_optimizations', True)


@pytest.fixture
def unchecked_shapes():
  """Switches annotation checks off, to see the errors users see: in production nothing checks."""
  jaxtyping.config.update('jaxtyping_disable', True)
  yield
  jaxtyping.config.update('jaxtyping_disable', False)
