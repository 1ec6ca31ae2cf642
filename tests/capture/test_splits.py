"""split.json: what is written comes back, what contradicts itself is refused."""

import json

import numpy as np
import pytest

from sa0_jax.capture.capture import load_capture
from sa0_jax.capture.splits import Split, read_split, write_split
from tests.capture.test_capture import make_capture


def test_a_split_is_saved_beside_the_capture(tmp_path):
  capture, split = make_capture(), Split.of_parts([{2, 0}, set(), {3}])
  capture.save(tmp_path / 'c', split=split)
  loaded = read_split(tmp_path / 'c', 4)
  assert (loaded.train.tolist(), loaded.val.tolist(), loaded.test.tolist()) == ([0, 2], [], [3])
  assert load_capture(tmp_path / 'c').select(loaded.test).ids.tolist() == [6]
  write_split(tmp_path / 'c', Split.last_for_test(4, 1))
  assert read_split(tmp_path / 'c' / 'split.json', 4).train.tolist() == [0, 1, 2]
  capture.save(tmp_path / 'c')  # a capture without a split has none
  assert read_split(tmp_path / 'c', 4) is None
  with pytest.raises(FileNotFoundError, match='no such split file'):
    read_split(tmp_path / 'c' / 'split.json', 4)
  np.testing.assert_array_equal(split.part('train'), [0, 2])
  with pytest.raises(ValueError, match="split part 'dev' is unknown"):
    split.part('dev')


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'format': 'other'}, 'not a split file'),
    ({'version': 2}, 'split version 2'),
    ({'train': [0, 9]}, "'train' names frame 9 of 4"),
    ({'train': [0, -1]}, "'train' names frame -1 of 4"),
    ({'val': [True]}, "'val' must be a list"),
    ({'val': None}, "'val' must be a list"),
    ({'test': [1.0]}, "'test' must be a list"),
    ({'train': [1], 'test': [1]}, 'frame 1 is in both train and test'),
  ],
)
def test_mistakes_are_named(tmp_path, change, message):
  table = {'format': 'sa0-split', 'version': 1, 'train': [0], 'val': [1], 'test': [2]}
  (tmp_path / 'split.json').write_text(json.dumps(table | change))
  with pytest.raises(ValueError, match=message):
    read_split(tmp_path, 4)
  (tmp_path / 'split.json').write_text('[' * 100_000)
  with pytest.raises(ValueError, match='damaged'):
    read_split(tmp_path, 4)
