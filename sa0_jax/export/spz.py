"""SPZ: Niantic's compressed splats (github.com/nianticlabs/spz, versions 2 and 3), written anew.

A gzip stream of a 16-byte header and, one attribute after the other for all points:

    positions  3 × 24-bit signed fixed point, little-endian, `fractional bits` after the point
    alphas     uint8, opacity · 255
    colours    3 × uint8, (f_dc · 0.15 + 0.5) · 255
    scales     3 × uint8, (ln metres + 10) · 16
    rotations  version 2: x y z of the quaternion with w ≥ 0, 3 × uint8, (q + 1) · 127.5
               version 3: the three smallest of x y z w, 9 bits and a sign each, below 2 bits that
               say which is the largest; one little-endian uint32
    then spherical harmonics above degree 0, of which there are none here

Axes are right, up, back: ours, seen by a camera in front of the face.
"""

import gzip
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from sa0_jax import archive
from sa0_jax.avatar.avatar import Avatar
from sa0_jax.avatar.gaussians import Gaussians
from sa0_jax.export.ply import SH_C0, finite_gaussians, unit_quaternions
from sa0_jax.export.settings import ExportSettings, posed_gaussians

MAGIC = 0x5053474E
_HEADER = struct.Struct('<IIIBBBB')
_COLOR_SCALE = 0.15
# A head spans decimetres: with 20 bits after the point a step is a micrometre and ±8 m fit.
_FINEST_BITS = 20
_MAX_POINTS = 10_000_000
_HARMONICS = (0, 9, 24, 45)  # bytes a point above degree 0, by degree
_VERSION = 2  # what every reader of the format knows
_ROTATION_BYTES = {2: 3, 3: 4}
_SQRT_HALF = np.sqrt(0.5)


def export_spz(avatar: Avatar, path: str | os.PathLike[str], settings: ExportSettings) -> None:
  """Writes the posed avatar as SPZ version 2, in world space; args and errors as `export`."""
  data = pack_spz(posed_gaussians(avatar, settings.codes))
  with archive.atomic_write(path) as file:
    file.write(data)


def pack_spz(gaussians: Gaussians, version: int = _VERSION) -> bytes:
  """Gaussians as the contents of an SPZ file.

  Args:
    gaussians: up to 10 million; the first three channels are RGB.
    version: 2, or 3, whose rotations are four times finer and whose readers are fewer.

  Raises:
    ValueError: the version is neither, or a Gaussian is farther than 8 km from the origin.
  """
  if version not in _ROTATION_BYTES:
    raise ValueError(f'SPZ: version must be 2 or 3, got {version}')
  means = np.asarray(gaussians.means, np.float64)
  farthest = float(np.abs(means).max(initial=1e-6))
  bits = min(_FINEST_BITS, int(np.floor(np.log2((2**23 - 1) / farthest))))
  if bits < 10:
    raise ValueError(f'SPZ: Gaussians {farthest:.0f} m from the origin do not fit')
  fixed = np.round(means * 2.0**bits).astype(np.int32)
  positions = np.stack([fixed & 255, (fixed >> 8) & 255, (fixed >> 16) & 255], axis=-1)
  colors = (np.asarray(gaussians.colors, np.float64)[:, :3] - 0.5) / SH_C0
  scales = np.maximum(np.asarray(gaussians.scales, np.float64), 1e-30)
  quats = unit_quaternions(np.asarray(gaussians.quats, np.float64))
  parts = (
    positions.astype(np.uint8),
    _bytes(np.asarray(gaussians.opacities, np.float64) * 255.0),
    _bytes((colors * _COLOR_SCALE + 0.5) * 255.0),
    _bytes((np.log(scales) + 10.0) * 16.0),
    _pack_rotations(quats, version),
  )
  header = _HEADER.pack(MAGIC, version, len(means), 0, bits, 0, 0)
  # No clock in our files: the same avatar gives the same bytes.
  return gzip.compress(header + b''.join(part.tobytes() for part in parts), mtime=0)


def read_spz(path: str | os.PathLike[str]) -> Gaussians:
  """Reads an SPZ file of version 2 or 3 that anyone may have made.

  Colours that depend on the view are left out.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is no such file, is damaged, or of another version.
  """
  path = Path(path)
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such file')
  with open(path, 'rb') as file:
    stream = zlib.decompressobj(31)  # gzip's framing
    limit = _HEADER.size + _MAX_POINTS * (9 + 1 + 3 + 3 + 4 + _HARMONICS[-1])
    try:
      raw = stream.decompress(file.read(limit), limit)
    except zlib.error as error:
      raise ValueError(f'{path}: not an SPZ file ({error})') from error
  if len(raw) < _HEADER.size or not stream.eof:
    raise ValueError(f'{path}: not an SPZ file, or one that breaks off')
  magic, version, count, degree, bits, _, _ = _HEADER.unpack_from(raw)
  if magic != MAGIC or version not in _ROTATION_BYTES:
    raise ValueError(f'{path}: not an SPZ file of version 2 or 3')
  widths = (9, 1, 3, 3, _ROTATION_BYTES[version])
  if not 0 < count <= _MAX_POINTS or degree >= len(_HARMONICS) or bits > 23:
    raise ValueError(f'{path}: damaged header')
  if len(raw) < _HEADER.size + count * (sum(widths) + _HARMONICS[degree]):
    raise ValueError(f'{path}: ends before its {count} points do')
  parts, start = [], _HEADER.size
  for width in widths:
    parts.append(np.frombuffer(raw, np.uint8, count * width, start).reshape(count, width))
    start += count * width
  positions, alphas, colors, scales, rotations = parts
  low, middle, high = (positions.reshape(count, 3, 3)[..., i].astype(np.int32) for i in range(3))
  fixed = low | (middle << 8) | ((high ^ 128) - 128 << 16)
  f_dc = (colors / 255.0 - 0.5) / _COLOR_SCALE
  arrays = {
    'means': fixed / 2.0**bits,
    'quats': unit_quaternions(_unpack_rotations(rotations, version)),
    'scales': np.exp(scales / 16.0 - 10.0),
    'opacities': alphas[:, 0] / 255.0,
    'colors': np.clip(0.5 + SH_C0 * f_dc, 0.0, 1.0),
  }
  return finite_gaussians(arrays, str(path))


def _bytes(values: np.ndarray) -> np.ndarray:
  return np.clip(np.round(values), 0, 255).astype(np.uint8)


def _pack_rotations(quats: Float[np.ndarray, 'n 4'], version: int) -> np.ndarray:
  """Unit quaternions (w, x, y, z) as the bytes of a version."""
  if version == 2:
    signed = np.where(quats[:, :1] < 0, -quats, quats)
    return _bytes((signed[:, 1:] + 1.0) * 127.5)
  xyzw = np.roll(quats, -1, axis=1)
  largest = np.argmax(np.abs(xyzw), axis=1)
  xyzw = np.where(np.take_along_axis(xyzw, largest[:, None], 1) < 0, -xyzw, xyzw)
  packed = largest.astype(np.uint32)
  for i in range(4):
    size = np.minimum(np.round(511.0 * np.abs(xyzw[:, i]) / _SQRT_HALF), 511).astype(np.uint32)
    field = (xyzw[:, i] < 0).astype(np.uint32) << 9 | size
    packed = np.where(i == largest, packed, packed << 10 | field).astype(np.uint32)
  return packed.astype('<u4')


def _unpack_rotations(data: UInt8[np.ndarray, 'n b'], version: int) -> Float[np.ndarray, 'n 4']:
  """Quaternions (w, x, y, z) of the bytes of a version."""
  if version == 2:
    vector = data / 127.5 - 1.0
    rest = np.sqrt(np.maximum(0.0, 1.0 - np.sum(vector**2, axis=1, keepdims=True)))
    return np.concatenate([rest, vector], axis=1)
  packed = np.ascontiguousarray(data).view('<u4')[:, 0]
  largest = (packed >> 30).astype(np.int64)
  xyzw = np.zeros((len(data), 4))
  for i in range(3, -1, -1):
    value = _SQRT_HALF * (packed & 511) / 511.0 * np.where(packed & 512, -1.0, 1.0)
    xyzw[:, i] = np.where(i == largest, 0.0, value)
    packed = np.where(i == largest, packed, packed >> 10)
  rest = np.sqrt(np.maximum(0.0, 1.0 - np.sum(xyzw**2, axis=1)))
  np.put_along_axis(xyzw, largest[:, None], rest[:, None], 1)
  return np.roll(xyzw, 1, axis=1)
