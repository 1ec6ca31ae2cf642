"""Fixtures of the whole suite."""

import os
import tempfile

import jaxtyping
import pytest

# Tile sizes that the user of this machine has tuned are not what is tested.
os.environ['SA0_TUNING'] = os.path.join(tempfile.gettempdir(), 'sa0-nothing-tuned', 'tuning.json')


@pytest.fixture
def unchecked_shapes():
  """Switches annotation checks off, to see the errors users see: in production nothing checks."""
  jaxtyping.config.update('jaxtyping_disable', True)
  yield
  jaxtyping.config.update('jaxtyping_disable', False)
