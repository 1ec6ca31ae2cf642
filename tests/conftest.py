"""Fixtures of the whole suite."""

import jaxtyping
import pytest


@pytest.fixture
def unchecked_shapes():
  """Switches annotation checks off, to see the errors users see: in production nothing checks."""
  jaxtyping.config.update('jaxtyping_disable', True)
  yield
  jaxtyping.config.update('jaxtyping_disable', False)
