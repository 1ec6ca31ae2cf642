"""Networks of checkpoints: which one is meant, and one line for those that are not there."""

import jax.numpy as jnp
import pytest

from sa0_jax.train.checkpoint import CheckpointConfig, CheckpointStore, Position
from sa0_jax.train.weights import find, read_generator


def save(folder, scores: dict[int, float | None], **identity) -> None:
  """Checkpoints of something small."""
  store = CheckpointStore(folder, identity, CheckpointConfig(keep=9), lambda text: None)
  for step, score in scores.items():
    store.save({'trainable': {'x': jnp.ones(2)}}, Position(step, 1, score, None))
  store.close()


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
  folder = tmp_path_factory.mktemp('run') / 'checkpoints'
  save(folder, {5: 20.0, 10: 21.5, 15: None, 20: 21.5, 25: float('nan')})
  return folder


@pytest.mark.parametrize(('which', 'step'), [('latest', 25), ('best', 20), (5, 5), (15, 15)])
def test_which_is_meant(saved, which, step):
  assert find(saved, which).step == step


def test_one_that_is_not_there_is_answered_with_those_that_are(saved, tmp_path):
  with pytest.raises(FileNotFoundError, match=r'no checkpoint 7; there are 25, 20, 15, 10, 5$'):
    read_generator(saved, 7)
  with pytest.raises(FileNotFoundError, match='no checkpoints there'):
    read_generator(tmp_path / 'nothing', 'latest')
  for step in range(1, 31):
    (tmp_path / str(step)).mkdir()
  with pytest.raises(FileNotFoundError, match=r'there are 30, .* 11 and 10 older ones$'):
    find(tmp_path, 99)


def test_without_scores_none_is_the_best_and_a_damaged_one_is_not_passed_over(tmp_path):
  save(tmp_path, {3: None})
  with pytest.raises(ValueError, match='no checkpoint was scored on held-out people; there are 3'):
    find(tmp_path, 'best')
  (tmp_path / '4' / 'record').mkdir(parents=True)
  (tmp_path / '4' / 'record' / 'metadata').write_text('{}')
  with pytest.raises(ValueError, match='4/record/metadata: no record of a checkpoint'):
    find(tmp_path, 'latest')


def test_a_network_of_another_version_is_told_of(tmp_path):
  save(tmp_path, {1: None}, **{'generator.encoder.later': 1, 'phase1.steps': 2})
  with pytest.raises(ValueError, match=r'/1: not a configuration of this version'):
    read_generator(tmp_path, 1)
