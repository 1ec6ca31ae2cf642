"""The Jacobian penalty does what it is for: geometry that does not look at the camera."""

import dataclasses

import jax
import pytest

from sa0_jax.config import from_config_dict, load_config
from sa0_jax.generator.decoder import geometry, view_encoding
from sa0_jax.generator.generator import Rig
from sa0_jax.head.registry import load_head
from sa0_jax.losses.regularizers import jacobian_penalty
from sa0_jax.train import parallel
from sa0_jax.train.config import TrainConfig
from sa0_jax.train.step import make_trainer
from tests.train.studio_data import Draws, film_people, make_batch

STEPS = 150
FRONT = jax.numpy.asarray([0.0, 0.0, -1.0])


def dependence(weight: float) -> float:
  """log(1 + ‖J‖²), exact, after training on two people seen by six cameras."""
  config = from_config_dict(TrainConfig, load_config('debug'))
  weights = dataclasses.replace(config.objective.weights, jacobian=weight)
  config = dataclasses.replace(
    config, objective=dataclasses.replace(config.objective, weights=weights)
  )
  people = film_people(range(2), config.generator.image_size, cameras=6, instants=1)
  draws = Draws(len(people), tuple(range(6)))
  rig = Rig.from_head(load_head(), config.generator.uv_size).arrays
  trainer = make_trainer(config, parallel.make_mesh(jax.devices()[:1]))
  state = trainer.init()
  for step in range(STEPS):
    batch = make_batch(people, draws(0, step))
    state, metrics = trainer.step(state, batch, rig, None)
    assert not bool(metrics.overflowed)

  @jax.jit
  def measure(generator, sources):
    identity = generator.encode(sources, rig.uv)
    gamma = jax.numpy.broadcast_to(view_encoding(FRONT), (len(people), 27))
    return jacobian_penalty(
      lambda g: geometry(generator.decoder, identity.features, g), gamma, estimator='exact'
    )

  return float(measure(trainer.generator(state), batch.sources))


@pytest.mark.slow
def test_geometry_depends_on_the_view_only_without_the_penalty():
  assert dependence(0.0) > 10 * dependence(0.1)
