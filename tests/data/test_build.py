"""Captures become data sets: what is stored, what resumes, what is refused."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader
from tensorflow_datasets.proto import tf_example_pb2

from sa0_jax.capture.capture import load_capture
from sa0_jax.data.build import build, shard_jobs
from sa0_jax.data.config import BuildConfig
from sa0_jax.data.index import open_index
from sa0_jax.data.plan import find_captures, make_plan, read_split, write_splits
from sa0_jax.data.prepared import open_prepared
from sa0_jax.head.lbs import pose_frames
from sa0_jax.head.registry import load_head
from tests.data.scenes import prepare, save_captures, tiny_capture, tree_hashes, with_other_head
from tests.structure.sources import ROOT

SPLITS = {'train': ['p0', 'p1', 'p2'], 'val': ['p3']}
CONFIG = BuildConfig('sa0_monocular', frames_per_shard=5)


def test_tfds_reads_what_the_captures_hold(captures, monocular):
  builder = tfds.builder('sa0_monocular', data_dir=str(Path(monocular).parents[1]))
  source = builder.as_data_source('train')
  assert len(source) == 21
  assert len(builder.as_data_source('val')) == 7
  capture = load_capture(captures / 'p1')
  head = load_head()
  for position in (0, 3, 6):
    stored = source[7 + position]
    file = np.fromfile(captures / 'p1' / 'images' / f'{position:06d}.jpg', np.uint8)
    image = cv2.cvtColor(cv2.imdecode(file, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(stored['image'], image)
    np.testing.assert_array_equal(stored['matte'][..., 0], capture.frames[position].pixels.matte)
    for name in ('shape', 'expression', 'rotation', 'neck', 'jaw', 'eyes', 'translation'):
      codes = capture.frame_codes(position)
      np.testing.assert_array_equal(stored[name], getattr(codes, name), err_msg=name)
    for name in ('world_to_camera', 'intrinsics'):
      np.testing.assert_array_equal(stored[name], getattr(capture.camera, name)[position])
    assert (stored['subject'], stored['clip']) == (b'p1', b'p1')
    assert (stored['frame'], stored['view']) == (100 + position, 0)
    assert stored['time'] == np.float32(position / 25)
    assert stored['head'] == head.name.encode()
    assert stored['head_fingerprint'] == head.fingerprint.encode()


def test_records_are_plain_examples(captures, monocular):
  """Anyone's ArrayRecord and protobuf read them; a stored JPEG is the capture's file itself."""
  reader = ArrayRecordReader(f'{monocular}/sa0_monocular-train.array_record-00001-of-00005')
  assert reader.num_records() == 5
  example = tf_example_pb2.Example.FromString(reader.read([2])[0])
  feature = example.features.feature
  assert feature['clip'].bytes_list.value[0] == b'p1'
  assert feature['frame'].int64_list.value[0] == 100
  file = captures / 'p1' / 'images' / '000000.jpg'
  assert feature['image'].bytes_list.value[0] == file.read_bytes()
  assert feature['matte'].bytes_list.value[0][:4] == b'\x89PNG'
  assert len(feature['expression'].float_list.value) == load_head().num_expression


def test_boxes_are_around_the_projected_face(captures, monocular):
  head, capture = load_head(), load_capture(captures / 'p0')
  points = head.require_landmarks('68')
  data = open_prepared(monocular, 'train')
  vertices = pose_frames(head, capture.codes).astype(np.float64)
  for position in (0, 5):
    corners = vertices[position][head.faces[points.face]]
    face = np.einsum('mk,mkc->mc', points.barycentric, corners)
    view = capture.camera.world_to_camera[position].astype(np.float64)
    local = face @ view[:3, :3].T + view[:3, 3]
    fx, fy, cx, cy = capture.camera.intrinsics[position]
    x, y = fx * local[:, 0] / local[:, 2] + cx, fy * local[:, 1] / local[:, 2] + cy
    box = data.read(position).arrays['face_box']
    np.testing.assert_allclose(box, [x.min(), y.min(), x.max(), y.max()], atol=0.01)


def test_the_index_knows_instants_cameras_and_directions(multiview):
  index = open_index(Path(multiview) / 'sa0_index' / 'train', 48)
  assert index.num_clips == 2
  np.testing.assert_array_equal(index.subject, np.repeat([0, 1], 24))
  np.testing.assert_array_equal(index.view, np.tile(np.arange(6), 8))
  np.testing.assert_array_equal(index.instant, np.tile(np.repeat(np.arange(4), 6), 2))
  assert (index.clip_rows(1), index.subject_rows(30)) == (range(24, 48), range(24, 48))
  # At one instant the head is still: between cameras lie the angles they are turned by.
  cosines = np.sum(index.direction[0] * index.direction[:6], axis=1)
  np.testing.assert_allclose(np.arccos(np.clip(cosines, -1, 1)), 0.5 * np.arange(6), atol=1e-3)


def test_a_turning_head_is_a_turning_camera():
  """What counts is where the camera stands as seen from the face."""
  from sa0_jax.data.index import clip_rows

  capture = tiny_capture(0, instants=2)
  turned = np.float32([[0, 0, 0], [0, 0.4, 0]])
  still = np.zeros_like(turned)
  codes = dataclasses.replace(capture.codes, rotation=turned, neck=still)
  rows = clip_rows(dataclasses.replace(capture, codes=codes), 0, 0)
  np.testing.assert_allclose(rows['direction'][0], [0, 0, -1], atol=1e-6)
  np.testing.assert_allclose(rows['direction'][1], [np.sin(0.4), 0, -np.cos(0.4)], atol=1e-6)


def test_images_are_resized_with_their_cameras(captures, tmp_path):
  config = dataclasses.replace(CONFIG, resolution=16)
  path = prepare(captures, tmp_path, {'train': ['p0']}, config).path
  data, capture = open_prepared(path, 'train'), load_capture(captures / 'p0')
  record = data.read(2)
  assert data.size == (16, 16)
  assert record.pixels.image.shape == (16, 16, 3)
  np.testing.assert_allclose(record.arrays['intrinsics'], capture.camera.intrinsics[2] / 2)


def test_jpegs_that_decoders_would_turn_are_encoded_again(captures, tmp_path):
  folder = shutil.copytree(captures, tmp_path / 'captures')
  file = folder / 'p0' / 'images' / '000001.jpg'
  data = file.read_bytes()
  exif = b'Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0'
  file.write_bytes(data[:2] + b'\xff\xe1' + (len(exif) + 2).to_bytes(2, 'big') + exif + data[2:])
  data = open_prepared(prepare(folder, tmp_path, {'train': ['p0']}, CONFIG).path, 'train')
  assert b'Exif' not in data.encoded(1)['image']
  assert data.encoded(0)['image'] == (folder / 'p0' / 'images' / '000000.jpg').read_bytes()


def test_worker_processes_give_the_same_bytes(captures, monocular, tmp_path):
  path = prepare(captures, tmp_path, SPLITS, CONFIG, jobs=2).path
  assert tree_hashes(Path(path)) == tree_hashes(Path(monocular))


def test_a_killed_build_goes_on(captures, monocular, tmp_path):
  program = (
    'import os, signal, sys\n'
    'from tests.data.test_build import *\n'
    'def stop(done, total):\n'
    '  if done >= 10: os.kill(os.getpid(), signal.SIGKILL)\n'
    'prepare(Path(sys.argv[1]), Path(sys.argv[2]), SPLITS, CONFIG, progress=stop)\n'
  )
  words = [sys.executable, '-c', program, str(captures), str(tmp_path)]
  killed = subprocess.run(words, cwd=ROOT, capture_output=True, check=False)
  assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
  work = tmp_path / 'sa0_monocular' / 'incomplete.1.0.0'
  assert len(list((work / 'parts').iterdir())) == 2
  # As a kill in the middle of the third would leave it.
  third = 'sa0_monocular-train.array_record-00002-of-00005'
  (work / 'dataset' / f'.{third}').write_bytes(b'half')
  whole = work / 'dataset' / 'sa0_monocular-train.array_record-00000-of-00005'
  before = whole.stat().st_mtime_ns
  seen = []
  path = prepare(captures, tmp_path, SPLITS, CONFIG, progress=lambda *n: seen.append(n)).path
  assert seen[0] == (10, 28)
  assert tree_hashes(Path(path)) == tree_hashes(Path(monocular))
  assert (Path(path) / whole.name).stat().st_mtime_ns == before
  assert not work.exists()


@pytest.mark.parametrize('damage', ['cut', 'without bad', 'fewer rows', 'no size'])
def test_shards_whose_rows_are_damaged_are_made_again(captures, monocular, tmp_path, damage):
  class Stop(Exception):
    pass

  def stop(done, total):
    if done >= 10:
      raise Stop

  with pytest.raises(Stop):
    prepare(captures, tmp_path, SPLITS, CONFIG, progress=stop)
  parts = sorted((tmp_path / 'sa0_monocular' / 'incomplete.1.0.0' / 'parts').iterdir())
  with np.load(parts[1]) as file:
    arrays = dict(file)
  if damage == 'cut':
    parts[1].write_bytes(parts[1].read_bytes()[:-30])
  elif damage == 'without bad':
    del arrays['bad']
  elif damage == 'fewer rows':
    arrays['clip'] = arrays['clip'][1:]
  else:
    arrays['size'] = arrays['size'][:0]
  if damage != 'cut':
    np.savez(parts[1], **arrays)
  seen = []
  path = prepare(captures, tmp_path, SPLITS, CONFIG, progress=lambda *n: seen.append(n)).path
  assert seen[0] == (5, 28)
  assert tree_hashes(Path(path)) == tree_hashes(Path(monocular))


def test_a_finished_data_set_is_left_alone(captures, monocular, tmp_path):
  data_dir = shutil.copytree(Path(monocular).parents[1], tmp_path / 'data')
  leftover = data_dir / 'sa0_monocular' / 'incomplete.1.0.0'
  leftover.mkdir()
  before = tree_hashes(data_dir)
  report = prepare(captures, data_dir, SPLITS, CONFIG)
  assert report.splits['train']['frames'] == 21
  assert tree_hashes(data_dir) == before
  assert not leftover.exists()
  tfds.builder('sa0_monocular', data_dir=str(data_dir))
  with pytest.raises(ValueError, match='made of other captures, splits or settings'):
    prepare(captures, data_dir, {'train': ['p0']}, CONFIG)


def _damage(folder: Path) -> None:
  """One frame each of p0, p1 and two of p2."""
  file = folder / 'p0' / 'images' / '000002.jpg'
  file.write_bytes(file.read_bytes()[:-40])
  (folder / 'p1' / 'mattes' / '000000.png').unlink()
  file = folder / 'p2' / 'mattes' / '000003.png'
  file.write_bytes(file.read_bytes()[:60])
  cv2.imwrite(str(folder / 'p2' / 'mattes' / '000004.png'), np.zeros((32, 32), np.uint8))


def test_bad_frames_are_named_and_left_out(captures, tmp_path):
  folder = shutil.copytree(captures, tmp_path / 'captures')
  _damage(folder)
  config = dataclasses.replace(CONFIG, max_bad_share=0.2)
  report = prepare(folder, tmp_path / 'a', SPLITS, config)
  first, second, third, fourth = report.bad_frames
  assert first == 'p0, frame 102: images/000002.jpg: not a whole image: the file is cut off'
  assert second == 'p1, frame 100: mattes/000000.png: no such image'
  assert third == 'p2, frame 103: mattes/000003.png: not a whole image: the file is cut off'
  assert fourth == 'p2, frame 104: the matte is empty'
  assert report.splits['train']['frames'] == 17
  data = open_prepared(report.path, 'train')
  frames = [data.encoded(row)['frame'] for row in range(len(data))]
  assert frames == [100, 101, 103, 104, 105, 106, *range(101, 107), 100, 101, 102, 105, 106]
  np.testing.assert_array_equal(np.diff(data.index.clip_start), [6, 6, 5])
  np.testing.assert_array_equal(
    data.index.expression[2], load_capture(folder / 'p0').codes.expression[3]
  )


def test_too_many_bad_frames_are_an_error_until_they_are_repaired(captures, monocular, tmp_path):
  folder = shutil.copytree(captures, tmp_path / 'captures')
  _damage(folder)
  with pytest.raises(ValueError, match=r'cannot be used, more than the 1\.0% .*p0, frame 102: '):
    prepare(folder, tmp_path / 'a', SPLITS, CONFIG)
  shutil.rmtree(folder)
  shutil.copytree(captures, folder)
  path = prepare(folder, tmp_path / 'a', SPLITS, CONFIG).path
  assert tree_hashes(Path(path)) == tree_hashes(Path(monocular))


def test_a_shard_may_lose_all_its_frames(captures, tmp_path):
  folder = shutil.copytree(captures, tmp_path / 'captures')
  for position in range(5):
    (folder / 'p0' / 'images' / f'{position:06d}.jpg').write_bytes(b'no image')
  config = dataclasses.replace(CONFIG, max_bad_share=0.5)
  data = open_prepared(prepare(folder, tmp_path, {'train': ['p0', 'p1']}, config).path, 'train')
  assert [data.encoded(row)['frame'] for row in range(len(data))] == [105, 106, *range(100, 107)]


def test_subjects_may_have_several_clips(tmp_path):
  for clip in range(2):
    tiny_capture(clip, instants=3).save(tmp_path / 'c' / 'ann' / f'take{clip}')
  tiny_capture(2, instants=3).save(tmp_path / 'c' / 'bob')
  (tmp_path / 'c' / '.hidden').mkdir()
  (tmp_path / 'c' / 'notes').mkdir()
  assert find_captures(tmp_path / 'c') == {'ann': ['ann/take0', 'ann/take1'], 'bob': ['bob']}
  report = prepare(tmp_path / 'c', tmp_path, {'train': ['ann'], 'val': ['bob']}, CONFIG)
  assert report.splits['train'] | {'bytes': 0} == {
    'subjects': 1,
    'clips': 2,
    'frames': 6,
    'shards': 2,
    'bytes': 0,
  }
  index = open_prepared(report.path, 'train').index
  assert (index.num_clips, index.subject_rows(4)) == (2, range(6))


def test_split_files(captures, tmp_path):
  folder = shutil.copytree(captures, tmp_path / 'captures')
  train, val = write_splits(folder, 0.25, seed=3)
  assert sorted(read_split(train) + read_split(val)) == ['p0', 'p1', 'p2', 'p3']
  assert len(read_split(val)) == 1
  val.write_text('# mine\n\np2 \n')
  assert write_splits(folder, 0.5) == [train, val]  # the user's files stay
  assert read_split(val) == ['p2']
  val.unlink()
  with pytest.raises(ValueError, match='its counterpart is there'):
    write_splits(folder, 0.25)
  with pytest.raises(FileNotFoundError, match='no such split file'):
    read_split(val)
  val.write_text('p0\np0\n')
  with pytest.raises(ValueError, match="names 'p0' twice"):
    read_split(val)
  val.write_bytes(b'\xff\xfe\x00')
  with pytest.raises(ValueError, match='not a text file'):
    read_split(val)
  train.unlink()
  val.unlink()
  with pytest.raises(ValueError, match='leaves nobody to train on'):
    write_splits(folder, 0.9)


def test_captures_that_do_not_belong_together(captures, tmp_path):
  folder = shutil.copytree(captures, tmp_path / 'captures')
  everyone = {'train': sorted(os.listdir(folder))}
  with pytest.raises(FileNotFoundError, match="names 'nobody', which has no captures"):
    make_plan(folder, {'train': ['nobody']}, CONFIG)
  with pytest.raises(ValueError, match="'p0' is in both splits, 'train' and 'val'"):
    make_plan(folder, {'train': ['p0'], 'val': ['p0']}, CONFIG)
  with pytest.raises(ValueError, match='names no subjects'):
    make_plan(folder, {'train': []}, CONFIG)
  with pytest.raises(FileNotFoundError, match='no captures here'):
    make_plan(tmp_path / 'captures' / 'p0' / 'images', everyone, CONFIG)
  with pytest.raises(ValueError, match='has 1 camera; it belongs into sa0_monocular'):
    make_plan(folder, everyone, BuildConfig('sa0_multiview'))
  shutil.rmtree(folder / 'p3')
  with_other_head(tiny_capture(9)).save(folder / 'p3')
  with pytest.raises(ValueError, match=r"p3: its head model is 'another' .* that of p0 is"):
    make_plan(folder, everyone, CONFIG)
  tiny_capture(9, size=48).save(folder / 'p3')
  with pytest.raises(ValueError, match='p3: is 48 x 48 px, p0 is 32 x 32'):
    make_plan(folder, everyone, CONFIG)
  assert make_plan(folder, everyone, dataclasses.replace(CONFIG, resolution=24)).size == (24, 24)


def test_a_plan_says_who_is_in_no_split(captures):
  plan = make_plan(captures, {'train': ['p1']}, CONFIG)
  assert plan.unlisted == ['p0', 'p2', 'p3']
  assert [job.num_frames for job in shard_jobs(plan, 'data')] == [5, 2]
  assert str(captures) not in plan.manifest().decode()  # the same build on another machine


def test_a_capture_that_changes_meanwhile_is_another_build(captures, tmp_path):
  folder = save_captures(tmp_path / 'captures', 1)

  def interrupt(done, total):
    if done >= 5:
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    prepare(folder, tmp_path, {'train': ['p0']}, CONFIG, progress=interrupt)
  header = json.loads((folder / 'p0' / 'capture.json').read_text())
  (folder / 'p0' / 'capture.json').write_text(json.dumps(header | {'fps': 30.0}))
  with pytest.raises(ValueError, match=r'incomplete\.1\.0\.0: made of other captures'):
    build(make_plan(folder, {'train': ['p0']}, CONFIG), tmp_path)


@pytest.mark.parametrize(
  'values',
  [
    {'name': 'mine'},
    {'resolution': -1},
    {'frames_per_shard': 0},
    {'jpeg_quality': 101},
    {'max_bad_share': 1.5},
  ],
)
@pytest.mark.usefixtures('unchecked_shapes')
def test_settings_that_make_no_sense(values):
  with pytest.raises(ValueError, match=next(iter(values)) if 'name' not in values else 'mine'):
    BuildConfig(**values)
