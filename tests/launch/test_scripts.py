"""What holds for every script of launch/."""

import os
import re
import shutil
import subprocess

import pytest

from tests.launch.scripts import SCRIPTS, WORDS, run, shell_words
from tests.structure.sources import ROOT, project_files, read

# How each is told to run a command with arguments of the user's, without a cluster.
DRY_RUNS = {
  'launch/slurm/train.sbatch': (['--dry-run'], []),
  'launch/local/multiprocess.sh': (['--dry-run', '1'], ['--']),
  'launch/gke/xpk.sh': (['--dry-run', 'paper', 'image:1', '--cluster=c'], ['--']),
  'launch/tpu_vm/train.sh': (['--dry-run', 'run', 'paper', 'us-east5-a'], []),
}


def test_all_scripts_are_here():
  assert len(SCRIPTS) == 7
  others = {p for p in project_files() if p.startswith('launch/')} - set(SCRIPTS)
  assert {p.rpartition('/')[2] for p in others} == {
    'Dockerfile',
    'jobset.yaml',
    'refine_indexed_job.yaml',
  }


@pytest.mark.parametrize('script', SCRIPTS)
def test_bash_understands_it(script):
  subprocess.run(['bash', '-n', str(ROOT / script)], check=True)
  text = read(script)
  assert text.startswith('#!/usr/bin/env bash\n')
  assert re.search(r'^set -euo pipefail$', text, re.MULTILINE)
  assert os.access(ROOT / script, os.X_OK)


def test_shellcheck_has_nothing_to_say():
  if shutil.which('shellcheck') is None:
    pytest.skip('shellcheck is not installed')
  subprocess.run(['shellcheck', *SCRIPTS], cwd=ROOT, check=True)


@pytest.mark.parametrize('script', SCRIPTS)
def test_help_says_how(script, tmp_path):
  ran = run(tmp_path, script, '--help')
  assert (ran.code, ran.error) == (0, '')
  assert ran.out.startswith('usage: ')
  assert 'example: ' in ran.out
  assert '--dry-run' in ran.out


@pytest.mark.parametrize('script', sorted(DRY_RUNS))
def test_dry_runs_call_nothing_and_keep_every_argument(script, tmp_path):
  before, after = DRY_RUNS[script]
  programs = ('srun', 'scontrol', 'kubectl', 'xpk', 'gcloud', 'sa0')
  ran = run(tmp_path, script, *before, *after, *WORDS, programs=programs)
  assert (ran.code, ran.error, ran.calls) == (0, '', [])
  words = shell_words(ran.out.strip())
  if script.endswith(('xpk.sh', 'tpu_vm/train.sh')):  # one word for a shell over there
    [line] = [w.removeprefix('--command=') for w in words if w.startswith('--command=')]
    words = shell_words(line)
  assert words[words.index('train') + 1 :] == list(WORDS)


@pytest.mark.parametrize(
  ('script', 'words'),
  [
    ('launch/local/multiprocess.sh', ['--', '--config=x']),
    ('launch/local/multiprocess.sh', ['two', '--', '--config=x']),
    ('launch/local/multiprocess.sh', ['2', '--config=x']),
    ('launch/local/multiprocess.sh', ['2', '--grace', '--']),
    ('launch/local/refine_subjects.sh', ['0', '1', 'nowhere', 'avatars']),
    ('launch/local/refine_subjects.sh', ['2', '2', 'docs', 'avatars']),
    ('launch/local/refine_subjects.sh', ['0', '1', 'docs', 'avatars']),
    ('launch/gke/render.sh', ['launch/gke/nothing.yaml']),
    ('launch/gke/xpk.sh', ['paper', 'image', '--cluster=c']),
    ('launch/tpu_vm/train.sh', ['stop', 'paper', 'us-east5-a']),
    ('launch/tpu_vm/train.sh', ['create', 'paper', 'us-east5-a']),
  ],
)
def test_wrong_usage_is_told_in_one_line(script, words, tmp_path):
  ran = run(tmp_path, script, *words, programs=('sa0', 'gcloud', 'kubectl', 'xpk'))
  assert (ran.code, ran.out, ran.calls) == (2, '', [])
  assert ran.error.count('\n') == 1
  assert ran.error.startswith(script.rpartition('/')[2])


def test_tpu_machines_come_and_go(tmp_path):
  script, programs = 'launch/tpu_vm/train.sh', ('gcloud',)
  tpus = ['compute', 'tpus', 'tpu-vm']
  made = run(tmp_path, script, 'create', 'me', 'us-east5-a', 'v6e-8', '--spot', programs=programs)
  assert made.calls[0].arguments == [
    *tpus,
    'create',
    'me',
    '--zone=us-east5-a',
    '--accelerator-type=v6e-8',
    '--version=v2-alpha-tpuv6e',
    '--spot',
  ]
  gone = run(tmp_path, script, 'delete', 'me', 'us-east5-a', programs=programs)
  assert gone.calls[0].arguments == [*tpus, 'delete', 'me', '--zone=us-east5-a', '--quiet']
  wheel = 'dist/sa0_jax-0.1.0-py3-none-any.whl'
  installed = run(tmp_path, script, 'install', 'me', 'us-east5-a', wheel, programs=programs)
  copied, on_all = installed.calls
  assert copied.arguments[:6] == [*tpus, 'scp', wheel, 'constraints.txt']
  assert '--worker=all' in on_all.arguments
  assert './sa0_jax-0.1.0-py3-none-any.whl\\[tpu\\]' in on_all.arguments[-1]
  run_ = run(
    tmp_path, script, 'run', 'me', 'us-east5-a', '--x=1', programs=programs, STAND_IN_GCLOUD='75'
  )
  assert run_.code == 75
  assert run_.calls[0].arguments[-1] == '--command=env SA0_CLUSTER=tpu sa0/bin/sa0 train --x=1'
