"""Training steps compile for machines that are not there, and fit their memory."""

import json
import os
import subprocess
import sys

import pytest

from tests.structure.sources import ROOT

pytestmark = pytest.mark.aot


def inspected(config, machine, program):
  words = ['inspect', f'--config={config}', '--for', machine, '--program', program, '--json']
  # The published batch of 12 cannot be spread evenly over 8 devices.
  words += ['--config.phase2.batch_size=16'] if config == 'paper' else []
  done = subprocess.run(
    [sys.executable, '-m', 'sa0_jax.cli.main', *words],
    cwd=ROOT,
    env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
    timeout=3600,
  )
  assert done.returncode == 0, done.stderr[-3000:]
  [report] = json.loads(done.stdout)['programs']
  return report


def test_a_step_is_compiled_for_gpus():
  report = inspected('debug', 'h100:2', 'phase1')
  assert report['devices'] == 2
  assert report['implementation'] == 'triton'
  assert report['fits']
  assert report['flops'] > 1e8
  # Gradients are averaged, parameters are everywhere: nothing else is to be moved.
  assert set(report['collectives']) == {'all-reduce'}


@pytest.mark.slow
@pytest.mark.parametrize('program', ['forward', 'phase1', 'phase2'])
@pytest.mark.parametrize('machine', ['h100:8', 'h200:8', 'v5p:2x2x2'])
def test_the_published_network_fits(machine, program):
  report = inspected('paper', machine, program)
  assert (report['devices'], report['batch_size']) == (8, 16 if program == 'phase2' else 48)
  assert report['fits']
  # Of the images nothing is gathered: gradients are averaged, and that is all that moves.
  assert set(report['collectives']) <= {'all-reduce'}
  print(json.dumps(report))
