"""Studio subjects seen by several cameras, and batches drawn from them."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from sa0_kernels import Camera

from sa0_jax.capture.capture import Capture
from sa0_jax.capture.frames import FrameArrays, load_frames
from sa0_jax.capture.studio import StudioConfig, film
from sa0_jax.generator.generator import MAX_SOURCES, Sources
from sa0_jax.head.registry import load_head
from sa0_jax.train.objective import Batch, Targets


class Person(NamedTuple):
  """One subject: the capture, its arrays, and the box around the head in each frame."""

  capture: Capture
  frames: FrameArrays
  boxes: np.ndarray


class Pick(NamedTuple):
  """What is looked at: of which person, from which frames, to make which."""

  person: int
  sources: tuple[int, ...]
  target: int


def film_people(seeds, size, cameras, instants) -> list[Person]:
  people = []
  for seed in seeds:
    config = StudioConfig(
      seed=seed, kind='multiview', frames=instants, cameras=cameras, resolution=size
    )
    capture = film(config)
    frames = load_frames(capture, load_head(), size)
    boxes = np.array([_box(matte) for matte in np.asarray(frames.mattes)], np.float32)
    people.append(Person(capture, frames, boxes))
  return people


def stack(people: list[Person]) -> FrameArrays:
  """Frames of all people in one array [p, t, …]: batches are gathered from it on the device."""
  return jax.tree.map(lambda *leaves: jnp.stack(leaves), *[person.frames for person in people])


@dataclasses.dataclass(frozen=True)
class Draws:
  """Sources and targets at random: K sources of other frames of the same person."""

  people: int
  frames: tuple[int, ...]  # that may be drawn

  def __call__(self, seed: int, step: int) -> list[Pick]:
    rng = np.random.default_rng((seed, step))
    picks = []
    for person in range(self.people):
      order = rng.permutation(self.frames)
      count = int(rng.integers(1, MAX_SOURCES + 1))
      picks.append(Pick(person, tuple(int(i) for i in order[1 : 1 + count]), int(order[0])))
    return picks


def make_batch(people: list[Person], stacked: FrameArrays, picks: list[Pick]) -> Batch:
  who = np.array([[pick.person] for pick in picks])
  rows = np.array([[*p.sources, *[p.sources[0]] * (MAX_SOURCES - len(p.sources))] for p in picks])
  mask = np.array([[i < len(p.sources) for i in range(MAX_SOURCES)] for p in picks])
  targets = np.array([[pick.target] for pick in picks])
  image, vertices, camera = _gather(stacked, who, rows)
  target_image, target_vertices, target_camera = _gather(stacked, who, targets)
  codes = [people[p.person].capture.frame_codes(p.target) for p in picks]
  boxes = [people[p.person].boxes[p.target] for p in picks]

  def first(tree):
    return jax.tree.map(lambda leaf: leaf[:, 0], tree)

  return Batch(
    Sources(image, vertices, camera, jnp.asarray(mask)),
    Targets(
      image=target_image[:, 0],
      vertices=target_vertices[:, 0],
      camera=first(target_camera),
      codes=jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *codes),
      box=jnp.asarray(np.stack(boxes)),
    ),
  )


@jax.jit
def _gather(stacked: FrameArrays, who, rows):
  image = stacked.images[who, rows].astype(jnp.float32) / 255.0
  matte = stacked.mattes[who, rows].astype(jnp.float32)[..., None] / 255.0
  height, width = image.shape[2:4]
  camera = Camera(stacked.world_to_camera[who, rows], stacked.intrinsics[who, rows], width, height)
  return image * matte, stacked.vertices[who, rows], camera


def _box(matte: np.ndarray) -> tuple[float, float, float, float]:
  """Around what belongs to the head."""
  rows, columns = (np.flatnonzero(matte.max(axis=axis) > 127) for axis in (1, 0))
  return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
