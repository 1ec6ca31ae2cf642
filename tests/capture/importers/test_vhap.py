"""VHAP's export: OpenGL camera-to-world, several cameras, offsets that a capture cannot hold."""

import dataclasses
import json

import cv2
import numpy as np
import pytest

from sa0_jax.capture.capture import load_capture
from sa0_jax.capture.importers import ImportOptions, import_capture, save_imported
from sa0_jax.capture.splits import read_split
from tests.capture.importers.truth import Scene, assert_same_places, head, make_scene, turn

pytest.importorskip('numba')
SIZE = (96, 128)
CAMERAS = 3


def rig(scene: Scene) -> list[Scene]:
  """The scene from several cameras that stand around it."""
  views = []
  for camera in range(CAMERAS):
    aside = turn([0.1 * camera, 0.35 * (camera - 1), 0.0])
    center = np.array([0.1, 1.5, -0.3])
    rotation = np.einsum('tij,jk->tik', scene.rotation, aside)
    depth = scene.rotation @ center + scene.translation
    lens = scene.lens * [1 + 0.05 * camera, 1 + 0.05 * camera, 1 - 0.02 * camera, 1]
    views.append(
      dataclasses.replace(
        scene, rotation=rotation, translation=depth - rotation @ center, lens=lens
      )
    )
  return views


@pytest.fixture(scope='module')
def views():
  return rig(make_scene(4, pose='codes', size=SIZE, focal=1.8))


def frame_of(view: Scene, time: int, camera: int) -> dict:
  """An entry of transforms.json. The camera in the world, looking along its own −z, y up."""
  rotation, translation = view.rotation[time], view.translation[time]
  pose = np.eye(4)
  pose[:3, 3] = -rotation.T @ translation
  right, down, forward = rotation
  pose[:3, 0], pose[:3, 1], pose[:3, 2] = right, -down, -forward
  width, height = view.size
  return {
    'timestep_index': time,
    'camera_index': camera,
    'cx': view.lens[2],
    'cy': view.lens[3],
    'fl_x': view.lens[0],
    'fl_y': view.lens[1],
    'w': width,
    'h': height,
    'camera_angle_x': 2 * np.arctan(width / 2 / view.lens[0]),
    'transform_matrix': pose.tolist(),
    'file_path': f'images/{time:05d}_{camera:02d}.png',
    'fg_mask_path': f'fg_masks/{time:05d}_{camera:02d}.png',
    'flame_param_path': f'flame_param/{time:05d}.npz',
  }


def write(folder, views, split=None, offset=None, dynamic=None):
  """Writes the export; `split` gives the parts of (time, camera)."""
  for name in ('images', 'fg_masks', 'flame_param'):
    (folder / name).mkdir(parents=True)
  entries = {}
  for camera, view in enumerate(views):
    for time in range(len(view)):
      entry = entries[time, camera] = frame_of(view, time, camera)
      image, matte = view.pictures[time]
      cv2.imwrite(str(folder / entry['file_path']), view.on(time, 255)[..., ::-1])
      cv2.imwrite(str(folder / entry['fg_mask_path']), matte)
      del image
  codes = views[0].codes
  for time in range(len(views[0])):
    arrays = {
      'translation': codes['translation'][time : time + 1],
      'rotation': codes['rotation'][time : time + 1],
      'neck_pose': codes['neck'][time : time + 1],
      'jaw_pose': codes['jaw'][time : time + 1],
      'eyes_pose': codes['eyes'][time : time + 1],
      'shape': codes['shape'],
      'expr': codes['expression'][time : time + 1],
    }
    if offset is not None:
      arrays['static_offset'] = offset[None]
    if dynamic is not None:
      arrays['dynamic_offset'] = dynamic[None]
    arrays = {name: value.astype(np.float32) for name, value in arrays.items()}
    np.savez(folder / 'flame_param' / f'{time:05d}.npz', **arrays)
  if split is None:
    split = {'': list(entries)}
  for part, places in split.items():
    table = {'frames': [entries[place] for place in places]}
    (folder / f'transforms{part}.json').write_text(json.dumps(table))


SPLIT = {
  '_train': [(t, c) for t in (0, 1, 2) for c in (2, 0)],
  '_val': [(t, 1) for t in (0, 1, 2)],
  '_test': [(3, c) for c in range(3)],
}


def test_several_cameras_and_a_split(views, tmp_path):
  write(tmp_path / 'e', views, SPLIT)
  model = head('flame2023')
  imported = import_capture('vhap', tmp_path / 'e', model)
  capture, split = imported.capture, imported.capture.split
  assert capture.ids.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
  assert capture.view_ids.tolist() == [0, 1, 2] * 4
  pixels = np.stack([view.pixels for view in views], axis=1).reshape(-1, 68, 2)
  assert_same_places(capture, model, pixels)
  assert split.train.tolist() == [0, 2, 3, 5, 6, 8]
  assert split.val.tolist() == [1, 4, 7]
  assert split.test.tolist() == [9, 10, 11]
  save_imported(imported, tmp_path / 'out')
  loaded = load_capture(tmp_path / 'out')
  for frame, view, time in zip(loaded.frames, [*views] * 4, np.repeat(range(4), 3), strict=True):
    np.testing.assert_array_equal(frame.pixels.image, view.on(time, 255))
    np.testing.assert_array_equal(frame.pixels.matte, view.pictures[time][1])
  original = (tmp_path / 'e' / 'images' / '00000_01.png').read_bytes()
  assert (tmp_path / 'out' / 'images' / '000001.png').read_bytes() == original
  assert read_split(tmp_path / 'out', 12).val.tolist() == [1, 4, 7]


def test_one_file_one_part_every_other_instant(views, tmp_path):
  write(tmp_path / 'e', views)
  model = head('flame2023')
  imported = import_capture('vhap', tmp_path / 'e', model, ImportOptions(stride=2))
  assert imported.capture.split is None
  assert imported.capture.ids.tolist() == [0, 0, 0, 2, 2, 2]
  with pytest.raises(ValueError, match='no split, so there are no test frames'):
    import_capture('vhap', tmp_path / 'e', model, ImportOptions(split='test'))
  write(tmp_path / 's', views, SPLIT)
  test = import_capture('vhap', tmp_path / 's', model, ImportOptions(split='test'))
  pixels = np.stack([view.pixels[3] for view in views])
  assert_same_places(test.capture, model, pixels)
  assert test.capture.split.test.tolist() == [0, 1, 2]
  assert test.capture.split.train.tolist() == []


def test_pictures_can_be_made_smaller(views, tmp_path):
  write(tmp_path / 'e', views[:1])
  model = head('flame2023')
  capture = import_capture('vhap', tmp_path / 'e', model, ImportOptions(max_side=64)).capture
  assert (capture.width, capture.height) == (48, 64)
  assert_same_places(capture, model, views[0].pixels / 2)
  assert capture.frames[0].pixels.image.shape == (64, 48, 3)
  np.testing.assert_allclose(
    capture.frames[1].pixels.image[20:40, 20:30],
    cv2.resize(views[0].on(1, 255), (48, 64), interpolation=cv2.INTER_AREA)[20:40, 20:30],
  )


def test_offsets_the_directions_can_say_come_back_as_shape(views, tmp_path):
  model = head('flame2023')
  code = np.zeros(300)
  code[[3, 40, 200]] = [0.8, -0.5, 0.4]
  offset = np.einsum('vck,k->vc', model.shapedirs.astype(np.float64), code)
  bent = dataclasses.replace(views[0], codes={**views[0].codes})
  write(tmp_path / 'e', [bent], offset=offset)
  imported = import_capture('vhap', tmp_path / 'e', model)
  there = dataclasses.replace(
    views[0], codes={**views[0].codes, 'shape': views[0].codes['shape'] + code}
  )
  assert_same_places(imported.capture, model, there.pixels, tolerance=0.05)
  [note] = [note for note in imported.notes if 'static_offset' in note]
  assert float(note.split('; ')[1].split(' mm')[0]) < 0.02


def test_what_offsets_lose_is_said_with_its_size(views, tmp_path):
  model = head('flame2023')
  rng = np.random.default_rng(0)
  noise = rng.normal(size=(len(model.v_template), 3))
  noise *= 2e-3 / np.sqrt((noise**2).sum(axis=1).mean())  # 2 mm RMS that no direction is like
  write(tmp_path / 'e', views[:1], offset=noise, dynamic=0.5 * noise)
  imported = import_capture('vhap', tmp_path / 'e', model)
  notes = ' '.join(imported.notes)
  left = float(notes.split('shape code; ')[1].split(' mm')[0])
  assert 1.9 < left <= 2.0
  assert 'dynamic_offset is left out: 1.00 mm RMS' in notes
  short = np.zeros((len(model.v_template) - 120, 3))
  write(tmp_path / 'f', views[:1], offset=short)  # a mesh without the teeth
  assert '0.00 mm RMS' in ' '.join(import_capture('vhap', tmp_path / 'f', model).notes)
  write(tmp_path / 'g', views[:1], offset=short[:-1])
  with pytest.raises(ValueError, match="'static_offset' is for 6884 vertices, head 'flame2023'"):
    import_capture('vhap', tmp_path / 'g', model)


@pytest.fixture
def export(views, tmp_path):
  write(tmp_path / 'e', views[:1])
  return tmp_path / 'e'


def edit(export, **fields):
  path = export / 'transforms.json'
  table = json.loads(path.read_text())
  table['frames'][1].update(fields)
  path.write_text(json.dumps(table))


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'file_path': '../secret.png'}, r"frame 1: file name '\.\./secret\.png' leaves the folder"),
    ({'flame_param_path': '/etc/passwd'}, 'leaves the folder'),
    ({'fg_mask_path': 'a\\..\\b.png'}, 'leaves the folder'),
    ({'transform_matrix': np.eye(3).tolist()}, r'shape \(3, 3\), expected \(4, 4\)'),
    ({'transform_matrix': [[1, 2], [3]]}, "'transform_matrix' is not made of numbers"),
    ({'transform_matrix': (2 * np.eye(4)).tolist()}, 'must be 0 0 0 1'),
    ({'transform_matrix': np.diag([2.0, 1, 1, 1]).tolist()}, 'no rotation'),
    ({'transform_matrix': None}, "field 'transform_matrix' is missing or of the wrong type"),
    ({'timestep_index': 1.5}, "'timestep_index' must be a whole number"),
    ({'timestep_index': True}, "'timestep_index' is missing or of the wrong type"),
    ({'w': 1 << 40}, "'w' must be a whole number 0 to 32767"),
    ({'w': 97}, 'pictures must have one size, found 96 x 128, 97 x 128'),
    ({'fl_x': -3.0}, 'a focal length is not positive'),
    ({'fl_x': float('nan')}, 'damaged JSON'),
  ],
)
def test_damaged_entries_are_named(export, fields, message):
  edit(export, **fields)
  with pytest.raises(ValueError, match=message):
    import_capture('vhap', export, head('flame2023'))


def test_missing_and_damaged_files_are_named(export, tmp_path):
  model = head('flame2023')
  params = export / 'flame_param' / '00002.npz'
  whole = params.read_bytes()
  params.write_bytes(whole[:300])
  with pytest.raises(ValueError, match=r'00002\.npz: not a readable \.npz file'):
    import_capture('vhap', export, model)
  np.savez(params, translation=np.zeros((1, 3)))
  with pytest.raises(ValueError, match=r"00002\.npz: 'rotation' is missing"):
    import_capture('vhap', export, model)
  np.savez(params, translation=np.array([{}]))
  with pytest.raises(ValueError, match='nothing else is read'):
    import_capture('vhap', export, model)
  params.unlink()
  with pytest.raises(FileNotFoundError, match=r'00002\.npz: no such file'):
    import_capture('vhap', export, model)
  params.write_bytes(whole)
  (export / 'fg_masks' / '00001_00.png').unlink()
  with pytest.raises(FileNotFoundError, match=r'fg_masks/00001_00\.png: no such image'):
    save_imported(import_capture('vhap', export, model), tmp_path / 'out')
  with pytest.raises(FileNotFoundError, match=r'no transforms\.json'):
    import_capture('vhap', export / 'images', model)
  (export / 'transforms.json').write_text('[' * 100_000)
  with pytest.raises(ValueError, match='damaged JSON'):
    import_capture('vhap', export, model)
