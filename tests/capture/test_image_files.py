"""Single images: what is written comes back, quietly."""

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
