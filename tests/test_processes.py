"""What is known of this machine's processes."""

import resource
import sys

import pytest

from sa0_jax.processes import peak_memory


@pytest.mark.parametrize(
  ('platform', 'unit'), [('linux', 1024), ('freebsd14', 1024), ('darwin', 1)]
)
def test_the_peak_is_in_bytes_whatever_the_system_counts_in(monkeypatch, platform, unit):
  monkeypatch.setattr(sys, 'platform', platform)
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  peak = peak_memory()
  after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  assert unit * before <= peak <= unit * after


def test_where_nobody_counts_the_peak_is_not_known(monkeypatch):
  monkeypatch.setitem(sys.modules, 'resource', None)  # as on Windows
  assert peak_memory() is None
