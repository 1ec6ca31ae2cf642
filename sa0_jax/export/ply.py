"""INRIA 3DGS PLY: what SuperSplat, Brush, gsplat's viewers and game engines open."""

import dataclasses
import os

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from sa0_jax import archive
from sa0_jax.avatar.avatar import Avatar
from sa0_jax.avatar.gaussians import Gaussians
from sa0_jax.head.lbs import pose_head
from sa0_jax.head.model import HeadCodes
from sa0_jax.render import pose_gaussians

# Value of the constant spherical harmonic, 1 / (2 √π): colour = 0.5 + C0 · f_dc.
SH_C0 = 0.28209479177387814
PROPERTIES = (
  *('x', 'y', 'z'),
  *('nx', 'ny', 'nz'),
  *('f_dc_0', 'f_dc_1', 'f_dc_2'),
  'opacity',
  *('scale_0', 'scale_1', 'scale_2'),
  *('rot_0', 'rot_1', 'rot_2', 'rot_3'),
)


def export_ply(
  avatar: Avatar, path: str | os.PathLike[str], codes: HeadCodes | None = None
) -> None:
  """Writes the posed avatar as a binary little-endian PLY in world space.

  One vertex per Gaussian: position (metres; x to the subject's left, y up, z out of the face),
  normal (always 0), f_dc = (rgb − 0.5) / C0 of the first three channels, opacity as a
  logit, scale as the natural logarithm of metres, rotation as a unit quaternion (w, x, y, z).
  Colours do not depend on the view: there is no f_rest.

  Args, Raises: as `export`.
  """
  rows = ply_rows(posed_gaussians(avatar, codes))
  header = '\n'.join(
    [
      'ply',
      'format binary_little_endian 1.0',
      f'element vertex {len(rows)}',
      *(f'property float {name}' for name in PROPERTIES),
      'end_header\n',
    ]
  )
  with archive.atomic_write(path) as file:
    file.write(header.encode('ascii'))
    file.write(rows.astype('<f4').tobytes())


def posed_gaussians(avatar: Avatar, codes: HeadCodes | None = None) -> Gaussians:
  """World-space Gaussians of an avatar.

  Args:
    avatar: the avatar.
    codes: one frame's; None is neutral. The shape code is the avatar's own.

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
  vertices = pose_head(avatar.head, codes)
  return pose_gaussians(
    avatar.gaussians, vertices, jnp.asarray(avatar.head.faces), avatar.layout.face
  )


def ply_rows(gaussians: Gaussians) -> Float[np.ndarray, 'n 17']:
  """The numbers of each vertex, in the order of `PROPERTIES`."""
  opacity = np.asarray(gaussians.opacities, np.float64)
  # Opacities that float32 rounds to 0 or 1 keep a finite logit.
  opacity = np.clip(opacity, 1e-7, 1.0 - 1e-7)
  means = np.asarray(gaussians.means, np.float64)
  scales = np.maximum(np.asarray(gaussians.scales, np.float64), np.finfo(np.float32).tiny)
  return np.concatenate(
    [
      means,
      np.zeros_like(means),
      (np.asarray(gaussians.colors, np.float64)[:, :3] - 0.5) / SH_C0,
      (np.log(opacity) - np.log1p(-opacity))[:, None],
      np.log(scales),
      np.asarray(gaussians.quats, np.float64),
    ],
    axis=1,
  ).astype(np.float32)
