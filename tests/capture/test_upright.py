"""Telephones store pictures lying down, with a note: the tracker sees them as viewers show them."""

import struct

import cv2
import numpy as np
import pytest

from sa0_jax.capture import image_files
from sa0_jax.capture.track.footage import Footage, open_footage
from sa0_jax.video import VideoReader, write_video

# Four corners that every turn and mirroring moves elsewhere; 64 wide, 48 high.
UPRIGHT = np.array([[[220, 30, 30], [30, 220, 30]], [[30, 30, 220], [220, 220, 220]]], np.uint8)
UPRIGHT = UPRIGHT.repeat(24, axis=0).repeat(32, axis=1)
# EXIF's value → from the stored picture to the upright one, in its standard's words.
EXIF = {
  1: lambda p: p,
  2: np.fliplr,
  3: lambda p: np.rot90(p, 2),
  4: np.flipud,
  5: lambda p: p.swapaxes(0, 1),
  6: lambda p: np.rot90(p, -1),  # clockwise
  7: lambda p: np.rot90(p, 2).swapaxes(0, 1),
  8: lambda p: np.rot90(p, 1),
}
# a, b, c, d of a track header: (x, y) is shown at (a x + c y, b x + d y), y downwards.
MATRICES = {
  (1, 0, 0, 1): EXIF[1],
  (-1, 0, 0, 1): EXIF[2],
  (-1, 0, 0, -1): EXIF[3],
  (1, 0, 0, -1): EXIF[4],
  (0, 1, 1, 0): EXIF[5],
  (0, 1, -1, 0): EXIF[6],  # a telephone held upright
  (0, -1, -1, 0): EXIF[7],
  (0, -1, 1, 0): EXIF[8],
}


def stored(turn):
  """The picture that becomes upright by a turn: found by trying, all are each other's inverses."""
  labels = np.arange(48 * 64).reshape(48, 64)
  for back in EXIF.values():
    if np.array_equal(turn(back(labels)), labels):
      return np.ascontiguousarray(back(UPRIGHT))
  raise AssertionError('no turn undoes it')


def photograph(path, value: int, pixels, order: str = '>') -> None:
  """A JPEG file with an orientation note."""
  mark = b'MM' if order == '>' else b'II'
  note = struct.pack(f'{order}HHIHHI', 0x0112, 3, 1, value, 0, 0)
  exif = b'Exif\0\0' + mark + struct.pack(f'{order}HIH', 42, 8, 1) + note
  data = image_files.encode(pixels, '.jpg')
  path.write_bytes(data[:2] + struct.pack('>HH', 0xFFE1, len(exif) + 2) + exif + data[2:])


def film(path, matrix, pixels, frames: int = 3) -> None:
  """A video whose track header says how players are to turn it."""
  write_video(path, [pixels] * frames, 25.0)
  data = bytearray(path.read_bytes())
  at = data.find(b'tkhd') + 4
  assert data[at] == 0  # version: how long the fields before the matrix are
  a, b, c, d = (value << 16 for value in matrix)
  struct.pack_into('>5i', data, at + 40, a, b, 0, c, d)
  path.write_bytes(data)


def close(got, expected) -> bool:
  return got.shape == expected.shape and np.abs(got.astype(int) - expected).mean() < 6


@pytest.mark.parametrize('order', ['>', '<'])
@pytest.mark.parametrize('value', sorted(EXIF))
def test_photographs_are_turned_as_their_exif_says(tmp_path, value, order):
  path = tmp_path / 'portrait.jpg'
  photograph(path, value, stored(EXIF[value]), order)
  [frame] = open_footage(path).frames()
  assert close(frame, UPRIGHT)
  [frame] = Footage.of_images([path]).frames()
  assert close(frame, UPRIGHT)
  # In a capture they stay as they are: its cameras belong to the stored pixels.
  assert close(image_files.read_color(path), stored(EXIF[value]))


def test_a_note_that_says_nothing_turns_nothing(tmp_path):
  photograph(tmp_path / 'portrait.jpg', 9, UPRIGHT)
  [frame] = open_footage(tmp_path / 'portrait.jpg').frames()
  assert close(frame, UPRIGHT)


@pytest.mark.parametrize('matrix', sorted(MATRICES))
def test_videos_are_turned_as_their_header_says(tmp_path, matrix):
  path, lying = tmp_path / 'clip.mp4', stored(MATRICES[matrix])
  film(path, matrix, lying)
  frames = list(open_footage(path).frames())
  assert len(frames) == 3
  assert all(close(frame, UPRIGHT) for frame in frames)
  assert cv2.resize(frames[0], (8, 6)).shape == (6, 8, 3)  # memory in order, as OpenCV wants it
  # Importers have cameras for the stored pixels.
  reader = VideoReader(path)
  assert reader.size == (lying.shape[1], lying.shape[0])
  assert close(next(iter(reader)), lying)
  reader.close()


def test_a_slanted_header_takes_the_nearest_quarter_turn(tmp_path):
  film(tmp_path / 'clip.mp4', (0, 1, -1, 0), stored(EXIF[6]))
  data = bytearray((tmp_path / 'clip.mp4').read_bytes())
  at = data.find(b'tkhd') + 44
  struct.pack_into('>5i', data, at, 9000, 64000, 0, -64000, 9000)
  (tmp_path / 'clip.mp4').write_bytes(data)
  assert close(next(open_footage(tmp_path / 'clip.mp4').frames()), UPRIGHT)
  struct.pack_into('>5i', data, at, 0, 0, 0, 0, 0)  # damaged: as it is stored
  (tmp_path / 'clip.mp4').write_bytes(data)
  assert close(next(open_footage(tmp_path / 'clip.mp4').frames()), stored(EXIF[6]))
