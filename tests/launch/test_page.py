"""The commands of docs/clusters.md, with stand-ins for the programs of clusters."""

import re

import pytest
import yaml

from tests.launch.scripts import commands_of, run
from tests.structure.sources import ROOT, read

PAGE = 'docs/clusters.md'
COMMANDS = commands_of(PAGE, 'launch/')
PROGRAMS = ('srun', 'scontrol', 'kubectl', 'xpk', 'gcloud', 'sa0')


def test_every_script_is_on_the_page():
  scripts = {word for words in COMMANDS for word in words if word.startswith('launch/')}
  assert scripts == {str(p.relative_to(ROOT)) for p in ROOT.glob('launch/*/*') if p.is_file()}


@pytest.mark.parametrize('words', COMMANDS, ids=' '.join)
def test_commands_of_the_page_work(words, tmp_path):
  if words[0] == 'docker':
    assert (ROOT / words[words.index('-f') + 1]).is_file()
    return
  at = next(i for i, word in enumerate(words) if word.startswith('launch/'))
  script, arguments = words[at], words[at + 1 :]
  captures = tmp_path / 'captures' / 'anna'
  captures.mkdir(parents=True)
  (captures / 'capture.json').touch()
  arguments = [str(captures.parent) if word == 'captures' else word for word in arguments]
  dry = arguments if '--dry-run' in arguments else ['--dry-run', *arguments]
  ran = run(tmp_path, script, *dry, programs=PROGRAMS)
  assert (ran.code, ran.error, ran.calls) == (0, '', [])
  if script.endswith('render.sh'):
    assert yaml.safe_load(ran.out)
  else:
    assert 'sa0' in ran.out or 'gcloud' in ran.out


def test_the_numbers_of_the_page_are_those_of_the_scripts():
  page = read(PAGE)
  seconds = re.search(r'--signal=TERM@(\d+)', read('launch/slurm/train.sbatch'))[1]
  grace = re.search(r'#:GRACE=(\d+)', read('launch/gke/jobset.yaml'))[1]
  restarts = re.search(r'#:RESTARTS=(\d+)', read('launch/gke/jobset.yaml'))[1]
  assert f'{seconds} s before' in page
  assert f'`GRACE` ({grace} s)' in page
  assert f'`RESTARTS` times ({restarts})' in page
