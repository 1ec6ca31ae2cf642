"""INSTA and metrical-tracker: torch.save files read without PyTorch, rotations as matrix rows."""

import json
import os
import pickle
import zipfile

import cv2
import numpy as np
import pytest

from sa0_jax.capture.importers import import_capture, save_imported
from sa0_jax.capture.importers.readers import read_torch_frame
from sa0_jax.capture.splits import Split
from tests.capture.importers.truth import assert_same_places, head, make_scene, turn

pytest.importorskip('numba')
SIZE = (112, 96)


@pytest.fixture(scope='module')
def scene():
  return make_scene(4, size=SIZE, distance=1.1)


def rows_of(vector):
  """The six-number form: the first two rows of the rotation matrix."""
  return turn(vector)[:2].reshape(1, 6)


def frame_content(scene, position, eyelids=(0.0, 0.0)):
  codes = scene.codes
  eyes = codes['eyes'][position]
  matrix = np.array(
    [[scene.lens[0], 0, scene.lens[2]], [0, scene.lens[1], scene.lens[3]], [0, 0, 1]]
  )
  flame = {
    'exp': codes['expression'][position][None],
    'shape': codes['shape'][None],
    'tex': np.zeros((1, 140)),
    'sh': np.zeros((1, 9, 3)),
    'eyes': np.concatenate([rows_of(eyes[:3]), rows_of(eyes[3:])], axis=1),
    'eyelids': np.array([eyelids]),
    'jaw': rows_of(codes['jaw'][position]),
  }
  opencv = {
    'R': scene.rotation[position][None],
    't': scene.translation[position][None],
    'K': matrix[None],
  }

  def single(table):
    return {name: value.astype(np.float32) for name, value in table.items()}

  return {
    'flame': single(flame),
    'camera': {'fl': np.float32([[4.0]])},
    'opencv': single(opencv),
    'img_size': np.array(SIZE[::-1]),
    'frame_id': f'{position:05d}',
    'global_step': 1200 * position,
  }


def torch_save(path, content):
  """What torch.save makes of a dictionary of NumPy arrays: a stored zip around a pickle."""
  path.parent.mkdir(parents=True, exist_ok=True)
  with zipfile.ZipFile(path, 'w') as file:
    file.writestr(f'{path.stem}/data.pkl', pickle.dumps(content, protocol=2))
    file.writestr(f'{path.stem}/byteorder', b'little')
    file.writestr(f'{path.stem}/version', b'3\n')


def write(folder, scene, *, with_transforms=True, images='images', eyelids=(0.0, 0.0), start=1):
  """An INSTA folder, or without transforms metrical-tracker's own output."""
  (folder / images).mkdir(parents=True)
  entries = []
  for position in range(len(scene)):
    name = f'{start + position:05d}'
    torch_save(folder / 'checkpoint' / f'{name}.frame', frame_content(scene, position, eyelids))
    image, matte = scene.pictures[position]
    cv2.imwrite(str(folder / images / f'{name}.png'), np.dstack([image[..., ::-1], matte]))
    pose = np.eye(4)
    pose[:3, :3] = scene.rotation[position].T
    pose[:3, 3] = -scene.rotation[position].T @ scene.translation[position]
    entries.append(
      {
        'transform_matrix': pose.tolist(),
        'file_path': f'images/{name}.png',
        'exp_path': f'flame/exp/{name}.txt',
        'mesh_path': f'meshes/{name}.obj',
      }
    )
  shared = dict(zip(('fl_x', 'fl_y', 'cx', 'cy'), scene.lens.tolist(), strict=True))
  shared |= {'w': float(SIZE[0]), 'h': float(SIZE[1]), 'integer_depth_scale': 0.001}
  mixed = [entries[i] for i in (2, 0, 3, 1)]  # INSTA lists frames in the order workers finish
  if with_transforms:
    for part, some in (('train', mixed[:2]), ('test', mixed[2:]), ('val', mixed[3:])):
      (folder / f'transforms_{part}.json').write_text(json.dumps(shared | {'frames': some}))


def test_insta(scene, tmp_path):
  write(tmp_path / 'bala', scene, eyelids=(0.4, 0.8))
  model = head('flame2020')
  imported = import_capture('insta', tmp_path / 'bala', model)
  capture, split = imported.capture, imported.capture.split
  assert (capture.name, capture.ids.tolist()) == ('bala', [1, 2, 3, 4])
  assert_same_places(capture, model, scene.pixels)
  parts = (split.train.tolist(), split.val.tolist(), split.test.tolist())
  assert parts == ([0, 2], [1], [1, 3])
  for frame, (image, matte) in zip(capture.frames, scene.pictures, strict=True):
    np.testing.assert_array_equal(frame.pixels.image, image)
    np.testing.assert_array_equal(frame.pixels.matte, matte)
  assert any(
    'eyelids are left out' in note and '0.60 on average, 0.80 at most' in note
    for note in imported.notes
  )
  save_imported(imported, tmp_path / 'out')
  first = (tmp_path / 'bala' / 'images' / '00001.png').read_bytes()
  assert (tmp_path / 'out' / 'images' / '000000.png').read_bytes() == first


def test_metrical_tracker(scene, tmp_path):
  write(tmp_path / 'm', scene, with_transforms=False, images='input')
  imported = import_capture('insta', tmp_path / 'm', head('flame2020'))
  assert_same_places(imported.capture, head('flame2020'), scene.pixels)
  assert imported.capture.split is None
  assert 'the published one tests on the last 350 frames' in ' '.join(imported.notes)
  assert 'eyelids' not in ' '.join(imported.notes)


def test_the_published_split_is_the_last_350_frames():
  split = Split.last_for_test(1000, 350)
  assert (len(split.train), split.train[-1], split.test[0], split.test[-1]) == (650, 649, 650, 999)
  with pytest.raises(ValueError, match='the last 350 of 350 frames'):
    Split.last_for_test(350, 350)


class Hostile:
  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return os.mkdir, (str(self.path),)


def test_hostile_and_damaged_frames(scene, tmp_path):
  write(tmp_path / 's', scene)
  path = tmp_path / 's' / 'checkpoint' / '00002.frame'
  good, model = frame_content(scene, 1), head('flame2020')
  whole = path.read_bytes()

  def fails(message):
    with pytest.raises(ValueError, match=message) as caught:
      import_capture('insta', tmp_path / 's', model)
    assert '\n' not in str(caught.value)

  torch_save(path, {'flame': Hostile(tmp_path / 'pwned')})
  fails("it asks for 'posix'")
  assert not (tmp_path / 'pwned').exists()
  path.write_bytes(whole[: len(whole) // 2])
  fails(r'00002\.frame: not a readable \.frame file')
  path.write_bytes(b'\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.')  # PyTorch before 1.6
  fails(r'not a readable \.frame file')
  with zipfile.ZipFile(path, 'w') as file:
    file.writestr('readme.txt', 'hello')
  fails('not one that torch.save wrote')
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as file:
    file.writestr('00002/data.pkl', bytes(1 << 27))
  fails(r'data\.pkl is longer than')
  flat = {**good, 'flame': {**good['flame'], 'jaw': np.zeros((1, 6), np.float32)}}
  torch_save(path, flat)
  fails('jaw of frame 1 spans no rotation')
  torch_save(path, {**good, 'flame': {**good['flame'], 'eyes': np.zeros((1, 6), np.float32)}})
  fails(r"'eyes' has the shape \(1, 6\), expected \(12\)")
  torch_save(path, {'opencv': good['opencv']})
  fails('flame: expected a table')
  path.unlink()
  with pytest.raises(FileNotFoundError, match=r'00002\.frame: no such file'):
    import_capture('insta', tmp_path / 's', model)
  with pytest.raises(FileNotFoundError, match=r'no checkpoint/\*\.frame here'):
    import_capture('insta', tmp_path / 's' / 'images', model)


def test_tensors_are_refused(tmp_path):
  """A tensor is a persistent reference into the zip, which no plain pickle of arrays has."""
  import io

  class Pickler(pickle.Pickler):
    def persistent_id(self, obj):
      return 'storage' if isinstance(obj, set) else None

  stream = io.BytesIO()
  Pickler(stream, protocol=2).dump({'flame': {1}})
  with zipfile.ZipFile(tmp_path / 'x.frame', 'w') as file:
    file.writestr('x/data.pkl', stream.getvalue())
  with pytest.raises(ValueError, match='is not allowed'):
    read_torch_frame(tmp_path / 'x.frame')
