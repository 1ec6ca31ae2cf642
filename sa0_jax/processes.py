"""Worker processes of this machine, and what a process took."""

import multiprocessing
import signal
import sys
from concurrent.futures import ProcessPoolExecutor


def peak_memory() -> int | None:
  """The most this process ever had in memory, bytes; None where the system does not say."""
  try:
    import resource  # here: Windows has no such module
  except ImportError:
    return None
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak if sys.platform == 'darwin' else peak * 1024  # a Mac counts in bytes, others in KiB


def worker_pool(workers: int) -> ProcessPoolExecutor:
  """Processes that compute on the CPU and leave Ctrl-C to the one that started them.

  They are spawned: JAX's threads do not survive a fork. A script that uses them needs the usual
  `if __name__ == '__main__':`.
  """
  context = multiprocessing.get_context('spawn')
  return ProcessPoolExecutor(workers, mp_context=context, initializer=_prepare)


def _prepare() -> None:
  import jax

  signal.signal(signal.SIGINT, signal.SIG_IGN)
  jax.config.update('jax_platforms', 'cpu')  # an accelerator is not the workers' to share
