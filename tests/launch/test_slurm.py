"""Jobs of SLURM, with stand-ins for srun and scontrol."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

from tests.launch.scripts import WORDS, run
from tests.structure.sources import ROOT, read

TRAIN, ARRAY = 'launch/slurm/train.sbatch', 'launch/slurm/refine_array.sbatch'
PROGRAMS = ('srun', 'scontrol')


def directives(script: str) -> set[str]:
  """Options of sbatch; they count before the first command only."""
  head = read(script).split('\nset -euo', 1)[0]
  return set(re.findall(r'^#SBATCH (.*)$', head, re.MULTILINE))


def test_jobs_are_put_back_and_told_in_time():
  assert {'--requeue', '--open-mode=append', '--signal=TERM@120'} <= directives(TRAIN)
  # Only the shell of the array is told: it has no step, and hands the signal on.
  assert {'--requeue', '--open-mode=append', '--signal=B:TERM@60'} <= directives(ARRAY)
  for script in (TRAIN, ARRAY):
    assert read(script).count('\n#SBATCH ') == len(directives(script))


def test_srun_gets_every_argument(tmp_path):
  ran = run(tmp_path, TRAIN, *WORDS, programs=PROGRAMS, SLURM_JOB_ID='7')
  assert ran.code == 0
  [call] = ran.calls
  assert call.program == 'srun'
  at = call.arguments.index('sa0')
  assert call.arguments[at : at + 2] == ['sa0', 'train']
  assert call.arguments[at + 2 :] == list(WORDS)


@pytest.mark.parametrize(
  ('code', 'restarts', 'requeued'),
  [
    (75, '', True),
    (75, '4', True),
    (75, '5', False),
    (0, '', False),
    (1, '', False),
    (134, '', False),
  ],
)
def test_only_what_was_saved_is_put_back(code, restarts, requeued, tmp_path):
  variables = {'SLURM_JOB_ID': '7', 'SA0_MAX_RESTARTS': '5', 'STAND_IN_SRUN': str(code)}
  if restarts:
    variables['SLURM_RESTART_COUNT'] = restarts
  ran = run(tmp_path, TRAIN, '--config=x', programs=PROGRAMS, **variables)
  assert ran.code == code
  asked = [call.arguments for call in ran.calls if call.program == 'scontrol']
  assert asked == [['requeue', '7']] * requeued


def test_a_file_is_sourced_first(tmp_path):
  (tmp_path / 'environment').write_text('export SA0_COMMAND_SEEN="two words"\nfalse || true\n')
  probe = tmp_path / 'bin' / 'srun'
  probe.parent.mkdir()
  probe.write_text('#!/bin/sh\necho "$SA0_COMMAND_SEEN"\n')
  probe.chmod(0o755)
  ran = run(tmp_path, TRAIN, SA0_ENVIRONMENT=str(tmp_path / 'environment'))
  assert ran.out == 'two words\n'


@pytest.fixture
def captures(tmp_path):
  """Five folders that look like captures, and one that does not."""
  for name in ('anna', 'ben', 'cleo', 'dan d', 'eve'):
    (tmp_path / 'captures' / name).mkdir(parents=True)
    (tmp_path / 'captures' / name / 'capture.json').write_text('{}')
  (tmp_path / 'captures' / 'notes').mkdir()
  return tmp_path / 'captures'


def subjects(ran) -> list[str]:
  """Names of captures that were refined, in order."""
  return [pathlib.Path(call.arguments[1]).name for call in ran.calls if call.program == 'sa0']


def element(index: int, count: int, first: int = 0, step: int = 1) -> dict[str, str]:
  """Variables of an element of an array."""
  return {
    'SLURM_JOB_ID': '9',
    'SLURM_ARRAY_TASK_ID': str(first + index * step),
    'SLURM_ARRAY_TASK_MIN': str(first),
    'SLURM_ARRAY_TASK_COUNT': str(count),
    'SLURM_ARRAY_TASK_STEP': str(step),
    'SLURM_SUBMIT_DIR': str(ROOT),
  }


@pytest.mark.parametrize(('count', 'first', 'step'), [(5, 0, 1), (2, 0, 1), (3, 4, 2), (7, 1, 1)])
def test_every_subject_is_taken_once(count, first, step, captures, tmp_path):
  taken = []
  for index in range(count):
    words = (str(captures), str(tmp_path / 'avatars'), *WORDS)
    ran = run(tmp_path, ARRAY, *words, programs=('sa0',), **element(index, count, first, step))
    assert ran.code == 0, ran.error
    taken += subjects(ran)
    for call in ran.calls:
      name = pathlib.Path(call.arguments[1]).name
      out = str(tmp_path / 'avatars' / f'{name}.sa0')
      assert call.arguments == ['refine', str(captures / name), '--out', out, *WORDS]
  assert sorted(taken) == ['anna', 'ben', 'cleo', 'dan d', 'eve']


def test_a_list_names_captures_and_the_done_ones_are_left_alone(captures, tmp_path):
  listed = tmp_path / 'list'
  listed.write_text(f'{captures}/eve/\n\n{captures}/dan d\n{captures}/anna')
  avatars = tmp_path / 'avatars'
  avatars.mkdir()
  (avatars / 'eve.sa0').touch()  # its report is not there: interrupted in between
  (avatars / 'anna.sa0').touch()
  (avatars / 'anna.report.json').touch()
  ran = run(tmp_path, ARRAY, str(listed), str(avatars), programs=('sa0',), **element(0, 1))
  assert (ran.code, subjects(ran)) == (0, ['eve', 'dan d'])
  assert 'anna: done before' in ran.out


def test_two_captures_of_one_name_are_refused(captures, tmp_path):
  listed = tmp_path / 'list'
  listed.write_text(f'{captures}/eve\nelsewhere/eve\n')
  ran = run(tmp_path, ARRAY, str(listed), 'avatars', programs=('sa0',), **element(0, 1))
  assert (ran.code, ran.calls) == (2, [])
  assert 'eve' in ran.error


def test_a_subject_that_fails_does_not_end_the_others(captures, tmp_path):
  ran = run(
    tmp_path,
    ARRAY,
    str(captures),
    str(tmp_path / 'avatars'),
    programs=('sa0',),
    STAND_IN_SA0='1',
    **element(0, 1),
  )
  assert (ran.code, len(subjects(ran))) == (1, 5)
  assert '5 failed' in ran.error


def test_dry_run_of_an_array(captures, tmp_path):
  ran = run(
    tmp_path, ARRAY, '--dry-run', str(captures), str(tmp_path / 'avatars'), programs=('sa0',)
  )
  assert (ran.code, ran.calls, ran.out.count('\n')) == (0, [], 5)
  assert not (tmp_path / 'avatars').exists()


@pytest.fixture
def stop(tmp_path):
  """Runs a job with programs of shell until it has begun, stops its script, tells what happened."""
  bin_folder, log = tmp_path / 'bin', tmp_path / 'log'
  bin_folder.mkdir()
  log.touch()

  def stopped(words: list[str], programs: dict[str, str], **variables: str) -> list[object]:
    for name, text in (programs | {'scontrol': 'echo "$@" >> $LOG'}).items():
      (bin_folder / name).write_text(f'#!/bin/sh\n{text}\n')
      (bin_folder / name).chmod(0o755)
    environ = {'PATH': f'{bin_folder}:{os.environ["PATH"]}', 'LOG': str(log), **variables}
    with subprocess.Popen(
      ['bash', *words], cwd=tmp_path, env=environ, stdout=subprocess.DEVNULL
    ) as process:
      end = time.monotonic() + 30
      while 'began' not in log.read_text() and time.monotonic() < end:
        time.sleep(0.05)
      process.send_signal(signal.SIGTERM)
      return [process.wait(30), *log.read_text().splitlines()]

  return stopped


def test_an_array_that_is_stopped_hands_it_on_and_is_put_back(stop, captures, tmp_path):
  """The signal reaches `sa0 refine`, no other subject begins, the element is put back."""
  program = 'trap "echo stopped >> $LOG; exit 143" TERM; echo began >> $LOG; sleep 30 & wait'
  words = [str(ROOT / ARRAY), str(captures), str(tmp_path / 'avatars')]
  happened = stop(words, {'sa0': program}, **element(0, 1))
  assert happened == [75, 'began', 'stopped', 'requeue 9']


def test_a_job_that_is_cancelled_waits_for_its_processes_and_is_not_put_back(stop):
  """SLURM signals the processes itself."""
  program = 'echo began >> $LOG; sleep 1; echo saved >> $LOG; exit 75'
  happened = stop([str(ROOT / TRAIN)], {'srun': program}, SLURM_JOB_ID='7')
  assert happened == [75, 'began', 'saved']


def test_the_stand_in_tells_what_it_was_given(tmp_path):
  """The tests above would pass with a stand-in that splits words again."""
  run(tmp_path, TRAIN, '--help', programs=('srun',))
  log = tmp_path / 'calls'
  subprocess.run([tmp_path / 'bin' / 'srun', *WORDS], env={'STAND_IN_LOG': str(log)}, check=True)
  assert json.loads(log.read_text()) == ['srun', list(WORDS), '']
  assert sys.executable in (tmp_path / 'bin' / 'srun').read_text()
