"""The script for machines with an accelerator, on the one at hand."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_quick_run_writes_a_whole_report(tmp_path):
  out = tmp_path / 'report.json'
  command = [sys.executable, 'kernels/device_check.py', '--quick', '--out', str(out)]
  subprocess.run(
    [*command, '--implementation', 'xla', '--implementation', 'triton'],
    cwd=ROOT,
    env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
    check=True,
    capture_output=True,
  )
  report = json.loads(out.read_text())
  assert report['ok'] is True
  assert report['parity']['xla']['relative_l2']['means'] < 2e-3
  assert report['determinism']['xla']['equal_runs'] == report['determinism']['xla']['runs']
  assert report['similarity']['xla']['ok'] is True
  assert report['similarity']['xla']['milliseconds_median'] > 0
  assert set(report['unusable']) == {'triton'}
  timed = [value for key, value in report['timing'].items() if key.endswith(' xla')]
  assert len(timed) == 2
  assert all(t['forward_backward']['milliseconds_median'] > 0 for t in timed)
