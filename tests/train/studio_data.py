"""Studio subjects seen by several cameras, and batches drawn from them."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sa0_jax.capture.capture import Capture
from sa0_jax.capture.frames import FrameArrays, load_frames
from sa0_jax.capture.studio import StudioConfig, film
from sa0_jax.generator.generator import MAX_SOURCES
from sa0_jax.generator.sources import pack_sources
from sa0_jax.head.model import HeadCodes
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


def make_batch(people: list[Person], picks: list[Pick]) -> Batch:
  parts = []
  for pick in picks:
    person = people[pick.person]
    codes = person.capture.frame_codes(pick.target)
    target = pack_target(person.frames, pick.target, codes, person.boxes[pick.target])
    parts.append(Batch(pack_sources(person.frames, pick.sources), target))
  return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)


def pack_target(frames: FrameArrays, at: int, codes: HeadCodes, box) -> Targets:
  """One frame over black, as a batch of one."""
  camera = frames.camera(at)
  return Targets(
    image=(frames.image(at) * frames.matte(at)[..., None])[None],
    vertices=frames.vertices[at][None],
    camera=jax.tree.map(lambda leaf: leaf[None], camera),
    codes=jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], codes),
    box=jnp.asarray(box, jnp.float32)[None],
    matte=frames.mattes[at][None],
  )


def _box(matte: np.ndarray) -> tuple[float, float, float, float]:
  """Around what belongs to the head."""
  rows, columns = (np.flatnonzero(matte.max(axis=axis) > 127) for axis in (1, 0))
  return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
