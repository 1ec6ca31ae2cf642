"""Rows of the ablations: what each begins with, in which order, and the table they make."""

import dataclasses
import json

import pytest

from sa0_jax.config import from_config_dict, load_config
from sa0_jax.evaluate.ablation import (
  SCORES,
  Ablation,
  collect,
  order,
  run_row,
  to_markdown,
)
from sa0_jax.refine.config import RefineConfig
from sa0_jax.train.config import TrainConfig

NAMES = ('A', 'B', 'C', 'E', 'linear', 'cosine', 'rate_1e-4', 'anchor_0_25')


@pytest.fixture
def ablation(tmp_path):
  rows = {n: from_config_dict(TrainConfig, load_config(f'ablations:{n},debug')) for n in NAMES}
  refinements = dict.fromkeys(('D', 'E', 'no_clamp'), RefineConfig(steps=10))
  return Ablation(rows, refinements, tmp_path)


def test_rows_that_differ_in_phase_2_begin_with_row_a(ablation, tmp_path):
  assert [n for n in NAMES if ablation.shares_phase1(n)] == ['B', 'C', 'linear', 'anchor_0_25']
  second = ablation.config('B', 3)
  assert second.weights.generator == str(tmp_path / 'A-3' / 'phase1.npz')
  assert (second.phase1.steps, second.seed) == (0, 3)
  assert second.phase2 == ablation.rows['B'].phase2
  own = ablation.config('E', 3)
  assert own == dataclasses.replace(ablation.rows['E'], seed=3)
  assert ablation.rows['A'].phase2.steps == 0
  rates = [ablation.rows[n].phase1.optimizer.rate for n in ('rate_1e-4', 'C')]
  assert rates == [pytest.approx(0.4 * rates[1]), rates[1]]


def test_a_row_that_is_the_base_is_run_once(ablation, tmp_path):
  assert ablation.rows['linear'] == ablation.rows['C']
  assert ablation.folder('linear', 1) == ablation.folder('C', 1) == tmp_path / 'C-1'
  assert ablation.folder('cosine', 1) == tmp_path / 'cosine-1'


def test_each_row_comes_after_those_it_needs(ablation):
  assert order(ablation, ['no_clamp', 'B']) == ['A', 'C', 'no_clamp', 'B']
  assert order(ablation, ['E']) == ['E']
  assert ablation.names() == ['A', 'B', 'C', 'D', 'E', 'no_clamp', *NAMES[4:]]
  with pytest.raises(ValueError, match="no row 'H': they are A, B"):
    order(ablation, ['H'])
  with pytest.raises(ValueError, match="no row 'D' is trained"):
    ablation.config('D', 0)


def test_a_refined_row_says_what_is_missing(ablation):
  with pytest.raises(FileNotFoundError, match='row C with seed 0 has not been trained'):
    run_row(ablation, 'D', 0)


def leave(folder, monocular, **scores):
  """What a run leaves."""
  folder.mkdir()
  (folder / 'generator.npz').write_bytes(b'')
  lines = [
    {'step': 1, 'sa0_monocular/psnr': 1.0},
    {'step': 2, 'loss': 0.5},
    {
      'step': 3,
      'sa0_monocular/psnr': monocular,
      'sa0_monocular/psnr_from_1': 9.0,
      'sa0_multiview/psnr': 20.0,
    },
  ]
  text = ''.join(json.dumps(line) + '\n' for line in lines) + '{"step": 4, "sa0_mono'
  (folder / 'metrics.jsonl').write_text(text)
  if scores:
    (folder / SCORES).write_text(json.dumps(scores))


def test_the_table_has_what_was_run_and_says_what_was_not(ablation, tmp_path):
  by_sources = {str(n): {'monocular': 20.0 + n, 'multiview': 19.0 + n} for n in (1, 2, 3, 4)}
  leave(tmp_path / 'C-0', 25.0, by_sources=by_sources)
  leave(tmp_path / 'C-1', 27.0)
  leave(tmp_path / 'B-0', 24.5)
  (tmp_path / 'D-0').mkdir()
  scores = {'refined': {'psnr': 30.0, 'max_aspect_ratio': 7.96}}
  (tmp_path / 'D-0' / SCORES).write_text(json.dumps(scores))
  results = {r.name: r for r in collect(ablation, (0, 1))}
  assert results['C'].seeds == (0, 1)
  assert results['C'].values == {'monocular': [25.0, 27.0], 'multiview': [20.0, 20.0]}
  assert results['linear'].values == results['C'].values
  assert results['A'].seeds == ()
  page = to_markdown(list(results.values()), 'Title').splitlines()
  assert page[0] == '# Title'
  cells = {line.split(' | ')[0][2:]: line.split(' | ') for line in page if line.startswith('| ')}
  assert cells['C'][1:4] == ['24.94', '26.00 ± 1.00', '20.00 ± 0.00']
  assert cells['B'][1:4] == ['22.73', '24.50 (-1.50)', '20.00 (+0.00)']
  assert cells['D'] == ['| D', '29.95*', '–', '–', '30.00', '8.0', '0 |']
  assert cells['A'][-1] == 'not run |'
  assert '| 4 | 24.94 | 24.00 | 23.00 |' in page


def test_steps_without_a_finite_score_are_passed_over(ablation, tmp_path):
  """What is not a number is null in metrics.jsonl; whole lines of damage say nothing."""
  leave(tmp_path / 'C-0', 25.0)
  with open(tmp_path / 'C-0' / 'metrics.jsonl', 'a') as file:
    file.write('\n[1]\n"x"\n{"step": 9, "sa0_monocular/psnr": null, "not_finite": ["x"]}\n')
    file.write('{"step": 9, "sa0_multiview/psnr": ' + '9' * 400 + '}\n')
  results = {r.name: r for r in collect(ablation, (0,))}
  assert results['C'].values == {'monocular': [25.0], 'multiview': [20.0]}


@pytest.mark.parametrize(
  'text',
  [
    '[]',
    '{"refined": 3}',
    '{"refined": {"psnr": 30.0}}',
    '{"by_sources": {"7": {}}}',
    '{"by_sources": {"1": {"monocular": "x"}}}',
  ],
)
def test_scores_that_are_none_are_refused(ablation, tmp_path, text):
  (tmp_path / 'C-0').mkdir()
  (tmp_path / 'C-0' / SCORES).write_text(text)
  with pytest.raises(ValueError, match='no scores of a row; remove it'):
    collect(ablation, (0,))
