"""Worker processes of this machine."""

import multiprocessing
import signal
from concurrent.futures import ProcessPoolExecutor


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
