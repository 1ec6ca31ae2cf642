"""Configurations: files and command-line overrides become the frozen dataclasses the library takes.

A configuration file is a Python module with `get_config(...)` that returns an
`ml_collections.ConfigDict`; the library itself only knows dataclasses. The way between them is
strict: an unknown name, a wrong type and a number that is not finite are errors that say where.

    config = load_config('refine')                    # or 'refine:no_clamp', or 'mine.py'
    config = with_overrides(RefineConfig, config, {'rates.position': '1e-3'})
    settings = from_config_dict(RefineConfig, config)
"""

import dataclasses
import difflib
import importlib
import importlib.util
import math
import pkgutil
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import ml_collections

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

  Integers are taken for floats and lists for tuples; nothing else is converted.

  Args:
    cls: a dataclass of bool, int, float, str, literals, tuples, dataclasses, and `None` where the
      annotation allows it.
    config: its values.

  Raises:
    ValueError: an unknown name, a wrong type or length, a number that is not finite, or a value the
      dataclass itself refuses.
  """
  return _build(cls, config, '')


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
      hint = _hints(owner)[_known(owner, parent, '.'.join(parents[:depth]))]
      if not dataclasses.is_dataclass(hint):
        raise ValueError(f'config: {path!r}: {parent!r} is a single value, it has no parts')
      if parent not in group:
        group[parent] = ml_collections.ConfigDict()
      group, owner = group[parent], hint
    hint = _hints(owner)[_known(owner, name, '.'.join(parents))]
    if dataclasses.is_dataclass(hint):
      parts = ', '.join(f'{path}.{part}' for part in _hints(hint))
      raise ValueError(f'config: {path!r} is a group: set one of {parts}')
    # Deleted first: a ConfigDict refuses a value of another type than the one it had.
    if name in group:
      del group[name]
    group[name] = _parse(hint, text, path)
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
      f'no configuration {name!r}{_nearest(name, known)} (there are: {", ".join(known)}; '
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


def _hints(cls: Any) -> dict[str, Any]:
  """Annotations of a dataclass's fields, in their order."""
  hints = typing.get_type_hints(cls)
  return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _known(cls: Any, name: str, group: str) -> str:
  """The name, if it is one of the dataclass's fields."""
  prefix = f'{group}.' if group else ''
  names = list(_hints(cls))
  if name not in names:
    candidates = [prefix + known for known in names]
    raise ValueError(f'config: unknown name {prefix + name!r}{_nearest(prefix + name, candidates)}')
  return name


def _nearest(name: str, candidates: Iterable[str]) -> str:
  candidates = list(candidates)
  close = difflib.get_close_matches(name, candidates, n=1, cutoff=0.5)
  return f'; did you mean {close[0]!r}?' if close else f'; known: {", ".join(candidates)}'


def _build(cls: Any, config: Any, path: str) -> Any:
  """A dataclass from a mapping."""
  if not isinstance(config, Mapping | ml_collections.ConfigDict):
    raise _wrong(path, config, f'a group of {", ".join(_hints(cls))}')
  hints = _hints(cls)
  prefix = f'{path}.' if path else ''
  values = {
    name: _convert(hints[_known(cls, name, path)], value, prefix + name)
    for name, value in config.items()
  }
  try:
    return cls(**values)
  except TypeError as error:  # a field without default is absent
    raise ValueError(f'config: {path or cls.__name__}: {error}') from error


def _convert(hint: Any, value: Any, path: str) -> Any:
  """The value, as the annotation has it."""
  if dataclasses.is_dataclass(hint):
    return _build(hint, value, path)
  inner, optional = _optional(hint)
  if value is None and optional:
    return None
  if typing.get_origin(inner) is tuple:
    if not isinstance(value, tuple | list):
      raise _wrong(path, value, _describe(hint))
    items = _item_hints(inner, len(value))
    if items is None:
      raise _wrong(path, value, _describe(hint))
    return tuple(
      _convert(h, v, f'{path}[{i}]') for i, (h, v) in enumerate(zip(items, value, strict=True))
    )
  if typing.get_origin(inner) is typing.Literal:
    for option in typing.get_args(inner):
      if type(value) is type(option) and value == option:  # True is no 1
        return value
    raise _wrong(path, value, _describe(hint))
  if inner is float and isinstance(value, int) and not isinstance(value, bool):
    value = float(value)
  if not isinstance(value, inner) or (isinstance(value, bool) and inner is not bool):
    raise _wrong(path, value, _describe(hint))
  if isinstance(value, float) and not math.isfinite(value):
    raise _wrong(path, value, 'a finite number')
  return value


def _parse(hint: Any, text: str, path: str) -> Any:
  """The value of a text written on the command line."""
  inner, optional = _optional(hint)
  if optional and text.lower() == 'none':
    return None
  if typing.get_origin(inner) is tuple:
    words = [word.strip() for word in text.strip('()[] ').split(',') if word.strip()]
    items = _item_hints(inner, len(words))
    if items is None:
      raise _wrong(path, text, _describe(hint))
    return tuple(_parse(h, word, path) for h, word in zip(items, words, strict=True))
  if typing.get_origin(inner) is typing.Literal:
    for option in typing.get_args(inner):
      if text == str(option):
        return option
    raise _wrong(path, text, _describe(hint))
  if inner is bool:
    if text.lower() not in ('true', 'false'):
      raise _wrong(path, text, 'true or false')
    return text.lower() == 'true'
  try:
    value = inner(text)
  except ValueError as error:
    raise _wrong(path, text, _describe(hint)) from error
  return _convert(hint, value, path)


def _optional(hint: Any) -> tuple[Any, bool]:
  """The annotation without None, and whether it allowed None."""
  if typing.get_origin(hint) not in (types.UnionType, typing.Union):
    return hint, False
  options = [option for option in typing.get_args(hint) if option is not type(None)]
  if len(options) != 1:
    raise TypeError(f'config: fields of type {hint} are not supported')
  return options[0], True


def _item_hints(hint: Any, length: int) -> tuple[Any, ...] | None:
  """Annotations of a tuple's items, or None if it cannot have this length."""
  items = typing.get_args(hint)
  if len(items) == 2 and items[1] is Ellipsis:
    return (items[0],) * length
  return items if len(items) == length else None


def _describe(hint: Any) -> str:
  inner, optional = _optional(hint)
  if typing.get_origin(inner) is typing.Literal:
    name = 'one of ' + ', '.join(map(str, typing.get_args(inner)))
  else:
    name = str(inner) if typing.get_origin(inner) else inner.__name__
  return f'{name} or none' if optional else name


def _wrong(path: str, value: Any, expected: str) -> ValueError:
  return ValueError(f'config: {path} = {value!r}: expected {expected}')
