"""Three small people as capture folders, their grey avatars, and a generator."""

import dataclasses
import functools
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from sa0_jax.evaluate.clips import clips_of_folder
from sa0_jax.evaluate.models import AvatarModel, GeneratorModel
from sa0_jax.evaluate.run import EvaluateConfig, Work
from sa0_jax.generator.checkpoint import save_generator
from sa0_jax.train.checkpoint import CheckpointConfig, CheckpointStore, Position
from sa0_jax.train.step import frozen_parameters
from tests.generator.tiny import generator
from tests.refine.scenes import SIZE, small_capture, start_avatar

NAMES = ('anna', 'bert', 'cora')


def fill(folder: Path) -> Path:
  """captures/NAME, avatars/NAME.sa0 and generator.npz."""
  (folder / 'avatars').mkdir()
  for seed, name in enumerate(NAMES):
    dataclasses.replace(small_capture(seed=seed), name=name).save(folder / 'captures' / name)
    start_avatar(seed).save(folder / 'avatars' / f'{name}.sa0')
  save_generator(folder / 'generator.npz', generator())
  return folder


@functools.cache
def _kept() -> tempfile.TemporaryDirectory:
  return tempfile.TemporaryDirectory()


@functools.cache
def scene() -> Path:
  return fill(Path(_kept().name))


def config(protocol, **changes) -> EvaluateConfig:
  return EvaluateConfig(
    **{'protocol': protocol, 'resolution': SIZE, 'test_frames': 3, 'frames_per_device': 2} | changes
  )


def work(out, names=NAMES) -> Work:
  clips = [clip for clip in clips_of_folder(scene() / 'captures') if clip.name in names]
  return Work(scene() / 'captures', clips, out)


def avatars() -> AvatarModel:
  return AvatarModel(scene() / 'avatars')


def save_run(folder: Path, scores: dict[int, float | None]) -> Path:
  """A training folder with checkpoints; the later ones hold other weights than the first."""
  made = generator()
  identity = _flat(dataclasses.asdict(made.config), 'generator')
  store = CheckpointStore(folder / 'checkpoints', identity, CheckpointConfig(keep=9), print)
  for step, score in scores.items():
    _, frozen, trainable = nnx.split(made, frozen_parameters(False), ...)
    state = {'trainable': trainable, 'frozen': frozen, 'optimizer': {'mu': jnp.ones(3)}}
    store.save(state, Position(step, 1, score, None))
    made = jax.tree.map(lambda leaf: 0.5 * leaf, made)
  store.close()
  return folder


def _flat(tree: dict[str, Any], prefix: str) -> dict[str, Any]:
  """As training writes settings into the identity of a run."""
  found: dict[str, Any] = {}
  for name, value in tree.items():
    inside = isinstance(value, dict)
    found |= _flat(value, f'{prefix}.{name}') if inside else {f'{prefix}.{name}': value}
  return found


@functools.cache
def network() -> GeneratorModel:
  return GeneratorModel(scene() / 'generator.npz')
