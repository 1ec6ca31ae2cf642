"""A Capture: one subject's tracked frames, in memory or as a folder anyone can read.

A capture folder holds

    capture.json     version, head model, image size, and one entry per frame with its file names
    tracking.npz     codes and cameras, one row per frame
    images/          one colour image per frame (png or jpg), as filmed
    mattes/          one 8-bit png per frame: 255 where the pixel is head, hair or neck
    split.json       optional: which frames are for training, validation and testing (splits.py)

Every other format is converted to this one at the edge. Conventions: OpenCV cameras in metres,
intrinsics in pixels with pixel centres at +0.5, codes of the head model named in capture.json.
"""

import dataclasses
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int, UInt8
from sa0_kernels import Camera

from sa0_jax import archive
from sa0_jax.capture import image_files
from sa0_jax.capture.splits import FILE_NAME as SPLIT_NAME
from sa0_jax.capture.splits import Split, read_split
from sa0_jax.head.model import HeadCodes, HeadModel

FORMAT = 'sa0-capture'
VERSION = 1
_MAX_JSON_BYTES = 1 << 26
_MAX_NUMBER = 1 << 53
_MAX_TRACKING_BYTES = 1 << 32
_CODE_NAMES = tuple(f.name for f in dataclasses.fields(HeadCodes))


class ImagePair(NamedTuple):
  """One frame's pixels."""

  image: UInt8[np.ndarray, 'h w 3']
  matte: UInt8[np.ndarray, 'h w']


@runtime_checkable
class ImageSource(Protocol):
  """Where a capture's pixels come from: arrays, or files read when asked for."""

  def __len__(self) -> int: ...

  def load(self, position: int) -> ImagePair:
    """The pixels of one frame, by position in the capture."""
    ...


class StoredPair(NamedTuple):
  """One frame's pixels, and the files they were decoded from where these may be copied.

  Attributes:
    pixels: what the files hold.
    image: contents of a png or jpg file with that image; None where there is none.
    matte: the same for the matte.
  """

  pixels: ImagePair
  image: bytes | None
  matte: bytes | None


@runtime_checkable
class StoredImages(ImageSource, Protocol):
  """A source that has its pixels as files: `Capture.save` copies those instead of encoding anew."""

  def load_stored(self, position: int) -> StoredPair:
    """One frame with its files."""
    ...


@dataclasses.dataclass(frozen=True, eq=False)
class MemoryImages:
  """Pixels held in memory.

  Attributes:
    images: [t, h, w, 3] colour.
    mattes: [t, h, w] 255 where the pixel belongs to the head.
  """

  images: UInt8[np.ndarray, 't h w 3']
  mattes: UInt8[np.ndarray, 't h w']

  def __len__(self) -> int:
    return len(self.images)

  def load(self, position: int) -> ImagePair:
    """The pixels of one frame."""
    return ImagePair(self.images[position], self.mattes[position])


@dataclasses.dataclass(frozen=True, eq=False)
class FileImages:
  """Pixels in a capture folder, read when asked for."""

  folder: Path
  names: tuple[tuple[str, str], ...]  # (image, matte) per frame, relative to the folder
  size: tuple[int, int]  # width, height

  def __len__(self) -> int:
    return len(self.names)

  def load(self, position: int) -> ImagePair:
    """Reads one frame; errors as `load_stored`."""
    return self.load_stored(position).pixels

  def load_stored(self, position: int) -> StoredPair:
    """Reads one frame with its files.

    Raises:
      FileNotFoundError: a file is missing.
      ValueError: a file is no image, or has another size than capture.json says.
    """
    image_name, matte_name = self.names[position]
    files = [image_files.read_file(self.folder / name) for name in (image_name, matte_name)]
    image = image_files.decode_color(files[0], str(self.folder / image_name))
    matte = image_files.decode_gray(files[1], str(self.folder / matte_name))
    for name, array in ((image_name, image), (matte_name, matte)):
      if array.shape[:2] != self.size[::-1]:
        raise ValueError(
          f'{self.folder / name}: is {array.shape[1]} x {array.shape[0]} px, '
          f'capture.json says {self.size[0]} x {self.size[1]}'
        )
    return StoredPair(ImagePair(image, matte), *files)


@dataclasses.dataclass(frozen=True, eq=False)
class Frame:
  """One tracked frame.

  Attributes:
    id: number of the frame in its source (a video's frame number).
    time: seconds since the start.
    codes: what drives the head.
    camera: its camera.
    pixels: image and matte.
  """

  id: int
  time: float
  codes: HeadCodes
  camera: Camera
  pixels: ImagePair

  @property
  def image(self) -> Float[np.ndarray, 'h w 3']:
    """Colour in [0, 1]."""
    return self.pixels.image.astype(np.float32) / 255.0

  @property
  def matte(self) -> Float[np.ndarray, 'h w']:
    """1 where the pixel belongs to the head."""
    return self.pixels.matte.astype(np.float32) / 255.0


def head_rotations(codes: HeadCodes) -> Any:
  """How a head stands with codes of [t] frames, neck included; SciPy's `Rotation`."""
  from scipy.spatial.transform import Rotation  # here: it takes long to import

  root, neck = (Rotation.from_rotvec(np.asarray(x)) for x in (codes.rotation, codes.neck))
  return root * neck


@dataclasses.dataclass(frozen=True, eq=False)
class Capture:
  """One subject's tracked frames.

  Attributes:
    name: what users call it.
    head_name: head model the codes belong to (`HeadModel.name`).
    head_fingerprint: its topology (`HeadModel.fingerprint`).
    codes: codes of all frames, NumPy, [t, …]; `shape` is [s], one for all.
    camera: cameras of all frames, NumPy, [t, …].
    source: the pixels.
    ids: [t] frame numbers in the source.
    times: [t] seconds.
    view_ids: [t] which physical camera saw the frame; all 0 for a video.
    fps: frames per second of the source.
    split: which frames are for training, validation and testing; None where nobody has said.
  """

  name: str
  head_name: str
  head_fingerprint: str
  codes: HeadCodes
  camera: Camera
  source: ImageSource
  ids: Int[np.ndarray, ' t']
  times: Float[np.ndarray, ' t']
  view_ids: Int[np.ndarray, ' t']
  fps: float = 30.0
  split: Split | None = None

  def __len__(self) -> int:
    return len(self.ids)

  @property
  def width(self) -> int:
    """Image width, px."""
    return self.camera.width

  @property
  def height(self) -> int:
    """Image height, px."""
    return self.camera.height

  @property
  def frames(self) -> 'Frames':
    """The frames, as a sequence; pixels are read when a frame is taken."""
    return Frames(self)

  def frame_codes(self, position: int | np.ndarray) -> HeadCodes:
    """Codes of one frame, or of several for an index array."""
    arrays = {n: getattr(self.codes, n)[position] for n in _CODE_NAMES if n != 'shape'}
    return HeadCodes(shape=self.codes.shape, **arrays)

  def frame_camera(self, position: int | np.ndarray) -> Camera:
    """Camera of one frame, or a batch of cameras for an index array."""
    return Camera(
      self.camera.world_to_camera[position],
      self.camera.intrinsics[position],
      self.width,
      self.height,
    )

  def head_rotations(self) -> Any:
    """How the head stands in the world in each frame, neck included; SciPy's `Rotation`."""
    return head_rotations(self.codes)

  def select(self, positions: Sequence[int] | np.ndarray) -> 'Capture':
    """The capture of some of the frames, in the given order; its split follows."""
    positions = np.asarray(positions, np.int64)
    return dataclasses.replace(
      self,
      codes=self.frame_codes(positions),
      camera=self.frame_camera(positions),
      source=_Selection(self.source, positions),
      ids=self.ids[positions],
      times=self.times[positions],
      view_ids=self.view_ids[positions],
      split=None if self.split is None else self.split.select(positions),
    )

  def check_head(self, head: HeadModel) -> None:
    """Raises ValueError unless the codes belong to this head model."""
    if (self.head_name, self.head_fingerprint) != (head.name, head.fingerprint):
      raise ValueError(
        f'capture {self.name!r} was tracked with head model {self.head_name!r} '
        f'(mesh {self.head_fingerprint}), not with {head.name!r} (mesh {head.fingerprint}): '
        'track it again or load the head model it names'
      )

  def save(self, folder: str | os.PathLike[str], image_format: str = 'png') -> None:
    """Writes the capture folder, whole or not at all: what stood there stays until it is done.

    Args:
      folder: where. A capture already there is replaced.
      image_format: 'png' (exact) or 'jpg' (quality 95); pictures that come from png and jpg files
        (`StoredImages`) are copied as they are.

    Raises:
      ValueError: the folder holds other things, or the format is unknown.
    """
    if image_format not in ('png', 'jpg'):
      raise ValueError(f"Capture.save: image_format must be 'png' or 'jpg', got {image_format!r}")
    if Path(folder).exists() and not (Path(folder) / 'capture.json').is_file():
      raise ValueError(f'{folder}: exists and is no capture; choose another place')
    with archive.atomic_folder(folder) as temporary:
      self._write(temporary, image_format)
      if self.split is not None:
        (temporary / SPLIT_NAME).write_bytes(self.split.to_bytes())

  def _write(self, folder: Path, image_format: str) -> None:
    (folder / 'images').mkdir()
    (folder / 'mattes').mkdir()
    entries = []
    for position in range(len(self)):
      stem = f'{position:06d}'
      if isinstance(self.source, StoredImages):
        pixels, *files = self.source.load_stored(position)
      else:
        pixels, files = self.source.load(position), [None, None]
      names = [
        _write_picture(folder / kind / stem, array, file, suffix)
        for kind, array, file, suffix in zip(
          ('images', 'mattes'), pixels, files, (image_format, 'png'), strict=True
        )
      ]
      entries.append(
        {
          'id': int(self.ids[position]),
          'time': float(self.times[position]),
          'view': int(self.view_ids[position]),
          'image': f'images/{names[0]}',
          'matte': f'mattes/{names[1]}',
        }
      )
    arrays = {name: np.asarray(getattr(self.codes, name), np.float32) for name in _CODE_NAMES}
    arrays['world_to_camera'] = np.asarray(self.camera.world_to_camera, np.float32)
    arrays['intrinsics'] = np.asarray(self.camera.intrinsics, np.float32)
    archive.write_arrays(folder / 'tracking.npz', arrays)
    header = {
      'format': FORMAT,
      'version': VERSION,
      'name': self.name,
      'head': {'name': self.head_name, 'fingerprint': self.head_fingerprint},
      'width': self.width,
      'height': self.height,
      'fps': self.fps,
      'frames': entries,
    }
    with archive.atomic_write(folder / 'capture.json') as file:
      file.write(json.dumps(header, indent=1).encode())


def _write_picture(stem: Path, pixels: np.ndarray, stored: bytes | None, suffix: str) -> str:
  """Writes a picture, its file copied where there is one; returns the name."""
  known = image_files.stored_header(stored) if stored is not None else None
  if stored is None or known is None or (known.height, known.width) != pixels.shape[:2]:
    path = stem.with_name(f'{stem.name}.{suffix}')
    image_files.write(path, pixels)
    return path.name
  path = stem.with_name(f'{stem.name}.{known.suffix}')
  path.write_bytes(stored)  # into a folder that only appears once it is complete
  return path.name


@dataclasses.dataclass(frozen=True, eq=False)
class _Selection:
  """Some frames of another source."""

  source: ImageSource
  positions: Int[np.ndarray, ' t']

  def __len__(self) -> int:
    return len(self.positions)

  @property
  def in_order(self) -> bool:
    """Whether the other source is cheap in its own order only."""
    return getattr(self.source, 'in_order', False)

  def load(self, position: int) -> ImagePair:
    return self.source.load(int(self.positions[position]))

  def load_stored(self, position: int) -> StoredPair:
    position = int(self.positions[position])
    if isinstance(self.source, StoredImages):
      return self.source.load_stored(position)
    return StoredPair(self.source.load(position), None, None)


@dataclasses.dataclass(frozen=True, eq=False)
class Frames(Sequence[Frame]):
  """A capture's frames by position; slices give lists."""

  capture: Capture

  def __len__(self) -> int:
    return len(self.capture)

  def __iter__(self) -> Iterator[Frame]:
    return (self[i] for i in range(len(self)))

  def __getitem__(self, position: Any) -> Any:
    if isinstance(position, slice):
      return [self[i] for i in range(*position.indices(len(self)))]
    if not -len(self) <= position < len(self):
      raise IndexError(f'frame {position} of a capture with {len(self)} frames')
    position = int(position) % len(self)
    return Frame(
      id=int(self.capture.ids[position]),
      time=float(self.capture.times[position]),
      codes=self.capture.frame_codes(position),
      camera=self.capture.frame_camera(position),
      pixels=self.capture.source.load(position),
    )


def load_capture(folder: str | os.PathLike[str]) -> Capture:
  """Opens a capture folder; images are read when frames are taken.

  Args:
    folder: a folder written by `Capture.save`, `sa0 track`, `sa0 studio` or an importer.

  Returns:
    The capture.

  Raises:
    FileNotFoundError: the folder, or a file it needs, is missing.
    ValueError: a file is damaged, of another version, or holds values that are not finite.
  """
  folder = Path(folder)
  header = _read_header(folder)
  arrays = _read_tracking(folder / 'tracking.npz', len(header['frames']))
  size = (header['width'], header['height'])
  names = tuple(
    (_inside(folder, entry['image']), _inside(folder, entry['matte'])) for entry in header['frames']
  )
  codes = HeadCodes(**{name: arrays[name] for name in _CODE_NAMES})
  return Capture(
    name=header['name'],
    head_name=header['head']['name'],
    head_fingerprint=header['head']['fingerprint'],
    codes=codes,
    camera=Camera(arrays['world_to_camera'], arrays['intrinsics'], *size),
    source=FileImages(folder, names, size),
    ids=np.array([entry['id'] for entry in header['frames']], np.int64),
    times=np.array([entry['time'] for entry in header['frames']], np.float64),
    view_ids=np.array([entry['view'] for entry in header['frames']], np.int64),
    fps=header['fps'],
    split=read_split(folder, len(header['frames'])),
  )


def _read_header(folder: Path) -> dict[str, Any]:
  """capture.json, with every field present and of its type."""
  path = folder / 'capture.json'
  if not path.is_file():
    raise FileNotFoundError(
      f'{folder}: no capture.json here; captures are made by `sa0 track`, `sa0 demo` or importers'
    )
  header = archive.read_json(path, _MAX_JSON_BYTES)
  if not isinstance(header, dict) or header.get('format') != FORMAT:
    raise ValueError(f'{path}: not a capture file')
  if header.get('version') != VERSION:
    raise ValueError(
      f'{path}: capture version {header.get("version")}, this program reads version {VERSION}'
    )
  fields = {'name': str, 'head': dict, 'width': int, 'height': int, 'fps': (int, float)}
  _check_fields(header, {**fields, 'frames': list}, str(path))
  _check_fields(header['head'], {'name': str, 'fingerprint': str}, f'{path}: head')
  if (
    not header['frames'] or not 0 < header['width'] < 1 << 15 or not 0 < header['height'] < 1 << 15
  ):
    raise ValueError(f'{path}: needs at least one frame and a size of 1 to 32767 px')
  entry_fields = {'id': int, 'time': (int, float), 'view': int, 'image': str, 'matte': str}
  for position, entry in enumerate(header['frames']):
    _check_fields(entry, entry_fields, f'{path}: frame {position}')
    if max(abs(entry['id']), abs(entry['view'])) > _MAX_NUMBER or not _is_usual(entry['time']):
      raise ValueError(f'{path}: frame {position}: id, view or time is no usable number')
  if not _is_usual(header['fps']) or header['fps'] <= 0:
    raise ValueError(f'{path}: fps must be positive, got {header["fps"]}')
  return header


def _is_usual(number: float) -> bool:
  """Whether a number is finite and fits where numbers go; whole ones may have any length here."""
  return abs(number) <= _MAX_NUMBER


def _check_fields(table: Any, fields: dict[str, Any], source: str) -> None:
  if not isinstance(table, dict):
    raise ValueError(f'{source}: expected a table of {", ".join(fields)}')
  for name, kind in fields.items():
    if not isinstance(table.get(name), kind) or isinstance(table.get(name), bool):
      raise ValueError(f'{source}: field {name!r} is missing or of the wrong type')


def _inside(folder: Path, name: str) -> str:
  """The name, if it stays inside the folder."""
  path = Path(name)
  if path.is_absolute() or '..' in path.parts:
    raise ValueError(f'{folder / "capture.json"}: file name {name!r} leaves the folder')
  return name


def _read_tracking(path: Path, num_frames: int) -> dict[str, np.ndarray]:
  """tracking.npz, with shapes that fit together and finite values."""
  arrays = archive.read_arrays(path, max_bytes=_MAX_TRACKING_BYTES)
  shapes: dict[str, tuple[int | None, ...]] = {
    'shape': (None,),
    'expression': (num_frames, None),
    'rotation': (num_frames, 3),
    'neck': (num_frames, 3),
    'jaw': (num_frames, 3),
    'eyes': (num_frames, 6),
    'translation': (num_frames, 3),
    'world_to_camera': (num_frames, 4, 4),
    'intrinsics': (num_frames, 4),
  }
  for name, shape in shapes.items():
    if name not in arrays:
      raise ValueError(f'{path}: array {name!r} is missing')
    array = arrays[name]
    fits = array.ndim == len(shape) and all(
      wanted in (None, size) for wanted, size in zip(shape, array.shape, strict=True)
    )
    if not fits or array.dtype.kind != 'f':
      raise ValueError(f'{path}: {name!r} is {array.dtype} {array.shape}, expected float {shape}')
    bad = np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(axis=1))
    if len(bad):
      raise ValueError(f'{path}: {name!r} holds NaN or infinity (row {bad[0]})')
  return {name: arrays[name].astype(np.float32) for name in shapes}
