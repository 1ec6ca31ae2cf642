"""Numbers of face networks from files that users make with networks of their own.

A folder holds, for each clip NAME, in .npz or .csv:

    rendered/NAME     of what was rendered: OUT/frames/rendered/NAME/*.png of `--save-frames`
    reference/NAME    of the driving frames: OUT/frames/reference/NAME/*.png
    source/NAME       of the source frame, one row: only for CSIM of cross-reenactment

A file has `frame` [t], the numbers of the pictures, and any of `embedding` [t, d] (ArcFace, of
the aligned face), `expression` [t, 64] and `pose` [t, 3] (Deep3DFaceRecon, radians) and `landmarks`
[t, 136] (68 points, x and y by turns, px of these pictures). A .csv has a column for each number:
frame, pose_0, pose_1, …
"""

import csv
import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from sa0_jax import archive
from sa0_jax.metrics import faces

_WIDTHS = {'embedding': None, 'expression': faces.NUM_EXPRESSION, 'pose': 3, 'landmarks': 136}
# Array → the metric it gives.
METRICS = {'embedding': 'csim', 'expression': 'aed', 'pose': 'apd', 'landmarks': 'akd'}
_MAX_BYTES = 1 << 30
_MAX_FRAME = 1 << 53
_MAX_FIELD = 64  # characters of a number

Table = dict[str, np.ndarray]


def read_table(path: str | os.PathLike[str]) -> Table:
  """One clip's file, rows in the order of frames.

  Raises:
    ValueError: it is damaged, has no `frame`, repeats one, or an array has the wrong shape.
  """
  path = Path(path)
  arrays = _read_csv(path) if path.suffix == '.csv' else archive.read_arrays(path, _names())
  frame = arrays.get('frame', np.zeros(()))
  whole = frame.ndim == 1 and frame.dtype.kind in 'iuf'
  # Beyond that not every whole number has a float; NaN is not within either.
  if not whole or not (np.abs(frame) <= _MAX_FRAME).all() or (frame != np.floor(frame)).any():
    raise ValueError(f"{path}: 'frame' must be one whole number a row")
  if len(set(frame.tolist())) < len(frame):
    raise ValueError(f'{path}: a frame is there twice')
  order = np.argsort(frame, kind='stable')
  table: Table = {'frame': frame[order].astype(np.int64)}
  for name, width in _WIDTHS.items():
    if name not in arrays:
      continue
    values = np.asarray(arrays[name])
    usable = values.ndim == 2 and len(values) == len(frame) and values.dtype.kind in 'iuf'
    if not usable or (width is not None and values.shape[1] != width):
      raise ValueError(
        f'{path}: {name!r} is {list(values.shape)}, expected [{len(frame)}, {width or "d"}]'
      )
    if not np.isfinite(values).all():
      raise ValueError(f'{path}: {name!r} holds numbers that are not finite')
    table[name] = values[order].astype(np.float64)
  return table


def _names() -> tuple[str, ...]:
  return ('frame', *_WIDTHS)


def _read_csv(path: Path) -> Table:
  text = archive.read_text(path, _MAX_BYTES)
  try:
    lines = [line for line in csv.reader(text.splitlines()) if line]
    if not lines or any(len(line) != len(lines[0]) for line in lines):
      raise ValueError('lines of different lengths')
    if any(len(field) > _MAX_FIELD for line in lines for field in line):
      raise ValueError('a field is too long')
    numbers = np.array(lines[1:], np.float64).reshape(-1, len(lines[0]))
  except (ValueError, csv.Error) as error:
    raise ValueError(f'{path}: not a table of numbers ({str(error)[:100]})') from error
  columns = {name.strip(): numbers[:, at] for at, name in enumerate(lines[0])}
  table: Table = {'frame': columns['frame']} if 'frame' in columns else {}
  for name in _WIDTHS:
    count = sum(column.startswith(f'{name}_') for column in columns)
    wanted = [f'{name}_{at}' for at in range(count)]
    if not set(wanted) <= columns.keys():
      raise ValueError(f'{path}: columns of {name!r} must be {name}_0 to {name}_{count - 1}')
    if count:
      table[name] = np.stack([columns[column] for column in wanted], axis=1)
  return table


def face_rows(
  folder: str | os.PathLike[str], result: dict[str, Any], protocol: str, resolution: int
) -> list[dict[str, float]]:
  """CSIM, AED, APD and AKD of one clip's frames, those for which there are coefficients.

  Args:
    folder: as this module describes it.
    result: of the clip, from `evaluate`.
    protocol: in cross-reenactment CSIM is to the source frame, and there is no AKD.
    resolution: of the pictures, px.

  Returns:
    One dictionary a frame, in the order of the result's.

  Raises:
    FileNotFoundError: the clip has no file.
    ValueError: a file is damaged or misses a frame.
  """
  folder, name = Path(folder), result['clip']
  wanted = np.array([row['frame'] for row in result['frames']])
  rendered = _rows_of(_find(folder, 'rendered', name), wanted)
  reference = _rows_of(_find(folder, 'reference', name), wanted)
  columns: dict[str, np.ndarray] = {}
  if protocol == 'cross':
    source = read_table(_find(folder, 'source', name))
    if 'embedding' in rendered and 'embedding' in source:
      same = np.repeat(source['embedding'][:1], len(wanted), axis=0)
      columns['csim'] = faces.csim(rendered['embedding'], same)
  elif 'embedding' in rendered and 'embedding' in reference:
    columns['csim'] = faces.csim(rendered['embedding'], reference['embedding'])
  for metric, key in ((faces.aed, 'expression'), (faces.apd, 'pose')):
    if key in rendered and key in reference:
      columns[metric.__name__] = metric(rendered[key], reference[key])
  if protocol != 'cross' and 'landmarks' in rendered and 'landmarks' in reference:
    ours, theirs = (table['landmarks'].reshape(-1, 68, 2) for table in (rendered, reference))
    columns['akd'] = faces.akd(ours, theirs, size=resolution)
  return [{key: float(column[i]) for key, column in columns.items()} for i in range(len(wanted))]


def check_given_once(
  folder: str | os.PathLike[str], clips: Iterable[str], measured: Collection[str]
) -> None:
  """Makes sure, before hours of work, that no metric comes from a network and from files.

  Args:
    folder: as this module describes it; files that are not there yet are not looked at.
    clips: their names.
    measured: metrics that networks give.

  Raises:
    ValueError: one does, or a file is damaged.
  """
  for name in clips if measured else ():
    try:
      path = _find(Path(folder), 'rendered', name)
    except FileNotFoundError:
      continue
    for array in read_table(path):
      metric = METRICS.get(array)
      if metric in measured:
        raise ValueError(
          f'{path}: holds {array!r}, which gives {metric}, and a network was given for {metric}, '
          'too: take one of them'
        )


def _find(folder: Path, kind: str, name: str) -> Path:
  for suffix in ('.npz', '.csv'):
    path = folder / kind / f'{name}{suffix}'
    if path.is_file():
      return path
  raise FileNotFoundError(f'{folder / kind / name}.npz: no such coefficients, nor .csv')


def _rows_of(path: Path, wanted: np.ndarray) -> Table:
  """The rows of those frames."""
  table = read_table(path)
  missing = sorted(set(wanted.tolist()) - set(table['frame'].tolist()))
  if missing:
    raise ValueError(f'{path}: frame {missing[0]} is missing ({len(missing)} in all)')
  at = np.searchsorted(table['frame'], wanted)
  return {name: values[at] for name, values in table.items()}
