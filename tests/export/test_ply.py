"""The exported point cloud, read by another reader, is the avatar."""

import dataclasses
import errno

import jax
import jax.numpy as jnp
import numpy as np
import plyfile
import pytest
from sa0_kernels import RasterConfig, rasterize

from sa0_jax import mesh_render
from sa0_jax.avatar.activations import logit
from sa0_jax.avatar.avatar import Avatar
from sa0_jax.avatar.gaussians import BoundGaussians
from sa0_jax.export.export import export
from sa0_jax.export.ply import PROPERTIES, SH_C0
from sa0_jax.export.settings import posed_gaussians
from sa0_jax.head.model import HeadCodes
from sa0_jax.head.registry import load_head
from sa0_jax.head.uv_layout import UVLayout
from sa0_jax.render import Renderer


@pytest.fixture(scope='module')
def avatar() -> Avatar:
  """A small avatar with every attribute different for every Gaussian."""
  head = load_head()
  layout = UVLayout.from_head(head, 40)
  rng = np.random.default_rng(0)

  def normal(*shape, scale=1.0):
    return jnp.asarray(scale * rng.normal(size=shape), jnp.float32)

  n = layout.n
  gaussians = BoundGaussians(
    position=normal(n, 3, scale=0.5),
    rotation=normal(n, 4),
    log_scale=normal(n, 3, scale=0.5) - 0.5,
    opacity_logit=normal(n, scale=3.0),
    color_logit=logit(jnp.asarray(rng.uniform(0.05, 0.95, (n, 3)), jnp.float32)),
  )
  return Avatar(gaussians, layout, normal(head.num_shape, scale=0.5), head, 'test')


def _talking(avatar: Avatar) -> HeadCodes:
  neutral = HeadCodes.neutral(avatar.head)
  return dataclasses.replace(
    neutral,
    jaw=jnp.asarray([0.3, 0.0, 0.0]),
    rotation=jnp.asarray([0.0, 0.4, 0.1]),
    expression=neutral.expression.at[:5].set(0.5),
  )


def _read(path) -> dict[str, np.ndarray]:
  vertices = plyfile.PlyData.read(path)['vertex']
  assert tuple(p.name for p in vertices.properties) == PROPERTIES
  return {name: np.asarray(vertices[name]) for name in PROPERTIES}


def _columns(table: dict[str, np.ndarray], *names: str) -> np.ndarray:
  return np.stack([table[name] for name in names], axis=1)


@pytest.mark.parametrize('pose', ['neutral', 'talking'])
def test_render_from_the_file_equals_render_of_the_avatar(avatar, tmp_path, pose):
  codes = _talking(avatar) if pose == 'talking' else None
  export(avatar, tmp_path / 'a.ply', codes)
  table = _read(tmp_path / 'a.ply')
  camera = mesh_render.look_at_camera(
    [0.0, 0.0, 0.0], distance=0.9, yaw=0.3, pitch=0.1, focal=2.2, size=(96, 96)
  )
  camera = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), camera)
  # Every formula below is INRIA's own: what any viewer of the format computes.
  output = rasterize(
    _columns(table, 'x', 'y', 'z'),
    _columns(table, 'rot_0', 'rot_1', 'rot_2', 'rot_3'),
    np.exp(_columns(table, 'scale_0', 'scale_1', 'scale_2')),
    1.0 / (1.0 + np.exp(-table['opacity'])),
    0.5 + SH_C0 * _columns(table, 'f_dc_0', 'f_dc_1', 'f_dc_2'),
    camera,
    RasterConfig(background=jnp.ones(3)),
  )
  expected = Renderer(avatar)(HeadCodes.neutral(avatar.head) if codes is None else codes, camera)
  assert expected.alpha.mean() > 0.05
  np.testing.assert_allclose(np.asarray(output.features), expected.rgb, atol=2e-4)
  np.testing.assert_allclose(np.asarray(output.alpha), expected.alpha, atol=2e-4)


def test_values_are_those_of_the_posed_gaussians(avatar, tmp_path):
  export(avatar, tmp_path / 'a.ply')
  table, world = _read(tmp_path / 'a.ply'), posed_gaussians(avatar, None)
  assert len(table['x']) == avatar.n
  np.testing.assert_array_equal(_columns(table, 'x', 'y', 'z'), world.means)
  assert not _columns(table, 'nx', 'ny', 'nz').any()
  quats = _columns(table, 'rot_0', 'rot_1', 'rot_2', 'rot_3')
  np.testing.assert_allclose(np.linalg.norm(quats, axis=1), 1.0, atol=1e-5)
  np.testing.assert_allclose(table['opacity'], avatar.gaussians.opacity_logit, atol=2e-3)


def test_shape_code_is_the_avatars_own(avatar, tmp_path):
  stranger = dataclasses.replace(
    HeadCodes.neutral(avatar.head), shape=jnp.full(avatar.head.num_shape, 2.0)
  )
  export(avatar, tmp_path / 'own.ply')
  export(avatar, tmp_path / 'other.ply', stranger)
  assert (tmp_path / 'own.ply').read_bytes() == (tmp_path / 'other.ply').read_bytes()


def test_saturated_opacity_and_vanishing_scale_stay_finite(avatar, tmp_path):
  extreme = dataclasses.replace(
    avatar.gaussians,
    opacity_logit=jnp.full(avatar.n, 60.0),
    log_scale=jnp.full((avatar.n, 3), -80.0),
  )
  export(dataclasses.replace(avatar, gaussians=extreme), tmp_path / 'a.ply')
  table = _read(tmp_path / 'a.ply')
  assert all(np.isfinite(column).all() for column in table.values())
  assert (1.0 / (1.0 + np.exp(-table['opacity'])) > 0.999).all()


def test_unknown_format_names_those_there_are(avatar, tmp_path):
  with pytest.raises(ValueError, match=r"no export to '\.obj'; use .*\.ply"):
    export(avatar, tmp_path / 'a.obj')
  with pytest.raises(ValueError, match='without suffix'):
    export(avatar, tmp_path / 'a')
  assert not list(tmp_path.iterdir())


def test_codes_of_several_frames_are_refused(avatar, tmp_path):
  with pytest.raises(ValueError, match='expression has shape'):
    export(avatar, tmp_path / 'a.ply', HeadCodes.neutral(avatar.head, (2,)))


def test_a_failed_write_keeps_what_stood_there(avatar, tmp_path, monkeypatch):
  target = tmp_path / 'a.ply'
  target.write_bytes(b'before')

  def full(_):
    raise OSError(errno.ENOSPC, 'No space left on device')

  monkeypatch.setattr('os.fsync', full)
  with pytest.raises(OSError, match='No space left') as caught:
    export(avatar, target)
  assert caught.value.filename == str(target)
  assert target.read_bytes() == b'before'
  assert list(tmp_path.iterdir()) == [target]
