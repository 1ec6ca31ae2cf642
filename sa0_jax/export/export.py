"""`export`: an avatar in the format its file name asks for."""

import os
from pathlib import Path

from sa0_jax.avatar.avatar import Avatar
from sa0_jax.export.ply import export_ply
from sa0_jax.head.model import HeadCodes

# Suffix → exporter. One entry per format.
FORMATS = {'.ply': export_ply}


def export(avatar: Avatar, path: str | os.PathLike[str], codes: HeadCodes | None = None) -> None:
  """Writes an avatar in a format other programs open, whole or not at all.

  Args:
    avatar: the avatar.
    path: where; its suffix names the format: `.ply` is an INRIA 3DGS point cloud.
    codes: pose and expression it is frozen in, one frame; None is neutral. The shape code is the
      avatar's own.

  Raises:
    ValueError: no such format, or the codes are not one frame of the avatar's head model.
    OSError: the file cannot be written.
  """
  suffix = Path(path).suffix.lower()
  if suffix not in FORMATS:
    raise ValueError(f'{path}: no export to {suffix or "a name without suffix"!r}; use {known()}')
  FORMATS[suffix](avatar, path, codes)


def known() -> str:
  """The formats there are, for messages."""
  return ', '.join(sorted(FORMATS))
