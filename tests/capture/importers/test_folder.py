"""A plain folder: the format for trackers of one's own."""

import json

import cv2
import numpy as np
import pytest

from sa0_jax.capture.importers import ImportOptions, import_capture
from tests.capture.importers.truth import assert_same_places, head, make_scene

pytest.importorskip('numba')
SIZE = (96, 80)


@pytest.fixture(scope='module')
def scene():
  return make_scene(3, pose='codes', size=SIZE, focal=1.8)


def arrays_of(scene):
  """The documented arrays: our conventions."""
  view = np.tile(np.eye(4), (len(scene), 1, 1))
  view[:, :3, :3], view[:, :3, 3] = scene.rotation, scene.translation
  return {**scene.codes, 'head': 'mine', 'world_to_camera': view, 'intrinsics': scene.lens}


def write(folder, scene, arrays, *, kind='npz', alpha=False):
  (folder / 'images').mkdir(parents=True, exist_ok=True)
  for position, (image, matte) in enumerate(scene.pictures):
    name = f'shot{position:02d}.png'
    color = image[..., ::-1]
    if alpha:
      color = np.dstack([color, matte])
    else:
      (folder / 'mattes').mkdir(exist_ok=True)
      cv2.imwrite(str(folder / 'mattes' / name), matte)
    cv2.imwrite(str(folder / 'images' / name), color)
  for old in folder.glob('codes.*'):
    old.unlink()
  if kind == 'npz':
    np.savez(folder / 'codes.npz', **arrays)
  else:
    lists = {name: np.asarray(value).tolist() for name, value in arrays.items()}
    (folder / 'codes.json').write_text(json.dumps(lists))


@pytest.mark.parametrize('kind', ['npz', 'json'])
def test_a_folder(scene, tmp_path, kind):
  arrays = arrays_of(scene) | {'fps': 30.0, 'train': [0, 1], 'test': [2]}
  write(tmp_path / 'me', scene, arrays, kind=kind)
  imported = import_capture('folder', tmp_path / 'me', head('mine'))
  capture = imported.capture
  assert_same_places(capture, head('mine'), scene.pixels)
  assert (capture.fps, imported.notes) == (30.0, ())
  split = imported.capture.split
  assert (split.train.tolist(), split.test.tolist()) == ([0, 1], [2])
  for frame, (image, matte) in zip(capture.frames, scene.pictures, strict=True):
    np.testing.assert_array_equal(frame.pixels.image, image)
    np.testing.assert_array_equal(frame.pixels.matte, matte)


def test_other_cameras_and_alpha(scene, tmp_path):
  model = head('mine')
  arrays = arrays_of(scene)
  view = arrays.pop('world_to_camera')
  flip = np.diag([1.0, -1.0, -1.0, 1.0])
  matrix = np.array(
    [[scene.lens[0], 0, scene.lens[2]], [0, scene.lens[1], scene.lens[3]], [0, 0, 1]]
  )
  variants = [
    {'camera_to_world': np.linalg.inv(view)},
    {'camera_to_world': np.linalg.inv(flip @ view), 'camera_axes': 'opengl'},
    {'world_to_camera': flip @ view, 'camera_axes': 'opengl'},
    {'world_to_camera': view[0], 'intrinsics': matrix},  # one for all frames
    {'world_to_camera': view, 'intrinsics': np.stack([matrix] * 3)},
  ]
  for number, variant in enumerate(variants):
    write(tmp_path / str(number), scene, arrays | variant, alpha=number % 2 == 0)
    capture = import_capture('folder', tmp_path / str(number), model).capture
    assert_same_places(capture, model, scene.pixels)
    np.testing.assert_array_equal(capture.frames[1].pixels.matte, scene.pictures[1][1])


def test_names_numbers_and_views(scene, tmp_path):
  arrays = arrays_of(scene)
  order = [2, 0, 1]
  arrays = {
    name: value[order] if isinstance(value, np.ndarray) and len(value) == 3 else value
    for name, value in arrays.items()
  }
  arrays |= {'names': [f'shot{i:02d}.png' for i in order], 'ids': [7, 7, 9], 'view_ids': [0, 3, 0]}
  write(tmp_path, scene, arrays)
  capture = import_capture('folder', tmp_path, head('mine')).capture
  assert_same_places(capture, head('mine'), scene.pixels[order])
  assert (capture.ids.tolist(), capture.view_ids.tolist()) == ([7, 7, 9], [0, 3, 0])
  np.testing.assert_array_equal(capture.frames[0].pixels.image, scene.pictures[2][0])


@pytest.mark.parametrize(
  ('changed', 'message'),
  [
    ({'head': None}, "'head' must be one word"),
    ({'jaw_pose': np.zeros(3)}, "unknown array 'jaw_pose'; known"),
    ({'expression': np.zeros((2, 100))}, r"'expression' has the shape \(2, 100\)"),
    ({'expression': None}, "'expression' is missing"),
    ({'shape': None}, "'shape' is not made of numbers"),
    ({'jaw': np.full((3, 3), np.inf)}, "'jaw' holds NaN or infinity"),
    ({'world_to_camera': None}, "give one of 'world_to_camera' and 'camera_to_world'"),
    ({'camera_axes': 'blender'}, "camera axes must be 'opencv' or 'opengl'"),
    ({'world_to_camera': np.diag([1.0, 1, -1, 1])}, 'no rotation'),
    ({'intrinsics': np.zeros(4)}, 'a focal length is not positive'),
    ({'intrinsics': None}, "'intrinsics' is missing"),
    ({'names': ['../codes.npz', 'a', 'b']}, 'leaves the folder'),
    ({'ids': [0.5, 1, 2]}, "'ids' must be whole numbers"),
    ({'fps': 0.0}, "'fps' must be 0.01 to 1000"),
    ({'train': [0, 3], 'test': [1]}, "'train' must be frame positions, 0 to 2"),
    ({'train': [0, 1], 'test': [1]}, 'frame 1 is in both train and test'),
  ],
)
def test_mistakes_are_named(scene, tmp_path, changed, message):
  arrays = arrays_of(scene) | changed
  write(tmp_path, scene, {name: value for name, value in arrays.items() if value is not None})
  with pytest.raises(ValueError, match=message) as caught:
    import_capture('folder', tmp_path, head('mine'))
  assert '\n' not in str(caught.value)


def test_missing_things_are_named(scene, tmp_path):
  write(tmp_path / 'a', scene, arrays_of(scene))
  with pytest.raises(ValueError, match=r"belong to the head model mine, not to 'flame2020'"):
    import_capture('folder', tmp_path / 'a', head('flame2020'))
  (tmp_path / 'a' / 'mattes' / 'shot01.png').unlink()
  with pytest.raises(FileNotFoundError, match=r'no matte shot01\.png'):
    import_capture('folder', tmp_path / 'a', head('mine'))
  for path in (tmp_path / 'a' / 'mattes').iterdir():
    path.unlink()
  (tmp_path / 'a' / 'mattes').rmdir()
  capture = import_capture('folder', tmp_path / 'a', head('mine')).capture
  with pytest.raises(ValueError, match='no alpha channel and no matte; give --mattes'):
    capture.frames[0]
  (tmp_path / 'b').mkdir()
  with pytest.raises(FileNotFoundError, match=r'no codes\.npz and no codes\.json'):
    import_capture('folder', tmp_path / 'b', head('mine'))
  (tmp_path / 'b' / 'codes.json').write_text('{"head": "mine", "shape": [[1], [2, 3]]}')
  with pytest.raises(ValueError, match="'shape' is no regular array"):
    import_capture('folder', tmp_path / 'b', head('mine'))
  with pytest.raises(FileNotFoundError, match='no such folder of mattes'):
    ImportOptions(mattes=tmp_path / 'nowhere')
  for bad in ({'split': 'most'}, {'fps': -1.0}, {'stride': 0}):
    with pytest.raises(ValueError, match=next(iter(bad))):
      ImportOptions(**bad)
