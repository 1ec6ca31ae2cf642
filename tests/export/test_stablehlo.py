"""The exported program renders the same pixels where nothing of ours can be imported."""

import dataclasses
import json
import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sa0_jax.export.export import export
from sa0_jax.export.stablehlo import PLATFORMS
from sa0_jax.head.model import HeadCodes
from sa0_jax.render import Renderer
from tests.export import scenes

_PROGRAM = """
import sys
for name in ('sa0_jax', 'sa0_kernels', 'numba'):
  sys.modules[name] = None  # whoever imports it fails
import json, numpy as np, jax
folder = sys.argv[1]
with open(folder + '/a.stablehlo', 'rb') as file:
  program = jax.export.deserialize(bytearray(file.read()))
with open(folder + '/a.stablehlo.json') as file:
  description = json.load(file)
given = np.load(folder + '/arguments.npz')
results = program.call(*(given[a['name']] for a in description['arguments']))
names = [r['name'] for r in description['results']]
np.savez(folder + '/results.npz', **dict(zip(names, results)))
"""

pytestmark = pytest.mark.slow  # a minute of exporting


@pytest.fixture(scope='module')
def avatar():
  return scenes.textured_avatar(24)


@pytest.fixture(scope='module')
def folder(avatar, tmp_path_factory):
  pytest.importorskip('flatbuffers')
  folder = tmp_path_factory.mktemp('program')
  export(avatar, folder / 'a.stablehlo', size=48)
  return folder


def test_it_renders_the_same_pixels_without_us(avatar, folder):
  neutral = HeadCodes.neutral(avatar.head)
  codes = dataclasses.replace(
    neutral,
    expression=neutral.expression.at[:3].set(0.5),
    rotation=jnp.asarray([0.1, -0.3, 0.0]),
    jaw=jnp.asarray([0.25, 0.0, 0.0]),
    translation=jnp.asarray([0.01, 0.0, 0.02]),
  )
  camera = scenes.camera(48)
  arrays = {f.name: np.asarray(getattr(codes, f.name)) for f in dataclasses.fields(codes)}
  arrays |= {'world_to_camera': camera.world_to_camera, 'intrinsics': camera.intrinsics}
  np.savez(folder / 'arguments.npz', **{n: np.asarray(a, np.float32) for n, a in arrays.items()})
  done = subprocess.run(
    [sys.executable, '-c', _PROGRAM, str(folder)],
    capture_output=True,
    text=True,
    check=False,
    env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
  )
  assert done.returncode == 0, done.stderr[-2000:]
  expected = Renderer(avatar, implementation='xla')(codes, camera)
  with np.load(folder / 'results.npz') as results:
    assert not results['overflowed']
    assert expected.alpha.mean() > 0.05
    np.testing.assert_allclose(results['rgb'], expected.rgb, atol=1e-5)
    np.testing.assert_allclose(results['alpha'], expected.alpha, atol=1e-5)


def test_the_description_says_what_it_takes(avatar, folder):
  description = json.loads((folder / 'a.stablehlo.json').read_text())
  arguments = {a['name']: a['shape'] for a in description['arguments']}
  assert arguments['expression'] == [avatar.head.num_expression]
  assert arguments['world_to_camera'] == [4, 4]
  assert 'shape' not in arguments
  assert {r['name']: r['shape'] for r in description['results']} == {
    'rgb': [48, 48, 3],
    'alpha': [48, 48],
    'overflowed': [],
  }
  assert description['platforms'] == list(PLATFORMS)


def test_nothing_in_it_is_outside_of_stablehlo(folder):
  program = jax.export.deserialize(bytearray((folder / 'a.stablehlo').read_bytes()))
  assert set(re.findall(r'custom_call @(\w+)', program.mlir_module())) == set()
