"""What samplers need to know of a split's frames, without reading its records.

Arrays with one row per record, in the order of the records, each a .npy file that is mapped into
memory: a data set of millions of frames costs a process no memory beyond the pages it looks at.
"""

import dataclasses
import os
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from sa0_jax import archive
from sa0_jax.capture.capture import Capture

FIELDS = ('subject', 'clip', 'instant', 'view', 'direction', 'expression')


@dataclasses.dataclass(frozen=True, eq=False)
class FrameIndex:
  """The frames of a split; those of a clip are neighbours, and so are the clips of a subject.

  Attributes:
    subject: [n] number of the subject.
    clip: [n] number of the capture.
    instant: [n] frames of a clip with equal numbers were taken at the same time.
    view: [n] number of the physical camera.
    direction: [n, 3] unit vector along the camera's optical axis, seen from the head.
    expression: [n, e] expression codes.
  """

  subject: Int[np.ndarray, ' n']
  clip: Int[np.ndarray, ' n']
  instant: Int[np.ndarray, ' n']
  view: Int[np.ndarray, ' n']
  direction: Float[np.ndarray, 'n 3']
  expression: Float[np.ndarray, 'n e']
  clip_start: Int[np.ndarray, ' c'] = dataclasses.field(init=False)
  subject_start: Int[np.ndarray, ' s'] = dataclasses.field(init=False)

  def __post_init__(self) -> None:
    object.__setattr__(self, 'clip_start', _starts(self.clip))
    object.__setattr__(self, 'subject_start', _starts(self.subject))

  def __len__(self) -> int:
    return len(self.clip)

  @property
  def num_clips(self) -> int:
    """Clips with at least one frame."""
    return len(self.clip_start) - 1

  @property
  def is_multiview(self) -> bool:
    """Whether several cameras filmed a clip; `sa0 prepare` puts no others beside such."""
    first = np.repeat(self.view[self.clip_start[:-1]], np.diff(self.clip_start))
    return bool((self.view != first).any())

  def clip_rows(self, clip: int) -> range:
    """Rows of the n-th clip."""
    return range(int(self.clip_start[clip]), int(self.clip_start[clip + 1]))

  def subject_rows(self, row: int) -> range:
    """Rows of the subject that a row belongs to."""
    at = int(np.searchsorted(self.subject_start, row, 'right'))
    return range(int(self.subject_start[at - 1]), int(self.subject_start[at]))


def _starts(numbers: Int[np.ndarray, ' n']) -> np.ndarray:
  """Where each run of equal numbers begins, and where the last ends."""
  changes = np.flatnonzero(np.diff(numbers)) + 1
  return np.concatenate([[0], changes, [len(numbers)]]).astype(np.int64)


def clip_rows(capture: Capture, subject: int, clip: int) -> dict[str, np.ndarray]:
  """Index rows of all frames of a capture.

  Args:
    capture: a clip.
    subject: its subject's number in the split.
    clip: its number in the split.
  """
  count = len(capture)
  axis = np.asarray(capture.camera.world_to_camera, np.float64)[:, 2, :3]
  direction = capture.head_rotations().inv().apply(axis)
  direction /= np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-9)
  return {
    'subject': np.full(count, subject, np.int32),
    'clip': np.full(count, clip, np.int32),
    'instant': np.unique(capture.times, return_inverse=True)[1].astype(np.int32),
    'view': capture.view_ids.astype(np.int32),
    'direction': direction.astype(np.float32),
    'expression': np.asarray(capture.codes.expression, np.float32),
  }


def write_index(folder: Path, parts: list[dict[str, np.ndarray]]) -> None:
  """Writes the rows of all shards, in their order."""
  folder.mkdir(parents=True, exist_ok=True)
  for name in FIELDS:
    with archive.atomic_write(folder / f'{name}.npy') as file:
      np.lib.format.write_array(
        file, np.concatenate([part[name] for part in parts]), allow_pickle=False
      )


def open_index(folder: str | os.PathLike[str], count: int) -> FrameIndex:
  """Maps an index into memory.

  Args:
    folder: where its files are.
    count: records of the split.

  Raises:
    FileNotFoundError: a file is missing.
    ValueError: a file is damaged, or does not fit the records.
  """
  arrays = {}
  for name in FIELDS:
    path = Path(folder) / f'{name}.npy'
    if not path.is_file():
      raise FileNotFoundError(f'{path}: missing; make the data set again with `sa0 prepare`')
    array = archive.map_array(path)
    kind, dimensions = ('f4', 2) if name in ('direction', 'expression') else ('i4', 1)
    fits = array.dtype.str == f'<{kind}' and array.ndim == dimensions and len(array) == count
    if not fits or (name == 'direction' and array.shape[1] != 3):
      raise ValueError(
        f'{path}: {array.dtype} {array.shape} does not belong to a split of {count} frames; make '
        'the data set again with `sa0 prepare`'
      )
    arrays[name] = array
  for name in ('subject', 'clip'):
    if (np.diff(arrays[name]) < 0).any():
      raise ValueError(f'{folder}: {name}.npy is not in order; make the data set again')
  return FrameIndex(**arrays)
