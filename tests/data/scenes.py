"""Captures made in no time: noise before a head-sized blob, codes at random."""

import dataclasses
import hashlib
from pathlib import Path

import jax
import numpy as np
from sa0_kernels import Camera

from sa0_jax.capture.capture import Capture, MemoryImages
from sa0_jax.data.batches import FrameBatch
from sa0_jax.data.build import build
from sa0_jax.data.config import BuildConfig, DataConfig
from sa0_jax.data.pipeline import Process, Run, make_batches
from sa0_jax.data.plan import make_plan
from sa0_jax.head.model import HeadCodes
from sa0_jax.head.registry import load_head

SIZE = 32


def tiny_capture(seed: int, instants: int = 7, views: int = 1, size: int = SIZE) -> Capture:
  """Frames ordered by instant, then camera."""
  head, rng = load_head(), np.random.default_rng(seed)
  count = instants * views
  instant, view = np.divmod(np.arange(count), views)

  def moving(scale: float, length: int) -> np.ndarray:
    return (scale * rng.normal(size=(instants, length))).astype(np.float32)[instant]

  codes = HeadCodes(
    shape=rng.normal(size=head.num_shape).astype(np.float32),
    expression=moving(0.5, head.num_expression),
    rotation=moving(0.2, 3),
    neck=moving(0.1, 3),
    jaw=moving(0.1, 3),
    eyes=moving(0.1, 6),
    translation=moving(0.01, 3),
  )
  turn = 0.5 * (view - (views - 1) / 2)
  world_to_camera = np.zeros((count, 4, 4), np.float32)
  world_to_camera[:, 0, 0], world_to_camera[:, 0, 2] = np.cos(turn), -np.sin(turn)
  world_to_camera[:, 1, 1] = -1
  world_to_camera[:, 2, 0], world_to_camera[:, 2, 2] = -np.sin(turn), -np.cos(turn)
  world_to_camera[:, 2, 3], world_to_camera[:, 3, 3] = 0.9, 1
  row, column = np.mgrid[:size, :size] / size - 0.5
  blob = np.clip(255 * 20 * (0.4 - np.hypot(row, column)), 0, 255).astype(np.uint8)
  # Smooth: JPEG keeps it, and every frame has a colour of its own.
  images = np.empty((count, size, size, 3), np.uint8)
  images[:] = rng.integers(0, 200, (count, 1, 1, 3)) + np.uint8(50 * (row + 0.5))[..., None]
  return Capture(
    name=f'person {seed}',
    head_name=head.name,
    head_fingerprint=head.fingerprint,
    codes=codes,
    camera=Camera(
      world_to_camera,
      np.tile(np.array([2 * size, 2 * size, size / 2, size / 2], np.float32), (count, 1)),
      size,
      size,
    ),
    source=MemoryImages(images, np.stack([blob] * count)),
    ids=instant + 100,
    times=instant / 25.0,
    view_ids=view,
    fps=25.0,
  )


def save_captures(folder: Path, subjects: int, **options) -> Path:
  """FOLDER/p0, FOLDER/p1, …"""
  for seed in range(subjects):
    tiny_capture(seed, **options).save(folder / f'p{seed}', image_format='jpg')
  return folder


def prepare(captures: Path, data_dir: Path, splits: dict, config: BuildConfig, **options):
  """Plans and builds."""
  return build(make_plan(captures, splits, config), data_dir, **options)


def tree_hashes(folder: Path) -> dict[str, str]:
  """Every file of a folder."""
  return {
    str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
    for path in sorted(folder.rglob('*'))
    if path.is_file()
  }


def batch_hash(batch) -> str:
  """Of all its arrays."""
  digest = hashlib.sha256()
  for leaf in jax.tree.leaves(batch):
    digest.update(np.ascontiguousarray(leaf).tobytes())
  return digest.hexdigest()


def batches_of_part(data: DataConfig, run: Run, index: int, count: int) -> list[FrameBatch]:
  """Those of one of several processes; called in one of its own."""
  return list(make_batches(data, run, Process(index, count)))


def with_other_head(capture: Capture) -> Capture:
  """The same, tracked with a head model nobody has."""
  return dataclasses.replace(capture, head_name='another', head_fingerprint='0' * 16)
