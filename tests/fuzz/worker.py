"""Reads damaged files in a process of its own, so that a crash is seen and a hang ends.

    python -m tests.fuzz.worker READER|all FIRST COUNT

Prints the seed before each file. Exits with 1 at the first file that is not refused as it should.
"""

import os
import pathlib
import resource
import shutil
import signal
import sys
import tempfile
import warnings

from sa0_jax.cli.errors import error_line
from tests.fuzz.mutations import mutate
from tests.fuzz.readers import FOUND, READERS

# What a reader may say. A KeyError or an IndexError has found its way past the checks.
REFUSALS = (ValueError, OSError)
SECONDS = 20  # of processor time: other jobs beside make nobody guilty
WAITING = 300  # of a clock, for what sleeps
BYTES = 6 << 30
# Where there is one, a file system in memory: on a disk, rewriting files takes most of the time.
MEMORY = pathlib.Path('/dev/shm')
# What no file may make happen.
FORBIDDEN = ('os.system', 'os.exec', 'os.posix_spawn', 'subprocess.Popen', 'socket.connect')


_reading = False


def _watch(event, args):
  if _reading and event in FORBIDDEN:
    print(f'a file made this happen: {event} {args}', flush=True)
    raise SystemExit(3)


def _read(read, path):
  global _reading
  _reading = True
  try:
    read(path)
  finally:
    _reading = False


def main(name, seeds):
  """Feeds a reader a damaged file for every seed."""
  make, read = READERS[name]
  with tempfile.TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else None) as scratch:
    whole = pathlib.Path(scratch) / 'whole'
    whole.mkdir()
    path = make(whole)
    read(path)  # undamaged
    targets = sorted(p for p in whole.rglob('*') if p.is_file())
    warnings.simplefilter('error')
    for seed in seeds:
      print(f'{name} seed {seed}', flush=True)
      target = targets[seed % len(targets)]
      content = target.read_bytes()
      target.write_bytes(mutate(content, seed))
      signal.setitimer(signal.ITIMER_PROF, SECONDS)
      signal.alarm(WAITING)
      try:
        _read(read, path)
      except REFUSALS as error:
        line = error_line(error, 'fuzz')
        if not line.strip() or len(line) > 2000:
          print(f'unclear message: {line!r}', flush=True)
          raise SystemExit(2) from error
      finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        target.write_bytes(content)
    shutil.rmtree(whole)


if __name__ == '__main__':
  first, count = map(int, sys.argv[2:])
  sys.addaudithook(_watch)
  resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
  for reader in READERS if sys.argv[1] == 'all' else sys.argv[1:2]:
    main(reader, [*(FOUND.get(reader, ()) if first == 0 else ()), *range(first, first + count)])
