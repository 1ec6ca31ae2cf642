"""The whole refinement on a small subject: it learns, it is exact, it says what is wrong."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sa0_jax.capture.capture import MemoryImages
from sa0_jax.capture.splits import Split
from sa0_jax.refine import loop
from sa0_jax.refine.config import LearningRates
from sa0_jax.refine.loop import refine, refine_subjects
from sa0_jax.render import Renderer
from tests.refine.scenes import CONFIG, UV, small_capture, start_avatar


def run(config=CONFIG, seed=0, **options):
  """One subject's result."""
  return refine_subjects([start_avatar(seed)], [small_capture(seed=seed)], config, **options)[0]


@functools.cache
def plain():
  return run()


def saved(avatar, folder) -> bytes:
  avatar.save(folder / 'x.sa0')
  return (folder / 'x.sa0').read_bytes()


def test_refinement_learns_the_colours():
  rates = LearningRates(color=5e-2)  # there are only a few steps
  longer = dataclasses.replace(CONFIG, steps=150, held_out=0.2, rates=rates)
  got, start = run(longer), run(dataclasses.replace(longer, steps=1))
  assert got.held_out.frames == 1
  assert got.train.psnr > start.train.psnr + 10
  assert got.held_out.psnr > start.held_out.psnr + 10


def test_two_runs_give_the_same_bytes(tmp_path):
  assert saved(run().avatar, tmp_path) == saved(plain().avatar, tmp_path)


def test_from_scratch_two_runs_give_the_same_bytes(tmp_path):
  """The start from colours warped into UV is deterministic, too."""
  config = dataclasses.replace(CONFIG, steps=2)
  first, second = (refine(None, small_capture(), config) for _ in range(2))
  assert first.layout.resolution == UV
  assert saved(first, tmp_path) == saved(second, tmp_path)
  np.testing.assert_array_equal(first.shape, small_capture().codes.shape)


def test_the_length_of_the_first_quaternions_changes_nothing():
  """Those of networks are three times as long as one, and were turned a third as fast."""
  start = start_avatar()
  gaussians = start.gaussians
  longer = dataclasses.replace(gaussians, rotation=4.0 * gaussians.rotation)  # exact
  got = refine(dataclasses.replace(start, gaussians=longer), small_capture(), CONFIG)
  rotation = plain().avatar.gaussians.rotation
  assert np.abs(rotation - gaussians.rotation).max() > 1e-3
  np.testing.assert_array_equal(got.gaussians.rotation, rotation)


def test_another_seed_gives_another_avatar(tmp_path):
  other = run(dataclasses.replace(CONFIG, seed=1))
  assert saved(other.avatar, tmp_path) != saved(plain().avatar, tmp_path)


@pytest.mark.parametrize('steps_per_call', [1, 3, 1000])
def test_steps_between_looks_change_no_bit(tmp_path, steps_per_call):
  config = dataclasses.replace(CONFIG, steps_per_call=steps_per_call, checkpoint_every=0)
  assert saved(run(config).avatar, tmp_path) == saved(plain().avatar, tmp_path)


def test_only_the_gaussians_change():
  before, after = start_avatar(), plain().avatar
  assert after.n == before.n
  assert after.head is before.head
  for a, b in zip(jax.tree.leaves(before.layout), jax.tree.leaves(after.layout), strict=True):
    np.testing.assert_array_equal(a, b)
  for field in dataclasses.fields(before.gaussians):
    first, second = (getattr(x.gaussians, field.name) for x in (before, after))
    assert first.shape == second.shape
    assert not np.array_equal(first, second), field.name


def test_subjects_together_are_each_alone_up_to_rounding():
  """A batch compiles to other products than one subject does: the last digits differ."""
  captures = [small_capture(), small_capture(frames=3, seed=1)]
  together = refine_subjects([start_avatar(), start_avatar(1)], captures, CONFIG)
  alone = [plain(), refine_subjects([start_avatar(1)], captures[1:], CONFIG)[0]]
  for batched, single, capture in zip(together, alone, captures, strict=True):
    assert batched.train.frames == single.train.frames
    assert batched.train.psnr == pytest.approx(single.train.psnr, abs=2e-2)
    for field in dataclasses.fields(start_avatar().gaussians):
      a, b = (getattr(result.avatar.gaussians, field.name) for result in (batched, single))
      # Adam makes a whole step of a gradient that is nearly zero, whichever sign rounding gives it:
      # hidden Gaussians may end steps apart, all others agree, and no picture tells them.
      assert np.quantile(np.abs(np.asarray(a) - np.asarray(b)), 0.995) < 2e-3, field.name
    first, second = (
      Renderer(result.avatar)(capture.frame_codes(0), capture.frame_camera(0)).rgb
      for result in (batched, single)
    )
    np.testing.assert_allclose(first, second, atol=1e-3)  # a quarter of an 8-bit level


def test_progress_tells_where_the_run_is():
  seen = []
  result = run(progress=seen.append)
  assert [p.step for p in seen] == list(range(1, CONFIG.steps + 1))
  assert {p.steps for p in seen} == {CONFIG.steps}
  assert seen[-1].seconds_left == 0
  assert all(p.iterations_per_second > 0 for p in seen)
  assert seen[-1].psnr == pytest.approx(plain().train.psnr, abs=2)  # of a few frames
  assert all(p.max_aspect_ratio >= 1 for p in seen)
  # The report keeps it, from the start on.
  curve = result.report['curve']
  assert [row['step'] for row in curve] == list(range(CONFIG.steps + 1))
  assert [row['psnr'] for row in curve[1:]] == [p.psnr for p in seen]
  assert curve[0]['seconds'] == 0
  assert all(a['seconds'] < b['seconds'] for a, b in itertools.pairwise(curve))


def test_the_report_is_complete():
  report = plain().report
  wanted = {
    'psnr',
    'ssim',
    'held_out_frames',
    'num_gaussians',
    'steps',
    'iterations_per_second',
    'max_aspect_ratio',
    'max_aspect_ratio_3d',
    'seconds_total',
    'seconds_compile',
    'peak_memory_mb',
  }
  assert wanted <= set(report)
  assert report['num_gaussians'] == start_avatar().n
  assert report['steps'] == CONFIG.steps
  assert report['psnr'] == plain().train.psnr
  assert report['held_out_frames'] == 0
  assert report['curve'] == []  # nobody watched


def test_frames_the_split_holds_out_leave_no_trace(tmp_path):
  """Neither test nor validation frames: not in the start, not in the steps."""
  capture, config = small_capture(), dataclasses.replace(CONFIG, steps=2)
  split = Split.of_parts([{0, 1, 3}, {2}, {4}])
  images = capture.source.images.copy()
  images[[2, 4]] = 255 - images[[2, 4]]
  other = MemoryImages(images, capture.source.mattes)
  results = [
    refine_subjects([None], [dataclasses.replace(capture, source=s, split=split)], config)[0]
    for s in (capture.source, other)
  ]
  assert saved(results[0].avatar, tmp_path) == saved(results[1].avatar, tmp_path)
  first, second = (result.report for result in results)
  assert first['psnr_train'] == second['psnr_train']
  assert first['psnr'] != second['psnr']
  assert (first['held_out_by'], first['test_positions']) == ('split.json', '4')
  assert (first['train_frames'], first['train_positions']) == (3, '0:2, 3')
  assert first['held_out_frames'] == 1


def test_memory_is_in_mebibytes_where_it_is_known(monkeypatch):
  """A Mac counts in bytes; Windows does not count."""
  one = dataclasses.replace(CONFIG, steps=1)
  for peak, reported in ((300 << 20, 300.0), (None, None)):
    monkeypatch.setattr(loop, 'peak_memory', lambda peak=peak: peak)
    assert run(one).report['peak_memory_mb'] == reported


@pytest.mark.slow  # the tiled step compiles for a minute
def test_a_short_instance_buffer_grows_and_loses_nothing():
  """The tiled implementation starts with too small a buffer; the other needs none."""
  start = start_avatar()
  log_scale = jnp.full_like(start.gaussians.log_scale, 2.9)
  wide = dataclasses.replace(
    start, gaussians=dataclasses.replace(start.gaussians, log_scale=log_scale)
  )
  config = dataclasses.replace(CONFIG, steps=3, checkpoint_every=0)

  def psnr(implementation):
    one = dataclasses.replace(config, implementation=implementation)
    return refine_subjects([wide], [small_capture()], one)[0].train.psnr

  assert psnr('xla') == pytest.approx(psnr('numba'), abs=0.02)


def test_a_loss_that_is_not_finite_stops_the_run():
  config = dataclasses.replace(CONFIG, l1_weight=3e38, ssim_weight=3e38, checkpoint_every=0)
  dark = small_capture()
  noise = np.random.default_rng(0).integers(0, 2, dark.source.images.shape, np.uint8) * 255
  solid = np.full_like(dark.source.mattes, 255)
  capture = dataclasses.replace(dark, source=MemoryImages(noise, solid))
  with pytest.raises(FloatingPointError, match='not finite at step'):
    refine_subjects([start_avatar()], [capture], config)


def test_bad_arguments():
  capture = small_capture()
  with pytest.raises(ValueError, match='1 avatars for 2 captures'):
    refine_subjects([None], [capture, capture], CONFIG)
  with pytest.raises(ValueError, match='tracked with head model'):
    refine(start_avatar(), dataclasses.replace(capture, head_name='someone'), CONFIG)
  with pytest.raises(ValueError, match='one image size'):
    refine_subjects([start_avatar()] * 2, [capture, small_capture(size=48)], CONFIG)
  jaw = capture.codes.jaw.copy()
  jaw[1] = np.nan
  broken = dataclasses.replace(capture, codes=dataclasses.replace(capture.codes, jaw=jaw))
  with pytest.raises(ValueError, match='jaw holds NaN'):
    refine(None, broken, CONFIG)
