"""Runs the scripts of launch/ with stand-ins for the programs of clusters."""

import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
from typing import Any, NamedTuple

from tests.structure.sources import ROOT, project_files

SCRIPTS = sorted(
  p for p in project_files() if p.startswith('launch/') and p.endswith(('.sh', 'ch'))
)
# What shells and YAML like to change.
WORDS = (
  '--config=paper:b=1',
  '--config.name=two words',
  "it's",
  '"quoted" \\ back\\slash',
  '$HOME $(hostname) `id` $$',
  '*',
  '',
  '{a: [b, #c]}',
  '@NAME@ & @ARGUMENTS@',
  'two\nlines\tand ü',
  '--',
  '--dry-run',
)
_STAND_IN = """#!{python} -SE
import json, os, sys
name = os.path.basename(sys.argv[0])
asked = '-f' in sys.argv
with open(os.environ['STAND_IN_LOG'], 'a') as file:
  read = sys.stdin.read() if asked else ''
  print(json.dumps([name, sys.argv[1:], read]), file=file)
sys.exit(int(os.environ.get('STAND_IN_' + name.upper(), '0')))
"""


class Call(NamedTuple):
  """How a stand-in was called."""

  program: str
  arguments: list[str]
  read: str  # from standard input


class Ran(NamedTuple):
  """What a script did."""

  code: int
  out: str
  error: str
  calls: list[Call]


def run(
  folder: pathlib.Path, script: str, *words: str, programs: tuple[str, ...] = (), **variables: str
) -> Ran:
  """Runs a script in the project's folder.

  Args:
    folder: an empty one, for the stand-ins.
    script: of launch/.
    words: its arguments.
    programs: names of programs to stand in for.
    variables: of its environment, beside PATH; STAND_IN_SRUN='75' is what `srun` ends with.
  """
  bin_folder, log = folder / 'bin', folder / 'calls'
  bin_folder.mkdir(exist_ok=True)
  log.write_text('')
  for program in programs:
    file = bin_folder / program
    file.write_text(_STAND_IN.format(python=sys.executable))
    file.chmod(0o755)
  environ = {'PATH': f'{bin_folder}:{os.environ["PATH"]}', 'STAND_IN_LOG': str(log), **variables}
  done = subprocess.run(
    ['bash', str(ROOT / script), *words],
    cwd=ROOT,
    env=environ,
    capture_output=True,
    text=True,
    timeout=60,
    check=False,
  )
  calls = [Call(*json.loads(line)) for line in log.read_text().splitlines()]
  return Ran(done.returncode, done.stdout, done.stderr, calls)


def shell_words(line: str) -> list[str]:
  """The words of a line as bash reads it."""
  program = 'import json, sys; print(json.dumps(sys.argv[1:]))'
  done = subprocess.run(
    ['bash', '-c', f'exec {shlex.quote(sys.executable)} -SEc {shlex.quote(program)} {line}'],
    capture_output=True,
    text=True,
    check=True,
  )
  return json.loads(done.stdout)


def commands_of(page: str, program: str) -> list[list[str]]:
  """Command lines of a page that begin with a program, or with a path that contains it."""
  blocks = re.findall(r'```bash\n(.*?)```', (ROOT / page).read_text(), re.DOTALL)
  lines = '\n'.join(blocks).replace('\\\n', ' ').splitlines()
  words: list[Any] = [shlex.split(line, comments=True) for line in lines]
  return [line for line in words if line and any(program in word for word in line)]
