"""What was saved comes back to the bit, on other devices, after damage, a full disk and a kill."""

import errno
import gc
import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import time
import types
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sa0_jax.train import checkpoint
from sa0_jax.train.checkpoint import CheckpointConfig, CheckpointStore, Position, read_leaves
from tests import machine_code
from tests.structure.sources import ROOT

# Arrays that orbax was reading when another was found damaged report to an event loop that is gone.
pytestmark = pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')

IDENTITY = {'seed': 1, 'data': ['monocular'], 'rate': 2.5e-4}
DATA = {'next_index': 7, 'nested': [{'a': None}]}


@pytest.fixture(autouse=True)
def _collected():
  """They do so when they are collected: here, and not in tests that expect no such thing."""
  yield
  gc.collect()


class State(NamedTuple):
  """Built like `TrainState`, with every kind of array it may have."""

  step: Any
  trainable: Any
  optimizer: Any
  anchor: Any = None


def make_state(number: int, size: int = 64) -> State:
  """Another one for each number; `size` columns of its largest array."""
  rng = np.random.default_rng(number)
  weights = {
    'up': {0: nnx.Param(jnp.asarray(rng.normal(size=(8, size)), jnp.float32))},
    'half': nnx.Param(jnp.asarray(rng.normal(size=(16, 3)), jnp.bfloat16)),
  }
  flags = jnp.asarray(rng.integers(0, 2, 8), bool)
  moments = (jnp.asarray(rng.integers(-9, 9, 24), jnp.int32), (flags, jnp.zeros((0, 2))))
  return State(jnp.asarray(number, jnp.int32), nnx.State(weights), moments)


def at(step: int, score: float | None = None, phase: int = 1) -> Position:
  return Position(step, phase, score, DATA)


def same_place(state: State):
  """A template that puts the arrays where those of a state are."""
  return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), state)


class Opened:
  """A store, and what it said."""

  def __init__(self, folder, identity=IDENTITY, **config):
    self.said: list[str] = []
    self.folder = folder
    self.store = CheckpointStore(folder, identity, CheckpointConfig(**config), self.said.append)

  def save(self, *steps, **options):
    for step in steps:
      self.store.save(make_state(step), at(step), **options)
    self.store.wait()
    return self

  def restored(self) -> int:
    """Restores; every bit must be that of the state saved at that step."""
    state, position = self.store.restore(lambda _: same_place(make_state(0)))
    same_bits(state, make_state(position.step))
    assert position == at(position.step)
    return position.step

  def steps(self) -> list[int]:
    return [position.step for position in self.store.positions()]

  def names(self) -> set[str]:
    return {path.name for path in self.folder.iterdir()}


def same_bits(first, second):
  assert jax.tree.structure(first) == jax.tree.structure(second)
  for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
    assert a.dtype == b.dtype
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


@pytest.fixture(scope='module')
def written(tmp_path_factory):
  """Checkpoints 2 and 4. Copy before changing anything."""
  folder = tmp_path_factory.mktemp('written') / 'c'
  Opened(folder).save(2, 4).store.close()
  return folder


@pytest.fixture
def copied(written, tmp_path) -> Opened:
  shutil.copytree(written, tmp_path / 'c')
  return Opened(tmp_path / 'c')


def test_what_was_saved_comes_back(tmp_path):
  opened = Opened(tmp_path / 'new' / 'c')
  assert opened.store.restore(lambda _: pytest.fail('nothing to fit')) is None
  assert opened.store.positions() == []
  assert not (tmp_path / 'new').exists()  # a store that is only read from leaves nothing
  opened.save(0, 3)
  opened.store.save(make_state(7), at(3))  # a step is saved once
  opened.store.close()
  again = Opened(tmp_path / 'new' / 'c')
  assert again.store.positions() == [at(3), at(0)]
  assert again.restored() == 3
  assert again.said == []
  # A restored run goes on saving.
  assert again.save(5).restored() == 5
  again.store.close()


def test_arrays_have_the_names_of_their_places_and_need_only_orbax(written):
  import orbax.checkpoint as ocp

  with ocp.StandardCheckpointer() as checkpointer:
    arrays = checkpointer.restore(written / '4' / 'state')
  state = make_state(4)
  assert set(arrays) == {'step', 'trainable', 'optimizer'}
  same_bits(arrays['trainable']['up']['0'], state.trainable['up'][0][...])
  same_bits(arrays['trainable']['half'], state.trainable['half'][...])
  same_bits(arrays['optimizer']['1']['0'], state.optimizer[1][0])


def test_the_newest_the_best_and_multiples_are_kept(tmp_path):
  opened = Opened(tmp_path / 'c', keep=2, keep_every=4, best=1)
  scores = {0: 1.0, 1: 9.0, 2: 30.0, 3: None, 4: 2.0, 5: float('nan'), 6: 3.0, 7: 4.0}
  for step, score in scores.items():
    opened.store.save(make_state(0)._replace(step=jnp.asarray(step)), at(step, score))
    if step == 4:  # in two parts, as by two processes
      opened.store.close()
      opened = Opened(tmp_path / 'c', keep=2, keep_every=4, best=1)
  opened.store.close()
  assert opened.steps() == [7, 6, 4, 2]
  assert opened.names() == {'7', '6', '4', '2'}


def test_which_are_kept():
  scores = {0: 5.0, 10: 5.0, 20: None, 30: 1.0, 40: float('inf')}
  kept = lambda **config: checkpoint._kept(scores, CheckpointConfig(**config))  # noqa: E731
  assert kept(keep=1, keep_every=0, best=0) == {40}
  assert kept(keep=1, keep_every=0, best=1) == {10, 40}  # of equal ones the later
  assert kept(keep=2, keep_every=20, best=3) == {0, 10, 20, 30, 40}
  assert kept(keep=1, keep_every=10, best=0) == {10, 20, 30, 40}


@pytest.mark.parametrize(
  'changed', [{'every': 0}, {'keep': 0}, {'keep_every': -1}, {'best': -1}], ids=str
)
def test_settings_are_checked(changed):
  with pytest.raises(ValueError, match='CheckpointConfig: need every >= 1'):
    CheckpointConfig(**changed)


def test_another_run_is_named(copied):
  other = Opened(copied.folder, {**IDENTITY, 'seed': 2})
  with pytest.raises(ValueError, match=r'made by another run \(seed: 1 then, 2 now\)'):
    other.restored()
  assert copied.restored() == 4


def test_other_arrays_are_named_and_nothing_is_set_aside(copied):
  template = same_place(make_state(0))
  wide = same_place(make_state(0, size=65))
  message = r'trainable/up/0: float32\[8,64\] saved, float32\[8,65\] wanted'
  with pytest.raises(ValueError, match=message):
    copied.store.restore(lambda _: wide)
  anchored = template._replace(anchor={'w': template.step})
  with pytest.raises(ValueError, match=r'anchor/w: nothing saved, int32\[\] wanted'):
    copied.store.restore(lambda _: anchored)
  assert copied.names() == {'2', '4'}


def test_names_must_tell_arrays_apart():
  for tree in ({'a.b': 1}, {'a/b': 1}, {'': 1}):
    with pytest.raises(ValueError, match=r'name .* of an array is not unique'):
      checkpoint._named(tree)


def files_of(folder: pathlib.Path) -> list[pathlib.Path]:
  return sorted(path for path in folder.rglob('*') if path.is_file() and path.stat().st_size)


def largest(folder: pathlib.Path) -> pathlib.Path:
  return max(files_of(folder / 'state'), key=lambda path: path.stat().st_size)


def flip(path: pathlib.Path, where: int) -> None:
  content = bytearray(path.read_bytes())
  content[where] ^= 0x10
  path.write_bytes(content)


def cut(path: pathlib.Path) -> None:
  os.truncate(path, path.stat().st_size // 2)


def empty(folder: pathlib.Path) -> None:
  shutil.rmtree(folder)
  folder.mkdir()


DAMAGE = {
  'arrays cut': lambda folder: cut(largest(folder)),
  'arrays flipped': lambda folder: flip(largest(folder), largest(folder).stat().st_size // 2),
  'arrays gone': lambda folder: largest(folder).unlink(),
  'state gone': lambda folder: shutil.rmtree(folder / 'state'),
  'manifest cut': lambda folder: cut(folder / 'state' / 'manifest.ocdbt'),
  'tree cut': lambda folder: cut(folder / 'state' / '_METADATA'),
  'record cut': lambda folder: cut(folder / 'record' / 'metadata'),
  'record of another step': lambda folder: (folder / 'record' / 'metadata').write_bytes(
    (folder.parent / '2' / 'record' / 'metadata').read_bytes()
  ),
  'record gone': lambda folder: shutil.rmtree(folder / 'record'),
  'record no object': lambda folder: (folder / 'record' / 'metadata').write_text('[1]'),
  'empty folder': empty,
  'of another step': lambda folder: (
    shutil.rmtree(folder / 'state'),
    shutil.copytree(folder.parent / '2' / 'state', folder / 'state'),
  ),
}


@pytest.mark.parametrize('damage', DAMAGE)
def test_a_damaged_checkpoint_gives_way_to_the_one_before(copied, damage):
  DAMAGE[damage](copied.folder / '4')
  assert copied.restored() == 2
  [line] = copied.said
  assert line.startswith('checkpoint 4 is damaged (')
  assert 'going on from 2' in line
  assert '\n' not in line
  assert copied.names() == {'2', '4.damaged'}
  # The step can be reached again, and be damaged again.
  assert copied.save(4).steps() == [4, 2]
  shutil.rmtree(copied.folder / '4' / 'state')
  assert copied.restored() == 2
  assert {'4.damaged', '4.damaged-1'} <= copied.names()
  copied.store.close()


@pytest.mark.parametrize('damage', DAMAGE)
def test_arrays_of_a_damaged_checkpoint_are_refused(copied, damage):
  DAMAGE[damage](copied.folder / '4')
  with pytest.raises((ValueError, OSError), match=str(copied.folder / '4')):
    read_leaves(copied.folder, 4, ('trainable', 'optimizer'))
  assert copied.names() == {'2', '4'}  # nothing is set aside by whoever only reads
  assert read_leaves(copied.folder, 2, ('trainable',)).leaves.keys() == {
    'trainable/up/0',
    'trainable/half',
  }


@pytest.mark.slow
def test_no_damage_to_any_file_goes_unnoticed(copied):
  """Each file cut, emptied, flipped or gone: the bits of 4, or those of 2 and a line about it."""
  whole = copied.folder.with_name('whole')
  shutil.copytree(copied.folder, whole)
  noticed = 0
  for file in files_of(whole / '4'):
    for change in (cut, lambda p: flip(p, p.stat().st_size * 2 // 3), pathlib.Path.unlink):
      shutil.rmtree(copied.folder)
      shutil.copytree(whole, copied.folder)
      change(copied.folder / file.relative_to(whole))
      opened = Opened(copied.folder)
      assert opened.restored() == (2 if opened.said else 4)
      noticed += bool(opened.said)
  assert noticed > 10


def test_a_run_of_damaged_ones_is_refused_and_left_as_it_is(copied):
  cut(largest(copied.folder / '2'))
  cut(copied.folder / '4' / 'record' / 'metadata')
  with pytest.raises(ValueError, match=f'{copied.folder}: every checkpoint there is damaged .4: '):
    copied.restored()
  assert copied.names() == {'2', '4'}
  assert copied.said == []


def test_a_full_disk_is_asked_about_first(copied, monkeypatch):
  free = types.SimpleNamespace(free=1000)
  monkeypatch.setattr(shutil, 'disk_usage', lambda _: free)
  with pytest.raises(OSError, match='No space left') as caught:
    copied.save(6)
  assert caught.value.errno == errno.ENOSPC
  assert copied.names() == {'2', '4'}
  free.free = 1 << 30
  assert copied.save(6).restored() == 6
  copied.store.close()


def test_room_asked_for_is_enough(written):
  used = sum(path.stat().st_size for path in files_of(written / '4'))
  leaves = jax.tree.leaves(make_state(4))
  asked = sum(leaf.nbytes for leaf in leaves) + checkpoint._OVERHEAD
  assert used <= asked + checkpoint._LEAF_OVERHEAD * len(leaves)


def test_donated_arrays_are_saved_as_they_were(tmp_path):
  """The loop gives the state to the next step as soon as `save` returns."""
  use_up = jax.jit(lambda tree: jax.tree.map(lambda a: a * 2 + 1, tree), donate_argnums=0)
  opened = Opened(tmp_path / 'c', keep=9)
  for step in range(1, 4):
    state = make_state(step, size=20_000)
    given = jnp.copy(state.trainable['up'][0][...]), jnp.copy(state.optimizer[0])
    opened.store.save({'w': given}, at(step))
    for _ in range(5):
      given = use_up(given)
    jax.block_until_ready(given)
    opened.store.wait()
    template = {'w': same_place(given)}
    [first, second] = opened.store.restore(lambda _, fits=template: fits)[0]['w']
    same_bits((first, second), (state.trainable['up'][0][...], state.optimizer[0]))
  opened.store.close()


PROGRAM = """
import sys, jax, pathlib
from tests.train import test_checkpoint as t
getattr(t, sys.argv[1])(pathlib.Path(sys.argv[2]))
"""


def start(what: str, folder: pathlib.Path, devices: int = 1) -> subprocess.Popen:
  """One of the functions below in a process of its own."""
  return subprocess.Popen(
    [sys.executable, '-c', PROGRAM, what, str(folder)],
    cwd=ROOT,
    env={
      **os.environ,
      'JAX_PLATFORMS': 'cpu',
      'XLA_FLAGS': machine_code.devices(devices),
    },
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def finished(process: subprocess.Popen) -> str:
  output, errors = process.communicate(timeout=300)
  assert process.returncode == 0, errors[-3000:]
  return output


def placed(state: State, mesh: jax.sharding.Mesh, *axes) -> State:
  """The first axis of arrays that can be cut is spread over the devices."""
  spec = jax.sharding.PartitionSpec(axes)

  def put(array):
    cut = array.ndim and array.shape[0] and array.shape[0] % mesh.size == 0
    spread = jax.sharding.NamedSharding(mesh, spec if cut else jax.sharding.PartitionSpec())
    return jax.device_put(array, spread)

  return jax.tree.map(put, state)


def on_meshes(folder: pathlib.Path) -> None:
  """8 devices → 1 → 4 x 2 → 8 → 8 copies, each saving what it restored under the next step."""
  devices = np.array(jax.devices())
  meshes = [
    (jax.sharding.Mesh(devices, ('data',)), ('data',)),
    (jax.sharding.Mesh(devices[:1], ('data',)), ('data',)),
    (jax.sharding.Mesh(devices.reshape(4, 2), ('data', 'model')), ('data', 'model')),
    (jax.sharding.Mesh(devices, ('data',)), ('data',)),
    (jax.sharding.Mesh(devices, ('data',)), ()),
  ]
  state = make_state(1)
  counts = []
  compiled: list[str] = []
  jax.monitoring.register_event_duration_secs_listener(
    lambda event, *_, **more: compiled.append(str(more.get('fun_name')))
  )
  for step, (mesh, axes) in enumerate(meshes, 1):
    target = placed(state, mesh, *axes)
    opened = Opened(folder)
    found, template = target, same_place(target)
    if step > 1:
      found, _ = opened.store.restore(lambda _, fits=template: fits)
      same_bits(found, state)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(target), strict=True):
      assert a.sharding == b.sharding
    counts.append(len(found.trainable['up'][0][...].sharding.device_set))
    compiled.clear()
    opened.store.save(found, at(step))
    opened.store.close()
    # Replicas do not cut small arrays up, each by a program of its own.
    assert not [name for name in compiled if 'slice' in name]
    assert opened.said == []
  print(json.dumps(counts))


def save_for_ever(folder: pathlib.Path) -> None:
  opened = Opened(folder, keep=2)
  for step in range(1, 1000):
    opened.store.save(make_state(step, size=100_000), at(step))


def test_other_meshes_and_device_counts(tmp_path):
  assert json.loads(finished(start('on_meshes', tmp_path / 'c', 8))) == [8, 1, 8, 8, 8]
  assert len(jax.devices()) == 1
  identity, leaves = read_leaves(tmp_path / 'c', 4, ('trainable', 'optimizer'))
  assert identity == IDENTITY
  state = make_state(1)
  moments, (flags, empty) = state.optimizer
  expected = {
    'trainable/up/0': state.trainable['up'][0][...],
    'trainable/half': state.trainable['half'][...],
    'optimizer/0': moments,
    'optimizer/1/0': flags,
    'optimizer/1/1': empty,
  }
  assert leaves.keys() == expected.keys()
  for name, value in expected.items():
    same_bits(leaves[name], value)


def test_kill_9_while_writing(tmp_path):
  folder = tmp_path / 'c'
  process = start('save_for_ever', folder)
  begin = time.monotonic()

  def writing():
    names = [path.name for path in folder.glob('*')]
    return any(n.isdigit() for n in names) and any(not n.isdigit() for n in names)

  while not writing():
    assert process.poll() is None, process.stderr.read()
    assert time.monotonic() - begin < 200, 'nothing happened'
    time.sleep(0.001)
  process.send_signal(signal.SIGKILL)
  process.communicate()
  opened = Opened(folder)
  steps = opened.steps()
  assert steps
  assert steps == sorted((int(n) for n in opened.names() if n.isdigit()), reverse=True)
  template = same_place(make_state(0, size=100_000))
  state, position = opened.store.restore(lambda _: template)
  assert position.step == steps[0]
  assert opened.said == []
  same_bits(state, make_state(position.step, size=100_000))
  # What was being written is removed by the next that writes, and by nobody before.
  opened.save(2000)
  opened.store.close()
  assert all(name.isdigit() for name in opened.names())


@pytest.fixture
def short_files():
  """Files end at 100 kB: a disk that is full, and did not say so when it was asked."""
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
  yield
  resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_write_that_fails_is_an_error_of_the_next_call(copied, short_files):
  copied.store.save(make_state(6, size=100_000), at(6))
  with pytest.raises(OSError, match='checkpoint 6 could not be written'):
    copied.store.save(make_state(8), at(8))
  assert copied.steps() == [4, 2]
  assert copied.restored() == 4
  # What was half-written is removed by the next save, which finds the store well.
  assert copied.save(8).names() == {'2', '4', '8'}
  with pytest.raises(OSError, match='checkpoint 9 could not be written'):
    copied.store.save(make_state(9, size=100_000), at(9), wait=True)
  assert copied.restored() == 8
  copied.store.close()


@pytest.mark.slow
def test_train_states_have_names_that_tell_them_apart():
  """The state of a real network, as the loop saves it."""
  from tests.train.runs import trainer

  shapes = trainer().shapes
  names = checkpoint._named(shapes)
  assert len(names) == len(jax.tree.leaves(shapes))
  assert {'step', 'optimizer/1/mu'} <= set(names)
  assert any(name.startswith('trainable/encoder/') for name in names)
  assert not any(name.endswith('/value') for name in names)
  assert checkpoint._flat(checkpoint._nested(names)).keys() == names.keys()
