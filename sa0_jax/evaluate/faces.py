"""CSIM, AED and APD by networks that the user brings: ArcFace and Deep3DFaceRecon as ONNX files.

Both see crops that five points of the face put in place. The papers find these with a detector;
here they are points of the head model, posed as the frame is and seen by its camera: of the mesh
that was rendered for rendered frames, of the tracked mesh for filmed ones. A rule of our own, the
same for both: a face is never missed, and a rendered mouth does not move its own crop.
"""

import dataclasses
import os
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from sa0_jax.capture.capture import Capture
from sa0_jax.evaluate.face_network import FaceNetwork, Kind
from sa0_jax.geometry.projection import project_points
from sa0_jax.head.lbs import LandmarkArrays, pose_frames
from sa0_jax.head.model import HeadModel
from sa0_jax.metrics import faces
from sa0_jax.metrics.alignment import (
  ARCFACE_SIZE,
  DEEP3D_SIZE,
  FIVE_POINT_INDICES,
  arcface_crop,
  deep3d_crop,
  five_points,
)

ARCFACE = Kind('ArcFace', ARCFACE_SIZE, None)
# 80 of identity, 64 of expression, 80 of texture, 3 angles, 27 of light, 3 of translation.
DEEP3D = Kind('Deep3DFaceRecon', DEEP3D_SIZE, 257)
_EXPRESSION, _ANGLES = slice(80, 144), slice(224, 227)
# Frames a network sees at once. Counted from a clip's first: bits do not depend on the devices.
_BATCH = 16
_DIGITS = 12  # of a digest, in reports


class Seen(NamedTuple):
  """A picture of a face.

  Attributes:
    picture: RGB.
    points: `five_points`, px of it.
    name: of the frame, in messages.
  """

  picture: UInt8[np.ndarray, 'h w 3']
  points: Float[np.ndarray, '5 2']
  name: str


@dataclasses.dataclass(frozen=True, eq=False)
class FaceNetworks:
  """Those that are there.

  Attributes:
    arcface: gives CSIM.
    deep3d: gives AED and APD.
  """

  arcface: FaceNetwork | None = None
  deep3d: FaceNetwork | None = None

  @property
  def by_metric(self) -> dict[str, FaceNetwork]:
    """Which network gives which metric."""
    pairs = (('csim', self.arcface), ('aed', self.deep3d), ('apd', self.deep3d))
    return {name: network for name, network in pairs if network is not None}

  @property
  def digests(self) -> dict[str, str]:
    """What results follow from, by metric."""
    return {name: network.digest for name, network in self.by_metric.items()}

  @property
  def sources(self) -> dict[str, str]:
    """The same for people to read."""
    return {
      name: f'{network.kind.name} {network.digest[:_DIGITS]}, faces aligned by the head model'
      for name, network in self.by_metric.items()
    }


def load_face_networks(
  arcface: str | os.PathLike[str] | None, deep3d: str | os.PathLike[str] | None
) -> FaceNetworks | None:
  """Loads ONNX files; errors as `FaceNetwork`. None where neither is given."""
  if arcface is None and deep3d is None:
    return None
  return FaceNetworks(
    None if arcface is None else FaceNetwork(arcface, ARCFACE),
    None if deep3d is None else FaceNetwork(deep3d, DEEP3D),
  )


def face_points(head: HeadModel, capture: Capture, resolution: int) -> Float[np.ndarray, 't 5 2']:
  """Where the five points of each frame's face lie, px.

  Args:
    head: the model the codes belong to.
    capture: its codes pose the head, its cameras see it.
    resolution: side of the pictures, px.

  Raises:
    ValueError: the head model is another one, or has no such points, or a face is behind its
      camera.
  """
  capture.check_head(head)
  few = head.require_landmarks('68').select(FIVE_POINT_INDICES)
  if few is None:
    raise ValueError(f'head {head.name!r}: eyes, nose or mouth are missing in its 68 landmarks')
  corners = pose_frames(LandmarkArrays.from_head(head, few).corners, capture.codes)
  triangles = corners.reshape(len(capture), len(few.face), 3, 3)
  points = np.sum(triangles * few.barycentric[..., None], axis=-2)
  seen = project_points(points, capture.camera.resized(resolution, resolution))
  behind = np.flatnonzero((seen.local[..., 2] <= 0).any(axis=-1))
  if len(behind):
    frame = capture.ids[behind[0]]
    raise ValueError(f'capture {capture.name!r}, frame {frame}: the face is behind the camera')
  return five_points(seen.pixels)


class ClipFaces:
  """Measures one clip, a few frames at a time."""

  def __init__(self, networks: FaceNetworks, clip: str, source: Seen | None = None):
    """Begins.

    Args:
      networks: what is there.
      clip: its name, in messages.
      source: whose face it has to be; None compares with the reference of each frame.

    Raises:
      ValueError: the source shows no face, or a network fails.
    """
    self._networks, self._clip = networks, clip
    self._waiting: list[tuple[dict[str, Any], Seen, Seen]] = []
    self._source: np.ndarray | None = None
    if source is not None and networks.arcface is not None:
      self._source = self._embedding(networks.arcface, [source])

  def add(self, row: dict[str, Any], rendered: Seen, reference: Seen) -> None:
    """Takes one frame; its numbers are written into `row`, at the latest by `finish`.

    Raises:
      ValueError: a network fails on it, or gives numbers that are not finite.
    """
    self._waiting.append((row, rendered, reference))
    if len(self._waiting) == _BATCH:
      self.finish()

  def finish(self) -> None:
    """Measures what is waiting; errors as `add`."""
    if not self._waiting:
      return
    rows, rendered, reference = (list(part) for part in zip(*self._waiting, strict=True))
    self._waiting = []
    columns: dict[str, np.ndarray] = {}
    if self._networks.arcface is not None:
      ours = self._embedding(self._networks.arcface, rendered)
      if self._source is None:
        theirs = self._embedding(self._networks.arcface, reference)
      else:
        theirs = np.repeat(self._source, len(rows), axis=0)
      columns['csim'] = faces.csim(ours, theirs)
    if self._networks.deep3d is not None:
      first, second = (
        self._numbers(self._networks.deep3d, some, deep3d_crop) for some in (rendered, reference)
      )
      columns['aed'] = faces.aed(first[:, _EXPRESSION], second[:, _EXPRESSION])
      columns['apd'] = faces.apd(first[:, _ANGLES], second[:, _ANGLES])
    for i, row in enumerate(rows):
      row.update({name: float(values[i]) for name, values in columns.items()})

  def _embedding(self, network: FaceNetwork, seen: list[Seen]) -> np.ndarray:
    values = self._numbers(network, seen, arcface_crop)
    for one, value in zip(seen, values, strict=True):
      if not value.any():
        raise ValueError(f'{network.path}: gives zeros for the {one.name} of clip {self._clip!r}')
    return values

  def _numbers(self, network: FaceNetwork, seen: list[Seen], crop: Any) -> np.ndarray:
    crops = []
    for one in seen:
      try:
        crops.append(crop(one.picture, one.points))
      except ValueError as error:
        raise ValueError(f'clip {self._clip!r}, {one.name}: {error}') from error
    values = network(np.stack(crops))
    for one, value in zip(seen, values, strict=True):
      if not np.isfinite(value).all():
        raise ValueError(
          f'{network.path}: {network.kind.name} must give finite numbers; for the {one.name} of '
          f'clip {self._clip!r} it gives {np.count_nonzero(~np.isfinite(value))} that are not'
        )
    return values
