"""From the data's frames to what a training step takes, on the devices."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh
from sa0_kernels import Camera

from sa0_jax.capture.frames import over_black
from sa0_jax.data.batches import FrameBatch
from sa0_jax.generator.generator import Sources
from sa0_jax.head.lbs import pose_head
from sa0_jax.head.model import HeadArrays, HeadModel
from sa0_jax.train import parallel
from sa0_jax.train.objective import Batch, Targets


def make_put(mesh: Mesh) -> Callable[[FrameBatch], FrameBatch]:
  """Sends batches to the devices of a mesh: this process's people to its own devices.

  Args:
    mesh: from `parallel.make_mesh`.
  """
  parts = parallel.spread(mesh)

  def put(batch: FrameBatch) -> Any:
    return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(parts, leaf), batch)

  return put


def make_feed(mesh: Mesh, head: HeadModel) -> Callable[[FrameBatch], Batch]:
  """Makes training batches of frames that lie on the devices.

  Meshes are posed there: codes are small, and a device poses hundreds of heads in the time a
  processor poses one. Images become floats over black there too, a quarter of the bytes to send.

  Args:
    mesh: the devices.
    head: the head model of the codes.
  """
  whole, parts = parallel.replicated(mesh), parallel.spread(mesh)
  compiled = jax.jit(to_batch, in_shardings=(parts, whole), out_shardings=parts)
  arrays = jax.device_put(head.arrays, whole)
  return lambda frames: compiled(frames, arrays)


def to_batch(frames: Any, head: HeadArrays) -> Batch:
  """Poses the meshes and puts the heads over black.

  Args:
    frames: `FrameBatch` of device arrays.
    head: arrays of the head model of its codes.
  """
  vertices = pose_head(head, frames.codes)
  image = over_black(frames.images, frames.mattes)
  sources, target = slice(1, None), 0
  return Batch(
    Sources(
      image=image[:, sources],
      vertices=vertices[:, sources],
      camera=_cameras(frames.camera, sources),
      mask=frames.mask,
      matte=frames.mattes[:, sources],
    ),
    Targets(
      image=image[:, target],
      vertices=vertices[:, target],
      camera=_cameras(frames.camera, target),
      codes=jax.tree.map(lambda leaf: leaf[:, target], frames.codes),
      box=frames.face_box[:, target],
      matte=frames.mattes[:, target],
    ),
  )


def _cameras(camera: Camera, at: Any) -> Camera:
  return jax.tree.map(lambda leaf: leaf[:, at], camera)
