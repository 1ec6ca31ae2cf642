"""The Jacobian penalty does what it is for: geometry that does not look at the camera."""

import dataclasses

import jax
import pytest

from sa0_jax.generator.decoder import geometry, view_encoding
from sa0_jax.generator.generator import Rig
from sa0_jax.head.registry import load_head
from sa0_jax.losses.regularizers import jacobian_penalty
from sa0_jax.train.step import make_trainer
from tests.train.runs import first, one_device, settings
from tests.train.studio_data import Draws, film_people, make_batch

STEPS = 150
FRONT = jax.numpy.asarray([0.0, 0.0, -1.0])


def dependence(weight: float) -> float:
  """log(1 + ‖J‖²), exact, after training on two people seen by six cameras."""
  config = settings()
  goal = config.phase1.objective
  goal = dataclasses.replace(goal, weights=dataclasses.replace(goal.weights, jacobian=weight))
  people = film_people(range(2), config.generator.image_size, cameras=6, instants=1)
  draws = Draws(len(people), tuple(range(6)))
  rig = Rig.from_head(load_head(), config.generator).arrays
  trainer = make_trainer(config, first(objective=goal, steps=STEPS), one_device())
  state = trainer.init()
  for step in range(STEPS):
    batch = make_batch(people, draws(0, step))
    state, metrics = trainer.step(state, batch, rig, None)
    assert not bool(metrics.overflowed)

  @jax.jit
  def measure(generator, sources):
    identity = generator.encode(sources, rig)
    gamma = jax.numpy.broadcast_to(view_encoding(FRONT), (len(people), 27))
    return jacobian_penalty(
      lambda g: geometry(generator.decoder, identity.features, g), gamma, estimator='exact'
    )

  return float(measure(trainer.generator(state), batch.sources))


@pytest.mark.slow
@pytest.mark.usefixtures('optimized')
def test_geometry_depends_on_the_view_only_without_the_penalty():
  assert dependence(0.0) > 10 * dependence(0.1)
