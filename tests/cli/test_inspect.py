"""`sa0 inspect` and `sa0 bench generator`."""

import json

import pytest

from sa0_jax.cli import inspect as inspect_command
from sa0_jax.cli.main import main
from sa0_jax.train import inspect
from sa0_jax.train.inspect import ProgramSize


def test_the_command_offers_the_programs_there_are():
  assert inspect_command._PROGRAMS == inspect.PROGRAMS


def test_parameters_alone(capsys):
  assert main(['inspect', '--config=paper', '--program', 'none', '--json']) == 0
  report = json.loads(capsys.readouterr().out)
  assert report['programs'] == []
  assert report['parameters'] == sum(m['parameters'] for m in report['modules'])
  assert main(['inspect', '--config=paper', '--program', 'none']) == 0
  text = capsys.readouterr().out
  assert f'{report["parameters"]:,}' in text
  assert 'unet' in text


@pytest.mark.parametrize(
  ('memory', 'verdict', 'words'),
  [(2**31, 'fits', []), (2**30, 'DOES NOT FIT', []), (2**31, 'fits', ['--quick'])],
)
def test_a_program_is_described(memory, verdict, words, capsys, monkeypatch):
  def compiled(name, config, machine, quick):
    sizes = {'argument_bytes': 2**29, 'temporary_bytes': 2**30, 'peak_bytes': 3 * 2**29}
    return ProgramSize(
      name,
      'h100:8',
      8,
      'triton',
      config.phase1.batch_size,
      2e12,
      memory_bytes=memory,
      collectives={'all-reduce': 2},
      compile_seconds=3.0,
      quick=quick,
      **sizes,
    )

  monkeypatch.setattr(inspect, 'compile_program', compiled)
  assert main(['inspect', '--config=debug', '--program', 'phase1', *words]) == 0
  text = capsys.readouterr().out
  assert 'phase1, 2 targets over 8 × h100:8, triton: 2.000 TFLOP in all' in text
  assert f'1.50 GiB at most of {memory / 2**30:.1f} GiB: {verdict}' in text
  assert '2 all-reduce; compiled in 3 s' in text
  assert text.rstrip().endswith(', unpolished') == bool(words)


@pytest.mark.parametrize(
  ('words', 'message'),
  [
    (['--for', 'gtx:1'], "no machine 'gtx:1'"),
    (['--config=paper:resnet'], "no encoder 'resnet'"),
    (['--config.generator.uv_size=100'], 'uv_size must be unet.size = 256 or more, got 100'),
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
