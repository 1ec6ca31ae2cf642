"""Options that several commands share."""

import argparse
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

_T = TypeVar('_T')
_PREFIX = '--config.'
_COLORS = {'white': (1.0, 1.0, 1.0), 'black': (0.0, 0.0, 0.0), 'gray': (0.5, 0.5, 0.5)}


def add_json(parser: argparse.ArgumentParser) -> None:
  """Adds `--json`."""
  parser.add_argument('--json', action='store_true', help='print the result as JSON')


def add_config(parser: argparse.ArgumentParser, default: str) -> None:
  """Adds `--config`; `--config.key=value` is taken out before argparse (`split_overrides`)."""
  parser.add_argument(
    '--config',
    metavar='NAME[:ARG]|FILE.py',
    default=default,
    help=f'configuration (default: {default}); --config.key=value replaces single values, '
    '--config.group.key=value those of a group',
  )


def split_overrides(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
  """Takes `--config.key=value` and `--config.key value` out of the arguments.

  Raises:
    ValueError: one of them has no value.
  """
  rest: list[str] = []
  overrides: dict[str, str] = {}
  remaining = list(arguments)
  while remaining:
    word = remaining.pop(0)
    if word == '--':
      return [*rest, word, *remaining], overrides
    if not word.startswith(_PREFIX):
      rest.append(word)
      continue
    key, equals, value = word.removeprefix(_PREFIX).partition('=')
    if not equals:
      if not remaining:
        raise ValueError(f'{word} needs a value: {word}=…')
      value = remaining.pop(0)
    overrides[key] = value
  return rest, overrides


def read_settings(args: argparse.Namespace, cls: type[_T]) -> _T:
  """The settings that `--config` and its overrides describe.

  Raises:
    FileNotFoundError: there is no such configuration.
    ValueError: a name or a value is wrong.
  """
  from sa0_jax import config

  loaded = config.load_config(args.config)
  return config.from_config_dict(cls, config.with_overrides(cls, loaded, args.overrides))


def background(text: str) -> tuple[float, float, float]:
  """A colour: white, black, gray, or R,G,B in [0, 1] (an argparse type)."""
  if text in _COLORS:
    return _COLORS[text]
  try:
    red, green, blue = (float(word) for word in text.split(','))
  except ValueError:
    red = green = blue = -1.0
  if not all(0.0 <= value <= 1.0 for value in (red, green, blue)):
    raise argparse.ArgumentTypeError(
      f'{text!r} is no colour: {", ".join(_COLORS)}, or R,G,B from 0 to 1'
    )
  return red, green, blue


def positive(text: str) -> int:
  """A whole number above 0 (an argparse type)."""
  if not text.isdecimal() or int(text) < 1:
    raise argparse.ArgumentTypeError(f'{text!r} is no whole number above 0')
  return int(text)


def whole(text: str) -> int:
  """A whole number, 0 included (an argparse type)."""
  if not text.isdecimal():
    raise argparse.ArgumentTypeError(f'{text!r} is no whole number')
  return int(text)


def port(text: str) -> int:
  """A TCP port, 0 for any (an argparse type)."""
  if not text.isdecimal() or int(text) > 65535:
    raise argparse.ArgumentTypeError(f'{text!r} is no port: a number from 0 to 65535')
  return int(text)


def frame_range(text: str) -> slice:
  """'N' for the first N frames, or 'START:STOP[:STEP]' (an argparse type)."""
  parts = text.split(':')
  try:
    numbers: list[Any] = [int(part) if part else None for part in parts]
    if not 1 <= len(parts) <= 3 or (len(parts) == 1 and int(parts[0]) < 1) or numbers[2:] == [0]:
      raise ValueError
  except ValueError as error:
    raise argparse.ArgumentTypeError(f'{text!r}: expected N or START:STOP[:STEP]') from error
  return slice(numbers[0]) if len(numbers) == 1 else slice(*numbers)


def add_background(parser: argparse.ArgumentParser) -> None:
  """Adds `--background`."""
  parser.add_argument(
    '--background',
    metavar='COLOUR',
    type=background,
    default='white',
    help='white, black, gray or R,G,B from 0 to 1 (default: white)',
  )


def check_folder(path: Path, ours: str) -> None:
  """Makes sure that a folder can be written, or replaced: nothing of others' ever is.

  Args:
    path: the folder.
    ours: regular expression of the names of files we write there.

  Raises:
    ValueError: a file, or a folder with other things, stands there.
    OSError: the folder it is in cannot be made.
  """
  if path.is_file() or (
    path.is_dir() and not all(re.fullmatch(ours, file.name) for file in path.iterdir())
  ):
    raise ValueError(f'{path}: exists and holds other things; choose another place')
  path.parent.mkdir(parents=True, exist_ok=True)


def check_output(path: Path) -> Path:
  """Makes sure, before hours of work, that a file can be written there.

  Raises:
    ValueError: a folder stands there.
    OSError: its folder cannot be made or written.
  """
  if path.is_dir():
    raise ValueError(f'{path}: is a folder; give the name of a file')
  path.parent.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryFile(dir=path.parent):
    return path
