"""Where a video cuts: a head is tracked within one shot."""

import itertools
from collections.abc import Callable

import numpy as np
from jaxtyping import Int

from sa0_jax.capture.face_evidence import thumbnail
from sa0_jax.capture.hygiene import HygieneConfig, scene_changes
from sa0_jax.capture.track.footage import Footage


def find_shots(
  footage: Footage, most: int | None = None, progress: Callable[[int], None] | None = None
) -> Int[np.ndarray, 'n 2']:
  """First frame of every shot, and the frame after its last.

  By the same rule as `sa0 clean` splits at a change of the scene: dissolves are not found, nor are
  cuts between pictures that look alike.

  Args:
    footage: a video.
    most: look at this many frames at most; None looks at all.
    progress: called with the number of frames looked at.

  Raises:
    ValueError: the video is damaged or has no frames.
  """
  small = []
  for frame in itertools.islice(footage.frames(), most):
    small.append(thumbnail(frame))
    if progress is not None:
      progress(len(small))
  if not small:
    raise ValueError(f'{footage.label}: has no frames')
  _, cut = scene_changes(np.stack(small), HygieneConfig())
  first = np.concatenate([[0], np.flatnonzero(cut) + 1])
  return np.stack([first, np.append(first[1:], len(small))], axis=1)
