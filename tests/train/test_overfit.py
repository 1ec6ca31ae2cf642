"""The tiny network learns four people by heart on a laptop, and sees more in four portraits."""

import dataclasses
import time

import jax
import numpy as np
import pytest

from sa0_jax.generator.generator import Rig
from sa0_jax.head.registry import load_head
from sa0_jax.metrics.image import psnr
from sa0_jax.train.objective import predict
from sa0_jax.train.step import make_trainer
from tests.train.runs import first, one_device, settings
from tests.train.studio_data import Draws, Pick, film_people, make_batch

PEOPLE, CAMERAS, INSTANTS = 4, 8, 4
STEPS = 1300
UNSEEN = (2, 5)  # cameras whose pictures are neither sources nor targets of training


@pytest.mark.slow
@pytest.mark.usefixtures('optimized')
def test_four_people_are_learnt_and_four_portraits_help(capsys):
  config = settings('tiny')
  # Half of the pixels and a quarter of the Gaussians: a quarter of an hour instead of half of one.
  generator = dataclasses.replace(config.generator, image_size=128, uv_size=64)
  config = dataclasses.replace(config, generator=generator)
  phase = first(config, steps=STEPS)
  people = film_people(range(PEOPLE), config.generator.image_size, CAMERAS, INSTANTS)
  seen = tuple(i for i in range(CAMERAS * INSTANTS) if i % CAMERAS not in UNSEEN)
  unseen = tuple(i for i in range(CAMERAS * INSTANTS) if i % CAMERAS in UNSEEN)
  rig = Rig.from_head(load_head(), config.generator).arrays
  trainer = make_trainer(config, phase, one_device())
  state, draws = trainer.init(), Draws(PEOPLE, seen)
  begin = time.perf_counter()
  for step in range(STEPS):
    state, metrics = trainer.step(state, make_batch(people, draws(0, step)), rig, None)
    assert not bool(metrics.overflowed)
  seconds = time.perf_counter() - begin
  images = jax.jit(lambda *inputs: predict(*inputs, phase.config.objective).output.features)
  generator = trainer.generator(state)

  def score(targets, count):
    """Mean PSNR over black, of targets made of `count` other frames."""
    scores = []
    for target in targets:
      order = np.random.default_rng(target).permutation([i for i in seen if i != target])
      picks = [Pick(who, tuple(int(i) for i in order[:count]), target) for who in range(PEOPLE)]
      batch = make_batch(people, picks)
      scores.append(jax.vmap(psnr)(images(generator, batch, rig), batch.targets.image))
    return float(np.mean(scores))

  trained, four, one = score(seen, 4), score(unseen, 4), score(unseen, 1)
  with capsys.disabled():
    print(
      f'\n{STEPS} steps in {seconds:.0f} s; training targets {trained:.2f} dB; unseen '
      f'cameras {four:.2f} dB from four portraits, {one:.2f} dB from one'
    )
  assert trained >= 30
  assert four > one + 0.1
