"""The parts importers share: mattes of plain backgrounds, names, numbers, read-ahead, the sheet."""

import dataclasses
import json
import threading

import cv2
import numpy as np
import pytest

from sa0_jax.capture.capture import ImagePair
from sa0_jax.capture.importers import conventions, readers
from sa0_jax.capture.importers.check import check_sheet
from sa0_jax.capture.importers.mattes import BLACK, WHITE, matte_of_plain
from sa0_jax.capture.importers.pictures import PictureFile as File
from sa0_jax.capture.importers.pictures import ReadAhead, first_size
from sa0_jax.video import VideoReader
from tests.capture.importers.truth import head, make_scene, overlap, turn


def disc(size, center, radius):
  row, column = np.mgrid[:size, :size]
  return (row - center[0]) ** 2 + (column - center[1]) ** 2 < radius**2


@pytest.mark.parametrize('background', [BLACK, WHITE])
def test_a_matte_of_a_plain_background(background):
  rng = np.random.default_rng(0)
  level = 150 if background == BLACK else 90
  image = np.full((200, 200, 3), background, np.uint8)
  shape = disc(200, (100, 90), 60)
  image[shape] = level + rng.integers(-20, 20, (shape.sum(), 3))
  image[disc(200, (90, 80), 15)] = background  # a pupil, a highlight: inside, so it belongs
  image[5:8, 5:9] = 128  # a speck of compression
  image = cv2.imdecode(cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1], 1)
  matte = matte_of_plain(image, background)
  assert overlap(matte, 255 * shape.astype(np.uint8)) > 0.98
  assert matte[90, 80] == 255
  assert matte[:20, :20].max() == 0
  assert len(np.unique(matte)) > 3  # a soft edge
  assert matte[~disc(200, (100, 90), 63)].max() == 0
  plain = np.full((50, 60, 3), background, np.uint8)
  assert matte_of_plain(plain, background).max() == 0


def test_a_bust_cut_off_below_has_no_holes():
  image = np.zeros((100, 100, 3), np.uint8)
  image[disc(100, (40, 50), 30)] = 160
  image[70:, 10:90] = 160
  image[85:, 40:60] = 0  # a black shirt that reaches the lower border
  assert matte_of_plain(image, BLACK)[95, 50] == 255
  image[60:80, 88:] = 0
  assert matte_of_plain(image, BLACK)[60, 95] == 0


def test_files_stay_inside_their_folder(tmp_path):
  inside = readers.inside(tmp_path, './image/1.png', 'x.json')
  assert inside == tmp_path / 'image' / '1.png'
  for name in ('../x', 'a/../../x', '/etc/passwd', 'a\\b', 'a\0b', '', 'x' * 2000):
    with pytest.raises(ValueError, match=r'x\.json: file name .* leaves the folder') as caught:
      readers.inside(tmp_path, name, 'x.json')
    assert len(str(caught.value)) < 300


def test_images_are_found_without_their_suffix(tmp_path):
  for name in ('1.png', 'a.b.jpg'):
    (tmp_path / name).write_bytes(b'')
  assert readers.image_named(tmp_path / '1') == tmp_path / '1.png'
  assert readers.image_named(tmp_path / '1.jpg') == tmp_path / '1.png'
  assert readers.image_named(tmp_path / 'a.b') == tmp_path / 'a.b.jpg'
  assert readers.image_named(tmp_path / 'a') is None


def test_numbers():
  assert readers.numbers([[1, 2]], (2,), 'n', 's').tolist() == [1.0, 2.0]
  assert readers.numbers(np.float32([[3]]), (), 'n', 's') == 3.0
  for value in (None, 'text', ['1', '2'], [1, [2]], [True, False], {}, [None, 1]):
    with pytest.raises(ValueError, match="s: 'n'"):
      readers.numbers(value, (2,), 'n', 's')
  with pytest.raises(ValueError, match='holds numbers over 1e'):
    readers.numbers([1e300, 0], (2,), 'n', 's')


def test_json_is_strict_and_bounded(tmp_path):
  for text in ('{"a": NaN}', '[Infinity]', '{', '"\ud800', '[' * 10_000, '9' * 5000):
    with pytest.raises(ValueError, match='damaged JSON'):
      readers.parse_json(text.encode('utf-8', 'surrogatepass'), 's')
  assert readers.parse_json(b'{"a": [1.5]}', 's') == {'a': [1.5]}


def test_six_numbers_and_euler_angles_are_rotations():
  rng = np.random.default_rng(0)
  vectors = rng.normal(size=(5, 3))
  rows = np.stack([2.5 * turn(v)[:2].reshape(6) for v in vectors])  # any length will do
  found = conventions.axis_angle_of_rotation_6d(rows, 'jaw', 's')
  for vector, back in zip(vectors, found, strict=True):
    np.testing.assert_allclose(turn(back), turn(vector), atol=1e-12)
  angles = rng.normal(size=(5, 3))
  for (x, y, z), matrix in zip(angles, conventions.matrices_of_euler_xyz(angles), strict=True):
    np.testing.assert_allclose(matrix, turn([x, 0, 0]) @ turn([0, y, 0]) @ turn([0, 0, z]))


class Slow:
  """A source that remembers who asked for what."""

  def __init__(self, in_order, broken=()):
    self.in_order = in_order
    self.broken = broken
    self.asked = []

  def __len__(self):
    return 30

  def load(self, position):
    self.asked.append((position, threading.get_ident()))
    if position in self.broken:
      raise ValueError(f'frame {position} is damaged')
    return ImagePair(np.full((2, 2, 3), position, np.uint8), np.full((2, 2), position, np.uint8))


@pytest.mark.parametrize('in_order', [True, False])
def test_frames_are_read_ahead_once_and_in_their_order(in_order):
  source, done = Slow(in_order), []
  with ReadAhead(source, lambda: done.append(1)) as ahead:
    levels = [int(ahead.load_stored(i).pixels.matte[0, 0]) for i in range(30)]
  assert levels == list(range(30))
  assert sorted(position for position, _ in source.asked) == list(range(30))
  assert len(done) == 30
  if in_order:
    assert [position for position, _ in source.asked] == list(range(30))
    assert len({thread for _, thread in source.asked}) == 1
  source = Slow(in_order, broken=(4,))
  with ReadAhead(source, lambda: None) as ahead:
    for i in range(4):
      ahead.load(i)
    with pytest.raises(ValueError, match='frame 4 is damaged'):
      ahead.load(4)
  assert len(source.asked) < 30  # nothing more is begun


def test_sizes_of_pictures_of_every_format(tmp_path):
  for suffix in ('.png', '.jpg', '.bmp', '.webp'):
    path = tmp_path / f'x{suffix}'
    path.write_bytes(cv2.imencode(suffix, np.zeros((30, 40, 3), np.uint8))[1].tobytes())
    assert first_size(File(path)) == (40, 30)


def test_the_sheet_shows_the_head_where_it_is(tmp_path):
  pytest.importorskip('numba')
  from sa0_jax.capture.importers import import_capture
  from tests.capture.importers.test_folder import arrays_of, write

  scene = make_scene(3, pose='codes', size=(96, 80), focal=1.8)
  write(tmp_path, scene, arrays_of(scene))
  capture = import_capture('folder', tmp_path, head('mine')).capture
  sheet = check_sheet(capture, head('mine'), frames=8, tile=192)
  assert sheet.shape == (2 * 160 + 4, 3 * 192 + 2 * 4, 3)
  for column, (_, matte) in enumerate(scene.pictures):
    below = sheet[164:, 196 * column : 196 * column + 192].astype(int)
    magenta = (below[..., 0] > below[..., 1] + 25) & (below[..., 2] > below[..., 1] + 25)
    expected = cv2.resize(matte, (192, 160), interpolation=cv2.INTER_LINEAR)
    assert magenta[expected == 0].mean() > 0.5
    assert magenta[expected == 255].mean() < 0.05
    red = (below[..., 0] > 180) & (below[..., 1] < 90) & (below[..., 2] < 90)
    places = 2 * scene.pixels[column] - 0.5
    near = [red[int(y) - 2 : int(y) + 4, int(x) - 2 : int(x) + 4].any() for x, y in places]
    assert np.mean(near) > 0.9
  without = dataclasses.replace(head('mine'), landmarks68=None, landmarks_mediapipe=None)
  assert check_sheet(capture, without, frames=1, tile=64).shape[1] == 64
  with pytest.raises(ValueError, match='was tracked with head model'):
    check_sheet(capture, head('flame2020'))


def test_a_video_in_no_known_format_is_named(tmp_path):
  from sa0_jax.video import write_video

  write_video(tmp_path / 'a.mp4', [np.zeros((32, 32, 3), np.uint8)] * 3, 25.0)
  data = (tmp_path / 'a.mp4').read_bytes()
  assert data.count(b'avc1') >= 1
  broken = data.replace(b'avc1', b'zzz1')
  (tmp_path / 'b.mp4').write_bytes(broken)
  with pytest.raises(ValueError, match=r'b\.mp4: .*video'):
    list(VideoReader(tmp_path / 'b.mp4'))


def test_json_numbers_of_codes_are_regular(tmp_path):
  path = tmp_path / 'codes.json'
  path.write_text(json.dumps({'a': [[1, 2], [3, 4]], 'b': 'word'}))
  arrays = readers.read_numbers(path)
  assert (arrays['a'].shape, str(arrays['b'])) == ((2, 2), 'word')
  for bad in ({'a': [[1], [2, 3]]}, {'a': None}, {'a': {'b': 1}}):
    path.write_text(json.dumps(bad))
    with pytest.raises(ValueError, match="'a'"):
      readers.read_numbers(path)
