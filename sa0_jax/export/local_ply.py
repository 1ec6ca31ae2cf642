"""GaussianAvatars' PLY: Gaussians in the frames of the triangles that carry them.

Our triangle frames are theirs (avatar/binding.py), so the numbers are the avatar's own. It opens in
their viewer only where the avatar's mesh is theirs: FLAME 2023 with the added teeth.
"""

import os

import numpy as np

from sa0_jax.avatar.avatar import Avatar
from sa0_jax.avatar.gaussians import local_attributes
from sa0_jax.export.ply import PROPERTIES, ply_rows, write_rows
from sa0_jax.export.settings import ExportSettings

# Their reader counts the coefficients of spherical harmonics of degree 3.
_HARMONICS = tuple(f'f_rest_{i}' for i in range(45))
_BEFORE = PROPERTIES.index('opacity')
LOCAL_PROPERTIES = (*PROPERTIES[:_BEFORE], *_HARMONICS, *PROPERTIES[_BEFORE:], 'binding_0')


def export_local_ply(
  avatar: Avatar, path: str | os.PathLike[str], settings: ExportSettings
) -> None:
  """Writes the avatar's Gaussians in their triangles' frames.

  Properties as `export_ply` but in triangle units, 45 zeros for colours that depend on the view,
  and `binding_0`, the row of `HeadModel.faces` that carries the Gaussian. No pose: codes are not
  used.

  Args, Raises: as `export`.
  """
  rows = ply_rows(local_attributes(avatar.gaussians))
  rows = np.concatenate(
    [
      rows[:, :_BEFORE],
      np.zeros((len(rows), len(_HARMONICS)), np.float32),
      rows[:, _BEFORE:],
      np.asarray(avatar.layout.face, np.float32)[:, None],
    ],
    axis=1,
  )
  write_rows(path, LOCAL_PROPERTIES, rows)
