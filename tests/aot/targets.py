"""Accelerators the kernels are compiled for, as XLA's compilers want them described."""

import dataclasses


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
  gpu.arch: gpu
  for gpu in (
    Gpu('NVIDIA A100', (8, 0), 108, 167936, 85 * 10**9, 2039 * 10**9, 41943040, 1.41, 64),
    Gpu('NVIDIA L4', (8, 9), 58, 102400, 24 * 10**9, 300 * 10**9, 50331648, 2.04),
    Gpu('NVIDIA H200', (9, 0), 132, 233472, 151 * 10**9, 4800 * 10**9, 52428800, 1.98),
    Gpu('NVIDIA B200', (10, 0), 148, 233472, 190 * 10**9, 8000 * 10**9, 132644864, 1.96),
  )
}

# Smallest topologies libtpu knows of each; kernels are compiled for their first chip.
TPUS = {'v5e': 'v5e:2x2', 'v5p': 'v5p:2x2x1', 'v6e': 'v6e:2x2'}
