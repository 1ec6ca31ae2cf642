"""ARKit face tracking: Live Link Face's CSV files, and the map from its 52 shapes to codes."""

import csv
import io
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from sa0_jax import archive
from sa0_jax.drive.motion import Motion
from sa0_jax.head.model import HeadCodes, HeadModel

DEFAULT_MAP = Path(__file__).with_name('arkit_map.json')
# What a map may move, and how many numbers each takes.
_PARTS = {'jaw': 3, 'left_eye': 3, 'right_eye': 3, 'neck': 3}
_MAX_BYTES = 1 << 28
_MAX_MAP_BYTES = 1 << 24
_TIMECODE = re.compile(r'(\d+):(\d+):(\d+):(\d+)(\.\d+)?')
_FPS = 60.0  # what the app records unless told otherwise
_FEWEST_SHAPES = 10
_MOST = 1e6  # of a weight or an amount, far beyond any face: their products stay finite

Map = dict[str, dict[str, Any]]


def load_map(path: str | os.PathLike[str] | None = None) -> Map:
  """Reads a map: shape name → what a full activation adds to the codes.

  The file is JSON: {"format": "sa0-arkit-map", "version": 1, "shapes": {"jawOpen": {"jaw": [0.35,
  0, 0], "expression": {"mouthFunnel": 0.1}}}}. `jaw`, `neck`, `left_eye`, `right_eye` are
  axis-angle vectors in radians; keys of `expression` are names of the head's directions, or their
  numbers.
  Head rotations go by the names HeadYaw, HeadPitch, HeadRoll; their weights are radians.

  Args:
    path: the file; None takes the package's own (docs/driving.md).

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is not such a map.
  """
  source = DEFAULT_MAP if path is None else Path(path)
  if not source.is_file():
    raise FileNotFoundError(f'{source}: no such file')
  content = archive.read_json(source, _MAX_MAP_BYTES)
  if not isinstance(content, dict) or content.get('format') != 'sa0-arkit-map':
    raise ValueError(f'{source}: not a map of ARKit shapes')
  shapes = content.get('shapes')
  if content.get('version') != 1 or not isinstance(shapes, dict):
    raise ValueError(f'{source}: not version 1 of a map, or without shapes')
  for name, parts in shapes.items():
    if not isinstance(parts, dict) or not all(_is_part(*item) for item in parts.items()):
      raise ValueError(f'{source}: shape {name[:40]!r} is not given as parts and their numbers')
  return shapes


def _is_part(name: str, value: Any) -> bool:
  if name == 'expression':
    return isinstance(value, dict) and all(_is_number(v) for v in value.values())
  known = name in _PARTS and isinstance(value, list) and len(value) == _PARTS[name]
  return known and all(_is_number(v) for v in value)


def _is_number(value: Any) -> bool:
  return archive.is_number(value) and abs(value) <= _MOST


def arkit_codes(
  weights: dict[str, Float[np.ndarray, ' t']], head: HeadModel, shapes: Map, strict: bool = False
) -> HeadCodes:
  """Codes of ARKit weights.

  Args:
    weights: shape name (ARKit's spelling, jawOpen) → its weight over time.
    head: the avatar's head model.
    shapes: from `load_map`.
    strict: refuse maps that name directions the head does not have; else those are left out.

  Raises:
    ValueError: the map names a direction the head does not have.
  """
  count = len(next(iter(weights.values())))
  expression = np.zeros((count, head.num_expression), np.float32)
  joints = {name: np.zeros((count, size), np.float32) for name, size in _PARTS.items()}
  rows = {name: row for row, name in enumerate(head.expression_names)}
  rows |= {str(row): row for row in range(head.num_expression)}
  for name, curve in weights.items():
    for part, value in shapes.get(name, {}).items():
      if part != 'expression':
        joints[part] += curve[:, None].astype(np.float32) * np.asarray(value, np.float32)
        continue
      for direction, amount in value.items():
        if direction in rows:
          expression[:, rows[direction]] += amount * curve
        elif strict:
          raise ValueError(f'map: head {head.name!r} has no expression direction {direction!r}')
  still = np.zeros((count, 3), np.float32)
  return HeadCodes(
    shape=np.zeros(head.num_shape, np.float32),
    expression=expression,
    rotation=still,
    neck=joints['neck'],
    jaw=joints['jaw'],
    eyes=np.concatenate([joints['left_eye'], joints['right_eye']], axis=1),
    translation=still,
  )


def read_arkit_csv(
  path: str | os.PathLike[str],
  head: HeadModel,
  map_path: str | os.PathLike[str] | None = None,
) -> Motion:
  """Reads a CSV file of Live Link Face.

  Its header is Timecode,BlendShapeCount, then shapes (EyeBlinkLeft, …) and head and eye rotations.
  Gaze is taken from the eyeLook shapes, which have one meaning; the eye rotation columns are left
  out.

  Args:
    path: the file.
    head: the avatar's head model.
    map_path: a map of one's own (`load_map`).

  Raises:
    FileNotFoundError: a file is missing.
    ValueError: it is no such file, holds what is no number, or the map does not fit the head.
  """
  path = Path(path)
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such file')
  if path.stat().st_size > _MAX_BYTES:
    raise ValueError(f'{path}: larger than {_MAX_BYTES} bytes')
  text = path.read_bytes().decode('utf-8-sig', errors='replace')
  lines = [line for line in csv.reader(io.StringIO(text, newline='')) if any(line)]
  header = [word.strip() for word in lines[0]] if lines else []
  names = [word if word.startswith('Head') else word[:1].lower() + word[1:] for word in header]
  if sum(name in load_map() for name in names) < _FEWEST_SHAPES:
    raise ValueError(f'{path}: no ARKit recording: its first line does not name the shapes')
  rows = [line for line in lines[1:] if len(line) == len(header)]
  if not rows or len(rows) != len(lines) - 1:
    raise ValueError(f'{path}: no frames, or a line that has not {len(header)} values')
  shapes, weights = load_map(map_path), {}
  for column, name in enumerate(names):
    if name in shapes:
      weights[name] = _numbers([row[column] for row in rows], f'{path}: {header[column]}')
  times = [row[names.index('timecode')] for row in rows] if 'timecode' in names else []
  codes = arkit_codes(weights, head, shapes, strict=map_path is not None)
  return Motion(codes, _rate(times))


def _numbers(words: list[str], source: str) -> Float[np.ndarray, ' t']:
  try:
    values = np.array([float(word) for word in words])
  except ValueError as error:
    raise ValueError(f'{source}: {error}') from error
  if not (np.abs(values) <= _MOST).all():  # nor is NaN
    raise ValueError(f'{source}: holds a number that is no weight')
  return values


def _rate(times: list[str]) -> float:
  """Frames per second: how many timecodes there are in each of the whole seconds between."""
  found = [match for match in (_TIMECODE.fullmatch(word.strip()) for word in times) if match]
  seconds = [int(m[1]) * 3600 + int(m[2]) * 60 + int(m[3]) for m in found]
  inner = [s for s in seconds if seconds[0] < s < seconds[-1]]
  if len(found) != len(times) or not inner:
    return _FPS
  return len(inner) / len(set(inner))
