"""The weighted sum of Stage 1."""

import dataclasses

import jax.numpy as jnp
import pytest

from sa0_jax.losses.stage1 import LossWeights, total

NAMES = [field.name for field in dataclasses.fields(LossWeights)]


def terms(*without):
  return {name: jnp.asarray(float(2**k)) for k, name in enumerate(NAMES) if name not in without}


def test_defaults_are_the_table():
  table = {'l1': 1, 'ms_ssim': 1, 'lpips': 1, 'face_box': 1}
  table |= {'position_tv': 0.01, 'scale_tv': 0.01, 'jacobian': 0.1, 'residual': 0.01}
  assert dataclasses.asdict(LossWeights()) == table


def test_the_sum_of_each_phase():
  first = 1 + 2 + 4 + 8 + 0.01 * (16 + 32) + 0.1 * 64
  assert float(total(terms(), LossWeights(), 1)) == pytest.approx(first, rel=1e-6)
  assert float(total(terms('residual'), LossWeights(), 1)) == pytest.approx(first, rel=1e-6)
  assert float(total(terms(), LossWeights(), 2)) == pytest.approx(first + 1.28, rel=1e-6)


def test_the_order_of_the_terms_does_not_matter():
  backwards = dict(reversed(terms().items()))
  assert float(total(backwards, LossWeights(), 2)) == float(total(terms(), LossWeights(), 2))


def test_terms_of_weight_zero_may_be_left_out():
  weights = LossWeights(lpips=0.0, jacobian=0.0)
  assert total(terms('lpips'), weights, 2) == total(terms('lpips', 'jacobian'), weights, 2)


@pytest.mark.parametrize('name', NAMES)
def test_a_missing_term_is_refused(name):
  with pytest.raises(ValueError, match=rf'{name}.*missing in Phase 2'):
    total(terms(name), LossWeights(), 2)


def test_unknown_terms_and_phases_are_refused(unchecked_shapes):
  with pytest.raises(ValueError, match=r'unknown loss terms .*colour'):
    total(terms() | {'colour': jnp.zeros(())}, LossWeights(), 1)
  with pytest.raises(ValueError, match='phases 1 and 2, got 3'):
    total(terms(), LossWeights(), 3)


@pytest.mark.parametrize('weight', [-1.0, float('nan'), float('inf')])
def test_weights_are_checked(weight):
  with pytest.raises(ValueError, match='jacobian must be zero or positive'):
    LossWeights(jacobian=weight)
