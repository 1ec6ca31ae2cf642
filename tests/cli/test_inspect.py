"""`sa0 inspect` and `sa0 bench generator`."""

import json

import pytest

from sa0_jax.cli.main import main


def test_parameters_alone(capsys):
  assert main(['inspect', '--config=paper', '--program', 'none', '--json']) == 0
  report = json.loads(capsys.readouterr().out)
  assert report['programs'] == []
  assert report['parameters'] == sum(m['parameters'] for m in report['modules'])
  assert main(['inspect', '--config=paper', '--program', 'none']) == 0
  text = capsys.readouterr().out
  assert f'{report["parameters"]:,}' in text
  assert 'unet' in text


def test_a_program_for_this_machine(capsys):
  assert main(['inspect', '--config=debug', '--program', 'forward']) == 0
  text = capsys.readouterr().out
  assert 'forward, 2 targets over' in text
  assert 'GiB at most' in text


@pytest.mark.parametrize(
  ('words', 'message'),
  [
    (['--for', 'gtx:1'], "no machine 'gtx:1'"),
    (['--config=paper:resnet'], "no encoder 'resnet'"),
    (['--config.generator.uv_size=100'], 'unet.size must be uv_size = 100'),
    (['--config.generator.pool=max'], 'one of mean, attention'),
  ],
)
def test_mistakes_are_one_line(words, message, capsys, monkeypatch):
  monkeypatch.setenv('JAX_PLATFORMS', 'cpu')
  assert main(['inspect', '--program', 'none', *words]) == 1
  error = capsys.readouterr().err
  assert message in error
  assert error.count('\n') == 1


def test_the_generator_is_measured(tmp_path, capsys):
  path = tmp_path / 'generator.json'
  words = ['bench', 'generator', '--config=debug', '--sources', '2', '--repeats', '3']
  assert main([*words, '--json', str(path)]) == 0
  report = json.loads(path.read_text())
  assert report['sources'] == 2
  assert report['num_gaussians'] > 500
  for part in ('encode', 'decode', 'forward', 'render'):
    assert 0 < report[f'{part}_milliseconds_min'] <= report[f'{part}_milliseconds']
  assert report['forward_milliseconds'] > report['decode_milliseconds_min']
  assert 'encode' in capsys.readouterr().out


def test_sources_are_one_to_four(capsys):
  assert main(['bench', 'generator', '--config=debug', '--sources', '5']) == 1
  assert '1 to 4 sources, got 5' in capsys.readouterr().err
