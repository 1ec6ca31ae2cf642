"""What can be evaluated: a generator, finished or out of a checkpoint, or avatars."""

import hashlib
import os
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np

from sa0_jax.avatar.avatar import Avatar
from sa0_jax.capture.capture import Capture
from sa0_jax.evaluate.scoring import Person
from sa0_jax.generator.checkpoint import load_generator
from sa0_jax.generator.generator import Generator, Rig, encode
from sa0_jax.generator.sources import load_sources
from sa0_jax.head.model import HeadModel
from sa0_jax.head.registry import load_head
from sa0_jax.train.weights import read_generator


class Prepared(NamedTuple):
  """A person who can be driven.

  Attributes:
    person: for the scorer.
    shape: [s] identity code that poses the mesh.
    head: the model it is posed with.
  """

  person: Person
  shape: np.ndarray
  head: HeadModel


@runtime_checkable
class Model(Protocol):
  """What the protocols ask of a model."""

  @property
  def needs_sources(self) -> bool:
    """Whether source frames make the person; they are no targets then."""
    ...

  def digest(self, name: str) -> str:
    """What its files hold, hashed; of one person where each has a file."""
    ...

  def prepare(self, name: str, capture: Capture, sources: tuple[int, ...]) -> Prepared:
    """One person.

    Args:
      name: of the clip.
      capture: of that person.
      sources: frames to look at.
    """
    ...


class GeneratorModel:
  """A generator's file."""

  needs_sources = True

  def __init__(self, path: str | os.PathLike[str]):
    """Loads it; errors as `load_generator`."""
    self._take(load_generator(path), file_digest(path))

  def _take(self, generator: Generator, digest: str) -> None:
    self._generator, self._digest = generator, digest
    self._rigs: dict[str, Rig] = {}

  def digest(self, name: str) -> str:
    """Of the file, whoever is shown."""
    return self._digest

  def prepare(self, name: str, capture: Capture, sources: tuple[int, ...]) -> Prepared:
    """Encodes the source frames.

    Raises:
      ValueError: no, too many or repeated sources, or an unusable frame.
    """
    if capture.head_name not in self._rigs:
      head = load_head(capture.head_name)
      config = self._generator.config
      self._rigs[capture.head_name] = Rig.from_head(head, config, config.avatar_uv_size)
    rig = self._rigs[capture.head_name]
    packed = load_sources(capture, sources, rig, self._generator.config)
    identity = encode(self._generator, packed, rig.arrays)
    known = (self._generator, identity, rig.arrays.rest)
    person = Person(None, known, rig.arrays.faces, rig.arrays.uv.layout.face)
    return Prepared(person, np.asarray(capture.codes.shape), rig.head)


class CheckpointModel(GeneratorModel):
  """The generator in a checkpoint of a training run.

  Attributes:
    position: where the run was.
  """

  def __init__(self, workdir: str | os.PathLike[str], which: int | str):
    """Reads it; errors as `read_generator`.

    Args:
      workdir: of the run.
      which: a step, 'latest' or 'best'.
    """
    saved = read_generator(Path(workdir) / 'checkpoints', which)
    self.position = saved.position
    self._take(saved.generator, saved.digest)


class AvatarModel:
  """One avatar file for one clip, or a folder of NAME.sa0."""

  needs_sources = False

  def __init__(self, path: str | os.PathLike[str]):
    """Takes the path.

    Raises:
      FileNotFoundError: nothing is there.
    """
    self._path = Path(path)
    if not self._path.exists():
      raise FileNotFoundError(f'{path}: no such avatar, and no folder of avatars')

  def _file(self, name: str) -> Path:
    file = self._path / f'{name}.sa0' if self._path.is_dir() else self._path
    if not file.is_file():
      raise FileNotFoundError(f'{file}: no such avatar; a folder needs one NAME.sa0 for each clip')
    return file

  def digest(self, name: str) -> str:
    """Of that person's file."""
    return file_digest(self._file(name))

  def prepare(self, name: str, capture: Capture, sources: tuple[int, ...]) -> Prepared:
    """Loads the avatar; errors as `Avatar.load`."""
    avatar = Avatar.load(self._file(name))
    capture.check_head(avatar.head)
    faces = jnp.asarray(avatar.head.faces)
    person = Person(avatar.gaussians, None, faces, avatar.layout.face)
    return Prepared(person, np.asarray(avatar.shape), avatar.head)


def file_digest(path: str | os.PathLike[str]) -> str:
  """SHA-256 of a file."""
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()
