"""Other people's readers on our files: Spark's SPZ reader and the Khronos glTF validator.

`make test-node` installs both into .node and runs these; SA0_NODE names another folder with them.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from sa0_jax.avatar.gaussians import Gaussians
from sa0_jax.export.export import export
from sa0_jax.export.settings import posed_gaussians
from sa0_jax.export.spz import pack_spz
from tests.export import scenes
from tests.structure.sources import ROOT

pytestmark = pytest.mark.node
_SCRIPTS = Path(__file__).with_name('node')


def _node(script: str, *words) -> str:
  folder = Path(os.environ.get('SA0_NODE', ROOT / '.node'))
  if shutil.which('node') is None or not (folder / 'node_modules').is_dir():
    pytest.fail(f'node, or the packages in {folder}, are missing: `make test-node` installs them')
  done = subprocess.run(
    ['node', str(_SCRIPTS / script), *map(str, words)],
    cwd=folder,
    capture_output=True,
    text=True,
    check=False,
    timeout=120,
  )
  assert done.returncode == 0, done.stderr[-2000:]
  return done.stdout


@pytest.mark.parametrize('version', [2, 3])
def test_spark_reads_the_spz(tmp_path, version):
  gaussians = posed_gaussians(scenes.textured_avatar(), None)
  (tmp_path / 'a.spz').write_bytes(pack_spz(gaussians, version))
  _node('read_spz.mjs', tmp_path / 'a.spz', tmp_path / 'rows')
  rows = jnp.asarray(np.fromfile(tmp_path / 'rows', np.float32).reshape(-1, 14))
  read = Gaussians(
    means=rows[:, :3],
    quats=rows[:, jnp.asarray([13, 10, 11, 12])],
    scales=rows[:, 7:10],
    opacities=rows[:, 3],
    colors=rows[:, 4:7],
  )
  assert scenes.psnr(scenes.picture(read), scenes.picture(gaussians)) > 35.0


def test_the_khronos_validator_finds_nothing_wrong(tmp_path):
  export(scenes.textured_avatar(32), tmp_path / 'a.glb')
  report = json.loads(_node('validate.cjs', tmp_path / 'a.glb'))
  assert report['numErrors'] == 0, report
  assert report['numWarnings'] == 0, report
