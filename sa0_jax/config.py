"""Configurations: files and command-line overrides become the frozen dataclasses the library takes.

A configuration file is a Python module with `get_config(...)` that returns an
`ml_collections.ConfigDict`; the library itself only knows dataclasses. The way between them is
strict: an unknown name, a wrong type and a number that is not finite are errors that say where.

    config = load_config('refine')                    # or 'refine:no_clamp', or 'mine.py'
    config = with_overrides(RefineConfig, config, {'rates.position': '1e-3'})
    settings = from_config_dict(RefineConfig, config)
"""

import dataclasses
import importlib
import importlib.util
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import ml_collections

from sa0_jax.settings import check_known, dataclass_of, hints_of, nearest, parse_text

_PACKAGE = 'sa0_jax.configs'
_T = TypeVar('_T')


def to_config_dict(settings: Any) -> ml_collections.ConfigDict:
  """The ConfigDict of a dataclass; nested dataclasses become nested ConfigDicts."""
  return ml_collections.ConfigDict(
    {
      field.name: to_config_dict(value) if dataclasses.is_dataclass(value) else value
      for field in dataclasses.fields(settings)
      for value in (getattr(settings, field.name),)
    }
  )


def from_config_dict(cls: type[_T], config: ml_collections.ConfigDict) -> _T:
  """A dataclass from a ConfigDict; fields that are absent keep their defaults.

  Args, Raises: as `sa0_jax.settings.dataclass_of`.
  """
  return dataclass_of(cls, config.to_dict())


def with_overrides(
  cls: Any, config: ml_collections.ConfigDict, overrides: Mapping[str, str]
) -> ml_collections.ConfigDict:
  """The configuration with some values replaced by what was written on the command line.

  Args:
    cls: the dataclass the configuration is for; its annotations say how texts are read.
    config: left as it is.
    overrides: 'name' or 'group.name' → text: `true`, `1_000`, `1e-3`, `none`, and `1,1,1` for
      tuples.

  Raises:
    ValueError: an unknown name, or a text that is no value of its type.
  """
  result = ml_collections.ConfigDict(config.to_dict())  # groups are copied too
  for path, text in overrides.items():
    group, owner = result, cls
    *parents, name = path.split('.')
    for depth, parent in enumerate(parents):
      hint = hints_of(owner)[check_known(owner, parent, '.'.join(parents[:depth]))]
      if not dataclasses.is_dataclass(hint):
        raise ValueError(f'config: {path!r}: {parent!r} is a single value, it has no parts')
      if parent not in group:
        group[parent] = ml_collections.ConfigDict()
      group, owner = group[parent], hint
    hint = hints_of(owner)[check_known(owner, name, '.'.join(parents))]
    if dataclasses.is_dataclass(hint):
      parts = ', '.join(f'{path}.{part}' for part in hints_of(hint))
      raise ValueError(f'config: {path!r} is a group: set one of {parts}')
    # Deleted first: a ConfigDict refuses a value of another type than the one it had.
    if name in group:
      del group[name]
    group[name] = parse_text(hint, text, path)
  return result


def load_config(name: str) -> ml_collections.ConfigDict:
  """A configuration by name or file, with an optional argument.

  Args:
    name: 'refine', 'refine:ARGUMENT', or the path of a .py file, which is run as the program it is.

  Raises:
    FileNotFoundError: no configuration of that name, and no such file.
    ValueError: the file has no `get_config`, fails, or does not take the argument.
  """
  source, _, argument = name.partition(':')
  module = _load_file(Path(source)) if source.endswith('.py') else _load_named(source)
  get_config = getattr(module, 'get_config', None)
  if not callable(get_config):
    raise ValueError(f'{source}: a configuration file needs a function get_config()')
  try:
    config = get_config(argument) if argument else get_config()
  except TypeError as error:
    raise ValueError(f'config {name!r}: get_config does not take this ({error})') from error
  if not isinstance(config, ml_collections.ConfigDict):
    raise ValueError(f'{source}: get_config() must return a ConfigDict, got {type(config)}')
  return config


def config_names() -> list[str]:
  """The configurations that come with the package."""
  package = importlib.import_module(_PACKAGE)
  return sorted(module.name for module in pkgutil.iter_modules(package.__path__))


def _load_named(name: str) -> ModuleType:
  known = config_names()
  if name not in known:
    raise FileNotFoundError(
      f'no configuration {name!r}{nearest(name, known)} (there are: {", ".join(known)}; '
      'a file of your own ends in .py)'
    )
  return importlib.import_module(f'{_PACKAGE}.{name}')


def _load_file(path: Path) -> ModuleType:
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such configuration file')
  spec = importlib.util.spec_from_file_location(f'sa0_user_config_{path.stem}', path)
  if spec is None or spec.loader is None:
    raise ValueError(f'{path}: not a Python file')
  module = importlib.util.module_from_spec(spec)
  try:
    spec.loader.exec_module(module)
  except Exception as error:  # whatever the user's program raises is theirs to read
    raise ValueError(f'{path}: {type(error).__name__}: {error}') from error
  return module
