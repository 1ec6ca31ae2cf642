"""`export`: an avatar in the format its file name asks for."""

import os

from sa0_jax.avatar.avatar import Avatar
from sa0_jax.capture.capture import Capture
from sa0_jax.export.formats import format_of
from sa0_jax.export.settings import ExportSettings
from sa0_jax.head.model import HeadCodes


def export(
  avatar: Avatar,
  path: str | os.PathLike[str],
  codes: HeadCodes | None = None,
  *,
  format: str | None = None,  # noqa: A002
  size: int = 512,
  motion: Capture | None = None,
) -> None:
  """Writes an avatar in a format other programs open, whole or not at all.

  What each format keeps and loses is in docs/exports.md.

  Args:
    avatar: the avatar.
    path: where; without `format` its suffix names the format: .ply, .spz, .splat, .glb, .html,
      .stablehlo.
    codes: pose and expression, one frame; None is neutral. The shape code is the avatar's own.
    format: key of `formats.FORMATS`, for those that share a suffix: 'local_ply'.
    size: side of the images a .stablehlo program renders, px.
    motion: a capture whose motion a .html page can play.

  Raises:
    ValueError: no such format, or the codes are not one frame of the avatar's head model.
    OSError: the file cannot be written.
  """
  format_of(path, format).load()(avatar, path, ExportSettings(codes, size, motion))
