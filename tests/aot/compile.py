"""Compiles one kernel, forward and backward, for one accelerator, and tells what came out.

    python -m tests.aot.compile sm_90a triton 3
    python -m tests.aot.compile sm_90a triton ssim

prints one line of JSON. A process of its own, because compilers may abort or hang, and because
their dumps are asked for in the environment.
"""

import glob
import json
import os
import re
import subprocess
import sys
import tempfile
import time

from tests.aot.cases import GPUS, TPUS

# A small scene: what the kernels become does not depend on how many Gaussians or tiles there are.
_GAUSSIANS, _SIDE = 2000, 128


def main(target: str, implementation: str, what: str) -> dict:
  """Compiles and reports.

  Args:
    target: 'sm_80' … or 'v5e' …
    implementation: of the operation.
    what: channels of the rasterizer's features, or 'ssim'.
  """
  with tempfile.TemporaryDirectory() as dump:
    os.environ['JAX_PLATFORMS'] = 'cpu'
    if target in GPUS:
      os.environ['MOSAIC_GPU_DUMP_TO'] = dump
      os.environ['MOSAIC_GPU_DUMP_PTXAS'] = '1'
      os.environ['XLA_FLAGS'] = (
        f'--xla_dump_to={dump} --xla_gpu_fail_ptx_compilation_on_register_spilling=true'
      )
    else:
      os.environ['LIBTPU_INIT_ARGS'] = f'--xla_jf_dump_to={dump} --xla_jf_dump_llo_text=true'
    from sa0_kernels import targets  # now: it imports JAX, which reads the environment

    arch = targets.GPUS[GPUS[target]].arch if target in GPUS else ''
    report: dict = {}
    for name, compiled, seconds in _compile(target, implementation, what):
      report[name] = {
        'seconds': round(seconds, 1),
        'temporary_bytes': compiled.memory_analysis().temp_size_in_bytes,
        'kernels': _registers(dump, arch) if arch else _bundles(dump),
      }
    return report


def _compile(target, implementation, what):
  import jax
  import jax.numpy as jnp
  import numpy as np
  from jax.sharding import Mesh, NamedSharding, PartitionSpec
  from sa0_kernels import dispatch, targets

  devices = targets.target(GPUS.get(target) or TPUS[target]).devices
  mesh = Mesh(np.array(devices[:1]), ('x',))
  sharding = NamedSharding(mesh, PartitionSpec())

  def array(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

  # Compiling XLA's sorts for a TPU takes half a minute and says nothing about our kernels.
  programs = _programs if target in GPUS else _kernels
  cases = (
    _similarity(implementation, array)
    if what == 'ssim'
    else programs(implementation, int(what), array)
  )
  with dispatch.allow_other_platforms():
    for name, function, arguments in cases:
      begin = time.perf_counter()
      compiled = jax.jit(function).lower(*arguments).compile()
      yield name, compiled, time.perf_counter() - begin


def _programs(implementation, channels, array):
  """Rendering an image, and the gradient of it."""
  import jax
  import jax.numpy as jnp
  from sa0_kernels import Camera, rasterize

  def forward(means, quats, scales, opacities, features, view, intrinsics):
    camera = Camera(view, intrinsics, _SIDE, _SIDE)
    output = rasterize(
      means, quats, scales, opacities, features, camera, implementation=implementation
    )
    return output.features, output.alpha, output.overflowed

  def backward(cotangent, *arrays):
    return jax.grad(lambda *a: jnp.sum(forward(*a)[0] * cotangent), tuple(range(7)))(*arrays)

  n = _GAUSSIANS
  arrays = (array(n, 3), array(n, 4), array(n, 3), array(n), array(n, channels))
  arrays += (array(4, 4), array(4))
  yield 'forward', forward, arrays
  yield 'backward', backward, (array(_SIDE, _SIDE, channels), *arrays)


def _kernels(implementation, channels, array):
  """Only the two kernels of an implementation."""
  import importlib

  import jax.numpy as jnp
  from sa0_kernels import RasterConfig
  from sa0_kernels.rasterize.pipeline import Instances
  from sa0_kernels.rasterize.types import Settings

  module = importlib.import_module(f'sa0_kernels.rasterize.{implementation}')
  frame = module.frame(Settings(RasterConfig(), _SIDE, _SIDE))
  m, tiles = 4096 + frame.num_tiles * frame.align, frame.num_tiles
  starts = (array(tiles, dtype=jnp.int32), array(tiles, dtype=jnp.int32))
  instances = Instances(*starts, array(m, 8), array(m, channels))
  cotangents = (array(tiles, channels, frame.pixels), array(tiles, frame.pixels))
  kernels = module.KERNELS
  yield 'forward', lambda i: kernels.composite(frame, i), (instances,)
  yield 'backward', lambda *a: kernels.composite_backward(frame, *a), (instances, *cotangents)


def _similarity(implementation, array):
  """The gradient of the index, which computes the index, too."""
  import jax
  from sa0_kernels import ssim

  def index(image, target):
    return ssim(image, target, implementation=implementation)

  images = (array(_SIDE, _SIDE, 3), array(_SIDE, _SIDE, 3))
  yield 'backward', jax.value_and_grad(index), images


def _registers(dump: str, arch: str) -> dict:
  """Registers and spilled bytes of every kernel of ours, by assembling what was dumped."""
  import nvidia.cuda_nvcc

  assembler = os.path.join(next(iter(nvidia.cuda_nvcc.__path__)), 'bin', 'ptxas')
  reports = []
  for path in sorted(glob.glob(f'{dump}/*.ptx')):
    with open(path) as file:
      ours = 'sa0_' in file.read()
    # Mosaic has kept what the assembler said; of what XLA dumped it must be asked again.
    if ours and not os.path.exists(f'{path}as'):
      command = [assembler, '-v', f'-arch={arch}', path, '-o', os.devnull]
      done = subprocess.run(command, capture_output=True, text=True, check=True)
      reports.append(done.stderr)
    os.remove(path)
  for path in sorted(glob.glob(f'{dump}/*.ptxas')):
    with open(path) as file:
      reports.append(file.read())
    os.remove(path)
  kernels = {}
  for report in reports:
    for block in report.split('Compiling entry function ')[1:]:
      spilled = sum(int(n) for n in re.findall(r'(\d+) bytes spill', block))
      registers = int(re.search(r'Used (\d+) registers', block).group(1))
      kernels[_short(block.split("'")[1])] = {'registers': registers, 'spilled_bytes': spilled}
  return kernels


def _short(name: str) -> str:
  """sa0_composite of whatever a compiler adds to the name."""
  return re.search(r'sa0_[a-z_]*[a-z]', name).group(0).removesuffix('_mosaic_gpu_kernel')


def _bundles(dump: str) -> dict:
  """Instruction bundles of every kernel of ours, from the scheduler's analysis."""
  kernels = {}
  for path in sorted(glob.glob(f'{dump}/*sa0_*schedule-analysis_final_bundles.txt')):
    with open(path) as file:
      bundles = int(re.search(r'total scheduled bundles:\s*(\d+)', file.read()).group(1))
    kernels[_short(os.path.basename(path))] = {'bundles': bundles}
  for path in glob.glob(f'{dump}/*'):
    os.remove(path)
  return kernels


if __name__ == '__main__':
  print(json.dumps(main(*sys.argv[1:4])))
