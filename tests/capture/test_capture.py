"""Captures: what is written comes back, and damage is named."""

import dataclasses
import json

import cv2
import numpy as np
import pytest
from sa0_kernels import Camera

from sa0_jax.capture.capture import Capture, MemoryImages, StoredPair, load_capture
from sa0_jax.head.model import HeadCodes


def make_capture(frames=4, width=20, height=16, seed=0) -> Capture:
  """A capture of noise, with codes of an invented head model."""
  rng = np.random.default_rng(seed)

  def code(size):
    return rng.normal(size=(frames, size)).astype(np.float32)

  codes = HeadCodes(
    shape=rng.normal(size=7).astype(np.float32),
    expression=code(5),
    rotation=code(3),
    neck=code(3),
    jaw=code(3),
    eyes=code(6),
    translation=code(3),
  )
  camera = Camera(
    np.stack([np.eye(4, dtype=np.float32)] * frames),
    np.stack([np.float32([30.0, 31.0, 10.0, 8.0])] * frames),
    width,
    height,
  )
  pixels = MemoryImages(
    rng.integers(0, 256, (frames, height, width, 3), dtype=np.uint8),
    rng.integers(0, 256, (frames, height, width), dtype=np.uint8),
  )
  return Capture(
    name='noise',
    head_name='invented',
    head_fingerprint='0123456789abcdef',
    codes=codes,
    camera=camera,
    source=pixels,
    ids=np.arange(frames) * 2,
    times=np.arange(frames) / 25.0,
    view_ids=np.zeros(frames, np.int64),
    fps=25.0,
  )


def test_png_round_trip_is_exact(tmp_path):
  capture = make_capture()
  capture.save(tmp_path / 'c')
  loaded = load_capture(tmp_path / 'c')
  assert (loaded.name, loaded.head_name, loaded.fps) == ('noise', 'invented', 25.0)
  assert (loaded.width, loaded.height, len(loaded)) == (20, 16, 4)
  for field in dataclasses.fields(HeadCodes):
    np.testing.assert_array_equal(
      getattr(loaded.codes, field.name), getattr(capture.codes, field.name)
    )
  np.testing.assert_array_equal(loaded.camera.intrinsics, capture.camera.intrinsics)
  for ours, theirs in zip(capture.frames, loaded.frames, strict=True):
    assert ours.id == theirs.id
    assert ours.time == pytest.approx(theirs.time)
    np.testing.assert_array_equal(ours.pixels.image, theirs.pixels.image)
    np.testing.assert_array_equal(ours.pixels.matte, theirs.pixels.matte)


def test_saving_twice_gives_the_same_bytes(tmp_path):
  for name in ('a', 'b'):
    make_capture().save(tmp_path / name)
  for file in ('capture.json', 'tracking.npz', 'images/000001.png', 'mattes/000003.png'):
    assert (tmp_path / 'a' / file).read_bytes() == (tmp_path / 'b' / file).read_bytes()


def test_jpeg_is_close(tmp_path):
  flat = make_capture()
  smooth = np.linspace(0, 255, 20, dtype=np.uint8)[None, None, :, None]
  images = np.ascontiguousarray(np.broadcast_to(smooth, (4, 16, 20, 3)))
  capture = dataclasses.replace(flat, source=MemoryImages(images, flat.source.mattes))
  capture.save(tmp_path / 'c', image_format='jpg')
  loaded = load_capture(tmp_path / 'c').frames[2].pixels.image
  assert np.abs(loaded.astype(int) - images[2]).max() <= 4


def test_frames_are_a_sequence_and_selections_select(tmp_path):
  capture = make_capture()
  assert [f.id for f in capture.frames] == [0, 2, 4, 6]
  assert capture.frames[-1].id == 6
  assert [f.id for f in capture.frames[1:3]] == [2, 4]
  with pytest.raises(IndexError, match='frame 4 of a capture with 4 frames'):
    capture.frames[4]
  some = capture.select([3, 1])
  assert [f.id for f in some.frames] == [6, 2]
  np.testing.assert_array_equal(some.codes.jaw, np.asarray(capture.codes.jaw)[[3, 1]])
  np.testing.assert_array_equal(some.frames[0].pixels.image, capture.frames[3].pixels.image)
  some.save(tmp_path / 'some')
  assert [f.id for f in load_capture(tmp_path / 'some').frames] == [6, 2]


@pytest.fixture
def folder(tmp_path):
  make_capture().save(tmp_path / 'c')
  return tmp_path / 'c'


def edit_header(folder, change):
  path = folder / 'capture.json'
  header = json.loads(path.read_text())
  change(header)
  path.write_text(json.dumps(header))


DAMAGE = {
  'another version': (lambda h: h.update(version=2), 'capture version 2'),
  'no frames': (lambda h: h.update(frames=[]), 'at least one frame'),
  'wrong type': (lambda h: h.update(width='20'), "field 'width' is missing or of the wrong type"),
  'missing field': (lambda h: h['head'].pop('fingerprint'), "field 'fingerprint'"),
  'leaves the folder': (lambda h: h['frames'][1].update(image='../x.png'), 'leaves the folder'),
  'frame count': (lambda h: h['frames'].pop(), r"'expression' is float32 \(4, 5\)"),
}


@pytest.mark.parametrize('name', list(DAMAGE))
def test_damaged_headers_are_named(folder, name):
  change, message = DAMAGE[name]
  edit_header(folder, change)
  with pytest.raises(ValueError, match=message):
    load_capture(folder)


def test_other_damage_is_named(folder):
  with pytest.raises(FileNotFoundError, match=r'no capture\.json here'):
    load_capture(folder / 'images')
  edit_header(folder, lambda h: h.update(width=21))
  with pytest.raises(ValueError, match=r'is 20 x 16 px, capture\.json says 21 x 16'):
    load_capture(folder).frames[0]
  edit_header(folder, lambda h: h.update(width=20))
  image = folder / 'images' / '000001.png'
  image.write_bytes(image.read_bytes()[:40])
  with pytest.raises(ValueError, match='not a whole image'):
    load_capture(folder).frames[1]
  image.unlink()
  with pytest.raises(FileNotFoundError, match='no such image'):
    load_capture(folder).frames[1]
  (folder / 'capture.json').write_text('{"format": "sa0-cap')
  with pytest.raises(ValueError, match='damaged'):
    load_capture(folder)


def test_codes_that_are_not_finite_are_refused(tmp_path):
  capture = make_capture()
  jaw = np.asarray(capture.codes.jaw).copy()
  jaw[2, 1] = np.nan
  broken = dataclasses.replace(capture, codes=dataclasses.replace(capture.codes, jaw=jaw))
  broken.save(tmp_path / 'c')
  with pytest.raises(ValueError, match=r"'jaw' holds NaN or infinity \(row 2\)"):
    load_capture(tmp_path / 'c')


def test_an_interrupted_save_leaves_the_capture_that_was_there(tmp_path):
  capture = make_capture()
  capture.save(tmp_path / 'c')

  class Broken:
    def __len__(self):
      return 4

    def load(self, position):
      if position == 2:
        raise OSError(28, 'No space left on device')
      return capture.source.load(position)

  other = dataclasses.replace(make_capture(seed=1), source=Broken())
  with pytest.raises(OSError, match='No space left'):
    other.save(tmp_path / 'c')
  np.testing.assert_array_equal(load_capture(tmp_path / 'c').codes.jaw, capture.codes.jaw)
  assert [p.name for p in tmp_path.iterdir()] == ['c']


def test_a_folder_with_other_things_is_not_replaced(tmp_path):
  (tmp_path / 'photo.png').write_bytes(b'dear')
  with pytest.raises(ValueError, match='exists and is no capture'):
    make_capture().save(tmp_path)
  assert (tmp_path / 'photo.png').exists()


class StoredNoise:
  """Pictures of the noise capture that claim to come from these files."""

  def __init__(self, image=None, matte=None):
    self.source = make_capture().source
    self.files = image, matte

  def __len__(self):
    return 4

  def load(self, position):
    return self.source.load(position)

  def load_stored(self, position):
    return StoredPair(self.source.load(position), *self.files)


def test_files_are_copied_as_they_are_and_encoded_where_they_cannot_be(tmp_path):
  image, matte = make_capture().source.load(0)
  jpeg, png = (cv2.imencode(s, image)[1].tobytes() for s in ('.jpg', '.png'))
  webp = cv2.imencode('.webp', image)[1].tobytes()
  gray = cv2.imencode('.png', matte)[1].tobytes()
  other = cv2.imencode('.png', image[:8])[1].tobytes()
  for number, (stored, suffix, copied) in enumerate(
    [(jpeg, 'jpg', True), (png, 'png', True), (webp, 'png', False), (other, 'png', False)]
  ):
    capture = dataclasses.replace(make_capture(), source=StoredNoise(stored, gray))
    capture.select([2, 0]).save(tmp_path / str(number))
    written = (tmp_path / str(number) / 'images' / f'000001.{suffix}').read_bytes()
    assert (written == stored) == copied
    assert (tmp_path / str(number) / 'mattes' / '000000.png').read_bytes() == gray
    loaded = load_capture(tmp_path / str(number))
    if not copied:
      np.testing.assert_array_equal(loaded.frames[1].pixels.image, image)
  dataclasses.replace(make_capture(), source=StoredNoise()).save(tmp_path / 'plain')
  np.testing.assert_array_equal(load_capture(tmp_path / 'plain').frames[0].pixels.matte, matte)


def test_a_capture_from_a_folder_keeps_its_files(tmp_path):
  """Saved again in part, JPEG images do not lose a second time."""
  make_capture().save(tmp_path / 'a', image_format='jpg')
  load_capture(tmp_path / 'a').select([2, 1]).save(tmp_path / 'b')
  for new, old in ((0, 2), (1, 1)):
    for kind, suffix in (('images', 'jpg'), ('mattes', 'png')):
      copied = tmp_path / 'b' / kind / f'{new:06d}.{suffix}'
      assert copied.read_bytes() == (tmp_path / 'a' / kind / f'{old:06d}.{suffix}').read_bytes()


def test_an_image_cut_off_is_named(tmp_path):
  make_capture().save(tmp_path / 'a')
  path = tmp_path / 'a' / 'mattes' / '000001.png'
  path.write_bytes(path.read_bytes()[:-20])
  with pytest.raises(ValueError, match=r'000001\.png: not a whole image'):
    load_capture(tmp_path / 'a').frames[1]


@pytest.mark.parametrize(
  'change',
  [
    lambda h: h['frames'][1].update(id=10**30),
    lambda h: h['frames'][1].update(view=-(10**30)),
    lambda h: h['frames'][1].update(time=float('inf')),
    lambda h: h.update(fps=0.0),
    lambda h: h.update(fps=float('nan')),
  ],
)
def test_numbers_that_fit_nowhere_are_named(folder, change):
  """Found by fuzzing: an OverflowError came out."""
  edit_header(folder, change)
  with pytest.raises(ValueError, match=r'no usable number|fps must be positive'):
    load_capture(folder)
