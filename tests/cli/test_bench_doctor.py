"""`sa0 bench` and `sa0 doctor`: reports programs can read."""

import json
import re

import pytest
from sa0_kernels import bench, implementations

from sa0_jax.cli.main import build_parser


def test_doctor(sa0):
  code, output, _ = sa0('doctor', '--json')
  assert code == 0
  report = json.loads(output)
  for operation in ('rasterize', 'ssim'):
    found = report['operations'][operation]
    assert found['implementations']['xla'] == 'usable'
    assert found['implementations']['triton'] == 'it needs a GPU, and JAX runs on cpu here'
    assert found['default'] == 'numba'
  assert report['tuning']['tile_sizes'] == {}
  assert report['devices'][0]['platform'] == report['backend']
  assert report['packages']['jax']
  assert report['heads'][0]['name'] == 'procedural'
  assert report['cores'] >= 1
  assert report['cache']['writable'] is True
  code, output, _ = sa0('doctor')
  assert code == 0
  for part in (
    'rasterize  numba',
    'usable, the default',
    'not tuned',
    'landmark environment',
    'devices',
    'cores',
    'cache',
  ):
    assert part in output


def test_doctor_says_which_tuned_sizes_are_damaged(sa0, tmp_path, monkeypatch):
  path = tmp_path / 'tuning.json'
  path.write_text('{')
  monkeypatch.setenv('SA0_TUNING', str(path))
  code, output, _ = sa0('doctor')
  assert code == 0
  assert f'tile sizes: {path}: not a table of tile sizes' in output


@pytest.fixture
def report(monkeypatch):
  """Stands in for minutes of measuring; what is asked for is recorded."""
  asked = {}

  def run(names, oracle_path=None):
    asked.update(names=names, oracle=oracle_path)
    return {
      'workload': 'w',
      'device': 'd',
      'cpu_count': 2,
      'implementations': {name: {'unusable': 'a test'} for name in names},
    }

  monkeypatch.setattr(bench, 'run', run)
  return asked


def test_a_sweep_leaves_out_the_reference(sa0, fails, monkeypatch):
  asked = []
  found = {'workload': 'w', 'device': 'd', 'cpu_count': 2, 'implementations': {}}
  monkeypatch.setattr(bench, 'sweep', lambda names: asked.append(names) or found)
  assert sa0('bench', 'rasterizer', '--sweep')[0] == 0
  assert sa0('bench', 'rasterizer', '--sweep', '--implementation', 'reference')[0] == 0
  assert asked == [[name for name in implementations() if name != 'reference'], ['reference']]
  assert '--oracle' in fails('bench', 'rasterizer', '--sweep', '--oracle', 'o.npz')


def test_bench_rasterizer(sa0, report, tmp_path):
  words = ['bench', 'rasterizer', '--implementation', 'xla', '--oracle', 'o.npz']
  code, output, _ = sa0(*words, '--json')
  assert code == 0
  assert json.loads(output)['implementations'] == {'xla': {'unusable': 'a test'}}
  assert report == {'names': ['xla'], 'oracle': 'o.npz'}
  code, output, _ = sa0('bench', 'rasterizer', '--json', tmp_path / 'r.json')
  assert code == 0
  assert 'unusable: a test' in output
  assert set(json.loads((tmp_path / 'r.json').read_text())['implementations']) == set(
    report['names']
  )


def test_bench_rasterizer_names_implementations(fails):
  line = fails('bench', 'rasterizer', '--implementation', 'cuda')
  assert "no rasterizer 'cuda'; there are numba" in line


def test_bench_rasterizer_help_names_every_implementation(capsys):
  with pytest.raises(SystemExit):
    build_parser().parse_args(['bench', 'rasterizer', '--help'])
  text = capsys.readouterr().out
  for name in implementations():
    assert re.search(rf'\b{name}\b', text), name


def test_bench_refine(sa0):
  pytest.importorskip('numba')
  words = ['--resolution', 32, '--uv-size', 16, '--steps', 2, '--chunks', 3, '--json']
  code, output, _ = sa0('bench', 'refine', *words)
  assert code == 0
  report = json.loads(output)
  assert (report['resolution'], report['uv_size'], report['chunks']) == (32, 16, 3)
  assert report['iterations_per_second'] == pytest.approx(1e3 / report['milliseconds_median'])
  assert report['milliseconds_min'] <= report['milliseconds_median'] <= report['milliseconds_max']
