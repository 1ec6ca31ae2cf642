"""What README and pages tell users to type works as written, only smaller."""

import re
import shlex

import pytest
import sa0_kernels

import sa0_jax
from sa0_jax.capture.studio import StudioConfig, film
from sa0_jax.cli.main import build_parser, main
from sa0_jax.cli.options import split_overrides
from tests.structure.sources import ROOT

pytest.importorskip('numba')

PAGES = ('README.md', *sorted(f'docs/{path.name}' for path in (ROOT / 'docs').glob('*.md')))
SMALLER = ('--config.steps=4', '--config.uv_size=24', '--config.resolution=32')


def blocks(page: str, language: str) -> list[str]:
  """Code blocks of a page."""
  return re.findall(rf'```{language}\n(.*?)```', (ROOT / page).read_text(), re.DOTALL)


def commands(page: str) -> list[list[str]]:
  """`sa0` command lines of a page, without the program."""
  lines = '\n'.join(blocks(page, 'bash')).replace('\\\n', ' ').splitlines()
  words = [shlex.split(line, comments=True) for line in lines]
  return [line[1:] for line in words if line and line[0].rpartition('/')[2] == 'sa0']


@pytest.mark.parametrize('page', PAGES)
def test_commands_are_understood(page):
  for words in commands(page):
    arguments, _ = split_overrides(words)
    build_parser().parse_args(arguments)


def test_make_targets_of_the_readme_exist():
  targets = set(re.findall(r'^([a-z-]+):', (ROOT / 'Makefile').read_text(), re.MULTILINE))
  named = set(re.findall(r'(?:`|^)make ([a-z-]+)', (ROOT / 'README.md').read_text(), re.MULTILINE))
  assert named
  assert named <= targets


def test_links_of_the_pages_lead_somewhere():
  for page in (*PAGES, 'kernels/README.md', 'results/README.md'):
    for link in re.findall(r'\]\(([^)#]+)\)', (ROOT / page).read_text()):
      if not link.startswith('http'):
        assert ((ROOT / page).parent / link).exists(), f'{page}: {link}'


@pytest.fixture(scope='module')
def subject(tmp_path_factory):
  """A folder with a small capture called as the README calls it."""
  folder = tmp_path_factory.mktemp('readme')
  capture = film(StudioConfig(seed=2, frames=6, fps=5.0, resolution=64, hair='crop'))
  capture.save(folder / 'subject')
  return folder


def test_the_readme_runs_from_capture_to_export(subject, monkeypatch):
  monkeypatch.chdir(subject)
  lines = {words[0]: words for words in commands('README.md')}
  assert main([*lines['refine'], *SMALLER]) == 0
  assert main([*lines['render'], '--frames', '4', '--size', '32']) == 0
  assert main(lines['export']) == 0
  for made in ('subject.sa0', 'subject.report.json', 'subject.mp4', 'orbit.mp4', 'subject.ply'):
    assert (subject / made).stat().st_size > 0


def test_the_readme_runs_in_python(subject, monkeypatch):
  monkeypatch.chdir(subject)
  [code] = blocks('README.md', 'python')
  assert 'steps=10_000' in code
  names: dict = {}
  small = code.replace('steps=10_000', 'steps=3, uv_size=24, resolution=32')
  exec(compile(small.replace('frames[7]', 'frames[2]'), 'README.md', 'exec'), names)
  assert names['frame'].rgb.shape == (64, 64, 3)
  assert (subject / 'subject.ply').exists()


def test_the_tutorial_runs(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  code = (ROOT / 'docs/tutorial.py').read_text()
  sizes = 'FRAMES, SIZE, STEPS, UV_SIZE = 48, 256, 1500, 128'
  assert sizes in code
  small = code.replace(sizes, 'FRAMES, SIZE, STEPS, UV_SIZE = 6, 64, 4, 24')
  names: dict = {}
  exec(compile(small, 'tutorial.py', 'exec'), names)
  assert names['picture'].rgb.shape == (64, 64, 3)
  assert names['picture'].alpha.mean() > 0.1
  assert (tmp_path / 'smile.ply').exists()
  assert float(abs(names['gradient']).max()) > 0


def test_public_names_are_in_the_reference():
  page = (ROOT / 'docs/api.md').read_text()
  listed = {line.rpartition('.')[2] for line in re.findall(r'^::: (\S+)$', page, re.MULTILINE)}
  assert {*sa0_jax.__all__, *sa0_kernels.__all__} == listed
