"""Frozen dataclasses from plain values, strictly: configurations, and files of ours.

An unknown name, a wrong type and a number that is not finite are errors that say where. Integers
are taken for floats and lists for tuples; nothing else is converted.
"""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

_T = TypeVar('_T')


def dataclass_of(cls: type[_T], values: Any, path: str = '') -> _T:
  """A dataclass from a mapping; fields that are absent keep their defaults.

  Args:
    cls: a dataclass of bool, int, float, str, literals, tuples, dataclasses, and `None` where the
      annotation allows it.
    values: a mapping, by the fields' names; mappings for nested dataclasses.
    path: of the mapping in a larger one, for messages.

  Raises:
    ValueError: an unknown name, a wrong type or length, a number that is not finite, an absent
      field without default, or a value the dataclass itself refuses.
  """
  if not isinstance(values, Mapping):
    raise _wrong(path, values, f'a group of {", ".join(hints_of(cls))}')
  hints = hints_of(cls)
  prefix = f'{path}.' if path else ''
  fields = {
    name: _convert(hints[check_known(cls, name, path)], value, prefix + name)
    for name, value in values.items()
  }
  try:
    return cls(**fields)
  except TypeError as error:  # a field without default is absent
    raise ValueError(f'config: {path or cls.__name__}: {error}') from error


def hints_of(cls: Any) -> dict[str, Any]:
  """Annotations of a dataclass's fields by name, in their order."""
  hints = typing.get_type_hints(cls)
  return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def check_known(cls: Any, name: str, group: str) -> str:
  """The name, if it is one of the dataclass's fields; a ValueError otherwise."""
  prefix = f'{group}.' if group else ''
  names = list(hints_of(cls))
  if name not in names:
    candidates = [prefix + known for known in names]
    raise ValueError(f'config: unknown name {prefix + name!r}{nearest(prefix + name, candidates)}')
  return name


def nearest(name: str, candidates: Iterable[str]) -> str:
  """What an unknown name may have meant, for the end of a message."""
  candidates = list(candidates)
  close = difflib.get_close_matches(name, candidates, n=1, cutoff=0.5)
  return f'; did you mean {close[0]!r}?' if close else f'; known: {", ".join(candidates)}'


def _convert(hint: Any, value: Any, path: str) -> Any:
  """The value, as the annotation has it."""
  if isinstance(hint, type) and dataclasses.is_dataclass(hint):
    return dataclass_of(hint, value, path)
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


def parse_text(hint: Any, text: str, path: str) -> Any:
  """The value of a text written on a command line; `path` is for the message of a ValueError."""
  inner, optional = _optional(hint)
  if optional and text.lower() == 'none':
    return None
  if typing.get_origin(inner) is tuple:
    words = [word.strip() for word in text.strip('()[] ').split(',') if word.strip()]
    items = _item_hints(inner, len(words))
    if items is None:
      raise _wrong(path, text, _describe(hint))
    return tuple(parse_text(h, word, path) for h, word in zip(items, words, strict=True))
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


def text_of(value: Any) -> str:
  """What `parse_text` reads as this value."""
  if isinstance(value, tuple):
    return ','.join(map(text_of, value))
  return str(value).lower() if value is None or isinstance(value, bool) else str(value)


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
