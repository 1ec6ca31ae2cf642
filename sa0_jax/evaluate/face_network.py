"""A face network that the user brings as an ONNX file, held to what is known of its kind."""

import os
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from sa0_jax import archive
from sa0_jax.evaluate.onnx_files import MAX_BYTES, OnnxFile, inspect_onnx

_FLOAT = 'tensor(float)'
_MAX_LISTED = 200  # characters


class Kind(NamedTuple):
  """What a network takes and gives.

  Attributes:
    name: in messages and reports.
    size: side of the crops it sees, px.
    outputs: numbers it gives for each; None for any count.
  """

  name: str
  size: int
  outputs: int | None


class FaceNetwork:
  """A loaded network; runs on the CPU.

  Attributes:
    kind: what it is used as.
    path: its file.
    digest: SHA-256 of the file and of its weights.
  """

  def __init__(self, path: str | os.PathLike[str], kind: Kind, max_bytes: int = MAX_BYTES):
    """Loads a file, checks names and shapes, and runs it once on a black crop.

    Args:
      path: the ONNX file.
      kind: what it has to be: one float32 input [n, 3, size, size], one output [n, outputs].
      max_bytes: refuse larger files.

    Raises:
      FileNotFoundError: the file, or one with its weights, is missing.
      ValueError: it is damaged, too large, or another network; the message says what was expected.
      ImportError: ONNX Runtime is not installed (extra `onnx`).
    """
    file = inspect_onnx(path, max_bytes)
    self.kind, self.path, self.digest = kind, file.path, file.digest
    self._session = _open(file)
    self._input, self._batch = self._check_input()
    self._check_output()

  def __call__(self, crops: Float[np.ndarray, 'n 3 s s']) -> Float[np.ndarray, 'n d']:
    """Its numbers for some crops, float64.

    Raises:
      ValueError: the network fails, or gives something else than on its first run.
    """
    count = len(crops)
    each = self._batch or count
    parts = []
    for begin in range(0, count, each):
      rows = np.minimum(np.arange(begin, begin + each), count - 1)  # the last one fills up
      parts.append(self._run(np.ascontiguousarray(crops[rows], np.float32)))
    return np.concatenate(parts)[:count]

  def _run(self, crops: np.ndarray) -> np.ndarray:
    try:
      [values] = self._session.run(None, {self._input: crops})
    except Exception as error:  # its exceptions have no class in common
      raise ValueError(f'{self.path}: the network fails ({archive.first_line(error)})') from error
    wanted = self.kind.outputs
    values = np.asarray(values)
    fits = values.ndim == 2 and len(values) == len(crops) and values.dtype.kind == 'f'
    if not fits or values.shape[1] != (wanted or values.shape[1]) or not values.shape[1]:
      raise ValueError(
        f'{self.path}: {self.kind.name} gives {len(crops)} rows of {wanted or "d"} numbers, this '
        f'network gives {values.dtype} {list(values.shape)}'
      )
    return values.astype(np.float64)

  def _check_input(self) -> tuple[str, int | None]:
    """Name of the input, and how many crops it takes at once; None for any number."""
    size = self.kind.size
    inputs = self._session.get_inputs()
    if len(inputs) == 1 and inputs[0].type == _FLOAT and len(inputs[0].shape) == 4:
      batch, *rest = inputs[0].shape
      pairs = zip(rest, (3, size, size), strict=True)
      # Sides may be left open, by a word or by None.
      if all(got == wanted or not isinstance(got, int) for got, wanted in pairs):
        return inputs[0].name, batch if isinstance(batch, int) and batch > 0 else None
    raise ValueError(
      f'{self.path}: {self.kind.name} has one input {_FLOAT} [n, 3, {size}, {size}], this network '
      f'has {_listed(inputs)}'
    )

  def _check_output(self) -> None:
    outputs = self._session.get_outputs()
    if len(outputs) != 1:
      raise ValueError(
        f'{self.path}: {self.kind.name} has one output [n, {self.kind.outputs or "d"}], this '
        f'network has {_listed(outputs)}'
      )
    self(np.zeros((1, 3, self.kind.size, self.kind.size), np.float32))


def _open(file: OnnxFile) -> Any:
  try:
    import onnxruntime
  except ImportError as error:
    raise ImportError(
      f"{file.path}: ONNX Runtime is not installed: pip install 'sa0-jax[onnx]'"
    ) from error
  options = onnxruntime.SessionOptions()
  options.log_severity_level = 4  # it is reported here
  options.use_deterministic_compute = True
  try:
    return onnxruntime.InferenceSession(str(file.path), options, ['CPUExecutionProvider'])
  except Exception as error:  # its exceptions have no class in common
    raise ValueError(
      f'{file.path}: not a network that ONNX Runtime can load ({archive.first_line(error)})'
    ) from error


def _listed(values: Any) -> str:
  found = ', '.join(f'{value.name!r} {value.type} {value.shape}' for value in values)
  return found if len(found) <= _MAX_LISTED else found[:_MAX_LISTED] + '…'
