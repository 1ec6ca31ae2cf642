"""What to film, in one frozen dataclass."""

import dataclasses
import math

from sa0_jax.capture.studio.backgrounds import BACKGROUNDS
from sa0_jax.capture.studio.extras import DRAWN, NONE
from sa0_jax.capture.studio.subject import BEARD_STYLES, GLASSES_STYLES, HAIR_STYLES

KINDS = ('monocular', 'multiview')
# What can be added to a subject, and by which names beside 'none' and 'drawn'.
CHOICES: dict[str, tuple[str, ...]] = {
  'beard': BEARD_STYLES,
  'glasses': GLASSES_STYLES,
  'background': BACKGROUNDS,
  'sensor': (),
}
_FPS = {'monocular': 25.0, 'multiview': 2.0}


@dataclasses.dataclass(frozen=True)
class StudioConfig:
  """A session in the studio; the same config gives the same bits.

  Attributes:
    seed: who is filmed and how: subject, performance, light and cameras follow from it.
    kind: 'monocular' (a video) or 'multiview' (several cameras at once).
    frames: frames of the video, or instants at which all cameras fire.
    resolution: side of the square images, px.
    fps: frames or instants a second; None is 25 for a video and 2 for multi-view, where every
      instant shall show something else.
    cameras: number of cameras of a multi-view session; a video has one.
    supersampling: samples along each side of a pixel.
    hair: one of `subject.HAIR_STYLES` instead of what the seed says; None leaves it.
    beard: strands on chin and lip: 'none', 'drawn' (the seed says whether and which), or one of
      `subject.BEARD_STYLES`.
    glasses: 'none', 'drawn', or one of `subject.GLASSES_STYLES`.
    background: 'none' (the studio's own, a soft spot of light), 'drawn', or one of
      `backgrounds.BACKGROUNDS`.
    sensor: 'none' (a perfect camera) or 'drawn': softness, exposure, white balance, grain,
      compression.

  Raises:
    ValueError: a value is out of range; the message names it and what is allowed.
  """

  seed: int = 0
  kind: str = 'monocular'
  frames: int = 120
  resolution: int = 256
  fps: float | None = None
  cameras: int = 16
  supersampling: int = 2
  hair: str | None = None
  beard: str = NONE
  glasses: str = NONE
  background: str = NONE
  sensor: str = NONE

  def __post_init__(self) -> None:
    if self.kind not in KINDS:
      raise ValueError(f'StudioConfig: kind must be one of {", ".join(KINDS)}, got {self.kind!r}')
    for name, low, high in (
      ('seed', 0, 2**63 - 1),
      ('frames', 1, 100_000),
      ('resolution', 16, 4096),
      ('cameras', 2, 64),
      ('supersampling', 1, 8),
    ):
      value = getattr(self, name)
      if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f'StudioConfig: {name} must be an integer {low} to {high}, got {value!r}')
    if self.fps is not None and not (math.isfinite(self.fps) and 0.01 <= self.fps <= 1000):
      raise ValueError(f'StudioConfig: fps must be 0.01 to 1000, got {self.fps!r}')
    if self.hair is not None and self.hair not in HAIR_STYLES:
      raise ValueError(
        f'StudioConfig: hair must be one of {", ".join(HAIR_STYLES)}, got {self.hair!r}'
      )
    for name, named in CHOICES.items():
      allowed, value = (NONE, DRAWN, *named), getattr(self, name)
      if value not in allowed:
        raise ValueError(f'StudioConfig: {name} must be one of {", ".join(allowed)}, got {value!r}')

  @property
  def rate(self) -> float:
    """Frames or instants a second."""
    return _FPS[self.kind] if self.fps is None else float(self.fps)
