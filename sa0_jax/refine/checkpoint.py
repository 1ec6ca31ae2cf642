"""Checkpoints of a refinement: complete or absent, and only resumed by the run that made them."""

import errno
import json
import os
import shutil
import zlib
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sa0_jax.archive import first_line
from sa0_jax.refine.step import RefineState

_KEEP = 2
_CHECKSUM = 'crc32'  # beside the identity; orbax does not notice a flipped bit in a large array
_OVERHEAD = 1 << 16  # bytes of a checkpoint beside the arrays


class CheckpointStore:
  """Saves and restores `RefineState`; orbax makes each checkpoint appear whole or not at all."""

  def __init__(self, folder: str | os.PathLike[str], identity: dict[str, Any]):
    """Opens the store.

    Args:
      folder: where checkpoints live.
      identity: what makes two runs the same run (settings, data); written beside each checkpoint
        and compared before one is resumed.
    """
    import orbax.checkpoint as ocp  # here: it takes a second to import

    self._ocp = ocp
    self._folder = Path(folder).absolute()
    self._identity = json.loads(json.dumps(identity))
    options = ocp.CheckpointManagerOptions(
      max_to_keep=_KEEP, enable_async_checkpointing=False, create=True
    )
    self._manager = ocp.CheckpointManager(self._folder, options=options)

  def save(self, state: RefineState) -> None:
    """Writes a checkpoint of this state.

    Raises:
      OSError: there is no room for it; the checkpoints before it stay.
    """
    ocp = self._ocp
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state)) + _OVERHEAD
    check_room(self._folder, needed, shutil.disk_usage(self._folder).free)
    self._manager.save(
      int(state.step),
      args=ocp.args.Composite(
        state=ocp.args.StandardSave(_leaves(state)),
        identity=ocp.args.JsonSave({**self._identity, _CHECKSUM: _checksum(state)}),
      ),
    )

  def restore(self, template: RefineState) -> RefineState | None:
    """The newest state, or None if there is none.

    Args:
      template: a state of the same run, for its structure and shapes.

    Raises:
      ValueError: the checkpoint belongs to a run with other settings or data, or is damaged.
    """
    ocp, step = self._ocp, self._manager.latest_step()
    if step is None:
      return None
    identity = dict(self._restore(step, identity=ocp.args.JsonRestore()))
    said = identity.pop(_CHECKSUM, None)
    check_same_run(self._folder, identity, self._identity)
    restored = self._restore(step, state=ocp.args.StandardRestore(_leaves(template)))
    state = jax.tree.unflatten(
      jax.tree.structure(template), [restored[name] for name in sorted(restored)]
    )
    if said not in (None, _checksum(state)):  # older ones have none
      raise self._damaged(step, 'other bits than were saved')
    return state

  def _restore(self, step: int, **part: Any) -> Any:
    """One part of a checkpoint."""
    try:
      return self._manager.restore(step, args=self._ocp.args.Composite(**part))[next(iter(part))]
    except (MemoryError, jax.errors.JaxRuntimeError):  # of this machine, not of the files
      raise
    except Exception as error:
      # Whatever a damaged file makes orbax and tensorstore trip over: there is no list of it.
      raise self._damaged(step, first_line(error)) from error

  def _damaged(self, step: int, reason: str) -> ValueError:
    return ValueError(
      f'{self._folder / str(step)}: a damaged checkpoint ({reason}); delete this folder, and the '
      'run goes on from the one before'
    )

  def remove(self) -> None:
    """Deletes all checkpoints: the run is complete."""
    self.close()
    shutil.rmtree(self._folder, ignore_errors=True)

  def close(self) -> None:
    """Waits for pending writes and closes the store."""
    self._manager.close()


def _leaves(state: RefineState) -> dict[str, Any]:
  """Leaves in tree order under sortable names: the store then needs no registered classes."""
  return {f'{i:04d}': leaf for i, leaf in enumerate(jax.tree.leaves(state))}


def _checksum(state: RefineState) -> int:
  """Of the bits of all leaves."""
  sum_ = 0
  for leaf in jax.tree.leaves(state):
    sum_ = zlib.crc32(np.ascontiguousarray(leaf).data, sum_)
  return sum_


def check_room(folder: Path, needed: int, free: int) -> None:
  """Asked before anything is written.

  An orbax that runs out of room fills standard error with the tracebacks of its threads.

  Args:
    folder: where checkpoints live.
    needed: bytes of the next one.
    free: bytes left there.

  Raises:
    OSError: that is too little.
  """
  if free < needed:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def check_same_run(folder: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
  """Asked before a checkpoint is resumed.

  Args:
    folder: where it lives.
    old: identity of the run that made it.
    new: of this one.

  Raises:
    ValueError: they differ; the message says in what.
  """
  if old == new:
    return
  keys = sorted(k for k in {*old, *new} if old.get(k) != new.get(k))
  changed = ', '.join(f'{k}: {old.get(k)} then, {new.get(k)} now' for k in keys)
  raise ValueError(
    f'{folder}: the checkpoint there was made by another run ({changed}); '
    'delete the folder or write to another place'
  )
