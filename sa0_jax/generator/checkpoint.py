"""The generator's weight file: its configuration and its parameters, in one archive of arrays."""

import dataclasses
import json
import os
import types
import typing
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from sa0_jax import archive
from sa0_jax.generator.generator import Generator, GeneratorConfig, abstract_generator

FORMAT = 'sa0-generator'
VERSION = 1
_MAX_BYTES = 1 << 34
_SEPARATOR = '/'


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
  definition, state = nnx.split(abstract_generator(config))
  filled = []
  for where, parameter in nnx.to_flat_state(state):
    value = arrays.pop(_name(where), None)
    if value is None:
      raise ValueError(f'{path}: {_name(where)} of shape {list(parameter.shape)} is missing')
    if value.shape != parameter.shape or value.dtype != parameter.dtype:
      raise ValueError(
        f'{path}: {_name(where)} is {value.dtype} {list(value.shape)}, expected '
        f'{parameter.dtype} {list(parameter.shape)}'
      )
    if not np.isfinite(value).all():
      raise ValueError(f'{path}: {_name(where)} holds values that are not finite')
    filled.append((where, parameter.replace(jnp.array(value))))
  if arrays:
    name = min(arrays)
    raise ValueError(f'{path}: {name} of shape {list(arrays[name].shape)} is not part of the model')
  return nnx.merge(definition, nnx.from_flat_state(filled))


def _name(where: tuple[Any, ...]) -> str:
  return _SEPARATOR.join(['parameters', *map(str, where)])


def _read_config(text: np.ndarray | None, path: str) -> GeneratorConfig:
  """The configuration in a file, strictly: unknown or missing names are errors."""
  if text is None or text.shape != () or text.dtype.kind != 'U':
    raise ValueError(f'{path}: no configuration in the file')
  try:
    return _build(GeneratorConfig, json.loads(str(text)))
  except (ValueError, TypeError) as error:
    raise ValueError(f'{path}: not a configuration of this version ({error})') from None


def _build(kind: Any, value: Any) -> Any:
  """A dataclass from dictionaries, lists and scalars; lists become tuples."""
  if dataclasses.is_dataclass(kind) and isinstance(kind, type):
    fields = typing.get_type_hints(kind)
    if not isinstance(value, dict) or value.keys() != {f.name for f in dataclasses.fields(kind)}:
      raise ValueError(f'{kind.__name__} has fields {sorted(fields)}')
    return kind(**{name: _build(fields[name], entry) for name, entry in value.items()})
  if isinstance(value, list):
    return tuple(_build(None, entry) for entry in value)
  if not isinstance(value, bool | int | float | str | types.NoneType):
    raise ValueError(f'a value of type {type(value).__name__}')
  return value
