"""What every writer of a format is given, and the pose it is asked for."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from sa0_jax.avatar.avatar import Avatar
from sa0_jax.avatar.gaussians import Gaussians
from sa0_jax.capture.capture import Capture
from sa0_jax.head.lbs import pose_head
from sa0_jax.head.model import HeadCodes
from sa0_jax.render import pose_gaussians


@dataclasses.dataclass(frozen=True, eq=False)
class ExportSettings:
  """How an avatar is to be written; each format takes what concerns it.

  Attributes:
    codes: pose and expression, one frame; None is neutral. The shape code is the avatar's own.
    size: side of the square images a program renders, px.
    motion: a capture whose motion a page can play; None for none.
  """

  codes: HeadCodes | None = None
  size: int = 512
  motion: Capture | None = None


def posed_codes(avatar: Avatar, codes: HeadCodes | None) -> HeadCodes:
  """Codes of one frame with the avatar's own shape code.

  Args:
    avatar: the avatar.
    codes: one frame's; None is neutral.

  Raises:
    ValueError: the codes are not one frame of the avatar's head model.
  """
  neutral = HeadCodes.neutral(avatar.head)
  codes = dataclasses.replace(neutral if codes is None else codes, shape=avatar.shape)
  for field in dataclasses.fields(HeadCodes):
    given, wanted = (np.shape(getattr(c, field.name)) for c in (codes, neutral))
    if given != wanted:
      raise ValueError(
        f'codes: {field.name} has shape {given}, one frame of head model {avatar.head.name!r} has '
        f'{wanted}'
      )
  return codes


def posed_gaussians(avatar: Avatar, codes: HeadCodes | None) -> Gaussians:
  """World-space Gaussians of an avatar; arguments and errors as `posed_codes`."""
  vertices = pose_head(avatar.head, posed_codes(avatar, codes))
  return pose_gaussians(
    avatar.gaussians, vertices, jnp.asarray(avatar.head.faces), avatar.layout.face
  )
