"""Tile sizes measured on a device, instead of the ones the implementations were written with.

    python -m sa0_kernels.bench --tune

times every tile size that an implementation has and writes the fastest to a file, by the kind of
the device. From then on `rasterize` takes it wherever `RasterConfig.tile_size` is None. Another
tile size may change the last digits of images and gradients, so two runs give the same bits if they
have the same file, or none.
"""

import functools
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import jax

_MAX_BYTES = 1 << 20
_FEW_CHANNELS = 8  # up to here the geometry is most of what is read, beyond the features are

# device kind → implementation → 'few' | 'many' channels → px.
Table = Mapping[str, Mapping[str, Mapping[str, int]]]


def tuning_file() -> Path:
  """Where tuned tile sizes are kept: `$SA0_TUNING`, else tuning.json in the cache folder.

  That folder is `$SA0_CACHE`, else `$XDG_CACHE_HOME/sa0` or ~/.cache/sa0.
  """
  if named := os.environ.get('SA0_TUNING'):
    return Path(named).expanduser()
  if cache := os.environ.get('SA0_CACHE'):
    return Path(cache).expanduser() / 'tuning.json'
  return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'sa0' / 'tuning.json'


def channel_class(channels: int) -> str:
  """Under which name a number of channels is tuned."""
  return 'few' if channels <= _FEW_CHANNELS else 'many'


def tuned_tile_size(implementation: str, channels: int) -> int | None:
  """The tuned tile side on this device, px, or None where nothing was tuned.

  Raises:
    ValueError: the file is not what `save` writes.
  """
  table = load()
  kind = table.get(jax.devices()[0].device_kind) if table else None
  sizes = kind.get(implementation) if kind else None
  return sizes.get(channel_class(channels)) if sizes else None


def load() -> Table:
  """What was tuned; empty without a file. Read once for every state of the file.

  Raises:
    ValueError: the file is not what `save` writes.
  """
  path = tuning_file()
  try:
    stat = path.stat()
  except OSError:
    return {}
  return _read(path, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=4)
def _read(path: Path, modified: int, size: int) -> Table:
  del modified
  hint = 'delete it, or run `python -m sa0_kernels.bench --tune` again'
  if size > _MAX_BYTES:
    raise ValueError(f'{path}: {size} bytes are no table of tile sizes; {hint}')
  try:
    table = json.loads(path.read_text(encoding='utf-8'))
    sizes = [
      size
      for implementations in table.values()
      for classes in implementations.values()
      for name, size in classes.items()
      if name in ('few', 'many')
    ]
    if not all(isinstance(size, int) and size in (4, 8, 16, 32) for size in sizes):
      raise ValueError('a tile size is not 4, 8, 16 or 32')
  except (ValueError, AttributeError, RecursionError) as error:
    raise ValueError(f'{path}: not a table of tile sizes ({error}); {hint}') from None
  return table


def save(measured: Mapping[str, Mapping[str, int]]) -> Path:
  """Adds this device's sizes, implementation → channel class → px, to the file.

  Raises:
    OSError: the file cannot be written; what it held before is kept.
  """
  path = tuning_file()
  table = {kind: dict(sizes) for kind, sizes in load().items()}
  table.setdefault(jax.devices()[0].device_kind, {}).update(measured)
  path.parent.mkdir(parents=True, exist_ok=True)
  handle, partial = tempfile.mkstemp(dir=path.parent, prefix=path.name)
  try:
    with os.fdopen(handle, 'w', encoding='utf-8') as file:
      json.dump(table, file, indent=2, sort_keys=True)
    os.replace(partial, path)
  except BaseException:
    os.unlink(partial)
    raise
  return path
