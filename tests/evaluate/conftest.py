"""Results that tests of a module share are made before a test begins: quickly compiled, too."""

import jax
import pytest


@pytest.fixture(scope='module', autouse=True)
def _quick_compiler_for_shared():
  jax.config.update('jax_disable_most_optimizations', True)
  yield
  jax.config.update('jax_disable_most_optimizations', False)
