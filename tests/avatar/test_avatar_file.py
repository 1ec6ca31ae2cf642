"""Avatar files: what is written comes back, the mesh is part of the format, damage is named."""

import dataclasses
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sa0_jax import archive
from sa0_jax.avatar.avatar import Avatar
from tests.avatar.scenes import small_avatar


@pytest.fixture
def path(tmp_path):
  """A saved avatar."""
  small_avatar().save(tmp_path / 'a.sa0')
  return tmp_path / 'a.sa0'


def test_round_trip_is_exact(path):
  avatar, loaded = small_avatar(), Avatar.load(path)
  assert (loaded.name, loaded.n, loaded.head.name) == ('someone', avatar.n, 'procedural')
  assert loaded.layout.resolution == avatar.layout.resolution
  for kept, came in (
    (avatar.gaussians, loaded.gaussians),
    (avatar.layout, loaded.layout),
    (avatar.shape, loaded.shape),
  ):
    for a, b in zip(jax.tree.leaves(kept), jax.tree.leaves(came), strict=True):
      assert a.dtype == b.dtype
      np.testing.assert_array_equal(a, b)


def test_equal_avatars_give_equal_bytes(path, tmp_path):
  Avatar.load(path).save(tmp_path / 'again.sa0')
  assert (tmp_path / 'again.sa0').read_bytes() == path.read_bytes()
  assert sorted(p.name for p in tmp_path.iterdir()) == ['a.sa0', 'again.sa0']


def test_32_channels_come_back(tmp_path):
  avatar = small_avatar()
  color = jnp.ones((avatar.n, 32), jnp.float32)
  wide = dataclasses.replace(
    avatar, gaussians=dataclasses.replace(avatar.gaussians, color_logit=color)
  )
  wide.save(tmp_path / 'wide.sa0')
  assert Avatar.load(tmp_path / 'wide.sa0').gaussians.color_logit.shape == (avatar.n, 32)


def test_another_mesh_is_an_error(path):
  head = small_avatar().head
  renumbered = dataclasses.replace(head, faces=np.roll(head.faces, 1, axis=1))
  with pytest.raises(ValueError, match='vertex order is part of the format'):
    Avatar.load(path, renumbered)


def test_a_missing_file_is_named(tmp_path):
  with pytest.raises(FileNotFoundError, match=r'nobody\.sa0: no such avatar'):
    Avatar.load(tmp_path / 'nobody.sa0')


@pytest.mark.parametrize('keep', [0.0, 0.01, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_a_value_error(path, keep):
  data = path.read_bytes()
  path.write_bytes(data[: int(keep * len(data))])
  with pytest.raises(ValueError, match=r'a\.sa0'):
    Avatar.load(path)


def test_flipped_bits_are_noticed(path):
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 0x10
  path.write_bytes(bytes(data))
  with pytest.raises(ValueError, match=r'a\.sa0'):
    Avatar.load(path)


def _nan(array):
  array = array.copy()
  array.ravel()[-1] = np.nan
  return array


SPOILED = {
  'NaN positions': ({'position': _nan}, 'position.*NaN'),
  'NaN shape': ({'shape': _nan}, 'shape.*NaN'),
  'too few rotations': ({'rotation': lambda a: a[:-1]}, 'rotation'),
  'integers for colours': ({'color_logit': lambda a: a.astype(np.int32)}, 'color_logit'),
  'triangles the mesh has not': ({'face': lambda a: a + 10**6}, 'triangles'),
  'negative triangles': ({'face': lambda a: a - 10**6}, 'triangles'),
  'texels outside': ({'texel': lambda a: a + 32}, 'texels'),
  'another shape basis': ({'shape': lambda a: a[:-1]}, 'shape code'),
  'no opacities': ({'opacity_logit': None}, 'opacity_logit.*missing'),
  'another version': ({'format': lambda a: np.array(['sa0-avatar', '99'])}, 'version 99'),
  'another format': ({'format': lambda a: np.array(['sa0-head', '1'])}, 'not an avatar'),
  'no Gaussians': (
    dict.fromkeys(
      ('texel', 'face', 'barycentric', 'position', 'rotation', 'log_scale', 'opacity_logit'),
      lambda a: a[:0],
    )
    | {'color_logit': lambda a: a[:0]},
    'no Gaussians',
  ),
}


@pytest.mark.parametrize('name', list(SPOILED))
def test_wrong_contents_are_named(path, name):
  changes, message = SPOILED[name]
  arrays = dict(archive.read_arrays(path))
  for array, change in changes.items():
    value = arrays.pop(array)
    if change is not None:
      arrays[array] = change(value)
  archive.write_arrays(path, arrays)
  with pytest.raises(ValueError, match=rf'a\.sa0: .*{message}'):
    Avatar.load(path)


def test_objects_are_refused_unread(path):
  """An .npz member that NumPy would unpickle."""
  with zipfile.ZipFile(path, 'a') as file, file.open('extra.npy', 'w') as member:
    np.lib.format.write_array(member, np.array([{}], object), allow_pickle=True)
  with pytest.raises(ValueError, match='extra'):
    Avatar.load(path)


def test_a_failed_save_leaves_the_old_file(path, monkeypatch):
  """As on a full disk: the write breaks in the middle."""
  before = path.read_bytes()

  def full(*args, **kwargs):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(np.lib.format, 'write_array', full)
  with pytest.raises(OSError, match='No space'):
    small_avatar(seed=1).save(path)
  assert path.read_bytes() == before
  assert [p.name for p in path.parent.iterdir()] == ['a.sa0']
