"""`sa0 doctor`: what this machine has, and what it lacks."""

import argparse
import json
import os
import platform
from typing import Any

from sa0_jax.cli import options

_PACKAGES = (
  *('jax', 'jaxlib', 'numpy', 'numba', 'scipy', 'optax', 'orbax-checkpoint', 'ml-collections'),
  *('jaxtyping', 'opencv-python-headless', 'av'),
)


def add_parser(subparsers: argparse._SubParsersAction) -> None:
  """Registers the command."""
  parser = subparsers.add_parser(
    'doctor',
    help='what this machine has: devices, versions, rasterizers, heads, caches',
    description='Says what this machine has and what it lacks, and how to get it.',
    epilog='example: sa0 doctor --json',
    allow_abbrev=False,
  )
  options.add_json(parser)
  parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
  """Runs `sa0 doctor`."""
  report = examine()
  print(json.dumps(report, indent=2) if args.json else _text(report))
  return 0


def examine() -> dict[str, Any]:
  """Everything that is known, JSON-serialisable; touches the devices."""
  from sa0_jax import __version__
  from sa0_jax.cache import cache_home, is_writable
  from sa0_jax.head.registry import list_heads

  return {
    'sa0': __version__,
    'python': platform.python_version(),
    'platform': platform.platform(),
    'cores': _cores(),
    'memory_gb': _memory_gb(),
    'packages': {name: _version(name) for name in _PACKAGES},
    **_devices(),
    'operations': _operations(),
    'tuning': _tuning(),
    'heads': [head.to_json() for head in list_heads()],
    'landmark_environment': _landmark_environment(),
    'cache': {
      'folder': str(cache_home()),
      'writable': is_writable(),
      'jax': os.environ.get('JAX_COMPILATION_CACHE_DIR'),
      'numba': os.environ.get('NUMBA_CACHE_DIR'),
    },
  }


def _operations() -> dict[str, Any]:
  """Which implementation of each operation runs here by default, and what keeps the others away."""
  from sa0_kernels import dispatch
  from sa0_kernels.rasterize import api as rasterize_api
  from sa0_kernels.ssim import api as ssim_api

  operations = {'rasterize': rasterize_api.IMPLEMENTATIONS, 'ssim': ssim_api.IMPLEMENTATIONS}
  report = {}
  for operation, names in operations.items():
    report[operation] = {
      'default': dispatch.preferred(operation),
      'implementations': {name: dispatch.missing(name) or 'usable' for name in names},
    }
  return report


def _tuning() -> dict[str, Any]:
  """Tile sizes measured on this machine's devices, or why they cannot be read."""
  from sa0_kernels import tuning

  path = str(tuning.tuning_file())
  try:
    return {'file': path, 'tile_sizes': tuning.load()}
  except ValueError as error:
    return {'file': path, 'error': str(error)}


def _version(name: str) -> str | None:
  from importlib import metadata

  try:
    return metadata.version(name)
  except metadata.PackageNotFoundError:
    return None


def _devices() -> dict[str, Any]:
  """Devices JAX sees, or why it sees none."""
  import jax

  try:
    devices = jax.devices()
  except RuntimeError as error:
    return {'backend': None, 'devices': [], 'device_error': str(error).splitlines()[0]}
  return {
    'backend': jax.default_backend(),
    'devices': [{'kind': d.device_kind, 'platform': d.platform, 'id': d.id} for d in devices],
  }


def _cores() -> int:
  """Cores this process may use."""
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def _memory_gb() -> float | None:
  """Physical memory, or None where the platform does not say."""
  try:
    return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9
  except (AttributeError, ValueError, OSError):
    return None


def _landmark_environment() -> dict[str, Any]:
  from sa0_jax.capture.track.environment import environment_folder

  folder = environment_folder()
  return {'folder': str(folder), 'installed': (folder / 'bin' / 'python').is_file()}


def _tuning_text(tuning: dict[str, Any]) -> str:
  if 'error' in tuning:
    return f'tile sizes: {tuning["error"]}'
  if not tuning['tile_sizes']:
    return 'tile sizes: not tuned (python -m sa0_kernels.bench --tune)'
  return f'tile sizes: tuned for {", ".join(tuning["tile_sizes"])}, {tuning["file"]}'


def _text(report: dict[str, Any]) -> str:
  memory = f', {report["memory_gb"]:.0f} GB' if report['memory_gb'] else ''
  lines = [
    f'sa0 {report["sa0"]}, Python {report["python"]}, {report["platform"]}',
    f'{report["cores"]} cores{memory}',
    'packages: ' + ', '.join(f'{k} {v or "missing"}' for k, v in report['packages'].items()),
  ]
  if report['backend'] is None:
    lines.append(f'devices: none ({report["device_error"]})')
  else:
    devices = ', '.join(f'{d["kind"]} ({d["platform"]} {d["id"]})' for d in report['devices'])
    lines.append(f'devices: {devices}')
  for operation, found in report['operations'].items():
    for name, state in found['implementations'].items():
      chosen = ', the default' if name == found['default'] else ''
      lines.append(f'{operation:10} {name:11} {state}{chosen}')
  lines.append(_tuning_text(report['tuning']))
  for head in report['heads']:
    schemes = ', '.join(head['landmarks']) or 'none'
    lines.append(
      f'head {head["name"]}: {head["num_vertices"]} vertices, '
      f'UV {"yes" if head["has_uv"] else "no"}, landmarks {schemes}'
    )
  landmarks = report['landmark_environment']
  lines.append(
    f'landmark environment: {landmarks["folder"]}'
    if landmarks['installed']
    else 'landmark environment: not installed (the first `sa0 track` does it, about 1 GB)'
  )
  cache = report['cache']
  lines.append(
    f'cache: {cache["folder"]}'
    + ('' if cache['writable'] else ' (not writable: everything is compiled anew each time)')
  )
  return '\n'.join(lines)
