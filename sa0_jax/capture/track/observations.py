"""What detectors see in frames: face landmarks and a person segmentation."""

import dataclasses
import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, cast

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from sa0_jax import archive
from sa0_jax.capture.track.environment import landmark_python
from sa0_jax.head.model import HeadModel, LandmarkEmbedding

NUM_MEDIAPIPE = 478
# MediaPipe's number of each point of the 68-point scheme, for heads that only know that one.
_MEDIAPIPE_OF_68 = (
  *(127, 234, 93, 132, 58, 172, 136, 149, 152, 378, 365, 397, 288, 361, 323, 454, 356),
  *(70, 63, 105, 66, 107, 336, 296, 334, 293, 300),
  *(168, 197, 5, 4, 98, 97, 2, 326, 327),
  *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),
  *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87),
)
_FACE_OVAL = (
  *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152),
  *(148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)
_LIPS = (
  *(61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 185, 40, 39, 37, 0, 267, 269, 270, 409),
  *(78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 191, 80, 81, 82, 13, 312, 311, 310, 415),
)
_LIDS = (
  *(263, 249, 390, 373, 374, 380, 381, 382, 362, 466, 388, 387, 386, 385, 384, 398),
  *(33, 7, 163, 144, 145, 153, 154, 155, 133, 246, 161, 160, 159, 158, 157, 173),
)
_IRISES = tuple(range(468, 478))


@dataclasses.dataclass(frozen=True, eq=False)
class Observations:
  """What was seen in t frames.

  Attributes:
    landmarks: [t, 478, 3] MediaPipe face mesh: x, y in pixels with centres at +0.5, z in pixels,
      smaller is nearer; NaN where no face was found.
    mattes: [t, h, w] person segmentation, 255 = person.
  """

  landmarks: Float[np.ndarray, 't 478 3']
  mattes: UInt8[np.ndarray, 't h w']

  @property
  def found(self) -> Bool[np.ndarray, ' t']:
    """Frames in which a face was found."""
    return np.isfinite(self.landmarks).all(axis=(1, 2))


@dataclasses.dataclass(frozen=True, eq=False)
class LandmarkTargets:
  """The landmarks a head model is fitted to.

  Attributes:
    embedding: the points on the head, m of them.
    columns: [m] MediaPipe's number of each.
    weights: [m] importance, 1 on average.
  """

  embedding: LandmarkEmbedding
  columns: Int[np.ndarray, ' m']
  weights: Float[np.ndarray, ' m']


def landmark_targets(head: HeadModel) -> LandmarkTargets:
  """Pairs a head's landmarks with MediaPipe's.

  Raises:
    ValueError: the head carries neither MediaPipe's nor the 68 landmarks.
  """
  if head.landmarks_mediapipe is not None:
    embedding = head.landmarks_mediapipe
    columns = np.asarray(embedding.index)
  else:
    embedding = head.require_landmarks('68')
    columns = np.asarray(_MEDIAPIPE_OF_68)[embedding.index]
  weights = np.ones(len(columns))
  # The oval slides along the jaw as the head turns; lids, lips and irises carry the expression.
  for points, weight in ((_FACE_OVAL, 0.5), (_LIPS, 2.5), (_LIDS, 2.5), (_IRISES, 4.0)):
    weights[np.isin(columns, points)] = weight
  return LandmarkTargets(embedding, columns, weights / weights.mean())


def detect(
  frames: Sequence[UInt8[np.ndarray, 'h w 3']],
  *,
  video: bool,
  progress: Callable[[int], None] | None = None,
) -> Observations:
  """Runs MediaPipe on frames of one size, in its own environment.

  Args:
    frames: RGB frames.
    video: whether they are consecutive.
    progress: called with the number of frames done.

  Raises:
    RuntimeError: the environment cannot be made, or the detector failed.
  """
  height, width = frames[0].shape[:2]
  worker = Path(__file__).with_name('worker.py')
  with tempfile.TemporaryDirectory() as folder:
    output = Path(folder) / 'observations.npz'
    command = [str(landmark_python()), str(worker), str(output)]
    command += [str(n) for n in (len(frames), height, width, int(video))]
    environment = {k: v for k, v in os.environ.items() if not k.startswith('PYTHON')}
    with (
      open(Path(folder) / 'messages', 'w+b') as messages,
      subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=messages,
        env=environment,
      ) as process,
    ):
      # Both are pipes, which the type of Popen does not say.
      to_worker, from_worker = cast(IO[bytes], process.stdin), cast(IO[bytes], process.stdout)
      try:
        for frame in frames:
          to_worker.write(np.ascontiguousarray(frame).tobytes())
          to_worker.flush()
          line = from_worker.readline()
          if progress is not None and line.strip():
            progress(int(line))
        to_worker.close()
      except BrokenPipeError:
        pass  # the worker ended early; its exit code and message tell why
      if process.wait():
        messages.seek(0)
        text = messages.read().decode(errors='replace').strip().splitlines()[-1:]
        raise RuntimeError(f'track: the landmark detector failed: {"".join(text)}')
    arrays = archive.read_arrays(output, max_bytes=1 << 34)
  return Observations(arrays['landmarks'], arrays['mattes'])


def locate(frames: Sequence[UInt8[np.ndarray, '_ _ 3']], size: int) -> Float[np.ndarray, 't m 2']:
  """Face landmarks in pictures of any size; NaN where no face was found.

  Args:
    frames: RGB pictures.
    size: longer side of what the detector is shown, px.
  """
  import cv2  # here: importing it takes longer than the rest of this package

  shown, scales = [], []
  for frame in frames:
    scale = size / max(frame.shape[:2])
    width, height = (max(round(side * scale), 1) for side in (frame.shape[1], frame.shape[0]))
    canvas = np.zeros((size, size, 3), np.uint8)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas[:height, :width] = cv2.resize(frame, (width, height), interpolation=method)
    shown.append(canvas)
    scales.append(scale)
  found = detect(shown, video=False).landmarks[..., :2]
  return found / np.asarray(scales, np.float32)[:, None, None]


def landmark_groups(targets: LandmarkTargets) -> dict[str, Bool[np.ndarray, ' m']]:
  """Which of the landmarks are lips, lids, irises and the face oval."""
  parts = {'lips': _LIPS, 'lids': _LIDS, 'irises': _IRISES, 'face_oval': _FACE_OVAL}
  groups = {name: np.isin(targets.columns, points) for name, points in parts.items()}
  return {name: group for name, group in groups.items() if group.any()}


def load_landmarks(path: str | os.PathLike[str], num_frames: int) -> Float[np.ndarray, 't 478 3']:
  """Reads landmarks made elsewhere: an .npz whose array `landmarks` is [t, 478, 3], in pixels.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it holds something else, or another number of frames.
  """
  if not Path(path).is_file():
    raise FileNotFoundError(f'{path}: no such landmark file')
  arrays = archive.read_arrays(path, {'landmarks'})
  shape = (num_frames, NUM_MEDIAPIPE, 3)
  if 'landmarks' not in arrays or arrays['landmarks'].shape != shape:
    got = arrays['landmarks'].shape if 'landmarks' in arrays else 'no such array'
    raise ValueError(f'{path}: needs an array landmarks {shape}, got {got}')
  return arrays['landmarks'].astype(np.float32)
