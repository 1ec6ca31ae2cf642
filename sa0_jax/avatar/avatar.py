"""The avatar users keep: bound Gaussians, who they are, and the head mesh they live on."""

import dataclasses
import os
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sa0_jax import archive
from sa0_jax.avatar.gaussians import BoundGaussians
from sa0_jax.head.model import HeadModel
from sa0_jax.head.registry import load_head
from sa0_jax.head.uv_layout import UVLayout

FORMAT = 'sa0-avatar'
VERSION = 1
_MAX_BYTES = 1 << 31
_GAUSSIAN_NAMES = tuple(f.name for f in dataclasses.fields(BoundGaussians))


@dataclasses.dataclass(frozen=True, eq=False)
class Avatar:
  """An animatable Gaussian head.

  Attributes:
    gaussians: one Gaussian per valid texel, bound to the head mesh.
    layout: which texel and triangle each of them belongs to.
    shape: [s] identity code of the subject.
    head: the head model the Gaussians are bound to.
    name: what users call it.
  """

  gaussians: BoundGaussians
  layout: UVLayout
  shape: Float[Array, ' s']
  head: HeadModel
  name: str = 'avatar'

  @property
  def n(self) -> int:
    """Number of Gaussians."""
    return self.gaussians.n

  def save(self, path: str | os.PathLike[str]) -> None:
    """Writes the avatar file, whole or not at all; equal avatars give equal bytes."""
    arrays: dict[str, np.ndarray] = {
      'format': np.array([FORMAT, str(VERSION)]),
      'name': np.array(self.name),
      'head': np.array([self.head.name, self.head.fingerprint]),
      'shape': np.asarray(self.shape, np.float32),
      'uv_resolution': np.array(self.layout.resolution, np.int32),
      'texel': np.asarray(self.layout.texel, np.int32),
      'face': np.asarray(self.layout.face, np.int32),
      'barycentric': np.asarray(self.layout.barycentric, np.float32),
    }
    for name in _GAUSSIAN_NAMES:
      arrays[name] = np.asarray(getattr(self.gaussians, name), np.float32)
    archive.write_arrays(path, arrays)

  @classmethod
  def load(cls, path: str | os.PathLike[str], head: HeadModel | None = None) -> 'Avatar':
    """Reads an avatar file.

    Args:
      path: a file written by `save`.
      head: the head model it is bound to; None loads the one it names.

    Raises:
      FileNotFoundError: the file, or the head model it names, is missing.
      ValueError: the file is damaged or of another version, holds values that are not finite, or
        was made on another mesh.
    """
    if not Path(path).is_file():
      raise FileNotFoundError(f'{path}: no such avatar')
    arrays = archive.read_arrays(path, max_bytes=_MAX_BYTES)
    if 'format' not in arrays or arrays['format'].shape != (2,) or arrays['format'][0] != FORMAT:
      raise ValueError(f'{path}: not an avatar file')
    if arrays['format'][1] != str(VERSION):
      raise ValueError(
        f'{path}: avatar version {arrays["format"][1]}, this program reads version {VERSION}'
      )
    _check_arrays(arrays, str(path))
    head_name, fingerprint = (str(word) for word in arrays['head'])
    head = load_head(head_name) if head is None else head
    if head.fingerprint != fingerprint:
      raise ValueError(
        f'{path}: made on the mesh {fingerprint} (head model {head_name!r}), not on '
        f'{head.fingerprint} ({head.name!r}); vertex order is part of the format: load it with the '
        'head model it was made with'
      )
    _check_fits_head(arrays, head, str(path))
    layout = UVLayout(
      jnp.asarray(arrays['texel']),
      jnp.asarray(arrays['face']),
      jnp.asarray(arrays['barycentric']),
      int(arrays['uv_resolution']),
    )
    gaussians = BoundGaussians(**{name: jnp.asarray(arrays[name]) for name in _GAUSSIAN_NAMES})
    return cls(gaussians, layout, jnp.asarray(arrays['shape']), head, str(arrays['name']))


def _check_arrays(arrays: dict[str, np.ndarray], source: str) -> None:
  """Shapes that fit together and finite values, or a ValueError naming the array."""
  n = arrays['face'].shape[0] if arrays.get('face', np.zeros(())).ndim == 1 else -1
  channels = arrays['color_logit'].shape[-1] if 'color_logit' in arrays else -1
  wanted: dict[str, tuple[str, tuple[int, ...]]] = {
    'name': ('U', ()),
    'head': ('U', (2,)),
    'uv_resolution': ('i', ()),
    'texel': ('i', (n, 2)),
    'face': ('i', (n,)),
    'barycentric': ('f', (n, 3)),
    'position': ('f', (n, 3)),
    'rotation': ('f', (n, 4)),
    'log_scale': ('f', (n, 3)),
    'opacity_logit': ('f', (n,)),
    'color_logit': ('f', (n, channels)),
  }
  for name, (kind, shape) in wanted.items():
    if name not in arrays:
      raise ValueError(f'{source}: array {name!r} is missing')
    if arrays[name].dtype.kind != kind or arrays[name].shape != shape:
      raise ValueError(
        f'{source}: {name!r} is {arrays[name].dtype} {arrays[name].shape}, expected {shape}'
      )
  for name in ('barycentric', 'shape', *_GAUSSIAN_NAMES):
    if name not in arrays or not np.isfinite(arrays[name]).all():
      raise ValueError(f'{source}: {name!r} is missing, or holds NaN or infinity')


def _check_fits_head(arrays: dict[str, np.ndarray], head: HeadModel, source: str) -> None:
  if arrays['shape'].shape != (head.num_shape,):
    raise ValueError(
      f'{source}: the shape code has {arrays["shape"].shape} numbers, head model {head.name!r} '
      f'takes {head.num_shape}'
    )
  resolution, face, texel = int(arrays['uv_resolution']), arrays['face'], arrays['texel']
  if not len(face) or face.min() < 0 or face.max() >= len(head.faces):
    raise ValueError(f'{source}: holds no Gaussians, or some on triangles the mesh does not have')
  if not 0 < resolution < 1 << 14 or texel.min() < 0 or texel.max() >= resolution:
    raise ValueError(f'{source}: texels lie outside the {resolution} x {resolution} UV image')
