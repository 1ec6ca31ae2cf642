"""The progress line."""

import pytest

from sa0_jax.cli import progress


def test_a_rate_counts_what_was_done_since_the_restart(monkeypatch, capsys):
  now = [0.0]
  monkeypatch.setattr(progress.time, 'monotonic', lambda: now[0])
  line = progress.ProgressLine('track')
  line.restart(100)
  line.count(100, 300, 'steps', force=True)
  now[0] = 10.0
  line.count(150, 300, 'steps', force=True)
  first, second = capsys.readouterr().err.splitlines()
  assert first.endswith('100/300 steps  0.0/s  ? left')
  assert second.endswith('150/300 steps  5.0/s  30 s left')


def test_without_a_total_a_log_has_no_line_for_each(capsys):
  stages = progress.StageProgress(progress.ProgressLine('track'))
  for done in range(1, 50):
    stages('shots', done, 0)
  assert capsys.readouterr().err == ''


@pytest.mark.parametrize(
  ('seconds', 'text'), [(8.6, '9 s'), (185.0, '3 min 05 s'), (7800.0, '2 h 10 min')]
)
def test_durations_are_readable(seconds, text):
  assert progress.duration(seconds) == text
