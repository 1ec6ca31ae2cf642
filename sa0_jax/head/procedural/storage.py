"""The shipped file of the procedural head: what it holds and how a `HeadModel` is made of it.

`head.npz` (no pickles) holds the mesh, its UV atlas and labels exactly, named directions as
multiples of `STEP`, and the smooth directions as bells and coefficients (`modes.py`).
"""

import os
import pathlib
import zipfile

import numpy as np
from jaxtyping import Float, Int, UInt8

from sa0_jax.head.model import HeadModel, LandmarkEmbedding
from sa0_jax.head.procedural.anatomy import COMPONENT_NAMES, MIRROR, MODEL_NAME, to_metres
from sa0_jax.head.procedural.modes import (
  SmoothModes,
  expression_rows,
  identity_rows,
  smooth_directions,
)
from sa0_jax.head.procedural.semantics import ProceduralSemantics
from sa0_jax.head.procedural.sway import SWAY_NAMES, sway_directions

DATA_FILE = pathlib.Path(__file__).with_name('head.npz')
FORMAT_VERSION = 1
MAX_FILE_BYTES = 16 * 2**20

# Named directions are stored in multiples of this many millimetres.
STEP = 0.002
UV_QUANTUM = 1.0 / 65536.0

Arrays = dict[str, np.ndarray]

SEMANTIC_FIELDS = (
  'component',
  'pair',
  'collar',
  'lid_ring',
  'lid_angle',
  'mouth_ring',
  'lip_side',
  'lip_fraction',
  'nostril_ring',
  'ear_ring',
  'eye_ring',
  'enamel',
  'hairline',
  'lid_loops',
  'mouth_loops',
  'nostril_loops',
  'ear_loops',
)


def pack_directions(
  names: list[str], directions: Float[np.ndarray, 'k v 3'], pair: Int[np.ndarray, ' v']
) -> Arrays:
  """Named directions, without what mirroring brings back.

  Of a direction …Right that mirrors the …Left before it nothing is stored; of a symmetric one only
  the vertices v ≤ pair[v].
  """
  half = np.arange(len(pair)) <= pair
  rows = np.round(directions / STEP).astype(np.int32)
  kinds, values = [], []
  for number, (name, row) in enumerate(zip(names, rows, strict=True)):
    mirrored = row[pair] * MIRROR.astype(np.int32)
    if name.endswith('Right') and names[number - 1] == name[:-5] + 'Left':
      if np.abs(mirrored - rows[number - 1]).max() > 1:
        raise RuntimeError(f'{name} does not mirror {names[number - 1]}')
      kinds.append(2)
    elif np.abs(mirrored - row).max() <= 1:
      kinds.append(1)
      values.append(row[half].T.ravel())
    else:
      kinds.append(0)
      values.append(row.T.ravel())
  flat = np.concatenate(values).astype('<i2')
  # Bytes apart: the high ones are nearly all 0 or −1 and compress to nothing.
  return {
    'names': np.array(names),
    'kinds': np.array(kinds, np.int8),
    'bytes': flat.view(np.uint8).reshape(-1, 2).T.copy(),
  }


def unpack_directions(
  names: list[str], kinds: Int[np.ndarray, ' k'], data: UInt8[np.ndarray, '2 n'], pair: np.ndarray
) -> Float[np.ndarray, 'v 3 k']:
  """The directions of `pack_directions`, float32 mm."""
  flat = np.ascontiguousarray(data.T).view('<i2').ravel()
  count = len(pair)
  half = np.flatnonzero(np.arange(count) <= pair)
  sign = MIRROR.astype(np.float32)[:, None]
  out = np.empty((len(names), 3, count), np.float32)
  start = 0
  for number, kind in enumerate(kinds):
    if kind == 2:
      out[number] = out[number - 1][:, pair] * sign
      continue
    size = 3 * (len(half) if kind == 1 else count)
    values = flat[start : start + size].reshape(3, -1) * np.float32(STEP)
    start += size
    if kind == 1:
      out[number][:, pair[half]] = values * sign
      out[number][:, half] = values
    else:
      out[number] = values
  return np.ascontiguousarray(out.transpose(2, 1, 0))


def write(path: pathlib.Path, arrays: Arrays) -> None:
  """Writes the file whole or not at all."""
  partial = path.with_name(path.name + '.partial')
  with open(partial, 'wb') as file:
    np.savez_compressed(file, allow_pickle=False, **arrays)
  os.replace(partial, path)


def read(path: pathlib.Path = DATA_FILE) -> Arrays:
  """Reads the file.

  Raises:
    FileNotFoundError: it is missing.
    ValueError: it is too large, damaged or of another format.
  """
  if not path.is_file():
    raise FileNotFoundError(
      f'{path}: the procedural head is missing; build it with'
      ' `python -m sa0_jax.head.procedural.build`'
    )
  if path.stat().st_size > MAX_FILE_BYTES:
    raise ValueError(f'{path}: larger than {MAX_FILE_BYTES} bytes, not a procedural head')
  try:
    with np.load(path, allow_pickle=False) as file:
      arrays = dict(file)
  except (zipfile.BadZipFile, OSError, ValueError) as error:
    raise ValueError(f'{path}: damaged ({error}); build it again') from error
  if int(arrays.get('version', -1)) != FORMAT_VERSION:
    raise ValueError(f'{path}: not version {FORMAT_VERSION} of the procedural head; build it again')
  return arrays


def semantics_of(arrays: Arrays) -> ProceduralSemantics:
  """The labels in the file."""
  return ProceduralSemantics(
    template=arrays['template'], **{name: arrays[name] for name in SEMANTIC_FIELDS}
  )


def head_of(arrays: Arrays) -> HeadModel:
  """The head model in the file, float32 metres."""
  labels = semantics_of(arrays)
  shapes, shape_names = _basis(arrays, 'shape', labels)
  expressions, expression_names = _basis(arrays, 'expression', labels)
  posedirs = np.zeros((len(labels.template), 3, 36), np.float32)
  posedirs[:, :, arrays['pose_columns']] = arrays['pose_values'] * np.float32(1e-3 * STEP)
  weights = arrays['weights'].astype(np.float32)
  # The smooth modes of least amplitude make room for them.
  kept = len(expression_names) - len(SWAY_NAMES)
  expressions[:, :, kept:] = np.float32(1e-3) * sway_directions(labels, weights)
  expression_names = (*expression_names[:kept], *SWAY_NAMES)
  regressor = np.zeros((5, len(weights)), np.float32)
  regressor[arrays['regressor_rows'], arrays['regressor_columns']] = arrays['regressor_values']
  return HeadModel(
    name=MODEL_NAME,
    v_template=to_metres(labels.template.astype(np.float64)).astype(np.float32),
    faces=arrays['faces'].astype(np.int32),
    shapedirs=shapes,
    exprdirs=expressions,
    posedirs=posedirs,
    joint_regressor=regressor,
    weights=weights / weights.sum(1, keepdims=True),
    vt=arrays['vt'].astype(np.float32) * np.float32(UV_QUANTUM),
    ft=arrays['ft'].astype(np.int32),
    landmarks68=_landmarks(arrays, 'landmarks68'),
    landmarks_mediapipe=_landmarks(arrays, 'mediapipe'),
    shape_names=shape_names,
    expression_names=expression_names,
    components=labels.component.astype(np.int32),
    component_names=COMPONENT_NAMES,
  )


def _basis(
  arrays: Arrays, kind: str, labels: ProceduralSemantics
) -> tuple[Float[np.ndarray, 'v 3 k'], tuple[str, ...]]:
  names = [str(name) for name in arrays[f'{kind}_names']]
  named = unpack_directions(names, arrays[f'{kind}_kinds'], arrays[f'{kind}_bytes'], labels.pair)
  modes = SmoothModes(
    *(arrays[f'{kind}_modes_{part}'] for part in ('centers', 'widths', 'coefficients', 'steps'))
  )
  rows_of = identity_rows if kind == 'shape' else expression_rows
  smooth = smooth_directions(modes, rows_of(labels, modes.centers, modes.widths))
  total = named.shape[2] + smooth.shape[2]
  out = np.empty((*named.shape[:2], total), np.float32)
  named *= np.float32(1e-3)
  smooth *= np.float32(1e-3)
  out[:, :, : named.shape[2]] = named
  out[:, :, named.shape[2] :] = smooth
  names += [f'smooth_{number:03d}' for number in range(len(names), total)]
  return out, tuple(names)


def _landmarks(arrays: Arrays, kind: str) -> LandmarkEmbedding | None:
  if f'{kind}_index' not in arrays:
    return None
  return LandmarkEmbedding(
    arrays[f'{kind}_index'], arrays[f'{kind}_face'], arrays[f'{kind}_barycentric']
  )
