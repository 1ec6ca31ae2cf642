"""`sa0 plot`: pictures of what other commands wrote."""

import json
import sys

import pytest


def test_a_refinement_of_the_command_line(sa0, refined, tmp_path):
  report = refined.with_suffix('.report.json')
  code, output, _ = sa0('plot', report, '--out', tmp_path / 'plots')
  assert code == 0
  assert output == f'wrote {tmp_path / "plots" / "refinement.svg"}\n'
  assert [path.name for path in (tmp_path / 'plots').iterdir()] == ['refinement.svg']


def test_training_runs_share_a_picture(sa0, tmp_path):
  for name in ('first', 'second'):
    (tmp_path / name).mkdir()
    (tmp_path / name / 'metrics.jsonl').write_text('{"step": 1, "loss": 2.0}\n')
  words = ('plot', tmp_path / 'first', tmp_path / 'second', '--out', tmp_path / 'plots')
  code, output, _ = sa0(*words, '--format', 'png', '--json')
  assert code == 0
  assert json.loads(output) == {'pictures': [str(tmp_path / 'plots' / 'training.png')]}
  assert (tmp_path / 'plots' / 'training.png').stat().st_size > 1000


def test_mistakes_are_one_line_and_leave_nothing(fails, tmp_path):
  out = tmp_path / 'plots'
  (tmp_path / 'x.json').write_text('{')
  (tmp_path / 'x.jsonl').write_text('{"step": 1, "loss": 2.0}\n')
  assert 'damaged' in fails('plot', tmp_path / 'x.jsonl', tmp_path / 'x.json', '--out', out)
  assert 'No such file' in fails('plot', tmp_path / 'none.json', '--out', out)
  assert not out.exists()


def test_without_matplotlib_it_says_what_to_install(fails, tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'matplotlib', None)
  (tmp_path / 'x.jsonl').write_text('{"step": 1, "loss": 2.0}\n')
  line = fails('plot', tmp_path / 'x.jsonl', '--out', tmp_path / 'plots')
  assert 'sa0-jax[plots]' in line


@pytest.mark.parametrize('words', [[], ['x.json'], ['x.json', '--out', 'o', '--format', 'gif']])
def test_usage(sa0, words):
  assert sa0('plot', *words)[0] == 2
