"""The generator's weight file: its configuration and its parameters, in one archive of arrays."""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from sa0_jax import archive
from sa0_jax.generator.generator import Generator, GeneratorConfig, abstract_generator
from sa0_jax.settings import dataclass_of

FORMAT = 'sa0-generator'
VERSION = 1
_MAX_BYTES = 1 << 34
PARAMETERS, _SEPARATOR = 'parameters', '/'


def save_generator(path: str | os.PathLike[str], generator: Generator) -> None:
  """Writes configuration and parameters, whole or not at all."""
  config = json.dumps(dataclasses.asdict(generator.config), sort_keys=True)
  arrays = {'format': np.array([FORMAT, str(VERSION)]), 'config': np.array(config)}
  for where, parameter in nnx.to_flat_state(nnx.state(generator)):
    arrays[_name(where)] = np.asarray(parameter[...])
  archive.write_arrays(path, arrays)


# Trained on synthetic people by the `tiny` configuration; see results/README.md.
SHIPPED = Path(__file__).with_name('shipped.npz')


def load_generator(path: str | os.PathLike[str] | None = None) -> Generator:
  """Reads what `save_generator` wrote.

  Args:
    path: the file; None for the small generator that comes with this library.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is damaged, of another version, or its parameters do not fit its configuration;
      the message names the parameter and its shape.
  """
  path = SHIPPED if path is None else path
  if not Path(path).is_file():
    raise FileNotFoundError(f'{path}: no such generator; give the file of a trained one')
  arrays = archive.read_arrays(path, max_bytes=_MAX_BYTES)
  header = arrays.pop('format', np.array([]))
  if header.shape != (2,) or header[0] != FORMAT:
    raise ValueError(f'{path}: not a generator file')
  if header[1] != str(VERSION):
    raise ValueError(f'{path}: generator file version {header[1]}, this program reads {VERSION}')
  config = _read_config(arrays.pop('config', None), str(path))
  return generator_of(config, arrays, str(path))


def generator_of(
  config: GeneratorConfig, arrays: Mapping[str, np.ndarray], source: str
) -> Generator:
  """A generator with given parameters.

  Args:
    config: what it is.
    arrays: by the words of their places, 'parameters/decoder/color/kernel'.
    source: where they are from, for messages.

  Raises:
    ValueError: they do not fit the configuration; the message names the parameter and its shape.
  """
  left = dict(arrays)
  definition, state = nnx.split(abstract_generator(config))
  filled = []
  for where, parameter in nnx.to_flat_state(state):
    name = _name(where)
    value = left.pop(name, None)
    if value is None:
      raise ValueError(f'{source}: {name} of shape {list(parameter.shape)} is missing')
    if value.shape != parameter.shape or value.dtype != parameter.dtype:
      raise ValueError(
        f'{source}: {name} is {value.dtype} {list(value.shape)}, expected '
        f'{parameter.dtype} {list(parameter.shape)}'
      )
    if not np.isfinite(value).all():
      raise ValueError(f'{source}: {name} holds values that are not finite')
    filled.append((where, parameter.replace(jax.device_put(value))))
  if left:
    name = min(left)
    raise ValueError(f'{source}: {name} of shape {list(left[name].shape)} is not part of the model')
  return nnx.merge(definition, nnx.from_flat_state(filled))


def _name(where: tuple[Any, ...]) -> str:
  return _SEPARATOR.join([PARAMETERS, *map(str, where)])


def _read_config(text: np.ndarray | None, path: str) -> GeneratorConfig:
  """The configuration in a file."""
  if text is None or text.shape != () or text.dtype.kind != 'U':
    raise ValueError(f'{path}: no configuration in the file')
  try:
    table = json.loads(str(text))
  except (ValueError, RecursionError) as error:
    raise ValueError(f'{path}: not a configuration of this version ({error})') from None
  return config_of(table, path)


def config_of(table: Any, source: str) -> GeneratorConfig:
  """A configuration from what JSON has of it; unknown names are errors.

  Names that are missing keep their defaults: settings that came after a file was written have
  defaults that leave a network as it was.

  Raises:
    ValueError: it is none of this version; the message begins with `source`.
  """
  try:
    return dataclass_of(GeneratorConfig, table)
  except ValueError as error:
    raise ValueError(f'{source}: not a configuration of this version ({error})') from None
