"""Accelerators to compile for where there are none, as XLA's compilers want them described.

    devices = targets.devices('h100:8')        # or 'v5p:2x2x2'
    mesh = jax.sharding.Mesh(np.array(devices), ('data',))
    compiled = jax.jit(f).lower(*shapes_with_shardings_on_mesh).compile()

Compiling needs the accelerator's compiler, not the accelerator: the package libtpu for a TPU, the
plugins jax-cuda12-plugin and jax-cuda12-pjrt with nvidia-cuda-nvcc-cu12 for a GPU (installed
without their dependencies, which are the libraries a program needs to run).
"""

import dataclasses
import importlib.util
import os
import re

import jax
from jax.experimental import topologies


@dataclasses.dataclass(frozen=True)
class Gpu:
  """An NVIDIA GPU; the numbers are its data sheet's."""

  name: str
  capability: tuple[int, int]
  cores: int
  shared_memory: int  # bytes of one multiprocessor
  memory: int
  bandwidth: int  # bytes a second
  l2: int
  clock: float  # GHz
  fpus: int = 128

  @property
  def arch(self) -> str:
    """As the assembler calls it."""
    major, minor = self.capability
    return f'sm_{major}{minor}' + ('a' if major >= 9 else '')

  def description(self) -> str:
    """Text for `topologies.get_topology_desc(target_config=…)`."""
    major, minor = self.capability
    features = 'ACCELERATED_FEATURES' if major >= 9 else 'NONE'
    return f'''gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152
  shared_memory_per_core: {self.shared_memory} threads_per_core_limit: 2048
  core_count: {self.cores} fpus_per_core: {self.fpus}
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: {self.bandwidth} l2_cache_size: {self.l2} clock_rate_ghz: {self.clock}
  device_memory_size: {self.memory} shared_memory_per_block_optin: {self.shared_memory - 1024}
  cuda_compute_capability {{ major: {major} minor: {minor} feature_extension: {features} }}
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64 name: "{self.name}"
}}
platform_name: "CUDA" device_description_str: "{self.name}"'''


GPUS = {
  'a100': Gpu('NVIDIA A100', (8, 0), 108, 167936, 85 * 10**9, 2039 * 10**9, 41943040, 1.41, 64),
  'l4': Gpu('NVIDIA L4', (8, 9), 58, 102400, 24 * 10**9, 300 * 10**9, 50331648, 2.04),
  'h100': Gpu('NVIDIA H100', (9, 0), 132, 233472, 85 * 10**9, 3350 * 10**9, 52428800, 1.98),
  'h200': Gpu('NVIDIA H200', (9, 0), 132, 233472, 151 * 10**9, 4800 * 10**9, 52428800, 1.98),
  'b200': Gpu('NVIDIA B200', (10, 0), 148, 233472, 190 * 10**9, 8000 * 10**9, 132644864, 1.96),
}
# Bytes of high-bandwidth memory of a chip.
TPUS = {'v5e': 16 * 2**30, 'v5p': 95 * 2**30, 'v6e': 32 * 2**30}


@dataclasses.dataclass(frozen=True)
class Target:
  """A machine to compile for.

  Attributes:
    name: as given.
    platform: 'gpu' or 'tpu'.
    memory: bytes of one device.
    devices: descriptions of its devices; nothing can run on them.
  """

  name: str
  platform: str
  memory: int
  devices: tuple[jax.Device, ...]


def target(name: str) -> Target:
  """A machine by name: a GPU and how many of them, or a TPU and how they are arranged.

  Args:
    name: 'h100:8', 'a100', …, 'v5p:2x2x2', 'v5e:4x4', …

  Raises:
    ValueError: no such machine.
    RuntimeError: its compiler is not installed; the message says what to install.
  """
  kind, _, arrangement = name.partition(':')
  if kind in GPUS and (not arrangement or arrangement.isdecimal()):
    return Target(name, 'gpu', GPUS[kind].memory, _gpus(GPUS[kind], int(arrangement or 1)))
  if kind in TPUS and re.fullmatch(r'\d+(x\d+){1,2}', arrangement):
    return Target(name, 'tpu', TPUS[kind], _tpus(name))
  raise ValueError(
    f'no machine {name!r} to compile for: a GPU and their number ({", ".join(GPUS)}; h100:8) or a '
    f'TPU and its topology ({", ".join(TPUS)}; v5p:2x2x2)'
  )


def _installed(module: str) -> bool:
  try:
    return importlib.util.find_spec(module) is not None
  except ModuleNotFoundError:  # the package it would be in
    return False


def _gpus(gpu: Gpu, count: int) -> tuple[jax.Device, ...]:
  if not _installed('jax_plugins.xla_cuda12'):
    raise RuntimeError(
      f'compiling for {gpu.name} needs the plugins of JAX {jax.__version__}: pip install --no-deps '
      f'jax-cuda12-plugin=={jax.__version__} jax-cuda12-pjrt=={jax.__version__} '
      'nvidia-cuda-nvcc-cu12'
    )
  os.environ.setdefault('JAX_SKIP_CUDA_CONSTRAINTS_CHECK', '1')  # the libraries to run are absent
  topology = topologies.get_topology_desc(
    platform='cuda', topology=f'1x1x{count}', target_config=gpu.description()
  )
  return tuple(topology.devices)


def _tpus(name: str) -> tuple[jax.Device, ...]:
  if not _installed('libtpu'):
    raise RuntimeError(f'compiling for {name} needs the package libtpu: pip install libtpu')
  # Without these it asks the cloud who it is, and locks the TPU it does not have.
  os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
  os.environ.setdefault('TPU_WORKER_HOSTNAMES', 'localhost')
  os.environ.setdefault('ALLOW_MULTIPLE_LIBTPU_LOAD', '1')
  try:
    return tuple(topologies.get_topology_desc(platform='tpu', topology_name=name).devices)
  except jax.errors.JaxRuntimeError as error:
    raise ValueError(f'{name}: {str(error).splitlines()[0]}') from None
