"""Draws: statistics over 100,000 of them, and what every one of them must obey."""

import dataclasses

import jaxtyping
import numpy as np
import pytest

from sa0_jax.data.config import MAX_SOURCES, SamplerConfig
from sa0_jax.data.index import FrameIndex
from sa0_jax.data.sampling import DrawKey, check_drawable, dissimilarity, draw, temperature
from sa0_jax.generator import generator

DRAWS = 50_000  # of each phase
CONFIG = SamplerConfig()


def index(subjects=8, clips=2, instants=12, views=1, seed=0) -> FrameIndex:
  """Expressions wander slowly, and the head turns with them, as in a video."""
  rng = np.random.default_rng(seed)
  count = subjects * clips * instants * views
  clip, inside = np.divmod(np.arange(count), instants * views)
  instant, view = np.divmod(inside, views)
  angle = 0.15 * instant + 0.4 * view
  return FrameIndex(
    subject=(clip // clips).astype(np.int32),
    clip=clip.astype(np.int32),
    instant=instant.astype(np.int32),
    view=view.astype(np.int32),
    direction=np.stack([np.sin(angle), 0 * angle, np.cos(angle)], axis=1).astype(np.float32),
    expression=(0.3 * instant[:, None] * np.ones(6) + 0.1 * rng.normal(size=(count, 6))).astype(
      np.float32
    ),
  )


def draws(frames, phase, numbers, progress=0.0, config=CONFIG, seed=0):
  jaxtyping.config.update('jaxtyping_disable', True)  # checks take longer than draws
  try:
    return [draw(frames, config, phase, DrawKey(seed, n, progress)) for n in numbers]
  finally:
    jaxtyping.config.update('jaxtyping_disable', False)


@pytest.fixture(scope='module')
def video():
  return index()


@pytest.fixture(scope='module')
def studio():
  return index(subjects=4, instants=6, views=6)


@pytest.fixture(scope='module')
def temporal(video):
  """Half of them at the beginning of training, half at the end."""
  half = DRAWS // 2
  return draws(video, 1, range(half)) + draws(video, 1, range(half, DRAWS), progress=1.0)


@pytest.fixture(scope='module')
def spatial(studio):
  return draws(studio, 2, range(DRAWS))


def test_the_number_of_sources_is_uniform(temporal, spatial):
  for many in (temporal, spatial, temporal + spatial):
    counts = np.bincount([len(one.sources) for one in many], minlength=MAX_SOURCES + 1)
    np.testing.assert_allclose(counts[1:] / len(many), 0.25, atol=0.01)


def test_phase_1_stays_in_one_clip_and_holds_the_target_out(temporal, video):
  for one in temporal:
    assert len({one.target, *one.sources}) == 1 + len(one.sources)
  rows = np.array([(one.target, one.sources[0], one.sources[-1]) for one in temporal])
  assert (video.clip[rows] == video.clip[rows[:, :1]]).all()


def test_targets_are_uniform(temporal, video):
  counts = np.bincount([one.target for one in temporal], minlength=len(video))
  np.testing.assert_allclose(counts / counts.mean(), 1, atol=5 / np.sqrt(counts.mean()))


def test_the_first_source_moves_away_as_the_temperature_falls(temporal, video):
  """Against the mean over all other frames of the clip: no better than chance is 0."""

  def angle(rows):
    cosine = np.sum(video.direction[rows[:, 0]] * video.direction[rows[:, 1]], axis=1)
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))

  def change(rows):
    return np.linalg.norm(video.expression[rows[:, 0]] - video.expression[rows[:, 1]], axis=1)

  half = DRAWS // 2
  for distance in (angle, change):
    hot, cold = (
      distance(np.array([(d.target, d.sources[0]) for d in part])).mean()
      for part in (temporal[:half], temporal[half:])
    )
    others = distance(
      np.array([(d.target, d.sources[-1]) for d in temporal[:half] if len(d.sources) == 4])
    ).mean()
    assert cold > 1.15 * hot > 1.15 * others


def test_other_sources_do_not_depend_on_the_distance(video):
  """The last of two is drawn evenly from what the first left."""
  flat = dataclasses.replace(CONFIG, direction_weight=0.0, expression_weight=0.0)
  many = [d for d in draws(video, 1, range(20_000), config=flat) if len(d.sources) > 1]
  apart = np.array([(d.sources[0] - d.target, d.sources[1] - d.target) for d in many])
  assert abs(np.abs(apart[:, 0]).mean() - np.abs(apart[:, 1]).mean()) < 0.1


def test_phase_2_is_a_quarter_across_time(spatial, studio):
  rows = np.array([(d.target, d.sources[0]) for d in spatial])
  across = studio.instant[rows[:, 0]] != studio.instant[rows[:, 1]]
  across |= studio.clip[rows[:, 0]] != studio.clip[rows[:, 1]]
  assert across.mean() == pytest.approx(0.25, abs=0.01)
  assert (studio.subject[rows[:, 0]] == studio.subject[rows[:, 1]]).all()


def test_phase_2_obeys_its_rules(spatial, studio):
  for one in spatial[:20_000]:
    rows = np.array([one.target, *one.sources])
    moments = {(int(studio.clip[r]), int(studio.instant[r])) for r in rows}
    if len(moments) == 1:  # one instant: K + 1 cameras
      assert len(set(studio.view[rows].tolist())) == len(rows)
    else:  # K + 1 times, and a single source is of the target's camera
      assert len(moments) == len(rows)
      assert len(rows) > 2 or studio.view[rows[0]] == studio.view[rows[1]]


def test_single_cameras_have_other_times_only_in_phase_2(video):
  for one in draws(video, 2, range(500)):
    rows = np.array([one.target, *one.sources])
    assert len(set(zip(video.clip[rows].tolist(), video.instant[rows].tolist(), strict=True))) == (
      len(rows)
    )


def test_a_single_instant_has_other_cameras_only_in_phase_2():
  frames = index(subjects=2, clips=1, instants=1, views=5)
  for one in draws(frames, 2, range(200)):
    assert len({one.target, *one.sources}) == 1 + len(one.sources)


def test_few_frames_give_what_there_is():
  frames = index(subjects=3, clips=1, instants=2)
  assert {len(one.sources) for one in draws(frames, 1, range(200))} == {1}
  check_drawable(frames, 'x')
  with pytest.raises(ValueError, match='x: 3 of 3 clips have a single frame'):
    check_drawable(index(subjects=3, clips=1, instants=1), 'x')


def test_a_draw_is_a_function_of_seed_and_number(video):
  one = draw(video, CONFIG, 1, DrawKey(3, 12345, 0.2))
  draws(video, 1, range(50))
  assert draw(video, CONFIG, 1, DrawKey(3, 12345, 0.2)) == one
  assert draws(video, 1, range(100), seed=3) != draws(video, 1, range(100), seed=4)


def test_long_clips_are_compared_with_some_of_their_frames():
  frames = index(subjects=1, clips=1, instants=600)
  few = dataclasses.replace(CONFIG, candidates=8)
  firsts = {one.sources[0] for one in draws(frames, 1, range(2000), config=few)}
  assert len(firsts) > 400  # each draw sees others


def test_distances_are_in_units_of_their_means(video):
  rows = np.arange(1, 12)
  both = dissimilarity(video, 0, rows, CONFIG)
  assert both.mean() == pytest.approx(2.0)
  one = dissimilarity(video, 0, rows, dataclasses.replace(CONFIG, expression_weight=0.0))
  turned = 1 - np.cos(0.15 * rows)
  np.testing.assert_allclose(one, turned / turned.mean(), rtol=1e-4)
  still = dataclasses.replace(video, direction=np.tile(np.float32([0, 0, 1]), (len(video), 1)))
  assert np.isfinite(dissimilarity(still, 0, rows, CONFIG)).all()


def test_the_temperature_falls_in_a_line_over_the_first_quarter():
  progress = [0.0, 0.125, 0.25, 0.7, 1.0]
  assert [temperature(p, CONFIG) for p in progress] == [2.0, 1.25, 0.5, 0.5, 0.5]
  assert temperature(0.0, dataclasses.replace(CONFIG, anneal_share=0.0)) == 0.5


def test_the_generator_has_room_for_as_many_sources():
  assert MAX_SOURCES == generator.MAX_SOURCES


@pytest.mark.parametrize(
  'values',
  [
    {'temperature_end': 0.0},
    {'cross_time': 1.5},
    {'direction_weight': -1.0},
    {'candidates': 3},
  ],
)
def test_settings_that_make_no_sense(values):
  with pytest.raises(ValueError, match=next(iter(values))):
    SamplerConfig(**values)
