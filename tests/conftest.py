"""Fixtures of the whole suite."""

import os
import pathlib
import tempfile

import jax
import jaxtyping
import pytest

from tests import machine_code

machine_code.share()
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


# Compiling is most of what these do: XLA leaves its expensive passes out there, as in JAX's own
# tests. The programs stay the same, the machine code is slower.
_MOSTLY_COMPILED = {
  'avatar',
  'evaluate',
  'generator',
  'geometry',
  'head',
  'kernels',
  'losses',
  'render',
  'train',
}


@pytest.fixture(autouse=True)
def _quick_compiler(request):
  quick = request.path.parent.name in _MOSTLY_COMPILED and not request.node.get_closest_marker(
    'slow'
  )
  jax.config.update('jax_disable_most_optimizations', quick)
  yield
  jax.config.update('jax_disable_most_optimizations', False)


@pytest.fixture
def unchecked_shapes():
  """Switches annotation checks off, to see the errors users see: in production nothing checks."""
  jaxtyping.config.update('jaxtyping_disable', True)
  yield
  jaxtyping.config.update('jaxtyping_disable', False)
