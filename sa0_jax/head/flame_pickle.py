"""FLAME model pickles: read without executing them, and written for the field's tools."""

import os
import struct
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np

from sa0_jax.archive import atomic_write
from sa0_jax.head.files import checked_head
from sa0_jax.head.model import JOINT_PARENTS, HeadModel
from sa0_jax.head.teeth import (
  FLAME_FACES,
  FLAME_VERTICES,
  TEETH_VERTICES,
  add_teeth,
  teeth_component,
)
from sa0_jax.head.unpickle import as_array, read_pickle

NUM_SHAPE = 300
NUM_EXPRESSION = 100

_MAX_FILE_BYTES = 512 << 20
_MAX_VERTICES = 100_000
_NO_PARENT = 0xFFFFFFFF  # how FLAME writes −1 in its unsigned table


def load_flame_pickle(path: str | os.PathLike[str], name: str) -> HeadModel:
  """Reads a FLAME model (`generic_model.pkl`, `flame2023.pkl`, …) without executing it.

  Models as published, with 5023 vertices, get the teeth patch; patched and other FLAME-format heads
  come as they are. UV and landmarks are separate files in FLAME: they are left empty here.

  Args:
    path: the pickle, of Python 2 or 3, with chumpy and scipy objects or without; neither package is
      needed.
    name: what the head is called; see `HeadModel.name` and `deduce_edition`.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: the file is damaged, asks for anything but arrays, or holds no FLAME model; the
      message names the array.
  """
  source = str(path)
  model = _read_dictionary(path, source)

  def array(key: str, dtype: type = np.float32) -> np.ndarray:
    if key not in model:
      raise ValueError(f'{source}: no FLAME model: {key!r} is missing')
    values = as_array(model[key], key, source)
    if values.dtype.kind not in ('iuf' if dtype is np.float32 else 'iu'):
      raise ValueError(f'{source}: {key!r} holds {values.dtype}, expected numbers')
    with np.errstate(over='ignore'):  # what overflows becomes infinite, and validation names it
      return np.ascontiguousarray(values, dtype)

  v_template = array('v_template')
  vertices = len(v_template) if v_template.ndim else 0
  if v_template.shape != (vertices, 3) or not 0 < vertices <= _MAX_VERTICES:
    raise ValueError(f"{source}: 'v_template' has the shape {v_template.shape}, expected (v, 3)")
  shapedirs = array('shapedirs')
  if shapedirs.shape != (vertices, 3, NUM_SHAPE + NUM_EXPRESSION):
    raise ValueError(
      f"{source}: 'shapedirs' has the shape {shapedirs.shape}, expected ({vertices}, 3, 400): "
      '300 identity and 100 expression directions'
    )
  _check_joint_tree(array('kintree_table', np.int64), source)
  faces = array('f', np.int64)
  if faces.ndim != 2 or (faces.size and (faces.min() < 0 or faces.max() >= vertices)):
    raise ValueError(f"{source}: 'f' is no table of the corners of faces")
  weights = array('weights')
  head = checked_head(
    source,
    name=name,
    v_template=v_template,
    faces=faces.astype(np.int32),
    shapedirs=np.ascontiguousarray(shapedirs[..., :NUM_SHAPE]),
    exprdirs=np.ascontiguousarray(shapedirs[..., NUM_SHAPE:]),
    posedirs=_pose_directions(array('posedirs'), vertices, source),
    joint_regressor=array('J_regressor'),
    weights=weights,
    vt=np.zeros((0, 2), np.float32),
    ft=np.full(faces.shape, -1, np.int32),
    **_components(weights, vertices, source),
  )
  return add_teeth(head) if _size(head) == (FLAME_VERTICES, FLAME_FACES) else head


def deduce_edition(path: str | os.PathLike[str]) -> str | None:
  """Which FLAME edition a file is, by its name and its folder's; None when they do not say.

  The editions have the same arrays and no version inside, so their names are all there is:
  'flame2023_Open.pkl' and 'FLAME2020/generic_model.pkl' speak for themselves, a bare
  'generic_model.pkl' does not. The 2023 model without jaw rotation in its expressions
  ('flame2023_no_jaw.pkl') is another basis and is never taken for 'flame2023'.
  """
  path = Path(path).absolute()
  for word in (path.stem.lower(), path.parent.name.lower()):
    if 'no_jaw' in word or 'nojaw' in word:
      return None
    if '2023' in word:
      return 'flame2023_open' if 'open' in word else 'flame2023'
    if '2020' in word:
      return 'flame2020'
  return None


def export_flame_pickle(head: HeadModel, path: str | os.PathLike[str]) -> None:
  """Writes a head as a FLAME model pickle that smplx and the tools around it read.

  Plain arrays only, laid out byte for byte as Python 2 wrote them: readable with any NumPy, without
  chumpy or scipy. Bases shorter than FLAME's 300 + 100 are padded with zero directions, so that
  expressions start at 300 where tools look for them. UV and landmarks have no place in this format.

  Args:
    head: the head.
    path: the file to write, `.pkl` by convention.

  Raises:
    ValueError: the head has more than 300 identity or 100 expression directions.
    OSError: the file cannot be written; nothing is left behind.
  """
  if head.num_shape > NUM_SHAPE or head.num_expression > NUM_EXPRESSION:
    raise ValueError(
      f'head {head.name!r} has {head.num_shape} + {head.num_expression} directions, FLAME files '
      f'hold {NUM_SHAPE} + {NUM_EXPRESSION}'
    )
  vertices = len(head.v_template)
  directions = np.zeros((vertices, 3, NUM_SHAPE + NUM_EXPRESSION))
  directions[..., : head.num_shape] = head.shapedirs
  directions[..., NUM_SHAPE : NUM_SHAPE + head.num_expression] = head.exprdirs
  parents = [_NO_PARENT, *JOINT_PARENTS[1:]]
  model: dict[str, np.ndarray | str] = {
    'v_template': head.v_template.astype(np.float64),
    'f': head.faces.astype(np.uint32),
    'shapedirs': directions,
    'posedirs': head.posedirs.astype(np.float64),
    'J_regressor': head.joint_regressor.astype(np.float64),
    'J': head.joint_regressor.astype(np.float64) @ head.v_template,
    'weights': head.weights.astype(np.float64),
    'kintree_table': np.array([parents, range(len(parents))], np.uint32),
    'bs_style': 'lbs',
    'bs_type': 'lrotmin',
  }
  with atomic_write(path) as file:
    _write_pickle(model, file)


def _read_dictionary(path: str | os.PathLike[str], source: str) -> dict[str, Any]:
  size = os.stat(path).st_size
  if size > _MAX_FILE_BYTES:
    raise ValueError(f'{source}: {size} bytes is too large for a FLAME model')
  model = read_pickle(Path(path).read_bytes(), source)
  if not isinstance(model, dict):
    raise ValueError(f'{source}: no FLAME model: its pickle is not a dictionary')
  return model


def _size(head: HeadModel) -> tuple[int, int]:
  return len(head.v_template), len(head.faces)


def _check_joint_tree(table: np.ndarray, source: str) -> None:
  if table.shape != (2, len(JOINT_PARENTS)) or tuple(table[0, 1:]) != JOINT_PARENTS[1:]:
    raise ValueError(
      f"{source}: 'kintree_table' is not FLAME's: root, neck, jaw, left eye, right eye"
    )


def _pose_directions(posedirs: np.ndarray, vertices: int, source: str) -> np.ndarray:
  """Pose correctives as [v, 3, 36], from that or from the flattened transpose tools write."""
  if posedirs.shape == (36, 3 * vertices):
    return np.ascontiguousarray(posedirs.T.reshape(vertices, 3, 36))
  if posedirs.shape != (vertices, 3, 36):
    raise ValueError(
      f"{source}: 'posedirs' has the shape {posedirs.shape}, expected ({vertices}, 3, 36)"
    )
  return posedirs


def _components(weights: np.ndarray, vertices: int, source: str) -> dict[str, Any]:
  """Parts of FLAME's surface: eyeballs are what the eye joints carry; teeth where patched."""
  if weights.shape != (vertices, 5):
    raise ValueError(f"{source}: 'weights' has the shape {weights.shape}, expected ({vertices}, 5)")
  components = np.zeros(vertices, np.int32)
  components[weights[:, 3] > 0.5] = 1
  components[weights[:, 4] > 0.5] = 2
  names: tuple[str, ...] = ('skin', 'left_eye', 'right_eye')
  if vertices == FLAME_VERTICES + TEETH_VERTICES:
    components[teeth_component('upper')] = 3
    components[teeth_component('lower')] = 4
    names = (*names, 'teeth_upper', 'teeth_lower')
  return {'components': components, 'component_names': names}


def _write_pickle(model: dict[str, np.ndarray | str], file: BufferedIOBase) -> None:
  """The opcodes of Python 2's protocol 2 for a dictionary of arrays and words."""
  file.write(b'\x80\x02}(')
  for key, value in model.items():
    file.write(_pickled_word(key))
    if isinstance(value, str):
      file.write(_pickled_word(value))
      continue
    value = np.ascontiguousarray(value)
    shape = b''.join(b'J' + struct.pack('<i', size) for size in value.shape)
    code = value.dtype.str[1:]
    file.write(b'cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R')
    file.write(b'(K\x01(' + shape + b't')
    file.write(b'cnumpy\ndtype\n' + _pickled_word(code) + b'K\x00K\x01\x87R')
    file.write(b'(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89')
    raw = value.astype(value.dtype.newbyteorder('<'), copy=False).tobytes()
    file.write(b'T' + struct.pack('<i', len(raw)) + raw + b'tb')
  file.write(b'u.')


def _pickled_word(word: str) -> bytes:
  return b'U' + bytes([len(word)]) + word.encode('ascii')
