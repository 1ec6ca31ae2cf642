"""`sa0 ablate` lists, prints commands, and runs."""

import json

import pytest

from sa0_jax.cli import ablate
from sa0_jax.evaluate import ablation
from sa0_jax.evaluate.synth import synth_folders
from sa0_jax.train.loop import TrainResult


def test_the_table_of_nothing_names_every_row(sa0, tmp_path):
  code, output, _ = sa0('ablate', '--workdir', tmp_path / 'runs', '--json')
  assert code == 0
  rows = {row['name']: row for row in json.loads(output)}
  assert {'A', 'D', 'G', 'no_clamp', 'backbone_l', 'anchor_1e-4_25'} <= rows.keys()
  assert rows['D']['published'] == 29.95
  assert rows['backbone_s']['seeds'] == []
  assert 'not run' in (tmp_path / 'runs' / 'table.md').read_text()
  assert 'backbone_s' not in sa0('ablate', '--workdir', tmp_path, '--base', 'tiny')[1]


def test_commands_for_a_cluster(sa0, tmp_path):
  words = ('ablate', '--workdir', tmp_path, '--base=tiny', '--synth', 'synth', '--seeds=0,2')
  code, output, _ = sa0(*words, '--commands', 'sbatch train.sbatch', '--config.fsdp=2')
  assert code == 0
  lines = output.splitlines()
  first, second = (next(line for line in lines if f'{name}-2' in line) for name in ('A', 'B'))
  assert first.startswith('sbatch train.sbatch --config=ablations:A,tiny ')
  assert lines.index(first) < lines.index(second)
  assert f'--config.weights.generator={tmp_path}/A-2/phase1.npz' in second
  assert '--config.phase1.steps=0' in second
  assert '--config.phase2.data.datasets=synth/data/sa0_multiview' in second
  assert second.count('--config.seed=2') == second.count('--config.fsdp=2') == 1
  # Rows that are the base are not trained again.
  assert not any('linear' in line for line in lines)
  assert sum('cosine' in line for line in lines) == 2
  assert sa0(*words, '--commands')[1].startswith('sa0 train --config=ablations:A,tiny')


def test_rows_are_changes_of_the_changed_base(sa0, tmp_path):
  """`--config.phase2.steps` once gave row A, which is Phase 1 alone, a Phase 2."""
  words = ('ablate', '--workdir', tmp_path, '--base=tiny', '--commands')
  changes = ('phase2.steps=7', 'phase1.optimizer.rate=1e-3', 'generator.use_residual=true')
  _, output, _ = sa0(*words, *(f'--config.{change}' for change in changes))
  lines = {line.split('ablations:')[1].split(',')[0]: line for line in output.splitlines()}
  assert '--config.phase2.steps=0' in lines['A']
  assert '--config.phase2.steps=7' in lines['C']
  assert '--config.generator.use_residual=false' in lines['E']
  assert '--config.generator.use_residual=true' in lines['G']
  assert '--config.phase1.optimizer.rate=0.0004' in lines['rate_1e-4']
  assert '--config.phase1.optimizer.rate=0.001' in lines['cosine']


@pytest.mark.parametrize(
  ('words', 'message'),
  [
    (('--run', 'H'), "no row 'H'"),
    (('--run', 'A', '--commands'), 'one of both'),
    (('--config=tiny',), 'the rows are those of configs/ablations.py'),
    (('--run', 'A', '--base=debug'), 'no data sets are named'),
    (('--run', 'D', '--base=debug', '--config.phase1.data.datasets=x'), 'x'),
  ],
)
def test_mistakes_are_one_line(sa0, tmp_path, words, message):
  code, _, error = sa0('ablate', '--workdir', tmp_path / 'runs', *words)
  assert (code, error.count('\n')) == (1, 1)
  assert message in error


def test_a_line_of_progress_says_once_whose_it_is(sa0, tmp_path, monkeypatch):
  def train(config, folder, session):
    session.say('going on')
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'generator.npz').touch()
    return TrainResult(1, True, folder / 'generator.npz', {})

  monkeypatch.setattr(ablation, 'train', train)
  monkeypatch.setattr(ablation, 'score_sources', lambda *_: {'1': {'monocular': 20.0}})
  monkeypatch.setattr(ablation, 'score_refined', lambda *_: {'psnr': 30.0, 'max_aspect_ratio': 7.0})
  monkeypatch.setattr(ablate, '_make_synth', lambda args: synth_folders(args.synth))
  words = ('ablate', '--base=debug', '--synth', tmp_path / 'synth', '--workdir', tmp_path / 'runs')
  code, _, error = sa0(*words, '--run', 'D')
  assert code == 0, error
  assert error.splitlines() == [
    'A-0: going on', 'C-0: going on', 'D-0: refining 6 of the held-out'
  ]  # fmt: skip


@pytest.mark.slow
def test_rows_are_trained_refined_and_collected(sa0, tmp_path, monkeypatch):
  from sa0_jax import config

  small = config.load_config('synth')
  for kind in ('monocular', 'multiview'):
    part = small[kind]
    part.subjects, part.resolution, part.hold_out = 3, 64, 0.34
    part.frames = {'monocular': 6, 'multiview': 1}[kind]
  real = config.load_config
  monkeypatch.setattr(config, 'load_config', lambda n: small if n == 'synth' else real(n))
  words = ('ablate', '--base=debug', '--synth', tmp_path / 'synth', '--workdir', tmp_path / 'runs')
  words = (*words, '--refine-steps=6', '--run', 'B,D', '--json')
  code, output, error = sa0(*words)
  assert code == 0, error
  rows = {row['name']: row for row in json.loads(output)}
  for name in ('A', 'B', 'C'):
    assert rows[name]['values']['monocular'][0] > 5.0
  assert rows['D']['values']['refined'][0] > 5.0
  assert sorted(rows['C']['by_sources']) == ['1', '2', '3', '4']
  assert sa0(*words)[1] == output  # nothing is done twice
