"""INRIA 3DGS PLY: what SuperSplat, Brush, gsplat's viewers and game engines open."""

import os
from collections.abc import Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from sa0_jax import archive
from sa0_jax.avatar.avatar import Avatar
from sa0_jax.avatar.gaussians import Gaussians
from sa0_jax.export.settings import ExportSettings, posed_gaussians

# Value of the constant spherical harmonic, 1 / (2 √π): colour = 0.5 + C0 · f_dc.
SH_C0 = 0.28209479177387814
PROPERTIES = (
  *('x', 'y', 'z'),
  *('nx', 'ny', 'nz'),
  *('f_dc_0', 'f_dc_1', 'f_dc_2'),
  'opacity',
  *('scale_0', 'scale_1', 'scale_2'),
  *('rot_0', 'rot_1', 'rot_2', 'rot_3'),
)
_MAX_HEADER = 1 << 16
_MAX_POINTS = 20_000_000
_TYPES = {
  **dict.fromkeys(('char', 'int8'), 'i1'),
  **dict.fromkeys(('uchar', 'uint8'), 'u1'),
  **dict.fromkeys(('short', 'int16'), '<i2'),
  **dict.fromkeys(('ushort', 'uint16'), '<u2'),
  **dict.fromkeys(('int', 'int32'), '<i4'),
  **dict.fromkeys(('uint', 'uint32'), '<u4'),
  **dict.fromkeys(('float', 'float32'), '<f4'),
  **dict.fromkeys(('double', 'float64'), '<f8'),
}


def export_ply(avatar: Avatar, path: str | os.PathLike[str], settings: ExportSettings) -> None:
  """Writes the posed avatar as a binary little-endian PLY in world space.

  One vertex per Gaussian: position (metres; x to the subject's left, y up, z out of the face),
  normal (always 0), f_dc = (rgb − 0.5) / C0 of the first three channels, opacity as a
  logit, scale as the natural logarithm of metres, rotation as a unit quaternion (w, x, y, z).
  Colours do not depend on the view: there is no f_rest.

  Args, Raises: as `export`.
  """
  write_rows(path, PROPERTIES, ply_rows(posed_gaussians(avatar, settings.codes)))


def write_rows(
  path: str | os.PathLike[str], properties: Sequence[str], rows: Float[np.ndarray, 'n p']
) -> None:
  """Writes a PLY with one float property per column."""
  header = '\n'.join(
    [
      'ply',
      'format binary_little_endian 1.0',
      f'element vertex {len(rows)}',
      *(f'property float {name}' for name in properties),
      'end_header\n',
    ]
  )
  with archive.atomic_write(path) as file:
    file.write(header.encode('ascii'))
    file.write(rows.astype('<f4').tobytes())


def ply_rows(gaussians: Gaussians) -> Float[np.ndarray, 'n 17']:
  """The numbers of each vertex, in the order of `PROPERTIES`."""
  opacity = np.asarray(gaussians.opacities, np.float64)
  # Opacities that float32 rounds to 0 or 1 keep a finite logit.
  opacity = np.clip(opacity, 1e-7, 1.0 - 1e-7)
  means = np.asarray(gaussians.means, np.float64)
  scales = np.maximum(np.asarray(gaussians.scales, np.float64), np.finfo(np.float32).tiny)
  return np.concatenate(
    [
      means,
      np.zeros_like(means),
      (np.asarray(gaussians.colors, np.float64)[:, :3] - 0.5) / SH_C0,
      (np.log(opacity) - np.log1p(-opacity))[:, None],
      np.log(scales),
      np.asarray(gaussians.quats, np.float64),
    ],
    axis=1,
  ).astype(np.float32)


def read_ply(path: str | os.PathLike[str]) -> Gaussians:
  """Reads a 3DGS PLY that anyone may have made (binary, little-endian).

  Colours that depend on the view (f_rest) and properties of other names are left out.

  Returns:
    Gaussians in whatever space the file has; with `local_ply`'s that is the triangles' frames.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is no such PLY, is damaged, or holds values that are not finite.
  """
  table = read_table(path)
  missing = [name for name in PROPERTIES if name not in table and name not in ('nx', 'ny', 'nz')]
  if missing:
    raise ValueError(f'{path}: no Gaussians, properties {", ".join(missing)} are missing')

  def columns(*names: str) -> Float[np.ndarray, 'n k']:
    return np.stack([table[name] for name in names], axis=1).astype(np.float64)

  with np.errstate(over='ignore', invalid='ignore'):  # what is not finite is refused at the end
    arrays = {
      'means': columns('x', 'y', 'z'),
      'quats': unit_quaternions(columns('rot_0', 'rot_1', 'rot_2', 'rot_3')),
      'scales': np.exp(columns('scale_0', 'scale_1', 'scale_2')),
      'opacities': 1.0 / (1.0 + np.exp(-table['opacity'].astype(np.float64))),
      'colors': np.clip(0.5 + SH_C0 * columns('f_dc_0', 'f_dc_1', 'f_dc_2'), 0.0, 1.0),
    }
  return finite_gaussians(arrays, str(path))


def finite_gaussians(arrays: dict[str, np.ndarray], source: str) -> Gaussians:
  """Gaussians of a file's arrays, float32; ValueError where they are not finite."""
  with np.errstate(over='ignore', invalid='ignore'):
    single = {name: array.astype(np.float32) for name, array in arrays.items()}
  for name, array in single.items():
    if not np.isfinite(array).all():
      raise ValueError(f'{source}: {name} hold NaN or infinity')
  return Gaussians(**{name: jnp.asarray(array) for name, array in single.items()})


def unit_quaternions(quats: Float[np.ndarray, 'n 4']) -> Float[np.ndarray, 'n 4']:
  """Normalised (w, x, y, z); the identity where there is no direction."""
  length = np.linalg.norm(quats, axis=1, keepdims=True)
  return np.where(length > 1e-12, quats / np.maximum(length, 1e-12), np.array([1.0, 0, 0, 0]))


def read_table(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  """Columns of the vertices of a binary little-endian PLY; errors as `read_ply`."""
  path = Path(path)
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such file')
  with open(path, 'rb') as file:
    head = file.read(_MAX_HEADER)
    end = head.find(b'end_header\n')
    if not head.startswith(b'ply\n') or end < 0:
      raise ValueError(f'{path}: not a PLY file')
    count, dtype = _parse_header(head[:end], str(path))
    file.seek(end + len(b'end_header\n'))
    data = file.read(count * dtype.itemsize)
  if len(data) != count * dtype.itemsize:
    raise ValueError(f'{path}: ends before its {count} vertices do')
  rows = np.frombuffer(data, dtype)
  return {name: rows[name] for name in dtype.names or ()}


def _parse_header(head: bytes, source: str) -> tuple[int, np.dtype]:
  """Number of vertices and the layout of one."""
  fields: list[tuple[str, str]] = []
  count, encoding = -1, ''
  for line in head.decode('latin1').split('\n'):
    words = line.split()
    if words[:1] == ['format'] and len(words) > 1:
      encoding = words[1]
    elif words[:1] == ['element']:
      if count >= 0:
        break  # whatever follows the vertices
      if len(words) != 3 or words[1] != 'vertex' or not words[2].isdecimal():
        raise ValueError(f'{source}: vertices are not the first element')
      count = int(words[2])
    elif words[:1] == ['property'] and count >= 0:
      if len(words) != 3 or words[1] not in _TYPES or words[2] in dict(fields):
        raise ValueError(f'{source}: {line.strip()[:80]!r} is no property of a Gaussian')
      fields.append((words[2], _TYPES[words[1]]))
  if encoding != 'binary_little_endian':
    raise ValueError(
      f'{source}: its format is {encoding[:40]!r}, only binary_little_endian is read'
    )
  if not 0 < count <= _MAX_POINTS or not fields:
    raise ValueError(f'{source}: holds no vertices, or more than {_MAX_POINTS}')
  return count, np.dtype(fields)
