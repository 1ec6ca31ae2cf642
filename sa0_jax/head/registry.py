"""Heads by name: the built-in one, those a user has installed, and files named by a path."""

import dataclasses
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sa0_jax.archive import read_shapes
from sa0_jax.head.files import load_head_file, save_head
from sa0_jax.head.flame_pickle import deduce_edition, load_flame_pickle
from sa0_jax.head.landmark_files import read_landmarks
from sa0_jax.head.model import HeadModel
from sa0_jax.head.uv_files import read_uv

PROCEDURAL = 'procedural'

_NAME = re.compile(r'[a-z0-9][a-z0-9_.-]{0,63}')


@dataclasses.dataclass(frozen=True)
class InstalledHead:
  """A head that `load_head` knows by name.

  Attributes:
    name: what to call `load_head` with.
    path: its file; None for the built-in head.
    num_vertices: vertices of its mesh.
    num_faces: faces of its mesh.
    has_uv: whether avatars can be made on it.
    landmarks: the landmark schemes it carries, for `HeadModel.require_landmarks`.
  """

  name: str
  path: Path | None
  num_vertices: int
  num_faces: int
  has_uv: bool
  landmarks: tuple[str, ...]

  def summary(self) -> str:
    """One line for people."""
    return (
      f'{self.name:<20} {self.num_vertices} vertices, {self.num_faces} faces, '
      f'UV: {"yes" if self.has_uv else "no"}, landmarks: {", ".join(self.landmarks) or "none"}, '
      f'{self.path or "built in"}'
    )

  def to_json(self) -> dict[str, Any]:
    """The same for programs."""
    return dataclasses.asdict(self) | {'path': str(self.path) if self.path else None}


def data_home() -> Path:
  """The folder this user's heads are kept in: $SA0_HOME, or where the platform keeps such data.

  That is $XDG_DATA_HOME/sa0 or ~/.local/share/sa0 on Linux, ~/Library/Application Support/sa0 on
  macOS and %LOCALAPPDATA%/sa0 on Windows. It need not exist yet.
  """
  if os.environ.get('SA0_HOME'):
    return Path(os.environ['SA0_HOME']).expanduser()
  if sys.platform == 'win32':
    base = os.environ.get('LOCALAPPDATA') or Path.home() / 'AppData' / 'Local'
  elif sys.platform == 'darwin':
    base = Path.home() / 'Library' / 'Application Support'
  else:
    base = os.environ.get('XDG_DATA_HOME') or Path.home() / '.local' / 'share'
  return Path(base) / 'sa0'


def load_head(name_or_path: str | os.PathLike[str] = PROCEDURAL) -> HeadModel:
  """A head model by name or by file.

  Args:
    name_or_path: 'procedural', the built-in head; the name of an installed one; or the path of a
      head file (`.npz`).

  Raises:
    FileNotFoundError: no head of that name is installed and no file stands there.
    ValueError: the file is not one of ours; FLAME pickles are installed first.
  """
  name = os.fspath(name_or_path)
  if name == PROCEDURAL:
    from sa0_jax.head.procedural import load_procedural_head

    return load_procedural_head()
  if _NAME.fullmatch(name) and _head_path(name).is_file():
    return load_head_file(_head_path(name))
  path = Path(name)
  if path.suffix.lower() == '.pkl':
    raise ValueError(f'{name}: install FLAME models first: `sa0 head install {name}`')
  if path.is_file():
    return load_head_file(path)
  known = ', '.join(head.name for head in list_heads())
  raise FileNotFoundError(
    f'no head {name!r}: it is neither a file nor installed (there are: {known}). Install a FLAME '
    'model with `sa0 head install PATH --uv PATH`'
  )


def install_head(
  path: str | os.PathLike[str],
  *,
  name: str | None = None,
  uv: str | os.PathLike[str] | None = None,
  landmarks: Sequence[str | os.PathLike[str]] = (),
) -> InstalledHead:
  """Converts a FLAME model to our safe format and keeps it for `load_head`.

  Nothing in the given files is executed. An installed head of the same name is replaced; on any
  failure what was there stays.

  Args:
    path: a FLAME model (`generic_model.pkl`, `flame2023.pkl`, …) or a head file of ours (`.npz`).
    name: what to call it: 'flame2020', 'flame2023', 'flame2023_open' or a word of your own. Codes
      are tied to this name. None deduces it from the file's name.
    uv: its UV unwrap, `flame_uv.npz` or a head template OBJ; avatars need it.
    landmarks: its landmark files, at most one a scheme; tracking needs one.

  Raises:
    FileNotFoundError: one of the files is missing.
    ValueError: one of them is not what it should be, or the name cannot be deduced or used.
    OSError: the data folder cannot be written.
  """
  path = Path(path)
  if path.suffix.lower() == '.npz':
    head = load_head_file(path)
    head = dataclasses.replace(head, name=_usable_name(head.name if name is None else name))
  else:
    head = load_flame_pickle(path, _usable_name(_deduced_name(path) if name is None else name))
  if uv is not None:
    vt, ft = read_uv(uv, head.faces)
    head = dataclasses.replace(head, vt=vt, ft=ft)
  found: dict[str, str] = {}
  for file in landmarks:
    scheme, embedding = read_landmarks(file, len(head.faces))
    if scheme in found:
      raise ValueError(f'{file}: the same landmarks are already in {found[scheme]}: give one')
    found[scheme] = str(file)
    head = (
      dataclasses.replace(head, landmarks68=embedding)
      if scheme == 'landmarks68'
      else dataclasses.replace(head, landmarks_mediapipe=embedding)
    )
  target = _head_path(head.name)
  target.parent.mkdir(parents=True, exist_ok=True)
  save_head(head, target)
  return _describe(target)


def list_heads() -> tuple[InstalledHead, ...]:
  """The heads `load_head` knows by name: the built-in one first, then by name.

  Files that cannot be read as heads are left out.
  """
  heads = [_describe_built_in()]
  for path in sorted((data_home() / 'heads').glob('[!.]*.npz')):
    try:
      heads.append(_describe(path))
    except (ValueError, OSError):
      continue
  return tuple(heads)


def _head_path(name: str) -> Path:
  return data_home() / 'heads' / f'{name}.npz'


def _describe_built_in() -> InstalledHead:
  head = load_head(PROCEDURAL)
  embeddings = {'68': head.landmarks68, 'mediapipe': head.landmarks_mediapipe}
  return InstalledHead(
    name=PROCEDURAL,
    path=None,
    num_vertices=len(head.v_template),
    num_faces=len(head.faces),
    has_uv=True,
    landmarks=tuple(scheme for scheme, points in embeddings.items() if points is not None),
  )


def _describe(path: Path) -> InstalledHead:
  shapes = read_shapes(path)
  if not {'v_template', 'faces', 'vt'} <= set(shapes):
    raise ValueError(f'{path}: not a head file')
  schemes = {'68': 'landmarks68.index', 'mediapipe': 'landmarks_mediapipe.index'}
  return InstalledHead(
    name=path.stem,
    path=path,
    num_vertices=shapes['v_template'][0],
    num_faces=shapes['faces'][0],
    has_uv=shapes['vt'][0] > 0,
    landmarks=tuple(scheme for scheme, array in schemes.items() if array in shapes),
  )


def _deduced_name(path: Path) -> str:
  name = deduce_edition(path)
  if name is None:
    raise ValueError(
      f'{path}: its name does not say which FLAME edition it is: add --name flame2020, flame2023, '
      'flame2023_open or a word of your own'
    )
  return name


def _usable_name(name: str) -> str:
  if not _NAME.fullmatch(name) or name == PROCEDURAL:
    raise ValueError(
      f'head name {name!r} cannot be used: small letters, digits, "_", "-" and ".", at most 64, '
      f'and not {PROCEDURAL!r}, which is built in'
    )
  return name
