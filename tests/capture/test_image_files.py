"""Single images: what is written comes back, quietly."""

import cv2
import numpy as np
import pytest

from sa0_jax.capture import image_files


@pytest.fixture
def pixels() -> np.ndarray:
  return np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)


def test_png_is_exact_in_colour_and_grey(tmp_path, pixels, capfd):
  image_files.write(tmp_path / 'a.png', pixels)
  image_files.write(tmp_path / 'b.PNG', pixels[..., 0])
  np.testing.assert_array_equal(image_files.read_color(tmp_path / 'a.png'), pixels)
  np.testing.assert_array_equal(image_files.read_gray(tmp_path / 'b.PNG'), pixels[..., 0])
  assert capfd.readouterr() == ('', '')


def test_jpg_is_close(tmp_path, capfd):
  ramp = np.linspace(0, 255, 16 * 16).reshape(16, 16, 1).repeat(3, axis=2).astype(np.uint8)
  image_files.write(tmp_path / 'a.jpg', ramp)
  written = image_files.read_color(tmp_path / 'a.jpg').astype(int)
  assert np.abs(written - ramp).max() < 12
  assert capfd.readouterr() == ('', '')


def test_unknown_format_is_refused_and_leaves_nothing(tmp_path, pixels):
  with pytest.raises(ValueError, match=r"cannot encode an image as '\.xyz'"):
    image_files.write(tmp_path / 'a.xyz', pixels)
  assert not list(tmp_path.iterdir())


def test_what_is_no_image_is_refused(tmp_path):
  with pytest.raises(FileNotFoundError, match='no such image'):
    image_files.read_color(tmp_path / 'none.png')
  (tmp_path / 'text.png').write_text('no image')
  with pytest.raises(ValueError, match='not a readable image'):
    image_files.read_color(tmp_path / 'text.png')


def test_sizes_are_read_without_decoding():
  image = np.zeros((30, 40, 3), np.uint8)
  for suffix in ('.png', '.jpg'):
    data = cv2.imencode(suffix, image)[1].tobytes()
    assert image_files.stored_header(data)[:3] == (suffix[1:], 40, 30)
    assert image_files.stored_header(data[:20]) is None
  assert image_files.stored_header(cv2.imencode('.webp', image)[1].tobytes()) is None
  assert image_files.stored_header(b'') is None


def test_huge_headers_are_refused_before_decoding():
  data = bytearray(cv2.imencode('.png', np.zeros((4, 4, 3), np.uint8))[1].tobytes())
  data[16:24] = (60_000).to_bytes(4, 'big') * 2
  with pytest.raises(ValueError, match='more than 134217728 pixels'):
    image_files.decode_color(bytes(data), 'x.png')


def test_a_jpeg_that_is_cut_off_is_refused():
  rng = np.random.default_rng(0)
  data = cv2.imencode('.jpg', rng.integers(0, 256, (64, 64, 3), np.uint8))[1].tobytes()
  assert image_files.decode_color(data + b'trailing', 'x.jpg').shape == (64, 64, 3)
  for size in (len(data) - 2, len(data) // 2):
    with pytest.raises(ValueError, match=r'x\.jpg: not a whole image: the file is cut off'):
      image_files.decode_color(data[:size], 'x.jpg')


def test_alpha_comes_apart_from_colour():
  pixels = np.arange(4 * 5 * 4, dtype=np.uint8).reshape(4, 5, 4)
  color, alpha = image_files.decode_alpha(cv2.imencode('.png', pixels)[1].tobytes(), 'x')
  np.testing.assert_array_equal(color, pixels[..., 2::-1])
  np.testing.assert_array_equal(alpha, pixels[..., 3])
  color, alpha = image_files.decode_alpha(cv2.imencode('.png', pixels[..., :3])[1].tobytes(), 'x')
  assert alpha is None
  np.testing.assert_array_equal(color, pixels[..., 2::-1])
