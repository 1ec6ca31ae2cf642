"""The TPU kernels in the interpreter that knows memories, copies and their order."""

import dataclasses

import jax
import pytest
from jax.experimental.pallas import tpu as pltpu
from sa0_kernels import dispatch
from sa0_kernels.rasterize import mosaic_tpu

from tests.kernels.scenes import random_scene, relative_error


@pytest.mark.interpreter
def test_copies_do_not_race(monkeypatch):
  """More Gaussians in a tile than a chunk: the next one is fetched while one is worked on."""
  from jax._src.pallas.mosaic.interpret import interpret_pallas_call as interpreter

  scene = random_scene(num_gaussians=150, width=21, height=12)
  scene = dataclasses.replace(scene, opacities=0.05 * scene.opacities)
  expected, wanted = scene.render('xla'), scene.gradients('xla')
  monkeypatch.setattr(mosaic_tpu, '_INTERPRET', pltpu.InterpretParams(detect_races=True))
  with dispatch.allow_other_platforms():
    actual = jax.block_until_ready(scene.render('mosaic_tpu'))
    assert not interpreter.races.races_found
    got = jax.block_until_ready(scene.gradients('mosaic_tpu'))
  assert not interpreter.races.races_found
  assert relative_error(actual.features, expected.features) < 1e-4
  for name in wanted:
    assert relative_error(got[name], wanted[name]) < 2e-3, name
