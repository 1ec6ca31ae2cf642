"""Which clips are evaluated, from which source frames: a file the user can see and replace.

Two forms. Names of capture folders, one a line, as data sets publish their lists:

    # VFHQ test clips
    Clip+0xJ4hVQJ0VU+P0+C0+F0-100

or JSON, which may name frames (positions in the capture, from 0):

    {"format": "sa0-evaluation-list", "version": 1,
     "clips": [{"name": "anna", "sources": [0], "targets": [1, 2, 3]}]}

Where frames are not named, the protocol's own rule holds.
"""

import dataclasses
import os
from pathlib import Path
from typing import Any

from sa0_jax import archive

FORMAT, VERSION = 'sa0-evaluation-list', 1
_MAX_BYTES = 1 << 26


@dataclasses.dataclass(frozen=True)
class Clip:
  """One capture of an evaluation.

  Attributes:
    name: of its folder.
    sources: frames the generator sees; None for the protocol's.
    targets: frames to reproduce; None for the protocol's.
  """

  name: str
  sources: tuple[int, ...] | None = None
  targets: tuple[int, ...] | None = None


def clips_of_folder(folder: str | os.PathLike[str]) -> tuple[Clip, ...]:
  """Every capture in a folder, by name.

  Raises:
    FileNotFoundError: there is no such folder, or no capture in it.
  """
  folder = Path(folder)
  if not folder.is_dir():
    raise FileNotFoundError(f'{folder}: no such folder of captures')
  names = sorted(path.parent.name for path in folder.glob('*/capture.json'))
  if not names:
    raise FileNotFoundError(f'{folder}: no captures in it: folders with a capture.json')
  return tuple(Clip(name) for name in names)


def read_clips(path: str | os.PathLike[str]) -> tuple[Clip, ...]:
  """Reads a list of clips, in either form; the order of the file is kept.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is no such list, is empty, or names a clip twice.
  """
  path = Path(path)
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such list of clips')
  if path.suffix.lower() == '.json':
    clips = _from_json(archive.read_json(path, _MAX_BYTES), str(path))
  else:
    lines = archive.read_text(path, _MAX_BYTES).splitlines()
    names = (line.partition('#')[0].strip() for line in lines)
    clips = tuple(Clip(name) for name in names if name)
  if not clips:
    raise ValueError(f'{path}: names no clip')
  seen: set[str] = set()
  for clip in clips:
    if clip.name in ('.', '..') or archive.folder_name(clip.name) != clip.name:
      raise ValueError(f'{path}: {clip.name!r} is no name of a capture folder')
    if clip.name in seen:
      raise ValueError(f'{path}: names {clip.name!r} twice')
    seen.add(clip.name)
  return clips


def _from_json(table: Any, source: str) -> tuple[Clip, ...]:
  if not isinstance(table, dict) or table.get('format') != FORMAT:
    raise ValueError(f'{source}: not a list of clips')
  if table.get('version') != VERSION:
    raise ValueError(
      f'{source}: list version {table.get("version")!r}, this program reads version {VERSION}'
    )
  entries = table.get('clips')
  if not isinstance(entries, list):
    raise ValueError(f"{source}: 'clips' must be a list")
  clips = []
  for entry in entries:
    known = isinstance(entry, dict) and entry.keys() <= {'name', 'sources', 'targets'}
    if not known or not isinstance(entry.get('name'), str):
      raise ValueError(f"{source}: a clip has a 'name', and may have 'sources' and 'targets'")
    frames = (_positions(entry, key, source) for key in ('sources', 'targets'))
    clips.append(Clip(entry['name'], *frames))
  return tuple(clips)


def _positions(entry: dict[str, Any], key: str, source: str) -> tuple[int, ...] | None:
  value = entry.get(key)
  if value is None:
    return None
  usable = isinstance(value, list) and all(type(number) is int and number >= 0 for number in value)
  if not usable or not value or len(set(value)) < len(value):
    raise ValueError(f'{source}: {key!r} of {entry["name"]!r} must be different frame positions')
  return tuple(value)
