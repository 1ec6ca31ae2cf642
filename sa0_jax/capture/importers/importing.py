"""Importing by the name of a format."""

import dataclasses
import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sa0_jax.capture.importers.imported import (
  Found,
  Imported,
  ImportOptions,
  check_edition,
)
from sa0_jax.capture.importers.pictures import ReadAhead
from sa0_jax.head.model import HeadModel
from sa0_jax.head.registry import load_head

# Format → the head model its codes usually belong to; '' where the files say.
FORMATS = {
  'gagavatar_track': 'flame2020',
  'vhap': 'flame2023',
  'insta': 'flame2020',
  'splattingavatar': 'flame2020',
  'nersemble': 'flame2023',
  'folder': '',
}


def find_captures(
  format: str,  # noqa: A002, what users call it
  path: str | os.PathLike[str],
  options: ImportOptions | None = None,
) -> tuple[Found, ...]:
  """The captures a data set can be imported as, by name.

  Args:
    format: one of `FORMATS`.
    path: the data set's folder.
    options: what to import; all captures are found, whatever `only` says.

  Raises:
    FileNotFoundError: there is no such data set.
    ValueError: the format is unknown, or a file is damaged.
  """
  if format not in FORMATS:
    raise ValueError(f'format {format!r} is unknown: use one of {", ".join(FORMATS)}')
  options = ImportOptions() if options is None else options
  folder = Path(path)
  if not folder.is_dir():
    raise FileNotFoundError(f'{folder}: no such folder')
  module = importlib.import_module(f'sa0_jax.capture.importers.{format}')
  found: list[Found] = module.find(folder, options)
  if not found:
    raise ValueError(f'{folder}: holds no frames')
  return tuple(found)


def chosen(
  found: Sequence[Found], path: str | os.PathLike[str], options: ImportOptions
) -> tuple[Found, ...]:
  """Those of the captures found that `options.only` names; all where it names none.

  Raises:
    ValueError: one of the names is not there.
  """
  names = {item.name for item in found}
  missing = [name for name in options.only if name not in names]
  if missing:
    some = ', '.join(sorted(names)[:5]) + (', …' if len(names) > 5 else '')
    raise ValueError(f'{path}: no {missing[0]!r} here; there are: {some}')
  return tuple(item for item in found if not options.only or item.name in options.only)


def head_for(
  format: str,  # noqa: A002
  found: Found,
  options: ImportOptions | None = None,
) -> HeadModel:
  """The head model the codes belong to, as the user has installed it.

  Raises:
    FileNotFoundError: it is not installed.
  """
  edition = options.edition if options is not None else None
  return load_head(edition or FORMATS[format] or found.editions[0])


def import_capture(
  format: str,  # noqa: A002
  path: str | os.PathLike[str],
  head: HeadModel | None = None,
  options: ImportOptions | None = None,
) -> Imported:
  """Imports a data set that is one capture.

  Args:
    format: one of `FORMATS`.
    path: the data set's folder.
    head: the head model its codes were made with, from `load_head`; None loads the format's usual
      one by name.
    options: what to import.

  Returns:
    The capture, its split, and what the import did. Pixels stay in their files until they are
    read or saved.

  Raises:
    FileNotFoundError: the data set, a file of it, or the head model is not there.
    ValueError: a file is damaged or contradicts itself, the head model is another one, or the data
      set has several captures.
  """
  options = ImportOptions() if options is None else options
  found = chosen(find_captures(format, path, options), path, options)
  if len(found) != 1:
    names = ', '.join(item.name for item in found[:5])
    raise ValueError(
      f'{path}: {len(found)} captures ({names}…): name one in `only`, or use import_captures'
    )
  head = head_for(format, found[0], options) if head is None else head
  return load_found(found[0], head, options)


def import_captures(
  format: str,  # noqa: A002
  path: str | os.PathLike[str],
  head: HeadModel | None = None,
  options: ImportOptions | None = None,
) -> Iterator[Imported]:
  """Imports every capture of a data set, one after the other; arguments and errors as above."""
  options = ImportOptions() if options is None else options
  for found in chosen(find_captures(format, path, options), path, options):
    head = head_for(format, found, options) if head is None else head
    yield load_found(found, head, options)


def load_found(found: Found, head: HeadModel, options: ImportOptions) -> Imported:
  """Imports one capture of those `find_captures` has found; errors as `import_capture`."""
  check_edition(head, found, options)
  return found.load(head)


def save_imported(
  imported: Imported,
  folder: str | os.PathLike[str],
  progress: Callable[[int, int], None] | None = None,
) -> None:
  """Writes a capture folder with its split.json; png and jpg files are copied, not encoded anew.

  Args:
    imported: from an importer.
    folder: as in `Capture.save`.
    progress: called with (frames done, frames in all) after each.

  Raises:
    FileNotFoundError: a picture is missing.
    ValueError: a picture is damaged or of another size, or the folder holds other things.
  """
  done, total = 0, len(imported.capture)

  def count() -> None:
    nonlocal done
    done += 1
    if progress is not None:
      progress(done, total)

  with ReadAhead(imported.capture.source, count) as source:
    dataclasses.replace(imported.capture, source=source).save(folder)
