"""`.splat`: 32 bytes a Gaussian, largest first, as antimatter15's web viewer and its kin read them.

position 3 × float32, scale 3 × float32 (metres), RGB and opacity 4 × uint8, rotation 4 × uint8:
(w, x, y, z) · 128 + 128
"""

import os
from pathlib import Path

import numpy as np

from sa0_jax import archive
from sa0_jax.avatar.avatar import Avatar
from sa0_jax.avatar.gaussians import Gaussians
from sa0_jax.export.ply import finite_gaussians, unit_quaternions
from sa0_jax.export.settings import ExportSettings, posed_gaussians

RECORD = np.dtype(
  [('position', '<f4', 3), ('scale', '<f4', 3), ('color', 'u1', 4), ('rotation', 'u1', 4)]
)
_MAX_POINTS = 20_000_000


def export_splat(avatar: Avatar, path: str | os.PathLike[str], settings: ExportSettings) -> None:
  """Writes the posed avatar as .splat, in world space; args and errors as `export`."""
  records = splat_records(posed_gaussians(avatar, settings.codes))
  with archive.atomic_write(path) as file:
    file.write(records.tobytes())


def splat_records(gaussians: Gaussians) -> np.ndarray:
  """One `RECORD` a Gaussian, by falling volume times opacity: viewers draw what has arrived."""
  scales = np.asarray(gaussians.scales, np.float64)
  opacity = np.asarray(gaussians.opacities, np.float64)
  order = np.argsort(-np.prod(scales, axis=1) * opacity, kind='stable')
  colors = np.asarray(gaussians.colors, np.float64)[:, :3]
  quats = unit_quaternions(np.asarray(gaussians.quats, np.float64))
  records = np.empty(len(order), RECORD)
  records['position'] = np.asarray(gaussians.means)[order]
  records['scale'] = scales[order]
  rgba = np.concatenate([colors, opacity[:, None]], axis=1)[order]
  records['color'] = np.clip(np.round(rgba * 255.0), 0, 255)
  records['rotation'] = np.clip(np.round(quats[order] * 128.0 + 128.0), 0, 255)
  return records


def read_splat(path: str | os.PathLike[str]) -> Gaussians:
  """Reads a .splat file that anyone may have made.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: its size is no multiple of 32 bytes, or it holds values that are not finite.
  """
  path = Path(path)
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such file')
  size = path.stat().st_size
  if not size or size % RECORD.itemsize or size > _MAX_POINTS * RECORD.itemsize:
    raise ValueError(f'{path}: not a .splat file: {size} bytes are no records of 32')
  records = np.frombuffer(path.read_bytes(), RECORD)
  arrays = {
    'means': records['position'],
    'quats': unit_quaternions((records['rotation'].astype(np.float64) - 128.0) / 128.0),
    'scales': records['scale'],
    'opacities': records['color'][:, 3] / 255.0,
    'colors': records['color'][:, :3] / 255.0,
  }
  return finite_gaussians(arrays, str(path))
