"""Times the rasterizer on the standard workload and measures its errors.

    python -m sa0_kernels.bench --json rasterizer.json
    python -m sa0_kernels.bench --sweep --json sweep.json
    python -m sa0_kernels.bench --tune

Times are forward + backward, projection included, through jit, with cotangents given: what one
optimisation step pays. Errors are relative L2 against the reference in float64, or against an
oracle file (`--oracle`): an .npz with img, alpha, v_means, v_quats, v_scales, v_opac, v_feat for
the 256 px, three-channel case.
"""

import argparse
import dataclasses
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sa0_kernels import tuning
from sa0_kernels.camera import Camera
from sa0_kernels.rasterize import (
  RasterConfig,
  RasterOutput,
  grow_capacity,
  implementations,
  rasterize,
  tile_sizes,
)
from sa0_kernels.workload import NUM_GAUSSIANS, standard_workload

CASES = ((256, 3), (512, 3), (512, 32))
# Of a sweep, 3 channels: numbers of Gaussians at 512 px, and sides with the standard number, px.
SWEEP_GAUSSIANS = (4_096, 16_384, 65_536, 262_144)
SWEEP_RESOLUTIONS = (128, 256, 512, 1024)
_NAMES = ('means', 'quats', 'scales', 'opacities', 'features')
SERIES = ('by_gaussians', 'by_resolution')
_ORACLE_KEYS = {
  'image': 'img',
  'alpha': 'alpha',
  'means': 'v_means',
  'quats': 'v_quats',
  'scales': 'v_scales',
  'opacities': 'v_opac',
  'features': 'v_feat',
}


@dataclasses.dataclass(frozen=True)
class Case:
  """A rendering of the standard workload.

  Attributes:
    resolution: side of the image, px.
    channels: of the features, 1 to 32.
    batch: cameras; 0 is one camera without a batch axis.
    num_gaussians: of the scene.
    capacity: of the instance buffer; None is the rasterizer's default.
    tile_size: None is the rasterizer's default.
  """

  resolution: int
  channels: int
  batch: int = 0
  num_gaussians: int = NUM_GAUSSIANS
  capacity: int | None = None
  tile_size: int | None = None


Arguments = tuple[list[jax.Array], tuple[jax.Array, jax.Array]]


def arguments(case: Case, dtype: Any = jnp.float32) -> Arguments:
  """The Gaussians' arrays, and the cotangents of image and alpha."""
  scene = standard_workload(case.resolution, case.num_gaussians)
  arrays = [getattr(scene, name) for name in _NAMES[:-1]] + [scene.features[:, : case.channels]]
  cotangents = [scene.d_features[..., : case.channels], scene.d_alpha]
  if case.batch:
    cotangents = [np.stack([c] * case.batch) for c in cotangents]
  return jax.tree.map(lambda a: jnp.asarray(a, dtype), (arrays, tuple(cotangents)))


def render(case: Case, implementation: str | None, arrays: list[jax.Array]) -> RasterOutput:
  """Renders a case; the cameras of a batch stand a little apart."""
  scene, dtype = standard_workload(case.resolution, 1), arrays[0].dtype
  view = np.asarray(scene.world_to_camera)
  pinhole = scene.intrinsics[[0, 1, 0, 1], [0, 1, 2, 2]]
  if case.batch:
    view, pinhole = np.stack([view] * case.batch), np.stack([pinhole] * case.batch)
    view[:, 0, 3] += 1e-3 * np.arange(case.batch)
  size = (case.resolution, case.resolution)
  camera = Camera(jnp.asarray(view, dtype), jnp.asarray(pinhole, dtype), *size)
  means, quats, scales, opacities, features = arrays
  config = RasterConfig(capacity=case.capacity, tile_size=case.tile_size)
  return rasterize(
    means, quats, scales, opacities, features, camera, config, implementation=implementation
  )


def step(case: Case, implementation: str | None) -> Callable[..., Any]:
  """Forward + backward of a case, to be jitted: (arrays, cotangents) → RasterOutput, gradients."""

  def run(arrays: list[jax.Array], cotangents: Any) -> tuple[RasterOutput, tuple]:
    def image_and_alpha(*arrays: jax.Array) -> tuple[tuple, RasterOutput]:
      output = render(case, implementation, list(arrays))
      return (output.features, output.alpha), output

    _, pullback, output = jax.vjp(image_and_alpha, *arrays, has_aux=True)
    return output, pullback(cotangents)

  return run


def with_room(case: Case, output: RasterOutput) -> Case:
  """The case with room for what its image needed: the time of a truncated one means nothing."""
  grown = grow_capacity(RasterConfig(), output.overflowed, output.num_instances)
  return dataclasses.replace(case, capacity=grown.capacity) if grown else case


def results(case: Case, implementation: str, dtype: Any = jnp.float32) -> dict[str, Any]:
  """Image, alpha and the five gradients of a case, as float64 NumPy arrays by name."""
  output, gradients = jax.jit(step(case, implementation))(*arguments(case, dtype))
  values = {'image': output.features, 'alpha': output.alpha}
  values |= dict(zip(_NAMES, gradients, strict=True))
  return {name: np.asarray(value, np.float64) for name, value in values.items()}


def compute_oracle(resolution: int, channels: int) -> dict[str, Any]:
  """Image, alpha and gradients of the workload by the reference in float64."""
  with jax.enable_x64(True):
    return results(Case(resolution, channels), 'reference', jnp.float64)


def load_oracle(path: str) -> dict[str, Any]:
  """Reads an oracle file (see the module's docstring).

  Raises:
    OSError: it cannot be read.
    ValueError: it is no such file.
  """
  try:
    with np.load(path, allow_pickle=False) as file:
      return {name: np.asarray(file[key], np.float64) for name, key in _ORACLE_KEYS.items()}
  except OSError:
    raise
  except Exception as error:  # zipfile, zlib and NumPy raise what they like
    raise ValueError(f'{path}: no oracle file ({str(error)[:200]})') from error


def errors(
  implementation: str, oracle: dict[str, Any], case: Case, dtype: Any = jnp.float32
) -> dict[str, float]:
  """Relative L2 error of image, alpha and every gradient against an oracle."""
  values = results(case, implementation, dtype)
  return {
    name: float(np.linalg.norm(values[name] - expected) / np.linalg.norm(expected))
    for name, expected in oracle.items()
  }


def measure(implementation: str | None, case: Case, seconds: float = 3.0) -> dict[str, Any]:
  """Milliseconds of forward + backward, and whether two runs gave the same bits."""
  given = arguments(case)
  run = jax.jit(step(case, implementation))
  begin = time.perf_counter()
  first = jax.block_until_ready(run(*given))
  compile_seconds = time.perf_counter() - begin
  grown = with_room(case, first[0])
  if grown != case:
    return measure(implementation, grown, seconds)
  second = jax.block_until_ready(run(*given))
  equal = jax.tree.map(lambda a, b: bool(np.array_equal(a, b)), first, second)
  times: list[float] = []
  core_times: list[float] = []
  while len(times) < 5 or sum(times) < seconds:
    begin, core_begin = time.perf_counter(), time.process_time()
    jax.block_until_ready(run(*given))
    times.append(time.perf_counter() - begin)
    core_times.append(time.process_time() - core_begin)
  return {
    'resolution': case.resolution,
    'channels': case.channels,
    'num_gaussians': case.num_gaussians,
    'milliseconds_median': 1e3 * statistics.median(times),
    'milliseconds_min': 1e3 * min(times),
    # Of all threads of this process together: hardly longer on a machine that does other work, too.
    'core_milliseconds_median': 1e3 * statistics.median(core_times),
    'runs': len(times),
    'first_call_seconds': compile_seconds,
    'bit_equal': all(jax.tree.leaves(equal)),
  }


def run(names: list[str], oracle_path: str | None = None) -> dict[str, Any]:
  """Benchmarks the named implementations on every case.

  Args:
    names: implementations; those that cannot run here are reported with the reason.
    oracle_path: oracle file, or None to compute it with the reference in float64.

  Returns:
    A JSON-serialisable report.
  """
  oracle = load_oracle(oracle_path) if oracle_path else compute_oracle(256, 3)
  report: dict[str, Any] = {
    'workload': f'standard, {NUM_GAUSSIANS} Gaussians, forward + backward through jit',
    **_machine(),
    'oracle': oracle_path or 'reference implementation in float64',
    'implementations': {},
  }
  reasons = implementations()
  for name in names:
    if reasons[name]:
      report['implementations'][name] = {'unusable': reasons[name]}
      continue
    cases = [measure(name, Case(*case)) for case in CASES]
    report['implementations'][name] = {
      'cases': cases,
      'errors_256_rgb': errors(name, oracle, Case(256, 3)),
    }
  return report


def _machine() -> dict[str, Any]:
  return {
    'device': str(jax.devices()[0].device_kind),
    'processor': platform.processor() or platform.machine(),
    'cpu_count': os.cpu_count(),
    'jax': jax.__version__,
    'date': time.strftime('%Y-%m-%d'),
  }


def sweep(names: list[str], seconds: float = 3.0) -> dict[str, Any]:
  """Times the named implementations against the number of Gaussians, and the size of the image.

  Args:
    names: implementations; those that cannot run here are reported with the reason.
    seconds: of measuring, for each case.

  Returns:
    A JSON-serialisable report.
  """
  report: dict[str, Any] = {
    'workload': 'standard, 3 channels, forward + backward through jit',
    **_machine(),
    'implementations': {},
  }
  series = {
    'by_gaussians': [Case(512, 3, num_gaussians=count) for count in SWEEP_GAUSSIANS],
    'by_resolution': [Case(size, 3) for size in SWEEP_RESOLUTIONS],
  }
  reasons = implementations()
  for name in names:
    report['implementations'][name] = (
      {'unusable': reasons[name]}
      if reasons[name]
      else {key: [measure(name, case, seconds) for case in cases] for key, cases in series.items()}
    )
  return report


def tune(names: list[str], resolution: int = 512, seconds: float = 2.0) -> dict[str, Any]:
  """Times every tile size of the named implementations and keeps the fastest for this device.

  Args:
    names: implementations; those without a choice of tiles, or not usable here, are left out.
    resolution: side of the image, px.
    seconds: of measuring, for each case.

  Returns:
    A JSON-serialisable report: implementation → channels → tile size → milliseconds, and the file.
  """
  reasons = implementations()
  report: dict[str, dict[int, dict[int, float]]] = {}
  best: dict[str, dict[str, int]] = {}
  for name in names:
    sizes = [] if reasons[name] else tile_sizes(name)
    for channels in (3, 32) if sizes else ():
      times = {
        size: measure(name, Case(resolution, channels, tile_size=size), seconds)[
          'milliseconds_median'
        ]
        for size in sizes
      }
      report.setdefault(name, {})[channels] = times
      chosen = min(times, key=times.__getitem__)
      best.setdefault(name, {})[tuning.channel_class(channels)] = chosen
      print(f'{name:10} {channels:2} channels: {chosen} px tiles of {times}', flush=True)
  return {'milliseconds': report, 'file': str(tuning.save(best))}


def table(report: dict[str, Any]) -> str:
  """The report as text."""
  lines = [f'{report["workload"]}; {report["device"]}, {report["cpu_count"]} cores']
  for name, result in report['implementations'].items():
    if 'unusable' in result:
      lines.append(f'{name:10} unusable: {result["unusable"]}')
      continue
    if 'cases' not in result:
      lines += [_sweep_line(name, case) for key in SERIES for case in result[key]]
      continue
    for case in result['cases']:
      lines.append(
        f'{name:10} {case["resolution"]}² x {case["channels"]:2} channels  '
        f'median {case["milliseconds_median"]:7.1f} ms  min {case["milliseconds_min"]:7.1f} ms  '
        f'bit-equal {case["bit_equal"]}'
      )
    worst = max((v, k) for k, v in result['errors_256_rgb'].items() if k != 'image')
    lines.append(
      f'{name:10} error at 256²: image {result["errors_256_rgb"]["image"]:.1e}, '
      f'worst gradient {worst[0]:.1e} ({worst[1]})'
    )
  return '\n'.join(lines)


def default_of_sweep() -> list[str]:
  """All implementations but the reference, which would take minutes an image."""
  return [name for name in implementations() if name != 'reference']


def _sweep_line(name: str, case: dict[str, Any]) -> str:
  rate = 1e3 / case['milliseconds_median']
  return (
    f'{name:10} {case["num_gaussians"]:7} Gaussians {case["resolution"]:4}²  '
    f'median {case["milliseconds_median"]:7.1f} ms  {rate:7.2f} images/s  '
    f'{case["core_milliseconds_median"]:7.1f} ms of a core'
  )


def main(argv: list[str] | None = None) -> int:
  """Command line."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--json', help='write the report here')
  parser.add_argument('--oracle', help='oracle .npz for the 256 px case')
  parser.add_argument(
    '--implementation', action='append', choices=sorted(implementations()), help='default: all'
  )
  parser.add_argument(
    '--tune', action='store_true', help='keep the fastest tile sizes for this device'
  )
  parser.add_argument(
    '--sweep', action='store_true', help='times by number of Gaussians and by size of the image'
  )
  options = parser.parse_args(argv)
  names = options.implementation or list(implementations())
  if options.sweep:
    report = sweep(options.implementation or default_of_sweep())
    print(table(report))
  elif options.tune:
    report = tune(names)
    print(f'kept in {report["file"]}')
  else:
    report = run(names, options.oracle)
    print(table(report))
  if options.json:
    with open(options.json, 'w') as file:
      json.dump(report, file, indent=2)
  return 0


if __name__ == '__main__':
  sys.exit(main())
