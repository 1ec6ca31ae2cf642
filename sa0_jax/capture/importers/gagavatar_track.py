"""GAGAvatar_track: folders of LMDB images and pickled FLAME 2020 codes, one or many videos in each.

    <name>/img_lmdb/          LMDB; key {video}_{frame}, value a JPEG, already matted on black
    <name>/smoothed.pkl       or optim.pkl: key → bbox, shapecode, expcode, posecode, eyecode,
                              transform_matrix; for single images also the image itself
    <name>/dataset.json       optional: {"train": [keys], "val": [keys], "test": [keys]}

Meshes are multiplied by 5, cameras are PyTorch3D's with a focal length of 12 in half image widths
and the optical axis in the middle.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from sa0_jax.capture.importers import conventions, readers
from sa0_jax.capture.importers.imported import (
  Found,
  Imported,
  ImportOptions,
  Tracks,
  finish,
  rate,
  stack,
)
from sa0_jax.capture.importers.lmdb_file import LmdbFile
from sa0_jax.capture.importers.mattes import BLACK
from sa0_jax.capture.importers.pictures import (
  ArraySource,
  PictureRecord,
  PictureSource,
  first_size,
  mattes_for,
)
from sa0_jax.capture.splits import PARTS, Split
from sa0_jax.head.model import HeadModel

EDITIONS = ('flame2020',)
_SCALE = 5.0
_FOCAL = 12.0  # in half image widths
_FPS = 25.0
_FIELDS = {
  'shapecode': (None,),
  'expcode': (None,),
  'posecode': (6,),
  'eyecode': (6,),
  'transform_matrix': (3, 4),
}


class _Key(NamedTuple):
  """A key of the set, taken apart."""

  video: str
  frame: int
  text: str


def find(path: Path, options: ImportOptions) -> list[Found]:
  """The videos of a tracker's output folder, or of a folder of such folders.

  Raises:
    FileNotFoundError: there is no output of the tracker.
    ValueError: a file is damaged.
  """
  folders = [path] if _pickle_of(path) else sorted(p for p in path.iterdir() if _pickle_of(p))
  if not folders:
    raise FileNotFoundError(f'{path}: no smoothed.pkl or optim.pkl of GAGAvatar_track here')
  # One table at a time: thousands of folders are found first and read again one by one.
  read = functools.lru_cache(maxsize=1)(readers.read_records)
  videos = []
  for folder in folders:
    try:
      videos += _find_in(folder, options, read)
    except ValueError as error:
      if len(folders) == 1:
        raise
      videos.append(Found(folder.name, EDITIONS, functools.partial(_refuse, error)))
  return videos


def _refuse(error: ValueError, head: HeadModel) -> NoReturn:
  """What loading a damaged folder does: it fails when its turn comes, and costs no other."""
  raise error


def _pickle_of(folder: Path) -> Path | None:
  for name in ('smoothed.pkl', 'optim.pkl'):
    if (folder / name).is_file():
      return folder / name
  return None


def _find_in(
  folder: Path, options: ImportOptions, read: Callable[[Path], dict[str, Any]]
) -> list[Found]:
  path = _pickle_of(folder)
  assert path is not None

  def records() -> dict[str, Any]:
    table = read(path)
    # The record of one image, or a table of records.
    return {folder.name: table} if 'shapecode' in table else table

  videos: dict[str, list[_Key]] = {}
  for text in records():
    key = _parse_key(text)
    videos.setdefault(key.video, []).append(key)
  open_database = functools.cache(lambda: LmdbFile(folder / 'img_lmdb'))
  split_keys = _split_keys(folder / 'dataset.json')
  return [
    Found(
      video,
      EDITIONS,
      functools.partial(
        _load, _Video(path, video, sorted(keys), records, split_keys, open_database), options
      ),
    )
    for video, keys in sorted(videos.items())
  ]


class _Video(NamedTuple):
  path: Path
  name: str
  keys: list[_Key]
  records: Callable[[], dict[str, Any]]
  split_keys: dict[str, set[str]] | None
  database: Callable[[], LmdbFile]


def _parse_key(text: str) -> _Key:
  """'img_{video}_{frame}' or '{video}_{frame}'; any other key is a video of one frame."""
  name = text.removeprefix('img_')
  video, underscore, number = name.rpartition('_')
  if underscore and video and number.isascii() and number.isdecimal() and len(number) < 16:
    return _Key(video, int(number), text)
  return _Key(name, 0, text)


def _split_keys(path: Path) -> dict[str, set[str]] | None:
  if not path.is_file():
    return None
  table = readers.require_table(readers.read_json(path), str(path))
  parts = {}
  for name in PARTS:
    keys = table.get(name, [])
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
      raise ValueError(f'{path}: {name!r} must be a list of keys')
    parts[name] = set(keys)
  return parts


def _load(video: _Video, options: ImportOptions, head: HeadModel) -> Imported:
  notes = ['face boxes are left out: the data builder makes its own']
  source = str(video.path)
  rows, keys, images = [], [], []
  embedded = any('image' in _record(video, key) for key in video.keys)
  database = None if embedded else video.database()
  for key in video.keys:
    if database is not None and key.text.encode() not in database:
      continue
    record = _record(video, key)
    where = f'{source}: {key.text[:80]!r}'
    rows.append(
      {
        name: readers.numbers(readers.pickled_array(record, name, where), shape, name, where)
        for name, shape in _FIELDS.items()
      }
    )
    keys.append(key)
    if database is None:
      images.append(_embedded_image(record, where))
  if not rows:
    raise ValueError(f'{source}: no image of {video.name!r} is in the LMDB beside it')
  if len(rows) < len(video.keys):
    notes.append(f'{len(video.keys) - len(rows)} frames left out: no image in the LMDB')
  lengths = {(len(row['shapecode']), len(row['expcode'])) for row in rows}
  if len(lengths) > 1:
    raise ValueError(f'{source}: codes of {video.name!r} have several lengths')
  if database is None:
    pixels: ArraySource | PictureSource = ArraySource(tuple(images), _mattes(options, keys), BLACK)
    size = images[0].shape[1::-1]
    if any(image.shape != images[0].shape for image in images):
      raise ValueError(f'{source}: images of {video.name!r} have several sizes')
  else:
    records = tuple(PictureRecord(database, key.text.encode()) for key in keys)
    size = first_size(records[0])
    pixels = PictureSource(records, _mattes(options, keys), BLACK, size)
  if options.matte_folder is None:
    notes.append('mattes are derived from the black background: dark outlines may be missing')
  shape, spread = conventions.mean_shape(head, stack(rows, 'shapecode'))
  if len(rows) > 1:
    notes.append(f'one shape code for the video, the mean: costs {spread:.2f} mm RMS')
  focal = _FOCAL * min(size) / 2
  tracks = Tracks(
    name=video.name,
    source=source,
    codes={
      'shape': shape,
      'expression': stack(rows, 'expcode'),
      'rotation': stack(rows, 'posecode')[:, :3],
      'jaw': stack(rows, 'posecode')[:, 3:],
      'eyes': stack(rows, 'eyecode'),
    },
    world_to_camera=conventions.from_pytorch3d(stack(rows, 'transform_matrix'), _SCALE),
    intrinsics=np.tile([focal, focal, size[0] / 2, size[1] / 2], (len(rows), 1)),
    size=size,
    pixels=pixels,
    ids=np.array([key.frame for key in keys], np.int64),
    view_ids=np.zeros(len(rows), np.int64),
    fps=rate(options, _FPS, notes),
  )
  return finish(tracks, head, options, _split(video, keys), tuple(notes))


def _record(video: _Video, key: _Key) -> dict[str, Any]:
  return readers.require_table(video.records()[key.text], f'{video.path}: {key.text[:80]!r}')


def _embedded_image(record: dict[str, Any], source: str) -> np.ndarray:
  values = readers.pickled_array(record, 'image', source)
  # [0, 1] as the tracker writes it, or levels; a black picture is either.
  pixels = readers.numbers(values, (3, None, None), 'image', source)
  if pixels.size == 0 or pixels.min() < -1e-3 or pixels.max() > 255.5:
    raise ValueError(f"{source}: 'image' is empty or has values outside 0 to 255")
  factor = 1.0 if values.dtype == np.uint8 or pixels.max() > 2.0 else 255.0
  levels = np.round(np.clip(factor * pixels, 0, 255)).astype(np.uint8)
  return np.ascontiguousarray(levels.transpose(1, 2, 0))


def _mattes(options: ImportOptions, keys: list[_Key]) -> Any:
  return (
    None
    if options.matte_folder is None
    else mattes_for(options.matte_folder, [k.text for k in keys])
  )


def _split(video: _Video, keys: list[_Key]) -> Split | None:
  if video.split_keys is None:
    return None
  parts = video.split_keys
  if parts['train'] & parts['test']:
    raise ValueError(f'{video.path.parent / "dataset.json"}: a key is in both train and test')
  return Split.of_frames([{name for name in PARTS if key.text in parts[name]} for key in keys])
