"""Numba's machine code, compiled once for all test processes.

    python -m tests.machine_code

compiles it, half on each of two cores; without that every worker would compile all of it.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from sa0_jax import cache


def share() -> None:
  """Has this process and those it starts keep machine code in one folder for these sources.

  Commands that tests run would otherwise choose the user's folder, half-way through.
  """
  if 'NUMBA_CACHE_DIR' not in os.environ:
    digest = cache._sources_digest()
    os.environ['NUMBA_CACHE_DIR'] = str(Path(tempfile.gettempdir()) / f'sa0-tests-{digest}')
  os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', '')  # programs are compiled anew


def main() -> None:
  """Compiles the kernels in one process and the studio's functions in this one."""
  share()
  code = 'from sa0_kernels.numba_cache import compile_ahead; compile_ahead()'
  with subprocess.Popen([sys.executable, '-c', code]) as kernels:
    from sa0_jax.capture.studio import StudioConfig, film

    dressed = {'beard': 'full', 'glasses': 'round', 'background': 'room', 'sensor': 'drawn'}
    film(StudioConfig(frames=1, resolution=32, hair='curly', **dressed))
    film(StudioConfig(frames=1, resolution=32, hair='bald'))
    kernels.wait()


if __name__ == '__main__':
  main()
