"""Clips from the wild: split where the person or the scene changes, and rid of bad frames.

A tracker gives codes for every frame in which it finds a face, also after a cut to somebody else,
behind a microphone, and in a blurred turn of the head. What is learnt from such frames as "the same
person" is wrong. Every rule here has a threshold in `HygieneConfig` and leaves its name and the
value it saw in the report.
"""

import collections
import dataclasses
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from sa0_jax.capture.capture import Capture
from sa0_jax.capture.face_evidence import FaceEvidence, face_evidence
from sa0_jax.head.model import HeadModel

_WINDOW = 5  # frames on either side of a boundary whose medians are compared
_COMMON = 0.3  # share of the face's points that two frames must both show to be compared
_NEAR = 12  # frames whose usual change a scene change is held against


@dataclasses.dataclass(frozen=True)
class HygieneConfig:
  """Thresholds. Upper bounds are switched off by a huge value, lower ones by 0.

  Attributes:
    max_gap: a clip is split where more than this many frames in a row were not tracked.
    scene_change: it is split where two pictures, 24 px small, differ by more than this on average
      (0 to 1), and by more than `scene_ratio` times what is usual around them.
    scene_ratio: see `scene_change`.
    identity_change: it is split where colours of the face, as logarithms with exposure taken out,
      differ by more than this on average: from one frame to the next, and in the medians of five
      frames before and after.
    turn_rate: it is split where the head would have turned faster than this, rad/s,
    move_rate: or have moved faster than this, widths of the face a second.
    min_face: a frame is dropped when its face is narrower than this, px;
    min_inside: when less than this share of the face lies in the picture;
    min_sharpness: when it is less sharp, along x or y, than this share of its clip's upper
      quartile;
    max_occlusion: when more than this share of the visible face is outside the matte, or differs
      from the clip's median by more than `occlusion_tone`.
    occlusion_tone: logarithm of colour.
    min_frames: a clip with fewer frames than this is left out.
  """

  max_gap: int = 5
  scene_change: float = 0.12
  scene_ratio: float = 4.0
  identity_change: float = 0.115
  turn_rate: float = 12.0
  move_rate: float = 10.0
  min_face: float = 48.0
  min_inside: float = 0.9
  min_sharpness: float = 0.55
  max_occlusion: float = 0.2
  occlusion_tone: float = 0.35
  min_frames: int = 12

  def __post_init__(self) -> None:
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if not value >= 0:
        raise ValueError(f'HygieneConfig: {field.name} must not be negative, got {value!r}')
    if self.min_frames < 1:
      raise ValueError('HygieneConfig: min_frames must be at least 1')


class Split(NamedTuple):
  """Where a clip was cut in two.

  Attributes:
    before: number of the last frame of the one, in the footage.
    after: number of the first frame of the other.
    reason: 'frames missing', 'scene change', 'other person' or 'jump'.
    value: what was measured, in the unit of the threshold.
  """

  before: int
  after: int
  reason: str
  value: float


class Dropped(NamedTuple):
  """A frame that was left out.

  Attributes:
    frame: its number in the footage.
    reason: 'small face', 'outside the picture', 'blurred', 'occluded' or 'short clip'.
    value: what was measured, in the unit of the threshold.
  """

  frame: int
  reason: str
  value: float


@dataclasses.dataclass(frozen=True, eq=False)
class CleanResult:
  """What cleaning gives.

  Attributes:
    clips: the captures that are left, in order, named `<name>_00`, `<name>_01`, …
    splits: where the footage was cut.
    dropped: frames that are in none of them.
    untracked: numbers of frames between the first and the last that the capture lacks.
  """

  clips: tuple[Capture, ...]
  splits: tuple[Split, ...]
  dropped: tuple[Dropped, ...]
  untracked: tuple[int, ...]

  def report(self) -> dict[str, Any]:
    """The same as JSON's types, with counts by reason."""
    reasons = collections.Counter(item.reason for item in self.dropped)
    return {
      'clips': [
        {
          'name': clip.name,
          'frames': len(clip),
          'first': int(clip.ids[0]),
          'last': int(clip.ids[-1]),
        }
        for clip in self.clips
      ],
      'kept': sum(map(len, self.clips)),
      'dropped': dict(sorted(reasons.items())),
      'untracked': len(self.untracked),
      'splits': [split._asdict() for split in self.splits],
      'dropped_frames': [item._asdict() for item in self.dropped],
      'untracked_frames': list(self.untracked),
    }


def clean(
  capture: Capture,
  head: HeadModel,
  config: HygieneConfig | None = None,
  progress: Callable[[int, int], None] | None = None,
) -> CleanResult:
  """Splits a tracked video and drops the frames that would teach something wrong.

  A hand as bright as the cheek behind it is found only where it hides eyes, brows and lips; a
  second person who looks alike in the same light, not at all.

  Args:
    capture: the video, in the order it was filmed.
    head: its head model.
    config: thresholds.
    progress: called with the number of frames looked at, and of all.

  Returns:
    The clips that are left, none where nothing is, and what became of every other frame.

  Raises:
    ValueError: the capture has several cameras or frames out of order, or the head is another one.
  """
  config = config or HygieneConfig()
  if len(np.unique(capture.view_ids)) > 1:
    raise ValueError(
      f'capture {capture.name!r} was filmed by several cameras: cleaning is for videos; select one '
      'camera'
    )
  if len(capture) < 2:
    raise ValueError(f'capture {capture.name!r}: one frame is no video')
  if (np.diff(capture.ids) <= 0).any():
    raise ValueError(f'capture {capture.name!r}: its frames are not in the order they were filmed')
  evidence = face_evidence(capture, head, progress)
  splits = _splits(capture, evidence, config)
  bounds = [0, *(position for position, _ in splits), len(capture)]
  clips: list[Capture] = []
  dropped: list[Dropped] = []
  for first, last in itertools.pairwise(bounds):
    rows = np.arange(first, last)
    bad = _bad_frames(capture, evidence, rows, config)
    dropped += bad
    kept = rows[~np.isin(capture.ids[rows], [item.frame for item in bad])]
    if len(kept) < config.min_frames:
      dropped += [Dropped(int(capture.ids[row]), 'short clip', float(len(kept))) for row in kept]
      continue
    name = f'{capture.name}_{len(clips):02d}'
    clips.append(dataclasses.replace(capture.select(kept), name=name))
  return CleanResult(
    tuple(clips), tuple(split for _, split in splits), tuple(sorted(dropped)), _untracked(capture)
  )


def _stride(capture: Capture) -> int:
  """Distance of neighbouring frames in the footage: every n-th may have been taken."""
  steps = np.diff(capture.ids)
  return int(np.bincount(steps).argmax()) if len(steps) else 1


def _untracked(capture: Capture) -> tuple[int, ...]:
  every = np.arange(capture.ids[0], capture.ids[-1] + 1, _stride(capture))
  return tuple(np.setdiff1d(every, capture.ids).tolist())


def _splits(
  capture: Capture, evidence: FaceEvidence, config: HygieneConfig
) -> list[tuple[int, Split]]:
  """Position of the first frame after each cut, and why."""
  missing = np.diff(capture.ids) // _stride(capture) - 1
  scene, cut = scene_changes(evidence.thumbnail, config)
  identity = _identity_changes(evidence, config)
  turn, move = _rates(capture, evidence)
  result = []
  for row in range(len(capture) - 1):
    if missing[row] > config.max_gap:
      found = ('frames missing', missing[row])
    elif cut[row]:
      found = ('scene change', scene[row])
    elif identity[row] > config.identity_change:
      found = ('other person', identity[row])
    elif turn[row] > config.turn_rate:
      found = ('jump', turn[row])
    elif move[row] > config.move_rate:
      found = ('jump', move[row])
    else:
      continue
    before, after = (int(i) for i in capture.ids[row : row + 2])
    result.append((row + 1, Split(before, after, found[0], round(float(found[1]), 4))))
  return result


def scene_changes(
  thumbnails: Float[np.ndarray, 't h w 3'], config: HygieneConfig
) -> tuple[Float[np.ndarray, ' t_minus_1'], Bool[np.ndarray, ' t_minus_1']]:
  """How much each picture differs from the one before, and where that is a cut.

  Args:
    thumbnails: whole pictures, small, in [0, 1], in the order they were filmed.
    config: `scene_change` and `scene_ratio`.
  """
  change = np.abs(np.diff(thumbnails, axis=0)).mean(axis=(1, 2, 3))
  cut = np.zeros(len(change), bool)
  for row in np.flatnonzero(change > config.scene_change).tolist():
    around = np.delete(change[max(row - _NEAR, 0) : row + _NEAR + 1], min(row, _NEAR))
    cut[row] = change[row] > config.scene_ratio * (np.median(around) if len(around) else 0.0)
  return change, cut


def _identity_changes(
  evidence: FaceEvidence, config: HygieneConfig
) -> Float[np.ndarray, ' t_minus_1']:
  """How much the face changes from each frame to the next, lastingly."""
  count = len(evidence.tone)
  result = np.zeros(max(count - 1, 0))
  for row in range(count - 1):
    at_once = _difference(evidence, np.array([row]), np.array([row + 1]))
    if at_once <= config.identity_change:
      continue  # somebody else does not appear slowly
    before = np.arange(max(row + 1 - _WINDOW, 0), row + 1)
    after = np.arange(row + 1, min(row + 1 + _WINDOW, count))
    result[row] = min(at_once, _difference(evidence, before, after))
  return result


def _difference(
  evidence: FaceEvidence, one: Int[np.ndarray, ' r'], other: Int[np.ndarray, ' q']
) -> float:
  """Mean difference of the medians on the points both show; 0 where there are too few."""
  (a, in_a), (b, in_b) = _median(evidence, one), _median(evidence, other)
  common = in_a & in_b
  if common.mean() < _COMMON * max(in_a.mean(), in_b.mean()):
    return 0.0
  return float(np.abs(a - b)[common].mean()) if common.any() else 0.0


def _median(
  evidence: FaceEvidence, rows: Int[np.ndarray, ' r']
) -> tuple[Float[np.ndarray, 'm 3'], Bool[np.ndarray, ' m']]:
  """Median tone of each point over the frames that show it, and the points any frame shows."""
  seen = evidence.seen[rows] & ~evidence.covered[rows]
  shown = seen.any(axis=0)
  tone = np.where(seen[..., None], evidence.tone[rows], np.nan)
  result = np.zeros(tone.shape[1:])
  result[shown] = np.nanmedian(tone[:, shown], axis=0)
  return result, shown


def _rates(
  capture: Capture, evidence: FaceEvidence
) -> tuple[Float[np.ndarray, ' t_minus_1'], Float[np.ndarray, ' t_minus_1']]:
  """Speeds between frames: of turning, rad/s, and in the picture, face widths a second."""
  seconds = np.maximum(np.diff(capture.ids), 1) / capture.fps
  from scipy.spatial.transform import Rotation  # here: it takes long to import

  # In the camera: some formats move the head, some the camera.
  view = np.asarray(capture.camera.world_to_camera)[:, :3, :3]
  turns = Rotation.from_matrix(view) * capture.head_rotations()
  turn = (turns[:-1].inv() * turns[1:]).magnitude() / seconds
  centre = 0.5 * (evidence.box[:, :2] + evidence.box[:, 2:])
  width = np.maximum(evidence.box[:, 2] - evidence.box[:, 0], 1.0)
  distance = np.linalg.norm(np.diff(centre, axis=0), axis=1)
  return turn, distance / np.minimum(width[1:], width[:-1]) / seconds


def _bad_frames(
  capture: Capture, evidence: FaceEvidence, rows: Int[np.ndarray, ' r'], config: HygieneConfig
) -> list[Dropped]:
  """Frames of one clip to leave out, each with the first reason that holds."""
  median, shown = _median(evidence, rows)
  sharp = np.maximum(np.percentile(evidence.sharpness[rows], 75, axis=0), 1e-9)
  result = []
  for row in rows:
    face = evidence.box[row, 2] - evidence.box[row, 0]
    seen = evidence.seen[row] & shown
    other = np.abs(evidence.tone[row] - median).mean(axis=1) > config.occlusion_tone
    hidden = evidence.covered[row] | other
    occlusion = float(hidden[seen].mean()) if seen.any() else 1.0
    sharpness = float(np.min(evidence.sharpness[row] / sharp))
    checks = (
      ('small face', float(face), face < config.min_face),
      (
        'outside the picture',
        float(evidence.inside[row]),
        evidence.inside[row] < config.min_inside,
      ),
      ('blurred', sharpness, sharpness < config.min_sharpness),
      ('occluded', occlusion, occlusion > config.max_occlusion),
    )
    for reason, value, fails in checks:
      if fails:
        result.append(Dropped(int(capture.ids[row]), reason, round(value, 4)))
        break
  return result
