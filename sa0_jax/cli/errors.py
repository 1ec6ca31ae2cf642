"""What users read when a command fails: one line, saying what, where and what to do."""

import errno
import os

# What `main` turns into one line and exit code 1; anything else is a bug and keeps its traceback.
EXPECTED = (ValueError, OSError, ArithmeticError, RuntimeError, ImportError, MemoryError)


class Interrupted(KeyboardInterrupt):
  """Ctrl-C, with a sentence about what was saved."""


def error_line(error: BaseException, command: str) -> str:
  """One line about an error, without the command's name in front."""
  full = _disk_full(error)
  if full is not None:
    where = f'{os.fsdecode(full.filename)}: ' if full.filename else ''
    return f'{where}the disk is full; nothing that was saved is lost: make room and run it again'
  if isinstance(error, OSError) and error.filename is not None and error.strerror:
    return f'{os.fsdecode(error.filename)}: {error.strerror}'
  if isinstance(error, MemoryError):
    return 'out of memory; try a smaller resolution or fewer frames'
  lines = [line.strip() for line in str(error).splitlines() if line.strip()]
  return lines[0].removeprefix(f'{command}: ') if lines else type(error).__name__


def _disk_full(error: BaseException | None) -> OSError | None:
  """The error that says that a disk is full, also when another library has wrapped it."""
  while error is not None:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
      return error
    if 'No space left on device' in str(error):  # C++ libraries only pass the text on
      return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    error = error.__cause__ or error.__context__
  return None
