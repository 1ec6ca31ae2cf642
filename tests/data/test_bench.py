"""`sa0 bench data` measures what it says."""

import pytest

from sa0_jax.data.bench import DataBench, measure


def test_cores_follow_from_the_time_of_an_image(monocular):
  bench = DataBench(
    image_size=32,
    batch_size=2,
    batches=6,
    threads=1,
    datasets=(monocular,),
    step_seconds=0.25,
    step_batch=10,
  )
  report = measure(bench)
  seconds = report['cpu_milliseconds_per_image'] / 1e3
  assert report['cores_needed_most'] == pytest.approx(10 * 5 * seconds / 0.25)
  assert report['cores_needed_mean'] == pytest.approx(10 * 3.5 * seconds / 0.25)
  assert 12 * 2 <= report['images'] <= 12 * 5
  assert report['images_per_second'] > 0
  assert report['stages']['jpeg_bytes'] > 100


def test_settings_that_make_no_sense():
  with pytest.raises(ValueError, match='step_seconds must be positive'):
    DataBench(step_seconds=0.0)
