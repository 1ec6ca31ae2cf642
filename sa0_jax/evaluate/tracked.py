"""Our own counterparts of AED, APD and AKD: rendered and filmed faces, tracked alike.

MediaPipe looks at both. Then the head model is fitted to what it saw, each frame by itself, with
the camera of the frame and the shape it was rendered or filmed with: what is left to differ is
expression and pose. Whatever detector and fit get wrong they get wrong on both sides.
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from sa0_kernels import Camera

from sa0_jax.capture.capture import head_rotations
from sa0_jax.capture.track import observations
from sa0_jax.capture.track.environment import PACKAGE
from sa0_jax.capture.track.landmark_fit import (
  FitConfig,
  FitParameters,
  expression_is_seen,
  fit_landmarks,
  project,
)
from sa0_jax.head.lbs import LandmarkArrays, pose_landmarks
from sa0_jax.head.model import HeadModel
from sa0_jax.metrics import faces

METRICS = ('flame_expression_l1', 'flame_pose_l1', 'landmark_px')
# Frames may come from several cameras and in any order: nothing ties one to the next, and the
# camera is known. Without neighbours to hold them expressions would drift along with pose (a turn
# by 0.15 rad as far as a smile) and with noise; this prior keeps both to a tenth of it.
_FIT = FitConfig(
  steps=1000,
  focal_spread=0.0,
  expression=0.5,
  root=0.0,
  smooth_expression=0.0,
  smooth_pose=0.0,
)
_BATCH = 32  # frames a detector sees at once, of each side; it takes a second to start
SOURCE = f'{PACKAGE.replace("==", " ")}, head model fitted to each frame'


def identity() -> dict[str, Any]:
  """What results follow from, beside the pictures."""
  return {'detector': PACKAGE, 'fit': dataclasses.asdict(_FIT)}


class _Side(NamedTuple):
  """Rendered or filmed: the shape under it, and the landmarks found so far, [478, 3] each."""

  shape: Float[np.ndarray, ' s']
  landmarks: list[np.ndarray]


class ClipTracks:
  """Measures one clip."""

  def __init__(
    self,
    head: HeadModel,
    camera: Camera,
    rendered: Float[np.ndarray, ' s'],
    filmed: Float[np.ndarray, ' s'],
  ):
    """Begins.

    Args:
      head: the model both are fitted with.
      camera: of the frames that will come, [t], at their size.
      rendered, filmed: identity codes of who is rendered and who was filmed. Where these are two
        people there is no `landmark_px`: their faces have other proportions.

    Raises:
      ValueError: the head model has no landmarks.
    """
    self._head, self._camera = head, camera
    self._targets = observations.landmark_targets(head)
    self._points = LandmarkArrays.from_head(head, head.require_landmarks('68'))
    self._sides = (_Side(np.asarray(rendered), []), _Side(np.asarray(filmed), []))
    self._rows: list[dict[str, Any]] = []
    self._waiting: list[tuple[np.ndarray, np.ndarray]] = []

  def add(
    self,
    row: dict[str, Any],
    rendered: UInt8[np.ndarray, 'h w 3'],
    filmed: UInt8[np.ndarray, 'h w 3'],
  ) -> None:
    """Takes the next frame; its numbers are written into `row` by `finish`.

    Raises:
      RuntimeError: the detector cannot be installed, or failed.
    """
    self._rows.append(row)
    self._waiting.append((rendered, filmed))
    if len(self._waiting) == _BATCH:
      self._look()

  def finish(self) -> None:
    """Fits and measures all frames; where no face was found in one of the two, a row gets nothing.

    Raises:
      RuntimeError: as `add`.
    """
    if self._waiting:
      self._look()
    landmarks = [np.stack(side.landmarks) for side in self._sides]
    both = np.all([np.isfinite(found).all(axis=(1, 2)) for found in landmarks], axis=0)
    rows = np.flatnonzero(both)
    if not len(rows):
      return
    columns = self._measure([found[rows] for found in landmarks], rows)
    for at, row in enumerate(rows):
      self._rows[row].update({name: float(values[at]) for name, values in columns.items()})

  def _look(self) -> None:
    """Runs the detector on what is waiting; only landmarks are kept."""
    pictures = [picture for pair in self._waiting for picture in pair]
    found = observations.detect(pictures, video=False).landmarks
    for number, side in enumerate(self._sides):
      side.landmarks.extend(found[number::2])
    self._waiting = []

  def _measure(self, landmarks: list[np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    size = self._camera.width, self._camera.height
    intrinsics = np.asarray(self._camera.intrinsics, np.float64)
    focal = float(np.median(intrinsics[:, 1]))
    config = dataclasses.replace(_FIT, focal_ratio=focal / size[1])
    fits = [
      fit_landmarks(
        self._head,
        self._targets,
        _as_seen_by(found, intrinsics[rows], focal, size),
        size,
        config,
        shape=side.shape,
      )[0]
      for found, side in zip(landmarks, self._sides, strict=True)
    ]
    seen = expression_is_seen(self._head)
    expressions = [np.asarray(fit.codes.expression)[:, seen] for fit in fits]
    columns = {
      'flame_expression_l1': faces.flame_expression_l1(*expressions),
      # The camera's axes are the world's.
      'flame_pose_l1': faces.flame_pose_l1(*(head_rotations(f.codes).as_matrix() for f in fits)),
    }
    rendered, filmed = self._sides
    if np.array_equal(rendered.shape, filmed.shape):
      columns['landmark_px'] = faces.landmark_px(*(self._projected(fit, size) for fit in fits))
    return columns

  def _projected(self, fit: FitParameters, size: tuple[int, int]) -> Float[np.ndarray, 't 68 2']:
    return np.asarray(project(pose_landmarks(self._points, fit.codes), fit.log_focal, size))


def _as_seen_by(
  landmarks: Float[np.ndarray, 't 478 3'],
  intrinsics: Float[np.ndarray, 't 4'],
  focal: float,
  size: tuple[int, int],
) -> Float[np.ndarray, 't 478 3']:
  """Landmarks in pictures of cameras that all have one focal length and look at the middle."""
  scale = focal / intrinsics[:, None, :2]
  centred = (landmarks[..., :2] - intrinsics[:, None, 2:]) * scale + 0.5 * np.array(size)
  depth = landmarks[..., 2:] * scale[..., :1]
  return np.concatenate([centred, depth], axis=-1).astype(np.float32)
