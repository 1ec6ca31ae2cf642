"""Arrays in .npz files: damage is told, whatever it is."""

import numpy as np
import pytest

from sa0_jax import archive


def test_text_that_is_no_text_is_damage(tmp_path):
  """NumPy takes any 32 bits for a character; Python then fails with a SystemError."""
  for code in (0x110000, 0xD800):
    words = np.array([ord(letter) for letter in 'format'], np.uint32)
    words[2] = code
    words = words.view('<U6')
    np.savez(tmp_path / 'x.npz', words=words)
    with pytest.raises(ValueError, match='is no text'):
      archive.read_arrays(tmp_path / 'x.npz')


def test_damage_is_told_in_a_short_line(tmp_path):
  """zipfile quotes half of the file where a name's length is wrong."""
  np.savez(tmp_path / 'x.npz', a=np.zeros(5000))
  data = bytearray((tmp_path / 'x.npz').read_bytes())
  data[26:28] = (4000).to_bytes(2, 'little')
  (tmp_path / 'x.npz').write_bytes(data)
  with pytest.raises(ValueError, match='not a readable') as caught:
    archive.read_arrays(tmp_path / 'x.npz')
  assert len(str(caught.value)) < 400
