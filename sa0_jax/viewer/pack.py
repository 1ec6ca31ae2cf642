"""An avatar as one compact file for the web page: a JSON header and little-endian arrays.

    8 bytes   b'SA0VIEW1'
    4 bytes   length of the header in bytes, unsigned
    header    JSON, padded with spaces so that what follows starts at a multiple of 8
    arrays    each starting at a multiple of 8; the header tells where, its type and its shape

The page poses the head itself (viewer/web/src/head.js), so the file carries what that needs and no
more: the subject's shape code is already in the vertices, directions that move nothing are left
out, and the others are 16-bit numbers with one scale each, off by at most 1/65534 of their largest
displacement: half a micrometre for one of 3 cm.
"""

import json
import re
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from sa0_jax.avatar.avatar import Avatar
from sa0_jax.avatar.gaussians import local_attributes
from sa0_jax.capture.capture import Capture
from sa0_jax.head.model import HeadCodes, HeadModel
from sa0_jax.mesh_render import portrait_camera
from sa0_jax.render import neutral_extent

MAGIC = b'SA0VIEW1'
ALIGNMENT = 8
_POSE_NUMBERS = 36  # pose correctives: nine per joint but the root
_HOME_SIZE = 512  # px, of the portrait camera the page starts from
# ARKit's coefficients run from 0 to 1; directions of other names are standard deviations.
_ARKIT = re.compile(r'(eye|brow|cheek|nose|mouth|jaw|tongue)[A-Z]\w*')
_UNNAMED_RANGE = 2.5
# Name, expressions (both sides where they have two) with their coefficients, jaw and gaze in rad.
_PRESETS: tuple[tuple[str, dict[str, float], float, tuple[float, float]], ...] = (
  ('Neutral', {}, 0.0, (0.0, 0.0)),
  ('Smile', {'mouthSmile': 0.8, 'cheekSquint': 0.4}, 0.02, (0.0, 0.0)),
  ('Surprise', {'browInnerUp': 0.9, 'browOuterUp': 0.7, 'eyeWide': 0.8}, 0.25, (0.0, 0.0)),
  ('Frown', {'browDown': 0.9, 'mouthFrown': 0.8, 'noseSneer': 0.3}, 0.0, (0.0, 0.0)),
  ('Blink', {'eyeBlink': 1.0}, 0.0, (0.0, 0.0)),
  ('Pucker', {'mouthPucker': 0.9}, 0.0, (0.0, 0.0)),
  ('Open mouth', {}, 0.3, (0.0, 0.0)),
  ('Look left', {}, 0.0, (0.35, 0.0)),
  ('Look up', {}, 0.0, (0.0, -0.25)),
)


class Playback(NamedTuple):
  """What plays in the page: codes and cameras of a capture.

  Attributes:
    codes: with one leading axis of t frames.
    world_to_camera: [t, 4, 4] OpenCV axes.
    intrinsics: [t, 4] fx, fy, cx, cy, px.
    size: width and height of the pictures, px.
    fps: frames per second.
  """

  codes: HeadCodes
  world_to_camera: Float[np.ndarray, 't 4 4']
  intrinsics: Float[np.ndarray, 't 4']
  size: tuple[int, int]
  fps: float


def playback_of(capture: Capture, head: HeadModel) -> Playback:
  """What plays of a capture, for an avatar on `head`.

  Raises:
    ValueError: the capture was tracked with another head model.
  """
  capture.check_head(head)
  return Playback(
    capture.codes,
    np.asarray(capture.camera.world_to_camera),
    np.asarray(capture.camera.intrinsics),
    (capture.width, capture.height),
    capture.fps,
  )


def pack_avatar(avatar: Avatar, playback: Playback | None = None) -> bytes:
  """The file of an avatar for the page.

  Args:
    avatar: the avatar.
    playback: what plays; codes of the avatar's head model, whose shape code is not used.

  Returns:
    The bytes described above; equal avatars give equal bytes.
  """
  arrays = {**_head_arrays(avatar), **_gaussian_arrays(avatar)}
  header: dict[str, Any] = {
    'name': avatar.name,
    'head': avatar.head.name,
    'expressions': _expressions(avatar.head),
    'presets': _presets(avatar.head),
    'home': _home(neutral_extent(avatar)),
  }
  if playback is not None:
    arrays |= _playback_arrays(playback)
    header['motion'] = {'fps': playback.fps, 'width': playback.size[0], 'height': playback.size[1]}
  return _encode(header, arrays)


def _head_arrays(avatar: Avatar) -> dict[str, np.ndarray]:
  """The subject's neutral head and what moves it."""
  head, shape = avatar.head, np.asarray(avatar.shape, np.float64)
  vertices = head.v_template + head.shapedirs @ shape
  rows = np.concatenate([head.exprdirs, head.posedirs], axis=-1).reshape(-1, _rows(head)).T
  largest = np.abs(rows).max(axis=1)
  used = np.flatnonzero(largest)
  scale = largest[used] / 32767
  expression_joints = np.einsum('jv,vce->ejc', head.joint_regressor, head.exprdirs, optimize=True)
  return {
    'vertices': vertices.astype('<f4'),
    'faces': head.faces.astype('<u4'),
    'weights': head.weights.astype('<f4'),
    'joints': (head.joint_regressor @ vertices).astype('<f4'),
    'joint_directions': expression_joints.reshape(-1, 15).astype('<f4'),
    'direction_index': used.astype('<u4'),
    'direction_scale': scale.astype('<f4'),
    'directions': np.rint(rows[used] / scale[:, None]).astype('<i2'),
  }


def _rows(head: HeadModel) -> int:
  return head.num_expression + _POSE_NUMBERS


def _gaussian_arrays(avatar: Avatar) -> dict[str, np.ndarray]:
  """The Gaussians in their triangles' frames, activated. Quaternions are (w, x, y, z) × 32767."""
  local = local_attributes(avatar.gaussians)
  opacity = np.asarray(local.opacities)[:, None]
  colors = np.concatenate([np.asarray(local.colors)[:, :3], opacity], axis=1)
  return {
    'gaussian_face': np.asarray(avatar.layout.face).astype('<u4'),
    'gaussian_position': np.asarray(local.means).astype('<f4'),
    'gaussian_scale': np.asarray(local.scales).astype('<f4'),
    'gaussian_rotation': np.rint(np.asarray(local.quats) * 32767).astype('<i2'),
    'gaussian_rgba': np.rint(np.clip(colors, 0.0, 1.0) * 65535).astype('<u2'),
  }


def _playback_arrays(playback: Playback) -> dict[str, np.ndarray]:
  """Codes of each frame (the pose: rotation, neck, jaw, eyes, translation) and cameras."""
  frames, codes = len(playback.intrinsics), playback.codes

  def every(part: Any) -> np.ndarray:
    return np.broadcast_to(np.asarray(part), (frames, np.shape(part)[-1]))

  pose = (codes.rotation, codes.neck, codes.jaw, codes.eyes, codes.translation)
  return {
    'motion_expression': every(codes.expression).astype('<f4'),
    'motion_pose': np.concatenate([every(part) for part in pose], axis=1).astype('<f4'),
    'motion_view': playback.world_to_camera.astype('<f4'),
    'motion_intrinsics': playback.intrinsics.astype('<f4'),
  }


def _expressions(head: HeadModel) -> list[dict[str, Any]]:
  """Name and range of each slider."""
  names = head.expression_names or ('',) * head.num_expression
  return [
    {'name': name or f'expression {index}', 'named': bool(name), 'low': low, 'high': high}
    for index, name in enumerate(names)
    for low, high in [(0.0, 1.0) if _ARKIT.fullmatch(name) else (-_UNNAMED_RANGE, _UNNAMED_RANGE)]
  ]


def _presets(head: HeadModel) -> list[dict[str, Any]]:
  """Faces to go to at once: those whose expressions this head names."""
  presets = []
  for name, wanted, jaw, (across, down) in _PRESETS:
    weights = {
      head.expression_names.index(side): weight
      for word, weight in wanted.items()
      for side in (word, f'{word}Left', f'{word}Right')
      if side in head.expression_names
    }
    if weights or not wanted:
      expression = [[index, weight] for index, weight in sorted(weights.items())]
      presets.append({'name': name, 'expression': expression, 'jaw': jaw, 'gaze': [across, down]})
  return presets


def _home(extent: Float[np.ndarray, '2 3']) -> dict[str, Any]:
  """Where the page looks from at first: the portrait camera of `sa0 render --drive orbit`."""
  camera = portrait_camera(extent, yaw=0.0, pitch=0.0, size=_HOME_SIZE)
  target = extent.mean(axis=0)
  return {
    'target': [float(x) for x in target],
    'position': [float(x) for x in np.asarray(camera.position)],
    'focal': float(np.asarray(camera.intrinsics)[1]) / _HOME_SIZE,  # in heights of the picture
  }


def _encode(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> bytes:
  offset, table = 0, {}
  for name, array in arrays.items():
    table[name] = {'dtype': array.dtype.str[1:], 'shape': list(array.shape), 'offset': offset}
    offset += _padded(array.nbytes)
  text = json.dumps({**header, 'arrays': table}, allow_nan=False).encode()
  start = len(MAGIC) + 4
  text = text.ljust(_padded(start + len(text)) - start)
  parts = [MAGIC, len(text).to_bytes(4, 'little'), text]
  for array in arrays.values():
    parts.append(np.ascontiguousarray(array).tobytes())
    parts.append(bytes(_padded(array.nbytes) - array.nbytes))
  return b''.join(parts)


def _padded(size: int) -> int:
  return -(-size // ALIGNMENT) * ALIGNMENT
