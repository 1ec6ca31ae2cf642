"""Pictures to judge an avatar by: beside what was filmed."""

from collections.abc import Iterator, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from sa0_jax.avatar.avatar import Avatar
from sa0_jax.capture.capture import Capture
from sa0_jax.losses.photometric import composite
from sa0_jax.render import WHITE, Renderer

Picture = UInt8[np.ndarray, 'h w 3']


def comparison(
  avatars: Sequence[Avatar],
  capture: Capture,
  positions: np.ndarray,
  background: tuple[float, float, float] = WHITE,
) -> Iterator[Picture]:
  """Filmed on the left, each avatar to its right, all over one colour.

  Args:
    avatars: in their order.
    capture: what was filmed.
    positions: which of its frames.
    background: RGB in [0, 1].
  """
  renderers = [Renderer(avatar, background) for avatar in avatars]
  color = jnp.asarray(background, jnp.float32)
  for position in positions:
    frame = capture.frames[int(position)]
    filmed = composite(jnp.asarray(frame.image), jnp.asarray(frame.matte), color)
    rendered = [renderer(frame.codes, frame.camera).rgb for renderer in renderers]
    yield to_bytes(np.concatenate([np.asarray(filmed), *rendered], axis=1))


def to_bytes(image: Float[np.ndarray, 'h w 3']) -> Picture:
  """Colours in [0, 1] as 8-bit numbers."""
  return np.round(np.clip(image, 0.0, 1.0) * 255.0).astype(np.uint8)
