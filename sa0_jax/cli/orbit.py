"""A drive without a capture: the camera swings around the head while the face moves a little."""

import dataclasses
from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np
from sa0_kernels import Camera

from sa0_jax.avatar.avatar import Avatar
from sa0_jax.head.model import HeadCodes, HeadModel
from sa0_jax.mesh_render import portrait_camera
from sa0_jax.render import neutral_extent

YAW = np.pi / 3
PITCH = 0.12
_JAW = 0.18  # rad at the widest
# Where the head model names its expressions: an ARKit name and its largest coefficient.
_EXPRESSIONS = (('mouthSmile', 0.7), ('browInnerUp', 0.6), ('eyeBlink', 1.0))


@dataclasses.dataclass(frozen=True)
class Orbit:
  """One swing of the camera.

  Attributes:
    frames: its length; the last frame leads back to the first.
    size: side of the square images, px.
    still: keep the face neutral.
  """

  frames: int = 120
  size: int = 512
  still: bool = False


def orbit_drive(avatar: Avatar, orbit: Orbit) -> Iterator[tuple[HeadCodes, Camera]]:
  """Codes and cameras: from the front to 60° on the subject's left, to 60° on the right, and back.

  Args:
    avatar: whom.
    orbit: length and size.
  """
  head = avatar.head
  neutral = dataclasses.replace(HeadCodes.neutral(head), shape=avatar.shape)
  extent = neutral_extent(avatar)
  for index in range(orbit.frames):
    phase = 2.0 * np.pi * index / orbit.frames
    camera = portrait_camera(
      extent, yaw=YAW * np.sin(phase), pitch=PITCH * np.sin(2.0 * phase), size=orbit.size
    )
    yield (neutral if orbit.still else _face(head, neutral, phase)), camera


def _face(head: HeadModel, neutral: HeadCodes, phase: float) -> HeadCodes:
  """The face at one moment of the swing: it speaks, and where names are known smiles and blinks."""
  jaw = _JAW * np.sin(2.0 * phase) ** 2
  weights = {
    'mouthSmile': np.sin(phase) ** 2,
    'browInnerUp': np.sin(phase / 2.0) ** 4,
    'eyeBlink': np.exp(-(((phase - np.pi) / 0.25) ** 2)),
  }
  expression = np.array(neutral.expression)
  for name, largest in _EXPRESSIONS:
    for side in (name, f'{name}Left', f'{name}Right'):
      if side in head.expression_names:
        expression[head.expression_names.index(side)] = largest * weights[name]
  return dataclasses.replace(
    neutral,
    expression=jnp.asarray(expression),
    jaw=jnp.asarray([jaw, 0.0, 0.0], jnp.float32),
  )
