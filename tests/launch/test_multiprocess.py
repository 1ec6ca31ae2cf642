"""Several real processes of this machine, started by launch/local/multiprocess.sh."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.launch.scripts import WORDS, run, shell_words
from tests.structure.sources import ROOT

SCRIPT = 'launch/local/multiprocess.sh'
HEARTBEAT = 6  # seconds


class Running:
  """The script with two processes of four made-up devices each, until they wait."""

  def __init__(self, log, *options: str) -> None:
    self.log = log
    environ = {
      'PATH': os.environ['PATH'],
      'SA0_COMMAND': f'{sys.executable} -m tests.launch.meet',
      'TF_CPP_MIN_LOG_LEVEL': '2',
    }
    words = ['bash', SCRIPT, '2', '--fake-devices', '4', *options, '--', 'wait', str(HEARTBEAT)]
    with log.open('w') as file:
      self.process = subprocess.Popen(words, cwd=ROOT, env=environ, stdout=file, stderr=file)
    self.read_until(r'(?s)(?=.*^\[0\] pid)(?=.*^\[1\] pid)')

  def read_until(self, pattern: str, seconds: float = 120) -> str:
    """What was printed, once it matches."""
    end = time.monotonic() + seconds
    while not re.search(pattern, self.log.read_text(), re.MULTILINE):
      assert self.process.poll() is None, self.log.read_text()
      assert time.monotonic() < end, self.log.read_text()
      time.sleep(0.1)
    return self.log.read_text()

  def pid(self, process: int) -> int:
    """Of a process of the two."""
    return int(re.search(rf'^\[{process}\] pid (\d+)$', self.log.read_text(), re.MULTILINE)[1])

  def close(self) -> None:
    """Ends what a failed test has left."""
    if self.process.poll() is None:
      for process in (0, 1):
        os.kill(self.pid(process), signal.SIGKILL)
      self.process.wait(60)


@pytest.fixture
def two(tmp_path) -> Iterator[Running]:
  """Two processes that have met, added, and wait."""
  running = Running(tmp_path / 'log', '--grace', '60')
  yield running
  running.close()


def alive(pid: int) -> bool:
  """Whether a process is there."""
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return False
  return True


def test_two_processes_add_over_all_devices_and_a_signal_reaches_both(two):
  text = two.log.read_text()
  # Four devices with 1 and four with 10.
  assert '[0] 0/2 8 sum 44\n' in text
  assert '[1] 1/2 8 sum 44\n' in text
  pids = two.pid(0), two.pid(1)
  two.process.send_signal(signal.SIGTERM)
  assert two.process.wait(60) == 75
  stopped = re.findall(
    r'^\[(\d)\] stopped at the step of all: (\d+)$', two.log.read_text(), re.MULTILINE
  )
  assert sorted(process for process, _ in stopped) == ['0', '1']
  assert len({step for _, step in stopped}) == 1
  assert not any(alive(pid) for pid in pids)


def test_a_process_that_dies_ends_the_other(two):
  pids = two.pid(0), two.pid(1)
  os.kill(pids[1], signal.SIGKILL)
  begin = time.monotonic()
  # The other one ends by itself: --grace is ten heartbeats long.
  assert two.process.wait(60) == 128 + signal.SIGKILL
  assert time.monotonic() - begin < 5 * HEARTBEAT
  text = two.log.read_text()
  assert 'process 1 ended with 137' in text
  assert 'process 0 ended with 134' in text
  assert 'killed' not in text
  assert not any(alive(pid) for pid in pids)


def small(folder, program: str, *words: str, processes: int = 2):
  """Runs a line of shell in each process."""
  (folder / 'program').write_text(program)
  return run(folder, SCRIPT, str(processes), *words, SA0_COMMAND=f'sh {folder}/program')


@pytest.mark.parametrize(
  ('program', 'code'),
  [
    ('exit 0', 0),
    ('exit 75', 75),
    ('exit $SA0_PROCESS', 1),
    ('exit $((SA0_PROCESS * 75))', 75),
    # Stopped with 75 by one's own failure is a failure.
    ('if [ $SA0_PROCESS = 0 ]; then exit 75; else sleep 1; exit 3; fi', 3),
    # The first to fail says why; the other only follows.
    ('if [ $SA0_PROCESS = 1 ]; then exit 2; else sleep 1; exit 134; fi', 2),
  ],
)
def test_exit_codes(program, code, tmp_path):
  assert small(tmp_path, program, '--').code == code


def test_who_does_not_follow_is_killed_with_all_it_started(tmp_path):
  program = (
    f'[ $SA0_PROCESS = 0 ] || exit 1; trap "" TERM; sleep 60 & echo $! > {tmp_path}/pid; wait'
  )
  begin = time.monotonic()
  ran = small(tmp_path, program, '--grace', '1', '--')
  assert (ran.code, '1 still there after 1 s: killed' in ran.error) == (1, True)
  assert time.monotonic() - begin < 30
  end = time.monotonic() + 10
  while alive(int((tmp_path / 'pid').read_text())) and time.monotonic() < end:
    time.sleep(0.05)
  assert not alive(int((tmp_path / 'pid').read_text()))


def test_lines_carry_the_number_of_their_process(tmp_path):
  ran = small(tmp_path, 'echo one; echo two >&2; printf three', '--', processes=3)
  lines = sorted(ran.out.splitlines())
  assert lines == sorted(f'[{i}] {word}' for i in range(3) for word in ('one', 'two', 'three'))


def test_arguments_and_variables_reach_every_process(tmp_path):
  program = f"""exec {sys.executable} -SEc 'import json, os, sys
print(json.dumps([sys.argv[1:], dict(os.environ)]))' "$@"
"""
  ran = small(tmp_path, program, '--port', '12345', '--devices-per-process', '2', '--', *WORDS)
  seen = [printed(line) for line in sorted(ran.out.splitlines())]
  assert [words for words, _ in seen] == [list(WORDS)] * 2
  for number, (_, environ) in enumerate(seen):
    assert environ['SA0_COORDINATOR'] == '127.0.0.1:12345'
    assert (environ['SA0_PROCESSES'], environ['SA0_PROCESS']) == ('2', str(number))
    assert environ['CUDA_VISIBLE_DEVICES'] == ('0,1', '2,3')[number]


def printed(line: str):
  """What a process printed as JSON, behind its number."""
  return json.loads(line.partition('] ')[2])


def test_dry_run_says_what_each_process_would_be(tmp_path):
  ran = run(tmp_path, SCRIPT, '--dry-run', '2', '--fake-devices', '4', '--', 'a b', XLA_FLAGS='--x')
  lines = [shell_words(line) for line in ran.out.splitlines()]
  assert [line[-3:] for line in lines] == [['sa0', 'train', 'a b']] * 2
  for number, line in enumerate(lines):
    assert {
      f'SA0_PROCESS={number}',
      'SA0_PROCESSES=2',
      'JAX_PLATFORMS=cpu',
      'XLA_FLAGS=--x --xla_force_host_platform_device_count=4',
    } <= set(line)
