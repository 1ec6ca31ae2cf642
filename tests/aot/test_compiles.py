"""Every kernel compiles for every accelerator it is meant for, without spilling registers.

Marker `aot`, an environment of its own (`make test-aot`): JAX loads the compilers of accelerators
when it finds them. Nothing runs here; see `kernels/device_check.py` for that.
"""

import json
import pathlib
import subprocess
import sys

import pytest

from tests.aot.cases import GPUS, HOPPER_AND_NEWER, TPUS

pytestmark = pytest.mark.aot

ROOT = pathlib.Path(__file__).resolve().parents[2]
TABLE = pathlib.Path(__file__).with_name('compiled.json')

CASES = [
  *((target, 'triton') for target in GPUS),
  *((target, 'mosaic_gpu') for target in HOPPER_AND_NEWER),
  *((target, 'mosaic_tpu') for target in TPUS),
]


def compiled(target, implementation, what):
  command = [sys.executable, '-m', 'tests.aot.compile', target, implementation, what]
  done = subprocess.run(
    command,
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=400,
  )
  assert done.returncode == 0, done.stderr[-3000:]
  return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize('what', ['3', '32', 'ssim'])  # channels of the rasterizer, or the other
@pytest.mark.parametrize(('target', 'implementation'), CASES)
def test_compiles_without_spills(target, implementation, what):
  report = compiled(target, implementation, what)
  recorded = json.loads(TABLE.read_text())[f'{target} {implementation} {what}']
  seen = {}
  for way in report.values():
    for name, facts in way['kernels'].items():
      assert not facts.get('spilled_bytes'), f'{name} spills'
      seen[name] = facts.get('registers', facts.get('bundles'))
  assert set(seen) == set(recorded['kernels'])
  # The table is of one compiler release; the next may differ a little, twice as much is news.
  for name, count in recorded['kernels'].items():
    assert 0 < seen[name] <= 1.25 * count + 8, f'{name}: {seen[name]}, recorded {count}'
  for way, size in recorded['temporary_bytes'].items():
    assert report[way]['temporary_bytes'] <= 1.25 * size + 2**20, f'memory of {way}'
