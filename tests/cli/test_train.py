"""`sa0 train` and `sa0 bench train`: what they say, and how they end."""

import json

import pytest

from sa0_jax.cli.main import main
from sa0_jax.train import bench, loop, trace
from sa0_jax.train.loop import TrainResult
from sa0_jax.train.validate import Scores


@pytest.mark.parametrize(
  ('words', 'message'),
  [
    ([], 'no data sets are named'),
    (['--config.phase1.data.datasets=nowhere'], 'nowhere: no data set here'),
    (['--config.phase1.stepz=3'], "unknown name 'phase1.stepz'; did you mean 'phase1.steps'?"),
    (['--config.phase1.steps=0', '--config.phase2.steps=0'], 'both phases have no steps'),
    (['--config.fsdp=7'], 'cannot be divided into groups of 7'),
    (['--processes', '2'], 'coordinator'),
  ],
)
def test_mistakes_are_one_line(words, message, capsys, tmp_path):
  assert main(['train', '--config=debug', f'--workdir={tmp_path}', *words]) == 1
  error = capsys.readouterr().err
  assert message in error
  assert error.count('\n') == 1


@pytest.mark.parametrize('text', ['5', '5:0', 'a:3', ':'])
def test_a_profile_is_a_step_and_a_count(text, capsys):
  assert main(['train', '--workdir=x', '--profile', text]) == 2
  assert 'expected STEP:COUNT' in capsys.readouterr().err


@pytest.mark.parametrize(('finished', 'code'), [(True, 0), (False, 75)])
def test_exit_codes_tell_launch_scripts_what_to_do(finished, code, capsys, monkeypatch, tmp_path):
  def train(config, workdir, session):
    return TrainResult(7, finished, None, {'sa0_monocular': Scores(24.5, (24.5,) * 4, 8)})

  monkeypatch.setattr(loop, 'train', train)
  words = ['train', '--config=debug', f'--workdir={tmp_path}']
  assert main(words) == code
  assert ('same command goes on' in capsys.readouterr().out) != finished
  assert main([*words, '--json']) == code
  report = json.loads(capsys.readouterr().out)
  assert report['finished'] == finished
  assert report['scores']['sa0_monocular']['psnr'] == 24.5


@pytest.mark.slow
def test_steps_are_measured(capsys, monkeypatch, tmp_path):
  parts = [trace.Part('encoder', 60.0, 0.6), trace.Part('rasterizer', 40.0, 0.4)]
  monkeypatch.setattr(trace, 'breakdown', lambda folder: parts)
  path = tmp_path / 'train.json'
  words = ['bench', 'train', '--config=debug', '--steps', '2', '--batch-size', '1']
  assert main([*words, '--json', str(path)]) == 0
  text = capsys.readouterr().out
  assert 'images/s' in text
  assert 'rasterizer' in text
  report = json.loads(path.read_text())
  assert report['images_per_second'] == pytest.approx(report['steps_per_second'])
  assert report['flops_per_step'] > 1e8
  assert 0 < report['model_flops_utilization'] < 1
  assert report['data_wait_share'] < 0.5
  assert [part['name'] for part in report['parts']] == ['encoder', 'rasterizer']


def test_a_bench_has_a_phase():
  from tests.train.runs import settings

  with pytest.raises(ValueError, match='phase is 1 or 2 and steps at least 2'):
    bench.TrainBench(settings(), steps=1)
