"""ONNX files of users: run as by hand, and one line for everything that cannot be."""

import sys

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from sa0_jax.evaluate.face_network import FaceNetwork, Kind
from sa0_jax.evaluate.onnx_files import inspect_onnx
from tests.evaluate.onnx_models import (
  ARCFACE,
  by_hand,
  matrix,
  network,
  of_graph,
  with_weights_beside,
  write,
)

SIZE, COUNT = ARCFACE
KIND = Kind('Something', SIZE, COUNT)
WEIGHTS = matrix(COUNT)


def crops(count: int) -> np.ndarray:
  return np.random.default_rng(5).uniform(-1, 1, (count, 3, SIZE, SIZE)).astype(np.float32)


@pytest.mark.parametrize('batch', ['n', 1, 3])
def test_it_gives_what_the_file_says(tmp_path, batch):
  """A file may fix how many crops it takes at once."""
  made = FaceNetwork(write(tmp_path / 'a.onnx', network(SIZE, WEIGHTS, batch)), KIND)
  some = crops(5)
  np.testing.assert_allclose(made(some), by_hand(some, WEIGHTS), atol=1e-5)


def test_sides_may_be_left_open_and_any_count_allowed(tmp_path):
  model = network(SIZE, WEIGHTS, shape=['n', 3, 'height', 'width'])
  made = FaceNetwork(write(tmp_path / 'a.onnx', model), Kind('Something', SIZE, None))
  assert made(crops(2)).shape == (2, COUNT)


def test_weights_may_lie_beside_and_count_for_the_digest(tmp_path):
  path = write(tmp_path / 'a.onnx', network(SIZE, WEIGHTS))
  alone = inspect_onnx(path).digest
  write(path, with_weights_beside(network(SIZE, WEIGHTS), 'a.onnx.data'))
  found = []
  for weights in (WEIGHTS, -WEIGHTS):
    (tmp_path / 'a.onnx.data').write_bytes(weights.tobytes())
    made = FaceNetwork(path, KIND)
    np.testing.assert_allclose(made(crops(1)), by_hand(crops(1), weights), atol=1e-5)
    found.append(made.digest)
  assert len({alone, *found}) == 3


@pytest.mark.parametrize('location', ['../w', '/etc/hostname', 'in/../../w', 'link', 'x\0y'])
def test_weights_outside_the_folder_are_not_opened(tmp_path, location):
  (tmp_path / 'w').write_bytes(WEIGHTS.tobytes())
  (tmp_path / 'd' / 'in').mkdir(parents=True)
  (tmp_path / 'd' / 'link').symlink_to(tmp_path / 'w')
  path = write(tmp_path / 'd' / 'a.onnx', with_weights_beside(network(SIZE, WEIGHTS), location))
  with pytest.raises(ValueError, match='names weights outside its folder') as error:
    FaceNetwork(path, KIND)
  assert str(error.value).startswith(str(path))


def test_such_names_are_found_wherever_they_stand(tmp_path):
  """In a constant, in a branch of a branch, and in a sparse tensor."""
  tensor = numpy_helper.from_array(np.zeros(4, np.float32), 'w')
  tensor.ClearField('raw_data')
  entry = tensor.external_data.add()
  entry.key, entry.value = 'location', '../w'
  constant = helper.make_node('Constant', [], ['c'], value=tensor)
  inner = helper.make_node(
    'If', ['b'], ['c'], then_branch=helper.make_graph([constant], 'i', [], [])
  )
  outer = helper.make_node('If', ['b'], ['c'], then_branch=helper.make_graph([inner], 'o', [], []))
  sparse = helper.make_sparse_tensor(tensor, numpy_helper.from_array(np.arange(4)), [9])
  for model in (
    of_graph(helper.make_graph([constant], 'g', [], [])),
    of_graph(helper.make_graph([outer], 'g', [], [])),
    of_graph(helper.make_graph([], 'g', [], [], sparse_initializer=[sparse])),
  ):
    with pytest.raises(ValueError, match='outside its folder'):
      inspect_onnx(write(tmp_path / 'a.onnx', model))


def test_missing_files_are_named(tmp_path):
  with pytest.raises(FileNotFoundError, match=r'x\.onnx: no such network'):
    FaceNetwork(tmp_path / 'x.onnx', KIND)
  write(tmp_path / 'a.onnx', with_weights_beside(network(SIZE, WEIGHTS), 'gone'))
  with pytest.raises(FileNotFoundError, match=r"a\.onnx: its weights 'gone' are missing"):
    FaceNetwork(tmp_path / 'a.onnx', KIND)


def test_size_is_limited_with_all_weights(tmp_path):
  path = write(tmp_path / 'a.onnx', network(SIZE, WEIGHTS))
  with pytest.raises(ValueError, match='more than 1000 allowed'):
    FaceNetwork(path, KIND, max_bytes=1000)
  write(path, with_weights_beside(network(SIZE, WEIGHTS), 'w'))
  (tmp_path / 'w').write_bytes(WEIGHTS.tobytes())
  assert path.stat().st_size < 1000
  with pytest.raises(ValueError, match='more than 1000 allowed'):
    FaceNetwork(path, KIND, max_bytes=1000)


def test_damage_anywhere_is_one_line(tmp_path):
  """Bytes that differ and files that end early: refused, or still a network of that kind."""
  whole, draws = network(SIZE, WEIGHTS).SerializeToString(), np.random.default_rng(0)
  header = whole.index(WEIGHTS.tobytes()[:16])
  damaged = [b'', b'ONNX' * 50, whole[:100], whole[:-9]]
  for _ in range(60):
    at, other = draws.integers(header), int(draws.integers(1, 256))
    damaged.append(whole[:at] + bytes([whole[at] ^ other]) + whole[at + 1 :])
  told = []
  for data in damaged:
    (tmp_path / 'a.onnx').write_bytes(data)
    try:
      FaceNetwork(tmp_path / 'a.onnx', KIND)
    except (ValueError, FileNotFoundError) as error:
      told.append(str(error))
  assert len(told) > 20
  for message in told:
    assert message.startswith(f'{tmp_path / "a.onnx"}: ')
    assert '\n' not in message
    assert len(message) < 600


def two_outputs():
  model = network(SIZE, WEIGHTS)
  model.graph.output.append(helper.make_tensor_value_info('row', TensorProto.FLOAT, ['n', 48]))
  return model


def of_bytes():
  model = network(SIZE, WEIGHTS)
  model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
  model.graph.node[0].input[0] = 'real'
  model.graph.node.insert(0, helper.make_node('Cast', ['x'], ['real'], to=TensorProto.FLOAT))
  return model


def of_shape(*shape):
  value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in 'xy']
  node = helper.make_node('Identity', ['x'], ['y'])
  return of_graph(helper.make_graph([node], 'g', value[:1], value[1:]))


@pytest.mark.parametrize(
  ('model', 'message'),
  [
    (
      lambda: network(SIZE, matrix(99)),
      r'1 rows of 24 numbers, this network gives float32 \[1, 99\]',
    ),
    (lambda: network(224, WEIGHTS), r"\[n, 3, 112, 112\], this network has 'x' .*'n', 3, 224, 224"),
    (lambda: of_shape('n', SIZE, SIZE, 3), r"has 'x' tensor\(float\) \['n', 112, 112, 3\]"),
    (lambda: of_shape('n', 48), r"has 'x' tensor\(float\) \['n', 48\]"),
    (of_bytes, r'one input tensor\(float\) .* has .*tensor\(uint8\)'),
    (lambda: of_shape('n', 3, 'h', 'w'), r'gives float32 \[1, 3, 112, 112\]'),
    (two_outputs, r"one output \[n, 24\], this network has 'y' .*'row'"),
  ],
)
def test_another_network_is_told_what_was_expected(tmp_path, model, message):
  path = write(tmp_path / 'a.onnx', model())
  with pytest.raises(ValueError, match=message) as error:
    FaceNetwork(path, KIND)
  assert str(error.value).startswith(f'{path}: Something')


def test_a_network_that_fails_on_its_crops_is_told_of(tmp_path):
  model = network(224, WEIGHTS, shape=['n', 3, 'h', 'w'])  # 2 x 2 cells of a smaller crop
  with pytest.raises(ValueError, match=r'a\.onnx: the network fails \(.*MatMul'):
    FaceNetwork(write(tmp_path / 'a.onnx', model), KIND)


def test_without_onnx_runtime_the_extra_is_named(tmp_path, monkeypatch):
  path = write(tmp_path / 'a.onnx', network(SIZE, WEIGHTS))
  monkeypatch.setitem(sys.modules, 'onnxruntime', None)
  with pytest.raises(ImportError, match=r"a\.onnx: .*pip install 'sa0-jax\[onnx\]'"):
    FaceNetwork(path, KIND)
