"""SA0-Synth: who is held out, and which of their frames are sources and targets."""

import dataclasses

import numpy as np
import pytest

from sa0_jax.config import from_config_dict, load_config
from sa0_jax.evaluate.synth import SynthConfig, SynthSet, held_out_clips, synth_folders
from tests.refine.scenes import small_capture


def test_the_benchmark_is_what_its_file_says():
  config = from_config_dict(SynthConfig, load_config('synth'))
  assert (config.monocular.subjects, config.monocular.seed) == (225, 1000)
  assert (config.multiview.subjects, config.multiview.seed) == (64, 5000)
  # Nobody is in both sets.
  assert config.monocular.seed + config.monocular.subjects <= config.multiview.seed


def test_targets_are_the_same_for_any_number_of_sources(tmp_path):
  synth = synth_folders(tmp_path)
  video = small_capture(12)
  order = np.arange(20)
  stage = dataclasses.replace(small_capture(20), view_ids=order % 16, times=0.5 * (order >= 16))
  for kind, capture in (('monocular', video), ('multiview', stage)):
    capture.save(synth.captures[kind] / 'anna')
    (synth.captures[kind] / 'val.txt').write_text('anna\n')
    clips = [held_out_clips(synth, kind, count)[0] for count in (1, 2, 3, 4)]
    assert len({clip.targets for clip in clips}) == 1
    for count, clip in enumerate(clips, 1):
      assert len(clip.sources) == count
      assert clip.sources == clips[-1].sources[:count]
      assert not set(clip.sources) & set(clip.targets)
  assert held_out_clips(synth, 'monocular', 4)[0].sources == (0, 7, 2, 5)
  assert held_out_clips(synth, 'monocular', 1)[0].targets == (8, 9, 10, 11)
  # Of one instant.
  assert max(clips[-1].sources + clips[-1].targets) < 16
  with pytest.raises(ValueError, match='1 to 4 sources, got 5'):
    held_out_clips(synth, 'monocular', 5)


@pytest.mark.parametrize(('field', 'value'), [('subjects', 0), ('hold_out', 1.0)])
def test_a_set_that_cannot_be_is_refused(field, value):
  numbers = {'subjects': 3, 'seed': 0, 'frames': 2, 'resolution': 32, 'hold_out': 0.5}
  with pytest.raises(ValueError, match=f'SynthSet: {field} must be'):
    SynthSet(**{**numbers, field: value})
