"""Protocols: who drives whom, what is compared, and runs that are cut off."""

import dataclasses
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sa0_jax.capture import image_files
from sa0_jax.capture.frames import load_frames
from sa0_jax.capture.splits import Split, write_split
from sa0_jax.evaluate.clips import Clip
from sa0_jax.evaluate.run import EvaluateConfig, evaluate, make_task
from sa0_jax.generator.generator import encode
from sa0_jax.generator.sources import pack_sources
from sa0_jax.head.registry import load_head
from sa0_jax.refine.evaluate import score_frames
from sa0_jax.refine.step import Binding
from sa0_jax.render import Renderer
from sa0_jax.train.objective import ObjectiveConfig, Targets, render_decoded
from tests import machine_code
from tests.evaluate.scenes import NAMES, avatars, config, network, scene, work
from tests.generator import tiny
from tests.refine.scenes import CONFIG, SIZE, small_capture, start_avatar
from tests.structure.sources import ROOT

pytest.importorskip('numba')


@pytest.fixture(scope='module')
def own_video(tmp_path_factory):
  """Per-subject results of two people."""
  out = tmp_path_factory.mktemp('own')
  return out, evaluate(avatars(), work(out, NAMES[:2]), config('per-subject'))


def test_an_avatar_scores_as_refinement_says(own_video):
  """Frames are loaded, posed and compared elsewhere there."""
  _, results = own_video
  for seed, result in enumerate(results):
    avatar = start_avatar(seed)
    frames = load_frames(small_capture(seed=seed), load_head(), 0)
    binding = Binding(jnp.asarray(avatar.head.faces), avatar.layout.face)
    assert [row['frame'] for row in result['frames']] == [2, 3, 4]
    for row in result['frames']:
      at = np.array([row['frame']])
      expected = score_frames(avatar.gaussians, binding, frames, at, CONFIG)
      assert row['psnr'] == pytest.approx(expected.psnr, abs=1e-3)
      assert row['psnr_inside_matte'] == pytest.approx(expected.psnr_inside_matte, abs=1e-3)
      assert row['ssim_rgb'] == pytest.approx(expected.ssim, abs=1e-4)
      assert row['mse'] == pytest.approx(10 ** (-row['psnr'] / 10), rel=1e-4)


def test_the_test_frames_are_those_of_the_split_file_else_the_last(tmp_path):
  small_capture().save(tmp_path / 'x')
  clips = [Clip('x')]
  task = make_task(tmp_path, clips, 0, config('per-subject', test_frames=2), False)
  assert task.targets == (3, 4)
  write_split(tmp_path / 'x', Split.of_parts([{0, 1}, set(), {2, 4}]))
  assert make_task(tmp_path, clips, 0, config('per-subject'), False).targets == (2, 4)


def test_a_video_shorter_than_its_test_set_is_an_error(tmp_path):
  small_capture().save(tmp_path / 'x')
  with pytest.raises(ValueError, match='the last 350 of 5 frames'):
    make_task(tmp_path, [Clip('x')], 0, EvaluateConfig('per-subject'), False)


def test_the_first_frame_is_the_source_and_no_target():
  task = make_task(scene() / 'captures', [Clip('anna')], 0, config('self'), True)
  assert (task.sources, task.targets) == ((0,), (1, 2, 3, 4))
  chosen = Clip('anna', sources=(2, 0))
  task = make_task(scene() / 'captures', [chosen], 0, config('self'), True)
  assert (task.sources, task.targets) == ((2, 0), (1, 3, 4))


@pytest.mark.parametrize(
  ('clip', 'message'),
  [
    (Clip('anna', targets=(5,)), 'frame 5 of 5'),
    (Clip('anna', sources=(7,)), 'frame 7 of 5'),
    (Clip('anna', sources=(1,), targets=(1, 2)), 'frame 1 is both source and target'),
  ],
)
def test_frames_that_cannot_be_are_named(clip, message):
  with pytest.raises(ValueError, match=f'{clip.name}.*{message}'):
    make_task(scene() / 'captures', [clip], 0, config('self'), True)


def test_the_next_person_by_name_drives():
  clips = [Clip(name) for name in ('cora', 'anna', 'bert')]
  tasks = [make_task(scene() / 'captures', clips, at, config('cross'), True) for at in range(3)]
  assert [(t.name, t.driver_name) for t in tasks] == [
    ('cora', 'anna'),
    ('anna', 'bert'),
    ('bert', 'cora'),
  ]
  assert all(task.targets == (0, 1, 2, 3, 4) for task in tasks)
  with pytest.raises(ValueError, match='two clips'):
    make_task(scene() / 'captures', clips[:1], 0, config('cross'), True)


def test_the_driver_moves_the_others_head_and_no_pixels_are_compared(tmp_path):
  results = evaluate(avatars(), work(tmp_path, NAMES[:2]), config('cross', save_frames=True))
  assert [r['driver'] for r in results] == ['bert', 'anna']
  assert all(row.keys() == {'frame', 'id'} for result in results for row in result['frames'])
  frame = small_capture(seed=1).frames[3]
  expected = Renderer(start_avatar(0))(frame.codes, frame.camera).rgb
  got = image_files.read_color(tmp_path / 'frames/rendered/anna/000003.png') / 255.0
  assert np.abs(got - np.clip(expected, 0, 1)).max() < 1.5 / 255
  drawn = image_files.read_color(tmp_path / 'pictures' / 'anna.png')
  assert drawn.shape == (4 * SIZE, 2 * SIZE, 3)  # driver, result


@pytest.fixture(scope='module')
def reenacted(tmp_path_factory):
  out = tmp_path_factory.mktemp('self')
  [result] = evaluate(network(), work(out, NAMES[:1]), config('self', save_frames=True))
  return out, result


def test_a_generator_renders_what_its_training_would(reenacted):
  """The same sources and target through the objective's own path, over black, then over white."""
  out, result = reenacted
  capture, position = small_capture(seed=0), 3
  head = load_head()
  at_source = load_frames(capture.select([0]), head, tiny.TINY.image_size)
  arrays = tiny.rig().arrays
  identity = encode(tiny.generator(), pack_sources(at_source, [0]), arrays)
  frames = load_frames(capture.select([position]), head, SIZE)
  codes = jax.tree.map(lambda a: jnp.asarray(a)[None], capture.frame_codes(position))
  target = Targets(
    jnp.zeros((1, SIZE, SIZE, 3)),
    frames.vertices,
    frames.camera(jnp.array([0])),
    codes,
    jnp.zeros((1, 4)),
  )
  axis = frames.world_to_camera[:, 2, :3]
  decoded = tiny.decode(tiny.generator(), identity, axis, codes)
  output = render_decoded(decoded, target, arrays, ObjectiveConfig())
  expected = np.asarray(output.features + (1 - output.alpha[..., None]))[0]
  got = image_files.read_color(out / 'frames' / 'rendered' / 'anna' / f'{position:06d}.png')
  assert np.abs(got / 255.0 - np.clip(expected, 0, 1)).max() < 2 / 255
  assert [row['frame'] for row in result['frames']] == [1, 2, 3, 4]
  assert result['sources'] == [0]


def test_pictures_show_source_target_result_and_error(reenacted):
  out, _ = reenacted
  drawn = image_files.read_color(out / 'pictures' / 'anna.png')
  assert drawn.shape == (4 * SIZE, 4 * SIZE, 3)
  row = drawn[:SIZE]
  filmed = image_files.read_color(out / 'frames' / 'reference' / 'anna' / '000001.png')
  np.testing.assert_array_equal(row[:, SIZE : 2 * SIZE], filmed)
  source = image_files.read_color(out / 'frames' / 'source' / 'anna' / '000000.png')
  np.testing.assert_array_equal(row[:, :SIZE], source)
  rendered = row[:, 2 * SIZE : 3 * SIZE].astype(int)
  same = (rendered == filmed.astype(int)).all(-1)
  assert same.any()
  assert (row[:, 3 * SIZE :][same] == 0).all()


class _CutOff(Exception):
  pass


def test_a_run_cut_off_goes_on_and_ends_with_the_same_results(own_video, tmp_path):
  whole, _ = own_video

  def cut(done, total):
    if done == 4:  # in the middle of the second person
      raise _CutOff

  todo = work(tmp_path, NAMES[:2])
  with pytest.raises(_CutOff):
    evaluate(avatars(), todo, config('per-subject'), cut)
  assert [path.name for path in (tmp_path / 'clips').iterdir()] == ['anna.json']
  calls = []
  evaluate(avatars(), todo, config('per-subject'), lambda *at: calls.append(at))
  assert calls == [(1, 3), (2, 3), (3, 3)]
  for name in NAMES[:2]:
    mine, theirs = (folder / 'clips' / f'{name}.json' for folder in (tmp_path, whole))
    assert mine.read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize('damage', [{'frames': [3]}, {'sources': 'x'}, {'clip': None}])
def test_damaged_results_are_made_anew(own_video, tmp_path, damage):
  """Those of the same clips, networks and settings, whose inside is none."""
  whole, results = own_video
  (tmp_path / 'clips').mkdir()
  kept = json.loads((whole / 'clips' / 'anna.json').read_text())
  (tmp_path / 'clips' / 'anna.json').write_text(json.dumps(kept | damage))
  calls = []
  todo = work(tmp_path, NAMES[:1])
  assert evaluate(avatars(), todo, config('per-subject'), lambda *at: calls.append(at)) == [
    results[0]
  ]
  assert len(calls) == 3


def test_results_of_something_else_are_made_anew(own_video, tmp_path):
  whole, results = own_video
  (tmp_path / 'clips').mkdir()
  stale = (whole / 'clips' / 'anna.json').read_text()
  todo = dataclasses.replace(work(tmp_path, NAMES[:1]))
  black = config('per-subject', background=(0.0, 0.0, 0.0))
  for text in (stale, stale[: len(stale) // 2]):
    (tmp_path / 'clips' / 'anna.json').write_text(text)
    calls = []
    [result] = evaluate(avatars(), todo, black, lambda *at, calls=calls: calls.append(at))
    assert len(calls) == 3
    assert result['frames'][0]['psnr'] != results[0]['frames'][0]['psnr']


@pytest.mark.slow
def test_eight_devices_give_the_bits_of_one(own_video, tmp_path):
  program = (
    'import pathlib, sys, jax\n'
    'from tests.evaluate.scenes import NAMES, avatars, config, work\n'
    'from sa0_jax.evaluate.run import evaluate\n'
    'assert jax.device_count() == 8\n'
    "evaluate(avatars(), work(pathlib.Path(sys.argv[1]), NAMES[:2]), config('per-subject'))\n"
  )
  environment = os.environ | {
    'XLA_FLAGS': machine_code.devices(8),
    'JAX_PLATFORMS': 'cpu',
  }
  subprocess.run(
    [sys.executable, '-c', program, str(tmp_path)], cwd=ROOT, env=environment, check=True
  )
  for name in NAMES[:2]:
    mine, theirs = (
      json.loads((folder / 'clips' / f'{name}.json').read_text())['frames']
      for folder in (tmp_path, own_video[0])
    )
    assert mine == theirs
