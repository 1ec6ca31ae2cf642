"""Results of a tracker's stages on disk, so that an interrupted run goes on where it was."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sa0_jax import archive

Arrays = Mapping[str, np.ndarray]
_IDENTITY = 'identity.json'
_DIGEST = 'digest'  # among a stage's arrays: of all others
_MAX_BYTES = 1 << 36


class StageStore:
  """One folder of finished stages, each whole or absent.

  Stages of another run (other footage or settings) are deleted when the store is opened.
  """

  def __init__(self, folder: str | os.PathLike[str] | None, identity: Mapping[str, Any]):
    """Opens the store; None keeps nothing."""
    self._folder = None if folder is None else Path(folder)
    if self._folder is None:
      return
    text = json.dumps(identity, sort_keys=True, default=str).encode()
    marker = self._folder / _IDENTITY
    if marker.is_file() and marker.read_bytes() == text:
      return
    if self._folder.exists():
      if not marker.is_file() and any(self._folder.iterdir()):
        raise ValueError(f'{self._folder}: holds other things; choose another work folder')
      shutil.rmtree(self._folder)
    self._folder.mkdir(parents=True)
    with archive.atomic_write(marker) as file:
      file.write(text)

  def run(self, name: str, compute: Callable[[], Arrays]) -> Arrays:
    """The stage's arrays: read if it is finished, else computed and kept."""
    kept = self.load(name)
    if kept is not None:
      return kept
    arrays = compute()
    self.save(name, arrays)
    return arrays

  def load(self, name: str) -> Arrays | None:
    """A stage's arrays; None where it is absent or damaged, so that it is computed again."""
    path = self._path(name)
    if path is None or not path.is_file():
      return None
    try:
      arrays = archive.read_arrays(path, max_bytes=_MAX_BYTES)
    except ValueError:
      return None
    said = arrays.pop(_DIGEST, None)
    whole = said is not None and np.array_equal(said, _digest(arrays))
    return arrays if whole else None

  def save(self, name: str, arrays: Arrays) -> None:
    """Keeps a stage's arrays."""
    path = self._path(name)
    if path is not None:
      archive.write_arrays(path, {**arrays, _DIGEST: _digest(arrays)})

  def remove(self, name: str | None = None) -> None:
    """Forgets one stage, or everything: the run is complete."""
    if self._folder is None:
      return
    if name is None:
      shutil.rmtree(self._folder, ignore_errors=True)
    else:
      (self._folder / f'{name}.npz').unlink(missing_ok=True)

  def _path(self, name: str) -> Path | None:
    return None if self._folder is None else self._folder / f'{name}.npz'


def _digest(arrays: Arrays) -> np.ndarray:
  """SHA-256 of names, types, shapes and numbers."""
  digest = hashlib.sha256()
  for name in sorted(arrays):
    array = np.ascontiguousarray(arrays[name])
    digest.update(f'{name} {array.dtype} {np.shape(arrays[name])}\n'.encode())
    digest.update(array.data)
  return np.frombuffer(digest.digest(), np.uint8)


def to_arrays(tree: Any) -> dict[str, np.ndarray]:
  """Leaves of a pytree, by number."""
  return {f'leaf_{i:03d}': np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(tree))}


def from_arrays(arrays: Arrays, template: Any) -> Any:
  """A pytree like `template` from what `to_arrays` gave."""
  leaves = [jax.numpy.asarray(arrays[name]) for name in sorted(arrays)]
  return jax.tree.unflatten(jax.tree.structure(template), leaves)
