"""Checks and times every implementation on the machine it is run on; needs only JAX and NumPy.

    python kernels/device_check.py --out device_check.json

In this order, so that a machine lent for minutes gives the most: parity with the reference in
float64 on the standard workload (image, alpha and all gradients), equality of bits over 20 runs,
the same of SSIM, and device times of forward and forward + backward at several sizes. Times are
differences of loops of two lengths inside one program, so launching it does not count. Where torch
and gsplat are installed, gsplat is timed in the same run. The report is written anew after every
step.
"""

import argparse
import contextlib
import json
import pathlib
import statistics
import sys
import tempfile
import time
import types
from typing import Any, NamedTuple

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))


class _AnyShape:
  """Stands for every jaxtyping annotation where that package is not installed."""

  def __class_getitem__(cls, _: Any) -> type:
    return object


if 'jaxtyping' not in sys.modules:
  try:
    import jaxtyping  # noqa: F401
  except ImportError:
    stub = types.ModuleType('jaxtyping')
    for name in ('Array', 'Bool', 'Float', 'Int', 'UInt8'):
      setattr(stub, name, _AnyShape)
    sys.modules['jaxtyping'] = stub

import jax
import jax.numpy as jnp
import numpy as np
from sa0_kernels import bench, implementations, ssim
from sa0_kernels.ssim import api as ssim_api

# Relative L2 against float64: what flips at the cut-offs allows in float32.
IMAGE_BOUND, GRADIENT_BOUND = 6e-5, 2e-3
RUNS = 20
CASES = [
  bench.Case(512, 3),
  bench.Case(512, 32),
  bench.Case(1024, 3),
  bench.Case(1024, 32),
  bench.Case(512, 3, batch=8),
  bench.Case(512, 32, batch=8),
  bench.Case(512, 3, num_gaussians=500_000),
  bench.Case(1024, 3, num_gaussians=500_000),
]


def digest(arrays: Any) -> bytes:
  """All bits of a tree of arrays."""
  return b''.join(np.asarray(a).tobytes() for a in jax.tree.leaves(arrays))


def parity(name: str, case: bench.Case, oracle: dict[str, Any]) -> dict[str, Any]:
  """Errors against the reference, and whether they are within bounds."""
  errors = bench.errors(name, oracle, case)
  ok = all(
    error <= (IMAGE_BOUND if key in ('image', 'alpha') else GRADIENT_BOUND)
    for key, error in errors.items()
  )
  return {'ok': bool(ok), 'relative_l2': errors}


def determinism(name: str, case: bench.Case, runs: int) -> dict[str, Any]:
  """Whether image and gradients have the same bits in every run."""
  step, given = jax.jit(bench.step(case, name)), bench.arguments(case)
  first = digest(step(*given))
  equal = sum(digest(step(*given)) == first for _ in range(runs - 1)) + 1
  return {'ok': equal == runs, 'equal_runs': equal, 'runs': runs}


def wall_seconds(function: Any, *arguments: Any) -> float:
  """Seconds until the results are there."""
  begin = time.perf_counter()
  jax.block_until_ready(function(*arguments))
  return time.perf_counter() - begin


class Program(NamedTuple):
  """A compiled loop over calls of one function.

  Attributes:
    run: (number of calls, arrays, cotangents) → results of the last call.
    compile_seconds: what compiling it took.
    bytes, flops: of one call, as XLA counts them; it does not see into the kernels.
  """

  run: Any
  compile_seconds: float
  bytes: float
  flops: float


def looped(function: Any, given: bench.Arguments) -> Program:
  """Compiles a loop of calls of `function`, (arrays, cotangents) → results."""

  @jax.jit
  def loop(count: Any, arrays: Any, cotangents: Any) -> Any:
    def body(_: Any, before: Any) -> Any:
      # Every call needs something of each result before it, or they would be one call.
      shift = 1e-30 * sum(a.reshape(-1)[0].astype(jnp.float32) for a in jax.tree.leaves(before))
      return function([arrays[0] + shift, *arrays[1:]], cotangents)

    shapes = jax.eval_shape(function, arrays, cotangents)
    zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
    return jax.lax.fori_loop(0, count, body, zeros)

  begin = time.perf_counter()
  compiled = loop.lower(jnp.int32(1), *given).compile()
  seconds = time.perf_counter() - begin
  cost = compiled.cost_analysis() or {}
  cost = cost[0] if isinstance(cost, list) else cost
  # Not what was compiled but the function, which finds it again: called directly, JAX 0.11 forgets
  # a constant of Mosaic GPU's kernels.
  return Program(loop, seconds, float(cost.get('bytes accessed', 0)), float(cost.get('flops', 0)))


def loop_milliseconds(program: Program, given: bench.Arguments, repeats: int) -> list[float]:
  """Milliseconds on the device of one call, measured `repeats` times, from loops of two lengths."""

  def seconds(count: int) -> float:
    return wall_seconds(program.run, jnp.int32(count), *given)

  seconds(1)
  # Long enough that a millisecond of noise is a hundredth.
  once = max(seconds(3) / 3, 1e-5)
  short = max(int(0.05 / once), 1)
  return [1e3 * (seconds(3 * short) - seconds(short)) / (2 * short) for _ in range(repeats)]


def device_kernels(program: Program, given: bench.Arguments, calls: int = 10) -> dict[str, float]:
  """Microseconds of a call in each kernel of the device, longest first, by JAX's profiler."""
  with tempfile.TemporaryDirectory() as folder:
    with jax.profiler.trace(folder):
      jax.block_until_ready(program.run(jnp.int32(calls), *given))
    (path,) = pathlib.Path(folder).rglob('*.xplane.pb')
    planes = jax.profiler.ProfileData.from_file(str(path)).planes
    times: dict[str, float] = {}
    for plane in planes:
      if not plane.name.startswith('/device:'):
        continue
      for line in plane.lines:
        if line.name.startswith('Stream'):
          for event in line.events:
            times[event.name] = times.get(event.name, 0.0) + 1e-3 * event.duration_ns / calls
  return dict(sorted(times.items(), key=lambda item: -item[1]))


def timing(
  name: str, case: bench.Case, bandwidth: float, options: argparse.Namespace
) -> dict[str, Any]:
  """Device times of a case, and the memory traffic they amount to."""
  given = bench.arguments(case)
  case = bench.with_room(case, jax.jit(lambda arrays: bench.render(case, name, arrays))(given[0]))

  def forward(arrays: Any, cotangents: Any) -> Any:
    del cotangents
    return bench.render(case, name, arrays), ()

  report: dict[str, Any] = {'capacity': case.capacity}
  for way, function in (('forward', forward), ('forward_backward', bench.step(case, name))):
    program = looped(function, given)
    output = program.run(jnp.int32(1), *given)[0]
    report['instances'] = int(np.sum(np.asarray(output.num_instances)))
    report['overflowed'] = bool(np.any(np.asarray(output.overflowed)))
    times = loop_milliseconds(program, given, options.repeats)
    # XLA counts what lies around the kernels; they read a row of every instance and write another.
    row = 4 * (8 + case.channels) + (4 * (14 + 2 * case.channels) if way != 'forward' else 0)
    traffic = program.bytes + report['instances'] * row
    report[way] = {
      'milliseconds_median': statistics.median(times),
      'milliseconds_all': times,
      'compile_seconds': program.compile_seconds,
      'bytes': traffic,
      'flops_outside_kernels': program.flops,
      'share_of_copy_bandwidth': 1e3 * traffic / max(statistics.median(times), 1e-6) / bandwidth,
    }
    if options.profile:
      report[way]['kernel_microseconds'] = device_kernels(program, given)
  return report


def similarity(name: str, oracle: Any, side: int, repeats: int) -> dict[str, Any]:
  """Errors, bits and time of SSIM and its gradient."""
  image, target = _pictures(side)

  def both(arrays: Any, target: Any) -> Any:
    return jax.value_and_grad(lambda a: ssim(a, target, implementation=name))(arrays[0])

  step = jax.jit(both)
  value, gradient = step([image], target)
  error = float(jnp.linalg.norm(gradient - oracle[1]) / jnp.linalg.norm(oracle[1]))
  equal = all(digest(step([image], target)) == digest((value, gradient)) for _ in range(RUNS))
  times = loop_milliseconds(looped(both, ([image], target)), ([image], target), repeats)
  return {
    'ok': equal and error < 1e-5 and abs(float(value) - float(oracle[0])) < 2e-6,
    'bit_equal': equal,
    'gradient_relative_l2': error,
    'milliseconds_median': statistics.median(times),
  }


def _pictures(side: int, dtype: Any = np.float32) -> tuple[jax.Array, jax.Array]:
  rng = np.random.default_rng(0)
  target = rng.random((side, side, 3))
  image = np.clip(target + 0.2 * rng.normal(size=target.shape), 0, 1)
  return jnp.asarray(image, dtype), jnp.asarray(target, dtype)


def copy_bandwidth(megabytes: int) -> float:
  """Bytes a second that x + 1 reads and writes."""
  x = jnp.zeros(megabytes * 2**18, jnp.float32)
  loop = jax.jit(lambda count, x: jax.lax.fori_loop(0, count, lambda _, y: y + 1.0, x))

  wall_seconds(loop, 2, x)
  times = [wall_seconds(loop, 22, x) - wall_seconds(loop, 2, x) for _ in range(5)]
  return 2 * x.nbytes * 20 / max(statistics.median(times), 1e-9)


def gsplat_times(case: bench.Case, repeats: int) -> dict[str, Any]:
  """Times of gsplat's rasterization of a case: by CUDA events, and of its kernels alone.

  Events see the gaps in which Python launches the next kernel, which loops inside one program do
  not have; the sum of the kernels has no gaps at all.
  """
  import gsplat
  import torch

  scene = bench.standard_workload(case.resolution, case.num_gaussians)
  names = ('means', 'quats', 'scales', 'opacities')
  tensors = [torch.tensor(getattr(scene, n), device='cuda', requires_grad=True) for n in names]
  features = scene.features[:, : case.channels].copy()
  tensors.append(torch.tensor(features, device='cuda', requires_grad=True))
  count = max(case.batch, 1)
  views = torch.tensor(np.stack([scene.world_to_camera] * count), device='cuda')
  pinholes = torch.tensor(np.stack([scene.intrinsics] * count), device='cuda')
  d_image = torch.tensor(np.stack([scene.d_features[..., : case.channels]] * count), device='cuda')

  def forward() -> Any:
    size = (case.resolution, case.resolution)
    return gsplat.rasterization(*tensors, views, pinholes, *size, packed=False)[0]

  def both() -> None:
    torch.autograd.grad(forward(), tensors, d_image)

  def no_gradient() -> None:
    with torch.no_grad():
      forward()

  report: dict[str, Any] = {'version': gsplat.__version__}
  for way, function in (('forward', no_gradient), ('forward_backward', both)):
    for _ in range(5):
      function()
    times = []
    for _ in range(10 * repeats):
      begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
      begin.record()
      function()
      end.record()
      torch.cuda.synchronize()
      times.append(begin.elapsed_time(end))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as trace:
      for _ in range(10):
        function()
      torch.cuda.synchronize()
    kernels = sum(event.self_device_time_total for event in trace.key_averages())
    report[way] = {
      'milliseconds_median': statistics.median(times),
      'milliseconds_in_kernels': 1e-3 * kernels / 10,
    }
  return report


def _attempt(function: Any, *arguments: Any) -> dict[str, Any]:
  """The result, or what went wrong: one failure must not lose the rest of a lent machine's time."""
  try:
    return function(*arguments)
  except Exception as error:
    return {'ok': False, 'error': f'{type(error).__name__}: {str(error)[:2000]}'}


def _label(case: bench.Case) -> str:
  text = f'{case.resolution}px c{case.channels} n{case.num_gaussians}'
  return f'{text} b{case.batch}' if case.batch else text


def check(options: argparse.Namespace) -> dict[str, Any]:
  """Runs everything that was asked for and writes the report after each step."""
  reasons = implementations()
  names = options.implementation or [name for name in reasons if name != 'reference']
  cases, small = CASES, bench.Case(256, 3)
  if options.cases is not None:
    cases = [CASES[i] for i in options.cases]
  if options.quick:
    options.repeats = 1
    small = bench.Case(64, 3, num_gaussians=500)
    cases = [small, bench.Case(64, 3, batch=2, num_gaussians=500)]
  # Parity and determinism run one program: it is compiled once.
  jax.config.update('jax_compilation_cache_dir', tempfile.mkdtemp())
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
  device = jax.devices()[0]
  report: dict[str, Any] = {
    'device': {'kind': device.device_kind, 'platform': device.platform, 'jax': jax.__version__},
    'unusable': {name: reasons[name] for name in names if reasons[name]},
    'parity': {},
    'determinism': {},
    'similarity': {},
    'timing': {},
  }
  names = [name for name in names if not reasons[name]]

  def keep(section: str, name: str, value: Any) -> None:
    report[section][name] = value
    print(section, name, json.dumps(value)[:300], flush=True)
    partial = options.out.with_name(options.out.name + '.part')
    partial.write_text(json.dumps(report, indent=2))
    partial.replace(options.out)

  with jax.enable_x64(True):
    oracle = bench.results(small, 'reference', jnp.float64)
  for name in names:
    keep('parity', name, _attempt(parity, name, small, oracle))
  for name in names:
    keep('determinism', name, _attempt(determinism, name, small, 3 if options.quick else RUNS))
  side = 64 if options.quick else 512
  with jax.enable_x64(True):
    exact = jax.value_and_grad(lambda a, b: ssim(a, b, implementation='reference'))
    oracle = jax.tree.map(np.asarray, exact(*_pictures(side, np.float64)))
  for name in names:
    if name in ssim_api.IMPLEMENTATIONS:
      keep('similarity', name, _attempt(similarity, name, oracle, side, options.repeats))
  report['copy_bytes_per_second'] = copy_bandwidth(8 if options.quick else 512)
  for case in cases:
    for name in names:
      if report['parity'][name]['ok']:  # the time of a wrong image means nothing
        label = f'{_label(case)} {name}'
        bandwidth = report['copy_bytes_per_second']
        keep('timing', label, _attempt(timing, name, case, bandwidth, options))
  with contextlib.suppress(ImportError):
    import gsplat  # noqa: F401

    # Last: after torch's profiler JAX's finds no more kernels.
    for case in cases:
      keep('timing', f'{_label(case)} gsplat', _attempt(gsplat_times, case, options.repeats))
  checked = ('parity', 'determinism', 'similarity')
  report['ok'] = all(found['ok'] for part in checked for found in report[part].values())
  keep('timing', 'done', True)
  return report


def main(argv: list[str] | None = None) -> int:
  """Command line; 0 if parity and determinism hold."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--out', type=pathlib.Path, default=pathlib.Path('device_check.json'))
  parser.add_argument('--implementation', action='append', help='default: all that can run')
  parser.add_argument('--repeats', type=int, default=5, help='measurements of each time')
  parser.add_argument('--cases', type=int, nargs='*', help='which cases to time; default: all')
  parser.add_argument('--profile', action='store_true', help='time of every kernel on the device')
  parser.add_argument('--quick', action='store_true', help='a tiny scene, to try the script')
  return 0 if check(parser.parse_args(argv))['ok'] else 1


if __name__ == '__main__':
  sys.exit(main())
