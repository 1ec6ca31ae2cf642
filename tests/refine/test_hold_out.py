"""Which frames are learnt from and which only tested on."""

import dataclasses

import numpy as np
import pytest

from sa0_jax.capture.splits import Split
from sa0_jax.refine.hold_out import divide, spans
from tests.refine.scenes import small_capture

SPLIT = Split.of_parts([{0, 1}, {2}, {4}])  # 3 is nobody's


def divided(held_out, split=None):
  found = divide(dataclasses.replace(small_capture(), split=split), held_out)
  return found.train.tolist(), found.test.tolist(), found.by


@pytest.mark.parametrize(
  ('held_out', 'split', 'expected'),
  [
    (None, None, ([0, 1, 2, 3, 4], [], None)),
    (None, SPLIT, ([0, 1], [4], 'split.json')),
    (None, Split.of_parts([{0, 3}, {1}, ()]), ([0, 3], [], None)),
    (0.0, None, ([0, 1, 2, 3, 4], [], None)),
    (0.4, None, ([0, 1, 2], [3, 4], 'held_out')),
    (0.4, SPLIT, ([0, 1, 2], [3, 4], 'held_out')),  # an explicit number has the last word
    (0.0, SPLIT, ([0, 1, 2, 3, 4], [], None)),
  ],
)
def test_the_split_holds_out_unless_a_number_does(held_out, split, expected):
  assert divided(held_out, split) == expected


def test_a_split_without_training_frames_is_one_clear_error():
  with pytest.raises(ValueError, match=r"'small': its split has no training frames.*held_out=0"):
    divided(None, Split.of_parts([(), (), {0, 1}]))


@pytest.mark.parametrize(
  ('held_out', 'split', 'text'),
  [
    (None, None, 'all are learnt from'),
    (0.0, None, 'all are learnt from'),
    (0.4, None, '3:5 held out (held_out=0.4)'),
    (None, SPLIT, '4 held out (test frames of split.json), 2:4 not used'),
    (0.4, SPLIT, '3:5 held out (held_out=0.4, split.json is not followed)'),
    (0.0, SPLIT, 'all are learnt from (held_out=0.0, split.json is not followed)'),
    (None, Split.of_parts([{0, 3}, {1}, ()]), 'none held out (split.json), 1:3, 4 not used'),
  ],
)
def test_progress_says_which_frames_and_why(held_out, split, text):
  capture = dataclasses.replace(small_capture(), split=split)
  assert divide(capture, held_out).text == text


def test_positions_are_written_as_ranges():
  assert spans(np.array([], int)) == ''
  assert spans(np.array([3])) == '3'
  assert spans(np.array([0, 1, 2, 5, 7, 8])) == '0:3, 5, 7:9'
  assert spans(np.arange(0, 100, 10), most=3) == '0, 10, 20, …'
