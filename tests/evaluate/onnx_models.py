"""ONNX files small enough to be followed by hand: means over a 4 × 4 grid, then a matrix."""

from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

ARCFACE, DEEP3D = (112, 24), (224, 257)  # px of a crop, and numbers for it
_CELLS = 4  # each way
_FEATURES = 3 * _CELLS**2


def matrix(outputs: int, seed: int = 0) -> np.ndarray:
  draws = np.random.default_rng(seed)
  return draws.normal(size=(_FEATURES, outputs)).astype(np.float32)


def network(
  size: int, weights: np.ndarray, batch: int | str = 'n', shape: list[int | str] | None = None
) -> ModelProto:
  """Crops of a size, [batch, 3, size, size] if not said otherwise."""
  side = size // _CELLS
  nodes = [
    helper.make_node('AveragePool', ['x'], ['cells'], kernel_shape=[side] * 2, strides=[side] * 2),
    helper.make_node('Flatten', ['cells'], ['row']),
    helper.make_node('MatMul', ['row', 'w'], ['y']),
  ]
  inputs = [helper.make_tensor_value_info('x', TensorProto.FLOAT, shape or [batch, 3, size, size])]
  outputs = [helper.make_tensor_value_info('y', TensorProto.FLOAT, [batch, weights.shape[1]])]
  graph = helper.make_graph(nodes, 'g', inputs, outputs, [numpy_helper.from_array(weights, 'w')])
  return of_graph(graph)


def of_graph(graph) -> ModelProto:
  # Versions that ONNX Runtime has read for years.
  return helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=9)


def write(path: Path, model: ModelProto) -> Path:
  path.write_bytes(model.SerializeToString())
  return path


def with_weights_beside(model: ModelProto, location: str) -> ModelProto:
  """Its tensor in a file of that name, from the first byte on."""
  [tensor] = model.graph.initializer
  length = len(tensor.raw_data)
  tensor.ClearField('raw_data')
  tensor.data_location = TensorProto.EXTERNAL
  for key, value in (('location', location), ('offset', '0'), ('length', str(length))):
    entry = tensor.external_data.add()
    entry.key, entry.value = key, value
  return model


def by_hand(crops: np.ndarray, weights: np.ndarray) -> np.ndarray:
  """What such a network gives for crops [n, 3, s, s]."""
  side = crops.shape[-1] // _CELLS
  cells = crops.reshape(len(crops), 3, _CELLS, side, _CELLS, side).mean(axis=(3, 5))
  return cells.reshape(len(crops), -1).astype(np.float64) @ weights
