"""A program that renders the avatar, for processes that have JAX and nothing of ours.

What is written is `jax.export`'s serialised form (StableHLO with compatibility guarantees), the
avatar's numbers inside, and beside it a JSON file that names arguments and results:

    program = jax.export.deserialize(bytearray(open('subject.stablehlo', 'rb').read()))
    rgb, alpha, overflowed = program.call(*arguments)
"""

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from sa0_kernels import Camera, RasterConfig

from sa0_jax import archive
from sa0_jax.avatar.avatar import Avatar
from sa0_jax.export.settings import ExportSettings, posed_gaussians
from sa0_jax.head.lbs import pose_head
from sa0_jax.head.model import HeadArrays, HeadCodes
from sa0_jax.mesh_render import portrait_camera
from sa0_jax.render import WHITE, neutral_extent, pose_gaussians

PLATFORMS = ('cpu', 'cuda', 'tpu')
# Room for poses and cameras that need more than the neutral portrait does.
_HEADROOM = 4
_TILE_SIZE = 16  # not what was tuned on the machine that exports


def export_stablehlo(
  avatar: Avatar, path: str | os.PathLike[str], settings: ExportSettings
) -> None:
  """Writes the program to `path` and its description to `path` + '.json'.

  Arguments are the codes of one frame without the shape, and a camera; results the image over
  white [size, size, 3], its alpha [size, size], and whether Gaussians were left out because the
  camera came so close that their (Gaussian, tile) pairs did not fit: that image is wrong. It runs
  on CPUs, NVIDIA GPUs and TPUs. Codes in the settings are not used.

  Args, Raises: as `export`; ImportError where flatbuffers is missing.
  """
  render, arguments = program(avatar, settings.size)
  exported = jax.export.export(jax.jit(render), platforms=PLATFORMS)(*arguments.values())
  description = {
    'format': 'sa0-stablehlo',
    'version': 1,
    'avatar': avatar.name,
    'head': {'name': avatar.head.name, 'fingerprint': avatar.head.fingerprint},
    'platforms': list(exported.platforms),
    'calling_convention_version': exported.calling_convention_version,
    'arguments': [_described(name, a) for name, a in arguments.items()],
    'results': [
      _described(name, aval)
      for name, aval in zip(('rgb', 'alpha', 'overflowed'), exported.out_avals, strict=True)
    ],
    'conventions': {
      'rotations': 'axis-angle, radians',
      'lengths': 'metres',
      'camera': 'OpenCV axes; intrinsics fx fy cx cy in px, pixel centres at +0.5',
      'background': list(WHITE),
    },
  }
  data = bytes(exported.serialize())
  # The description first: a program is never there without it.
  with archive.atomic_write(Path(f'{path}.json')) as file:
    file.write((json.dumps(description, indent=2) + '\n').encode())
  with archive.atomic_write(path) as file:
    file.write(data)


def program(
  avatar: Avatar, size: int
) -> tuple[Callable[..., tuple[Array, Array, Array]], dict[str, jax.ShapeDtypeStruct]]:
  """The function that is exported, and its arguments by name.

  Args:
    avatar: the avatar.
    size: side of the square images, px.
  """
  head, faces, layout = _shaped(avatar), jnp.asarray(avatar.head.faces), avatar.layout
  names = [f.name for f in dataclasses.fields(HeadCodes) if f.name != 'shape']
  config = RasterConfig(
    background=jnp.asarray(WHITE, jnp.float32),
    tile_size=_TILE_SIZE,
    capacity=_HEADROOM * _instances(avatar, size),
  )

  def render(*arguments: Array) -> tuple[Array, Array, Array]:
    *parts, world_to_camera, intrinsics = arguments
    codes = HeadCodes(shape=jnp.zeros(0), **dict(zip(names, parts, strict=True)))
    gaussians = pose_gaussians(avatar.gaussians, pose_head(head, codes), faces, layout.face)
    camera = Camera(world_to_camera, intrinsics, size, size)
    output = gaussians.rasterize(camera, config, 'xla')
    return output.features, output.alpha, output.overflowed

  neutral = HeadCodes.neutral(avatar.head)
  shapes = {name: np.shape(getattr(neutral, name)) for name in names}
  shapes |= {'world_to_camera': (4, 4), 'intrinsics': (4,)}
  return render, {n: jax.ShapeDtypeStruct(s, jnp.float32) for n, s in shapes.items()}


def _shaped(avatar: Avatar) -> HeadArrays:
  """The head with the subject's shape in its template: the identity basis stays at home."""
  arrays, shape = avatar.head.arrays, np.asarray(avatar.shape, np.float64)

  def product(basis: Array, like: Array) -> Array:
    moved = shape @ np.asarray(basis, np.float64)
    return jnp.asarray(np.asarray(like, np.float64) + moved.reshape(like.shape), jnp.float32)

  return dataclasses.replace(
    arrays,
    template=product(arrays.shape_basis, arrays.template),
    joint_template=product(arrays.joint_shape_basis, arrays.joint_template),
    shape_basis=arrays.shape_basis[:0],
    joint_shape_basis=arrays.joint_shape_basis[:0],
  )


def _instances(avatar: Avatar, size: int) -> int:
  """(Gaussian, tile) pairs of the neutral portrait."""
  camera = portrait_camera(neutral_extent(avatar), yaw=0.0, pitch=0.0, size=size)
  output = posed_gaussians(avatar, None).rasterize(
    camera, RasterConfig(tile_size=_TILE_SIZE), 'xla'
  )
  return int(output.num_instances)


def _described(name: str, array: Any) -> dict[str, Any]:
  return {'name': name, 'shape': list(array.shape), 'dtype': np.dtype(array.dtype).name}
