"""GAGAvatar_track: LMDB and pickles as its tools write them, PyTorch3D cameras, meshes times 5."""

import dataclasses
import json
import os
import pickle

import cv2
import numpy as np
import pytest

from sa0_jax.capture.capture import load_capture
from sa0_jax.capture.importers import (
  ImportOptions,
  find_captures,
  import_capture,
  import_captures,
  load_found,
  save_imported,
)
from sa0_jax.capture.splits import read_split
from tests.capture.importers.truth import assert_same_places, head, make_scene, overlap

pytest.importorskip('numba')
lmdb = pytest.importorskip('lmdb')
SIZE = 128


@pytest.fixture(scope='module')
def scene():
  """Filmed as the tracker assumes: a focal length of 12 half widths, the axis in the middle."""
  made = make_scene(5, size=(SIZE, SIZE), distance=2.6)
  lens = np.array([6.0 * SIZE, 6.0 * SIZE, SIZE / 2, SIZE / 2])
  return dataclasses.replace(made, lens=lens)


def record(scene, position, shape=None):
  """One frame's dictionary. PyTorch3D: Xc = Xw·R + T on rows, +X left, +Y up, mesh times 5."""
  flip = np.diag([-1.0, -1.0, 1.0])
  rotation = (flip @ scene.rotation[position]).T
  translation = flip @ (5.0 * scene.translation[position])
  codes = {name: np.asarray(value) for name, value in scene.codes.items()}
  made = {
    'bbox': np.array([0.2, 0.2, 0.8, 0.8]),
    'shapecode': codes['shape'] if shape is None else shape,
    'expcode': codes['expression'][position],
    'posecode': np.concatenate([np.zeros(3), codes['jaw'][position]]),
    'eyecode': codes['eyes'][position],
    'transform_matrix': np.concatenate([rotation, translation[:, None]], axis=1),
  }
  return {name: value.astype(np.float32) for name, value in made.items()}


def ndc_pixels(scene, position):
  """Landmarks by the tracker's own definition, from the record's numbers alone."""
  matrix = record(scene, position)['transform_matrix'].astype(np.float64)
  seen = 5.0 * scene.points[position] @ matrix[:, :3] + matrix[:, 3]
  ndc = 12.0 * seen[:, :2] / seen[:, 2:]  # +1 is the LEFT and the UPPER edge
  return (1.0 - ndc) * SIZE / 2


def jpeg(image):
  done, data = cv2.imencode('.jpg', image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
  assert done
  return data.tobytes()


def write(folder, scene, names, *, missing=(), shapes=None, file='smoothed.pkl'):
  """Writes a tracker's folder; `names` are the keys, frame after frame of the scene."""
  folder.mkdir(parents=True, exist_ok=True)
  records, images = {}, {}
  for number, key in enumerate(names):
    position = number % len(scene)
    records[key] = record(scene, position, None if shapes is None else shapes[position])
    images[key] = jpeg(scene.on(position, 0))
  path = str(folder / 'img_lmdb')
  with lmdb.open(path, map_size=1 << 26) as database, database.begin(write=True) as transaction:
    for key, data in images.items():
      if key not in missing:
        transaction.put(key.encode(), data)
  (folder / file).write_bytes(pickle.dumps(records))
  return images


def test_a_video(scene, tmp_path):
  images = write(tmp_path / 'clip', scene, [f'my_clip_{i}' for i in (3, 0, 12, 7, 5)])
  model = head('flame2020')
  imported = import_capture('gagavatar_track', tmp_path / 'clip', model)
  capture = imported.capture
  order = [1, 0, 4, 3, 2]  # by frame number
  assert (capture.name, capture.ids.tolist()) == ('my_clip', [0, 3, 5, 7, 12])
  np.testing.assert_allclose(ndc_pixels(scene, 2), scene.pixels[2], atol=1e-3)
  assert_same_places(capture, model, scene.pixels[order])
  save_imported(imported, tmp_path / 'out')
  loaded = load_capture(tmp_path / 'out')
  assert_same_places(loaded, model, scene.pixels[order])
  copied = (tmp_path / 'out' / 'images' / '000000.jpg').read_bytes()
  assert copied == images['my_clip_0']  # not encoded a second time
  for frame, position in zip(loaded.frames, order, strict=True):
    assert overlap(frame.pixels.matte, scene.pictures[position][1]) > 0.97
  assert imported.capture.split is None
  assert any('mattes are derived' in note for note in imported.notes)


def test_a_set_gives_one_capture_a_video(scene, tmp_path):
  names = [f'img_{video}_{i}' for video in ('id1_a', 'id2') for i in range(5)]
  write(tmp_path, scene, names, missing=('img_id2_4',), file='optim.pkl')
  parts = {'train': names[:5], 'val': [names[5]], 'test': names[6:]}
  (tmp_path / 'dataset.json').write_text(json.dumps(parts))
  first, second = import_captures('gagavatar_track', tmp_path, head('flame2020'))
  assert (first.capture.name, second.capture.name) == ('id1_a', 'id2')
  assert first.capture.split.train.tolist() == [0, 1, 2, 3, 4]
  assert (second.capture.split.val.tolist(), second.capture.split.test.tolist()) == ([0], [1, 2, 3])
  assert any(note.startswith('1 frames left out') for note in second.notes)
  only = ImportOptions(only=('id2',), split='test', stride=2)
  chosen = import_capture('gagavatar_track', tmp_path, head('flame2020'), only)
  assert chosen.capture.ids.tolist() == [2]
  assert chosen.capture.split.test.tolist() == [0]
  assert_same_places(chosen.capture, head('flame2020'), scene.pixels[[2]])
  save_imported(second, tmp_path / 'out')
  assert read_split(tmp_path / 'out', 4).test.tolist() == [1, 2, 3]


def test_a_shape_for_every_frame_becomes_their_mean(scene, tmp_path):
  wobble = np.zeros((5, 300))
  wobble[:, 0] = [-0.2, 0.1, 0.1, 0.2, -0.2]
  write(tmp_path / 'c', scene, [f'c_{i}' for i in range(5)], shapes=scene.codes['shape'] + wobble)
  imported = import_capture('gagavatar_track', tmp_path / 'c', head('flame2020'))
  np.testing.assert_allclose(imported.capture.codes.shape, scene.codes['shape'], atol=1e-6)
  direction = head('flame2020').shapedirs[..., 0]
  cost = 1e3 * np.sqrt((wobble[:, 0] ** 2).mean() * (direction**2).sum(axis=1).mean())
  assert f'costs {cost:.2f} mm RMS' in ' '.join(imported.notes)


def test_single_images(scene, tmp_path):
  for position, name in enumerate(('ada.jpg', 'bob.jpg')):
    (tmp_path / name).mkdir()
    made = record(scene, position)
    made['image'] = scene.on(position, 0).transpose(2, 0, 1).astype(np.float32) / 255
    content = {name: made} if position else made  # newer and older versions of the tracker
    (tmp_path / name / 'optim.pkl').write_bytes(pickle.dumps(content))
  model = head('flame2020')
  captures = [i.capture for i in import_captures('gagavatar_track', tmp_path, model)]
  assert [capture.name for capture in captures] == ['ada.jpg', 'bob.jpg']
  for position, capture in enumerate(captures):
    assert_same_places(capture, model, scene.pixels[[position]])
    np.testing.assert_array_equal(capture.frames[0].pixels.image, scene.on(position, 0))


def test_a_damaged_folder_does_not_cost_the_others(scene, tmp_path):
  for name in ('a', 'b'):
    write(tmp_path / name, scene, [f'{name}clip_0'])
  path = tmp_path / 'a' / 'smoothed.pkl'
  path.write_bytes(path.read_bytes()[:100])
  found = find_captures('gagavatar_track', tmp_path)
  assert [item.name for item in found] == ['a', 'bclip']
  assert len(load_found(found[1], head('flame2020'), ImportOptions()).capture) == 1
  with pytest.raises(ValueError, match=r'smoothed\.pkl: refused near byte'):
    load_found(found[0], head('flame2020'), ImportOptions())


def test_mattes_can_be_given(scene, tmp_path):
  write(tmp_path / 'c', scene, ['c_0'])
  (tmp_path / 'mattes').mkdir()
  matte = scene.pictures[0][1]
  matte = np.where(np.arange(SIZE)[:, None] < 60, matte, 0).astype(np.uint8)
  cv2.imwrite(str(tmp_path / 'mattes' / 'c_0.png'), matte)
  options = ImportOptions(mattes=tmp_path / 'mattes')
  imported = import_capture('gagavatar_track', tmp_path / 'c', head('flame2020'), options)
  np.testing.assert_array_equal(imported.capture.frames[0].pixels.matte, matte)
  assert not any('mattes' in note for note in imported.notes)
  (tmp_path / 'mattes' / 'c_0.png').unlink()
  with pytest.raises(FileNotFoundError, match=r'no matte c_0\.png'):
    import_capture('gagavatar_track', tmp_path / 'c', head('flame2020'), options)


def test_another_head_model_is_refused(scene, tmp_path):
  write(tmp_path / 'c', scene, ['c_0'])
  with pytest.raises(ValueError, match=r"head model flame2020, not to 'flame2023'"):
    import_capture('gagavatar_track', tmp_path / 'c', head('flame2023'))
  options = ImportOptions(edition='flame2023')
  imported = import_capture('gagavatar_track', tmp_path / 'c', head('flame2023'), options)
  assert imported.capture.head_name == 'flame2023'
  with pytest.raises(FileNotFoundError, match="no head 'flame2020'"):
    import_capture('gagavatar_track', tmp_path / 'c')


@pytest.fixture
def clip(scene, tmp_path):
  write(tmp_path / 'c', scene, [f'c_{i}' for i in range(3)])
  return tmp_path / 'c'


def change(clip, **fields):
  """Rewrites fields of the record c_1; None removes one."""
  path = clip / 'smoothed.pkl'
  records = pickle.loads(path.read_bytes())
  records['c_1'].update(fields)
  records['c_1'] = {name: value for name, value in records['c_1'].items() if value is not None}
  path.write_bytes(pickle.dumps(records))


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'expcode': np.full(100, np.nan, np.float32)}, "'c_1': 'expcode' holds NaN or infinity"),
    ({'posecode': np.zeros(5, np.float32)}, r"'posecode' has the shape \(5,\), expected \(6\)"),
    ({'eyecode': None}, "'eyecode' is missing"),
    ({'expcode': np.zeros(50, np.float32)}, 'several lengths'),
    ({'shapecode': 'wide'}, "'shapecode' is not an array"),
    ({'transform_matrix': np.ones((3, 4), np.float32)}, 'the camera of frame 1 is no rotation'),
    ({'transform_matrix': -np.eye(3, 4, dtype=np.float32)}, 'is no rotation'),
    (
      {'transform_matrix': np.c_[np.eye(3), [0, 0, -9]].astype(np.float32)},
      'the head is behind the camera in frame 1',
    ),
    ({'expcode': np.full(100, 1e300)}, "'expcode' holds numbers over"),
  ],
)
def test_damaged_records_are_named(clip, fields, message):
  change(clip, **fields)
  with pytest.raises(ValueError, match=message):
    import_capture('gagavatar_track', clip, head('flame2020'))


class Hostile:
  """Runs a command when it is unpickled."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return os.mkdir, (str(self.path),)


def test_a_hostile_pickle_is_not_run(clip, tmp_path):
  (clip / 'smoothed.pkl').write_bytes(pickle.dumps({'c_0': Hostile(tmp_path / 'pwned')}))
  with pytest.raises(ValueError, match=r"refused near byte \d+: it asks for 'posix'"):
    find_captures('gagavatar_track', clip)
  assert not (tmp_path / 'pwned').exists()


def test_damaged_files_are_named(clip, tmp_path):
  path = clip / 'smoothed.pkl'
  whole = path.read_bytes()
  for data, message in (
    (whole[: len(whole) // 2], 'the file ends too early'),
    (b'', 'the file ends too early'),
    (pickle.dumps([1, 2]), 'expected a dictionary, found list'),
    (pickle.dumps({'c_0': 3}), 'expected a table'),
    (pickle.dumps({}), 'holds no frames'),
  ):
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message):
      import_capture('gagavatar_track', clip, head('flame2020'))
  path.write_bytes(whole)
  (clip / 'dataset.json').write_text('{"train": ["c_0"], "test": ["c_0"]}')
  with pytest.raises(ValueError, match='a key is in both train and test'):
    import_capture('gagavatar_track', clip, head('flame2020'))
  (clip / 'dataset.json').write_text('{"train": 3}')
  with pytest.raises(ValueError, match="'train' must be a list of keys"):
    import_capture('gagavatar_track', clip, head('flame2020'))
  with pytest.raises(FileNotFoundError, match=r'no smoothed\.pkl or optim\.pkl'):
    find_captures('gagavatar_track', clip / 'img_lmdb')
  with pytest.raises(FileNotFoundError, match='no such folder'):
    find_captures('gagavatar_track', tmp_path / 'nowhere')
  with pytest.raises(ValueError, match="format 'fbx' is unknown"):
    find_captures('fbx', clip)


def test_a_picture_that_is_no_picture_is_named_and_nothing_is_written(clip, tmp_path):
  with lmdb.open(str(clip / 'img_lmdb')) as database, database.begin(write=True) as transaction:
    transaction.put(b'c_1', b'no jpeg')
  imported = import_capture('gagavatar_track', clip, head('flame2020'))
  with pytest.raises(ValueError, match=r"data\.mdb: 'c_1': not a readable image"):
    save_imported(imported, tmp_path / 'out')
  assert not (tmp_path / 'out').exists()
