"""Checkpoints of training: whole or absent, checked to the last bit, readable on other devices.

A checkpoint is a folder named after its step:

    1200/state/    every array of the state, by orbax, under the names of its place in the tree
                   ('trainable/decoder/color/…' is three levels of a dict)
    1200/record/   JSON: the position of the run, whose run it is, and of each array the type, the
                   shape and a checksum

`orbax.checkpoint.StandardCheckpointer().restore(folder / '1200' / 'state')` reads the arrays
without this package. Orbax writes under a temporary name and renames; its format does not notice a
flipped bit in an array that is not small, hence the checksums. Arrays without elements, which it
refuses to write, are in the record alone.

Several processes (`jax.distributed`) see one file system and call `save`, `restore`, `wait` and
`close` together. What decides the course (which checkpoints there are, what their records say, how
much room there is) is what process 0 sees; a checkpoint is damaged when one process finds it so.
"""

import contextlib
import dataclasses
import errno
import functools
import json
import math
import os
import re
import shutil
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from sa0_jax.archive import first_line, read_json
from sa0_jax.refine.checkpoint import check_room, check_same_run
from sa0_jax.train.parallel import path_name

_STATE, _RECORD = 'state', 'record'  # parts of a checkpoint
_OVERHEAD = 1 << 16  # bytes of a checkpoint beside the arrays,
_LEAF_OVERHEAD = 1 << 10  # and for each of them
_MIN_SLICE = 1 << 20  # bytes
_MAX_RECORD = 1 << 26  # bytes
_MAX_NAMED = 4  # arrays in a message
_UNFINISHED = re.compile(r'[0-9]+\.orbax-checkpoint-tmp.*')
_NO_SPACE = ('No space left', 'RESOURCE_EXHAUSTED', 'Disk quota')


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
  """How often checkpoints are written, and which are kept.

  Attributes:
    every: steps between checkpoints.
    keep: the newest that are kept.
    keep_every: those at multiples of it are kept for good (step 0 is none); 0 for no such.
    best: how many with the highest scores are kept.
  """

  every: int = 1000
  keep: int = 3
  keep_every: int = 20_000
  best: int = 1

  def __post_init__(self) -> None:
    if self.every < 1 or self.keep < 1 or self.keep_every < 0 or self.best < 0:
      raise ValueError(
        'CheckpointConfig: need every >= 1, keep >= 1, keep_every >= 0 and best >= 0, got '
        f'{self.every}, {self.keep}, {self.keep_every}, {self.best}'
      )


class Position(NamedTuple):
  """Where a run is, beside its arrays.

  Attributes:
    step: number of steps done.
    phase: number of the phase it is in; decides which arrays there are.
    score: of the network, higher is better; None where it was not measured.
    data: state of the data iterator (`get_state`); that of process 0 is kept, and serves any number
      of processes: it depends on the step alone.
  """

  step: int
  phase: int
  score: float | None
  data: dict[str, Any] | None


class CheckpointStore:
  """Saves and restores the state of one run."""

  def __init__(
    self,
    folder: str | os.PathLike[str],
    identity: dict[str, Any],
    config: CheckpointConfig,
    say: Callable[[str], None],
  ):
    """Opens the store; the folder is made by the first `save`.

    Args:
      folder: where checkpoints live.
      identity: what makes two runs the same run (settings, data), as JSON; written with each
        checkpoint and compared before one is resumed.
      config: which checkpoints are kept.
      say: shows the user one line; called on process 0.
    """
    self._folder = Path(folder).absolute()
    self._identity = json.loads(json.dumps(identity))
    self._config = config
    self._say = say
    self._manager: Any = None  # orbax's; from the first save on
    self._scores: dict[int, float | None] = {}  # of the checkpoints it knows
    self._writing: int | None = None  # the step whose files are being written

  def save(self, state: Any, position: Position, wait: bool = False) -> None:
    """Starts to write a checkpoint; one of this step that is there stays as it is.

    The state is copied before this returns: it can be donated to the next step.

    Args:
      state: pytree of arrays, global ones where there are several processes.
      position: of the run.
      wait: returns only once the checkpoint is whole.

    Raises:
      OSError: there is no room for it (nothing was begun), or the one before could not be written.
        Earlier checkpoints stay.
    """
    self.wait()
    if position.step not in _first_process(saved_steps(self._folder)):
      ocp, manager = self._open()
      leaves = _named(state)
      needed = sum(leaf.nbytes for leaf in leaves.values())
      needed += _OVERHEAD + _LEAF_OVERHEAD * len(leaves)
      check_room(self._folder, needed, _first_process(shutil.disk_usage(self._folder).free))
      record = _record(self._identity, position, leaves)
      self._writing, self._scores[position.step] = position.step, position.score
      with self._reported():
        manager.save(
          position.step,
          args=ocp.args.Composite(
            **{
              _STATE: ocp.args.StandardSave(_nested(_not_empty(leaves))),
              _RECORD: ocp.args.JsonSave(record),
            }
          ),
          force=True,
        )
    if wait:
      self.wait()

  def positions(self) -> list[Position]:
    """Those of the checkpoints whose records are whole, newest first; reads no arrays."""
    found = []
    for step in saved_steps(self._folder):
      with contextlib.suppress(ValueError, OSError):
        found.append(saved_position(self._folder, step))
    return found

  def restore(self, template_of: Callable[[Position], Any]) -> tuple[Any, Position] | None:
    """The newest checkpoint that is whole, or None if there is none at all.

    Damaged ones are told of, and those newer than the one restored are renamed to '1200.damaged'.

    Args:
      template_of: from a position, the structure of the state as `jax.ShapeDtypeStruct`s with
        their `sharding`: of any mesh, whatever it was saved from.

    Returns:
      The state with those shardings, and its position.

    Raises:
      ValueError: the checkpoint belongs to another run, has other arrays than the template, or all
        are damaged. Nothing was renamed.
    """
    self.wait()
    damaged: dict[int, str] = {}
    for step in _first_process(saved_steps(self._folder)):
      record, problem = _first_process(self._try_record(step))
      if problem is None:
        check_same_run(self._folder, record['identity'], self._identity)
        position = _position(record)
        template = template_of(position)
        self._check_fits(step, record, _named(template))
        state, problem = self._try_state(step, record, template)
        if problem is None:
          self._set_aside(damaged, step)
          return state, position
      damaged[step] = problem
    if not damaged:
      return None
    listed = '; '.join(f'{step}: {problem}' for step, problem in damaged.items())
    raise ValueError(
      f'{self._folder}: every checkpoint there is damaged ({listed}); put a copy of one back, or '
      'delete the folder to start the run again'
    )

  def wait(self) -> None:
    """Returns once what was begun is written.

    Raises:
      OSError: it could not be written. Earlier checkpoints stay.
    """
    if self._manager is not None:
      with self._reported():
        self._manager.wait_until_finished()
    self._writing = None

  def close(self) -> None:
    """Waits, as `wait` does, and closes the store."""
    self.wait()
    if self._manager is not None:
      self._manager.close()
    self._manager = None

  def _path(self, step: int) -> Path:
    return self._folder / str(step)

  def _open(self) -> tuple[Any, Any]:
    """Orbax and its manager, made when first needed: only a run that saves owns the folder."""
    import orbax.checkpoint as ocp  # here: it takes a second to import

    if self._manager is None:
      # Replicas share the work of writing an array: each cuts its part out, by a program for every
      # shape, and a network's many small arrays would be minutes of compiling. They are left whole.
      arrays = ocp.type_handlers.get_type_handler(jax.Array)
      arrays._min_slice_bytes_for_replica_parallel = _MIN_SLICE
      if jax.process_index() == 0:
        self._folder.mkdir(parents=True, exist_ok=True)
        for path in self._folder.iterdir():
          if _UNFINISHED.fullmatch(path.name):  # of a process that was killed, or found no room
            shutil.rmtree(path, ignore_errors=True)
      _first_process(None)
      self._scores = {position.step: position.score for position in self.positions()}
      options = ocp.CheckpointManagerOptions(
        preservation_policy=_Preservation(self._scores, self._config), lightweight_initialize=True
      )
      self._manager = ocp.CheckpointManager(self._folder, options=options)
    return ocp, self._manager

  @contextlib.contextmanager
  def _reported(self) -> Iterator[None]:
    """Failures to write as OSErrors; the manager is made anew after one."""
    try:
      yield
    except Exception as error:
      step, self._writing = self._writing, None
      manager, self._manager = self._manager, None
      with contextlib.suppress(Exception):
        manager.close()
      number = getattr(error, 'errno', None) or errno.EIO
      if any(words in str(error) for words in _NO_SPACE):
        number = errno.ENOSPC
      message = f'checkpoint {step} could not be written ({first_line(error)})'
      raise OSError(number, message, str(self._folder)) from error

  def _try_record(self, step: int) -> tuple[dict[str, Any] | None, str | None]:
    try:
      return _read_record(self._path(step), step), None
    except (ValueError, OSError) as error:
      return None, first_line(error)

  def _try_state(self, step: int, record: dict[str, Any], template: Any) -> tuple[Any, str | None]:
    """The arrays, or what is wrong with them; the same on every process."""
    import orbax.checkpoint as ocp

    wanted = {
      name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
      for name, leaf in _named(template).items()
    }
    leaves, problem = {}, None
    try:
      # Not by a checkpointer: it ends with a barrier that a process which met damage never reaches.
      handler = ocp.StandardCheckpointHandler()
      arguments = ocp.args.StandardRestore(_nested(_not_empty(wanted)))
      path = ocp.path.step.epath.Path(self._path(step) / _STATE)
      found = _flat(handler.restore(path, args=arguments))
      leaves = {
        name: found[name] if leaf.size else jnp.zeros(leaf.shape, leaf.dtype, device=leaf.sharding)
        for name, leaf in wanted.items()
      }
    except (MemoryError, jax.errors.JaxRuntimeError):  # of this machine, not of the files
      raise
    except Exception as error:
      # Whatever a damaged file makes orbax and tensorstore trip over: there is no list of it.
      problem = first_line(error)
    if not _everywhere(problem is None):
      return None, problem or 'another process could not read it'
    problem = _other_bits(record['leaves'], leaves)
    if problem is not None:
      return None, problem
    return jax.tree.unflatten(jax.tree.structure(template), list(leaves.values())), None

  def _check_fits(self, step: int, record: dict[str, Any], wanted: Mapping[str, Any]) -> None:
    """The record is whole here: where it names other arrays, the program is another one."""
    there = {name: _kind(leaf['dtype'], leaf['shape']) for name, leaf in record['leaves'].items()}
    here = {name: _kind(leaf.dtype, leaf.shape) for name, leaf in wanted.items()}
    wrong = [
      f'{name}: {there.get(name, "nothing")} saved, {here.get(name, "nothing")} wanted'
      for name in sorted({*there, *here})
      if there.get(name) != here.get(name)
    ]
    if wrong:
      raise ValueError(
        f'{self._path(step)}: holds other arrays than this run has ({_some(wrong)}): go on with '
        'the version that wrote it, or write to another place'
      )

  def _set_aside(self, damaged: dict[int, str], restored: int) -> None:
    """Renames damaged ones, so that their steps can be saved again."""
    for step, problem in damaged.items():
      if jax.process_index() == 0 and self._path(step).exists():  # else deleted in the meantime
        names = (f'{step}.damaged' + (f'-{i}' if i else '') for i in range(1 << 20))
        name = next(name for name in names if not (self._folder / name).exists())
        self._path(step).rename(self._folder / name)
        self._say(
          f'checkpoint {step} is damaged ({problem}): going on from {restored}; what is left of it '
          f'is in {self._folder / name}'
        )
    _first_process(None)  # nobody looks before they are gone
    if damaged and self._manager is not None:
      self._manager.reload()


def saved_steps(folder: Path) -> list[int]:
  """Of the folders with a checkpoint's name, newest first."""
  names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
  return sorted((int(n) for n in names if re.fullmatch('0|[1-9][0-9]{0,17}', n)), reverse=True)


def saved_position(folder: Path, step: int) -> Position:
  """Position of the run in a checkpoint; reads no arrays.

  Raises:
    OSError: its record is missing.
    ValueError: it is damaged.
  """
  return _position(_read_record(folder / str(step), step))


class SavedLeaves(NamedTuple):
  """Some arrays of a checkpoint.

  Attributes:
    identity: whose run it is, as it was saved.
    leaves: arrays on the host by name ('trainable/decoder/color/kernel').
  """

  identity: dict[str, Any]
  leaves: dict[str, np.ndarray]


def read_leaves(folder: Path, step: int, parts: Collection[str]) -> SavedLeaves:
  """Reads some arrays of a checkpoint, whatever devices it was saved from, and changes nothing.

  Args:
    folder: of the checkpoints.
    step: which.
    parts: first words of the names wanted, such as 'trainable'; the others are not read.

  Raises:
    OSError: there is no such checkpoint.
    ValueError: it is damaged.
  """
  import orbax.checkpoint as ocp

  place = folder.absolute() / str(step)
  record = _read_record(place, step)
  saved = {n: leaf for n, leaf in record['leaves'].items() if n.partition('/')[0] in parts}
  wanted = {
    name: jax.ShapeDtypeStruct(leaf['shape'], jnp.dtype(leaf['dtype']))
    for name, leaf in saved.items()
  }
  tree = _nested(_not_empty(wanted))
  how = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
  arguments = ocp.args.PyTreeRestore(tree, how, partial_restore=True)
  try:
    handler = ocp.PyTreeCheckpointHandler()
    found = _flat(handler.restore(ocp.path.step.epath.Path(place / _STATE), args=arguments))
    leaves = {
      name: np.asarray(found[name]) if leaf.size else np.zeros(leaf.shape, leaf.dtype)
      for name, leaf in wanted.items()
    }
  except MemoryError:
    raise
  except Exception as error:  # as in `_try_state`
    raise ValueError(f'{place}: damaged ({first_line(error)})') from error
  problem = _other_bits(saved, {name: jnp.asarray(value) for name, value in leaves.items()})
  if problem is not None:
    raise ValueError(f'{place}: damaged ({problem})')
  return SavedLeaves(record['identity'], leaves)


@dataclasses.dataclass(frozen=True)
class _Preservation:
  """What orbax asks before it deletes."""

  scores: dict[int, float | None]
  config: CheckpointConfig

  def should_preserve(self, checkpoints: Any, *, context: Any) -> list[bool]:
    kept = _kept({info.step: self.scores.get(info.step) for info in checkpoints}, self.config)
    return [info.step in kept for info in checkpoints]


def _kept(scores: Mapping[int, float | None], config: CheckpointConfig) -> set[int]:
  """Which steps stay: the newest, multiples, and the best (of equal ones the later)."""
  steps = sorted(scores)
  kept = set(steps[-config.keep :])
  if config.keep_every:
    kept |= {step for step in steps if step and step % config.keep_every == 0}
  scored = [(score, step) for step in steps if (score := scores[step]) is not None]
  ranked = sorted((item for item in scored if math.isfinite(item[0])), reverse=True)
  return kept | {step for _, step in ranked[: config.best]}


def _named(tree: Any) -> dict[str, Any]:
  """Leaves by their place in the tree, in tree order.

  'trainable/up/1/kernel', 'optimizer/1/0/mu'. The attribute in which Flax's variables have their
  arrays is left out: it is no part of what is saved and differs between its versions.
  """
  found = {}
  for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
    name = path_name(path)
    words = name.split('/')
    slash = len(words) > len(path)  # a word had one
    if slash or name in found or not all(word and '.' not in word for word in words):
      raise ValueError(
        f'checkpoints: the name {name!r} of an array is not unique, or has an empty word or one '
        'with a dot or a slash'
      )
    found[name] = leaf
  return found


def _nested(leaves: Mapping[str, Any]) -> dict[str, Any]:
  """Dicts of dicts, as orbax names arrays."""
  tree: dict[str, Any] = {}
  for name, leaf in leaves.items():
    *words, last = name.split('/')
    branch = tree
    for word in words:
      branch = branch.setdefault(word, {})
    branch[last] = leaf
  return tree


def _not_empty(leaves: Mapping[str, Any]) -> dict[str, Any]:
  return {name: leaf for name, leaf in leaves.items() if leaf.size}


def _flat(tree: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
  """The inverse of `_nested`."""
  leaves = {}
  for word, branch in tree.items():
    inside = isinstance(branch, Mapping)
    leaves.update(_flat(branch, f'{prefix}{word}/') if inside else {f'{prefix}{word}': branch})
  return leaves


def _checksums(leaves: Mapping[str, jax.Array]) -> dict[str, int]:
  """A number for each array that depends on all its bits, and not on its devices."""
  if not leaves:
    return {}
  arrays = list(leaves.values())
  sharding = arrays[0].sharding
  whole = None
  if isinstance(sharding, NamedSharding):  # every process reads the result
    whole = NamedSharding(sharding.mesh, PartitionSpec())
  return dict(zip(leaves, np.asarray(_summing(whole)(arrays)).tolist(), strict=True))


@functools.cache
def _summing(whole: NamedSharding | None) -> Callable[[list[jax.Array]], jax.Array]:
  """Compiled once for all saves of a run."""
  return jax.jit(lambda arrays: jnp.stack([_checksum(a) for a in arrays]), out_shardings=whole)


def _checksum(array: jax.Array) -> jax.Array:
  """Sum of the words times the odd numbers, modulo 2^32: no change of one word goes unnoticed.

  Additions of integers can be made in any order, hence on any devices.
  """
  if array.dtype == jnp.bool_:
    array = array.astype(jnp.uint8)
  bits = {1: jnp.uint8, 2: jnp.uint16}.get(array.dtype.itemsize, jnp.uint32)
  words = jax.lax.bitcast_convert_type(array, bits).astype(jnp.uint32)
  place = jnp.zeros((), jnp.uint32)
  for axis, size in enumerate(words.shape):
    count = jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis)
    place = place * np.uint32(size % (1 << 32)) + count
  return jnp.sum(words * (2 * place + 1), dtype=jnp.uint32)


def _record(
  identity: dict[str, Any], position: Position, leaves: Mapping[str, jax.Array]
) -> dict[str, Any]:
  sums = _checksums(leaves)
  content = {
    'identity': identity,
    'position': position._asdict(),
    'leaves': {
      name: {'dtype': str(leaf.dtype), 'shape': list(leaf.shape), 'checksum': sums[name]}
      for name, leaf in leaves.items()
    },
  }
  content = json.loads(json.dumps(content))
  return {**content, 'crc32': _crc32(content)}


def _read_record(folder: Path, step: int) -> dict[str, Any]:
  """The record of a checkpoint.

  Raises:
    OSError: it is missing.
    ValueError: it is damaged.
  """
  path = folder / _RECORD / 'metadata'
  record = read_json(path, _MAX_RECORD)
  try:
    content = {key: record[key] for key in ('identity', 'position', 'leaves')}
    whole = _crc32(content) == record['crc32'] and _position(record).step == step
  except (KeyError, TypeError) as error:
    raise ValueError(f'{path}: no record of a checkpoint') from error
  if not whole:
    raise ValueError(f'{path}: other bits than were saved')
  return record


def _position(record: dict[str, Any]) -> Position:
  return Position(**record['position'])


def _crc32(content: dict[str, Any]) -> int:
  return zlib.crc32(json.dumps(content, sort_keys=True).encode())


def _kind(dtype: Any, shape: Any) -> str:
  return f'{dtype}[{",".join(map(str, shape))}]'


def _other_bits(saved: Mapping[str, Any], leaves: Mapping[str, jax.Array]) -> str | None:
  """What is wrong with arrays that were read, by the checksums they were saved with."""
  sums = _checksums(leaves)
  wrong = [name for name, leaf in saved.items() if leaf['checksum'] != sums[name]]
  return f'other bits than were saved in {_some(wrong)}' if wrong else None


def _some(names: list[str]) -> str:
  more = len(names) - _MAX_NAMED
  return ', '.join(names[:_MAX_NAMED]) + (f' and {more} more' if more > 0 else '')


def _first_process(value: Any) -> Any:
  """What process 0 says, as JSON, on all of them; nobody returns before all have asked."""
  if jax.process_count() == 1:
    return value
  from jax.experimental import multihost_utils

  said = np.frombuffer(json.dumps(value).encode(), np.uint8)
  size = int(multihost_utils.broadcast_one_to_all(np.int32(said.size)))
  padded = np.zeros(size, np.uint8)
  padded[: min(size, said.size)] = said[:size]
  return json.loads(np.asarray(multihost_utils.broadcast_one_to_all(padded)).tobytes())


def _everywhere(holds: bool) -> bool:
  """Whether it holds on every process."""
  if jax.process_count() == 1:
    return holds
  from jax.experimental import multihost_utils

  return bool(np.all(multihost_utils.process_allgather(np.asarray(holds))))
