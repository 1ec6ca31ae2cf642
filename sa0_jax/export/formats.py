"""The formats `sa0 export` writes. One entry per format; nothing here loads what writes them."""

import dataclasses
import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from sa0_jax.avatar.avatar import Avatar
  from sa0_jax.export.settings import ExportSettings

  Writer = Callable[[Avatar, str | os.PathLike[str], ExportSettings], None]


@dataclasses.dataclass(frozen=True)
class Format:
  """One kind of file.

  Attributes:
    suffix: what its files end in.
    writer: 'module:function' that writes one, called with (avatar, path, `ExportSettings`). It
      writes the file whole or not at all.
    about: what it is, for `--help`.
    frozen: whether a file holds the head in one pose, so that a performance is a folder of them.
  """

  suffix: str
  writer: str
  about: str
  frozen: bool = True

  def load(self) -> 'Writer':
    """Imports the writer."""
    module, _, name = self.writer.partition(':')
    writer: Writer = getattr(importlib.import_module(module), name)
    return writer


# A suffix belongs to the first format that names it.
FORMATS: dict[str, Format] = {
  'ply': Format('.ply', 'sa0_jax.export.ply:export_ply', 'INRIA 3DGS point cloud'),
  'local_ply': Format(
    '.ply',
    'sa0_jax.export.local_ply:export_local_ply',
    "GaussianAvatars' point cloud in triangle frames",
    frozen=False,
  ),
  'spz': Format('.spz', 'sa0_jax.export.spz:export_spz', "Niantic's compressed splats"),
  'splat': Format('.splat', 'sa0_jax.export.splat:export_splat', 'splats of 32 bytes for the web'),
  'glb': Format(
    '.glb', 'sa0_jax.export.glb:export_glb', 'rigged glTF mesh with morph targets', frozen=False
  ),
  'html': Format(
    '.html', 'sa0_jax.viewer.page:export_html', 'a web page to turn and move it in', frozen=False
  ),
  'stablehlo': Format(
    '.stablehlo',
    'sa0_jax.export.stablehlo:export_stablehlo',
    'a program for jax.export that renders the avatar',
    frozen=False,
  ),
}


def format_of(path: str | os.PathLike[str], name: str | None = None) -> Format:
  """The format of a name, or the one a file name asks for.

  Args:
    path: the file; it must end as files of the format do.
    name: key of `FORMATS`; None goes by the suffix.

  Raises:
    ValueError: there is no such format, or the file is named otherwise.
  """
  suffix = Path(path).suffix.lower()
  if name is None:
    for format_ in FORMATS.values():
      if format_.suffix == suffix:
        return format_
    known = ', '.join(sorted({format_.suffix for format_ in FORMATS.values()}))
    raise ValueError(f'{path}: no export to {suffix or "a name without suffix"!r}; use {known}')
  if name not in FORMATS:
    raise ValueError(f'export: no format {name!r}; use {", ".join(FORMATS)}')
  if FORMATS[name].suffix != suffix:
    raise ValueError(f'{path}: a {name} file is named *{FORMATS[name].suffix}')
  return FORMATS[name]
