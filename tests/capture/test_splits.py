"""split.json: what is written comes back, what contradicts itself is refused."""

import dataclasses
import json

import numpy as np
import pytest

from sa0_jax.capture.capture import load_capture
from sa0_jax.capture.splits import PARTS, Split, read_split, write_split
from tests.capture.test_capture import make_capture


def test_a_split_is_saved_beside_the_capture(tmp_path):
  capture, split = make_capture(), Split.of_parts([{2, 0}, set(), {3}])
  dataclasses.replace(capture, split=split).save(tmp_path / 'c')
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


def test_a_split_goes_with_its_capture(tmp_path):
  split = Split.of_parts([{0, 2}, {3}, {1, 3}])
  dataclasses.replace(make_capture(), split=split).save(tmp_path / 'c')
  capture = load_capture(tmp_path / 'c')
  assert [capture.split.part(name).tolist() for name in PARTS] == [[0, 2], [3], [1, 3]]
  chosen = capture.select([3, 2, 2])  # positions are those of the new capture
  assert [chosen.split.part(name).tolist() for name in PARTS] == [[1, 2], [0], [0]]
  chosen.save(tmp_path / 'd')
  assert read_split(tmp_path / 'd', 3).train.tolist() == [1, 2]
  assert load_capture(tmp_path / 'd').split.test.tolist() == [0]
  (tmp_path / 'd' / 'split.json').write_text('{}')
  with pytest.raises(ValueError, match=r'split\.json: not a split file'):
    load_capture(tmp_path / 'd')
  (tmp_path / 'd' / 'split.json').unlink()
  assert load_capture(tmp_path / 'd').split is None
  assert load_capture(tmp_path / 'd').select([0]).split is None


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
