"""Machine code for the tests: compiled once for all processes, and quickly.

    python -m tests.machine_code

compiles Numba's, half on each of two cores; without that every worker would compile all of it.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from sa0_jax import cache

# Compiling is most of the suite. XLA's older emitters of loops are three times as quick at it, and
# its expensive passes are left out, as in JAX's own tests: programs stay the same, machine code is
# slower. A version of XLA that no longer knows a flag says so: they go with constraints.txt. The
# older emitters once got a batch of gathered sums wrong (geometry/barycentric.py): where a test
# disagrees with a run outside, look at both without these flags first.
_FLAGS = '--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1'


def share() -> None:
  """Has this process and those it starts keep machine code in one folder for these sources.

  Commands that tests run would otherwise choose the user's folder, half-way through.
  """
  if _FLAGS not in os.environ.get('XLA_FLAGS', ''):
    os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {_FLAGS}'.strip()
  os.environ.setdefault('JAX_DISABLE_MOST_OPTIMIZATIONS', '1')
  if 'NUMBA_CACHE_DIR' not in os.environ:
    digest = cache._sources_digest()
    os.environ['NUMBA_CACHE_DIR'] = str(Path(tempfile.gettempdir()) / f'sa0-tests-{digest}')
  os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', f'{os.environ["NUMBA_CACHE_DIR"]}/xla')
  os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.1')


def devices(count: int) -> str:
  """XLA_FLAGS of a process with so many devices."""
  return f'{os.environ["XLA_FLAGS"]} --xla_force_host_platform_device_count={count}'


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
