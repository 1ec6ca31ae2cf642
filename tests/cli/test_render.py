"""`sa0 render` and `sa0 export`: pictures of a refined avatar, and nothing else ever replaced."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import plyfile
import pytest

from sa0_jax.avatar.avatar import Avatar
from sa0_jax.capture import image_files
from sa0_jax.cli.orbit import YAW, Orbit, orbit_drive
from sa0_jax.head.lbs import pose_head
from sa0_jax.render import neutral_extent, render
from sa0_jax.video import VideoReader
from tests.avatar.scenes import small_avatar


def test_pictures_are_the_renders(sa0, refined, capture, capture_folder, tmp_path):
  code, output, _ = sa0(
    'render', refined, '--drive', capture_folder, '--out', tmp_path / 'p', '--json'
  )
  assert code == 0
  report = json.loads(output)
  assert (report['frames'], report['width'], report['fps']) == (5, 48, 25.0)
  names = sorted(p.name for p in (tmp_path / 'p').iterdir())
  assert names == [f'{i:06d}.png' for i in range(5)]
  expected = render(Avatar.load(refined), capture.frames[3]).rgb
  found = image_files.read_color(tmp_path / 'p' / '000003.png')
  assert np.abs(found / 255.0 - np.clip(expected, 0, 1)).max() <= 0.51 / 255.0


def test_video_of_some_frames_at_another_size(sa0, refined, capture_folder, tmp_path):
  words = ['render', refined, '--drive', capture_folder, '--out', tmp_path / 'v.mp4']
  code, output, _ = sa0(
    *words, '--frames', '1:5:2', '--size', 63, '--fps', 10, '--background', '0,1,0'
  )
  assert code == 0
  assert '2 frames of 64 × 64' in output
  video = VideoReader(tmp_path / 'v.mp4')
  assert (video.size, video.fps) == ((64, 64), 10.0)
  corner = [frame[1, 1].astype(int) for frame in video]
  assert len(corner) == 2
  assert all((abs(c - (0, 255, 0)) < 12).all() for c in corner)


def test_orbit(sa0, refined, tmp_path):
  code, _, _ = sa0('render', refined, '--out', tmp_path / 'o', '--frames', 4, '--size', 48)
  assert code == 0
  pictures = [image_files.read_color(p) for p in sorted((tmp_path / 'o').iterdir())]
  assert len(pictures) == 4
  # The head is in every picture, the two sides differ, nothing touches the corners.
  assert all(p.min() < 200 and (p[0, 0] == 255).all() for p in pictures)
  assert (pictures[1] != pictures[3]).any()


def test_orbit_goes_to_both_sides_and_sees_the_whole_head():
  avatar = small_avatar()
  head = avatar.head
  drive = list(orbit_drive(avatar, Orbit(frames=8, size=100)))
  yaws = []
  for codes, camera in drive:
    vertices = np.asarray(pose_head(head, codes), np.float64)
    view = np.asarray(camera.world_to_camera, np.float64)
    seen = vertices @ view[:3, :3].T + view[:3, 3]
    fx, fy, cx, cy = np.asarray(camera.intrinsics)
    pixels = np.stack([fx * seen[:, 0] / seen[:, 2] + cx, fy * seen[:, 1] / seen[:, 2] + cy])
    assert pixels.min() > 0
    assert pixels.max() < 100
    yaws.append(np.arctan2(-view[2, 0], -view[2, 2]))
  assert max(yaws) == pytest.approx(YAW, abs=0.01)
  assert min(yaws) == pytest.approx(-YAW, abs=0.01)
  assert max(float(codes.jaw[0]) for codes, _ in drive) > 0.1
  still = orbit_drive(avatar, Orbit(frames=3, still=True))
  assert not any(np.any(codes.jaw) or np.any(codes.expression) for codes, _ in still)


def test_the_camera_sees_hair_that_stands_off_the_head():
  avatar = small_avatar()
  bare = neutral_extent(avatar)
  np.testing.assert_allclose(neutral_extent(avatar), bare)
  top = np.argsort(np.asarray(avatar.layout.texel)[:, 0])[:40]
  position = np.array(avatar.gaussians.position)
  position[top, 1] += 8.0  # triangle units along the normal
  gaussians = dataclasses.replace(
    avatar.gaussians,
    position=jnp.asarray(position),
    opacity_logit=jnp.full(avatar.n, 3.0),
  )
  grown = neutral_extent(dataclasses.replace(avatar, gaussians=gaussians))
  assert np.abs(grown - bare).max() > 0.02
  assert (grown[0] <= bare[0] + 1e-3).all()
  assert (grown[1] >= bare[1] - 1e-3).all()
  hidden = dataclasses.replace(gaussians, opacity_logit=jnp.full(avatar.n, -3.0))
  mesh = neutral_extent(dataclasses.replace(avatar, gaussians=hidden))
  assert np.abs(mesh - bare).max() < 0.015


def test_other_peoples_folders_are_never_replaced(fails, refined, tmp_path):
  (tmp_path / 'holiday').mkdir()
  (tmp_path / 'holiday' / 'beach.png').write_bytes(b'precious')
  line = fails('render', refined, '--out', tmp_path / 'holiday', '--frames', 2)
  assert 'exists and holds other things' in line
  assert (tmp_path / 'holiday' / 'beach.png').read_bytes() == b'precious'


@pytest.mark.parametrize(
  ('words', 'message'),
  [
    (['--drive', 'nowhere', '--out', 'v.mp4'], 'no capture.json here'),
    (['--out', 'v.avi.txt'], 'use .mp4'),
    (['--out', 'v.mp4', '--frames', '500:600'], 'selects none'),
  ],
)
def test_mistakes(fails, refined, tmp_path, monkeypatch, words, message):
  monkeypatch.chdir(tmp_path)
  assert message in fails('render', refined, *words)
  assert list(tmp_path.iterdir()) == []


def test_missing_avatar(fails, tmp_path):
  assert 'no such avatar' in fails('render', tmp_path / 'a.sa0', '--out', tmp_path / 'v.mp4')


def test_drive_of_another_head(fails, refined, capture, tmp_path):
  dataclasses.replace(capture, head_name='flame2020').save(tmp_path / 'c')
  line = fails('render', refined, '--drive', tmp_path / 'c', '--out', tmp_path / 'v.mp4')
  assert "tracked with head model 'flame2020'" in line


def test_export(sa0, refined, capture_folder, tmp_path):
  code, output, _ = sa0('export', refined, '--format', 'ply', '--out', tmp_path / 'a.ply', '--json')
  assert code == 0
  count = json.loads(output)['num_gaussians']
  assert len(plyfile.PlyData.read(tmp_path / 'a.ply')['vertex']) == count
  words = ['export', refined, '--drive', capture_folder, '--frame']
  assert sa0(*words, 4, '--out', tmp_path / 'b.ply')[0] == 0
  assert (tmp_path / 'a.ply').read_bytes() != (tmp_path / 'b.ply').read_bytes()


def test_export_a_sequence(sa0, fails, refined, capture_folder, tmp_path):
  out = tmp_path / 'frames'
  words = ['export', refined, '--drive', capture_folder, '--out']
  code, output, _ = sa0(*words, out, '--frames', '1:5:2', '--json')
  assert code == 0
  assert json.loads(output)['files'] == 2
  assert sorted(path.name for path in out.iterdir()) == ['000001.ply', '000003.ply']
  assert sa0(*words, tmp_path / 'b.ply', '--frame', 3)[0] == 0
  assert (out / '000003.ply').read_bytes() == (tmp_path / 'b.ply').read_bytes()
  assert sa0(*words, out, '--frames', '2')[0] == 0  # our own folder is replaced
  (out / 'notes.txt').write_text('precious')
  assert 'holds other things' in fails(*words, out, '--frames', '2')
  assert 'selects none' in fails(*words, tmp_path / 'c', '--frames', '7:9')
  assert 'without suffix' in fails(*words, tmp_path / 'c.ply', '--frames', '2')
  assert 'one is enough' in fails(*words, tmp_path / 'c', '--frames', '2', '--format', 'glb')
  assert 'of which capture' in fails('export', refined, '--out', tmp_path / 'c', '--frames', '2')


@pytest.mark.parametrize('name', ['spz', 'splat', 'glb'])
def test_export_formats(sa0, fails, refined, tmp_path, name):
  assert sa0('export', refined, '--format', name, '--out', tmp_path / f'a.{name}')[0] == 0
  assert (tmp_path / f'a.{name}').stat().st_size > 1000
  assert f'named *.{name}' in fails(
    'export', refined, '--format', name, '--out', tmp_path / 'a.ply'
  )


def test_export_in_triangle_frames(sa0, fails, refined, tmp_path):
  assert sa0('export', refined, '--local', '--out', tmp_path / 'a.ply')[0] == 0
  assert 'binding_0' in plyfile.PlyData.read(tmp_path / 'a.ply')['vertex'].data.dtype.names
  words = ['export', refined, '--format', 'spz', '--out', tmp_path / 'a.spz']
  assert 'only ply' in fails(*words, '--local')


def test_export_mistakes(fails, refined, capture_folder, tmp_path):
  assert 'is named *.ply' in fails('export', refined, '--out', tmp_path / 'a.splat')
  words = ['export', refined, '--drive', capture_folder, '--out', tmp_path / 'a.ply', '--frame']
  assert 'has 5 frames' in fails(*words, 5)
  (tmp_path / 'bad.sa0').write_bytes(refined.read_bytes()[:500])
  assert 'bad.sa0' in fails('export', tmp_path / 'bad.sa0', '--out', tmp_path / 'a.ply')
  assert not (tmp_path / 'a.ply').exists()
