"""NeRSemble: videos of several cameras, meshes scaled and turned about the origin (Euler XYZ)."""

import dataclasses
import json

import numpy as np
import pytest

from sa0_jax.capture.importers import ImportOptions, import_capture, import_captures
from sa0_jax.video import write_video
from tests.capture.importers.truth import (
  assert_same_places,
  head,
  landmarks_of,
  make_scene,
  overlap,
  posed_landmarks,
  project,
  turn,
)

pytest.importorskip('numba')
SIZE = (66, 96)
SERIALS = ('222200037', '220700191')
SCALE = 1.15
SHIFT = np.array([0.02, -0.05, 1.3])


@pytest.fixture(scope='module')
def scene():
  made = make_scene(4, size=SIZE)
  codes = dict(made.codes)
  codes['neck'] = 0.1 * np.random.default_rng(3).normal(size=(4, 3))
  return dataclasses.replace(made, codes=codes)


def euler(angles):
  """Rx·Ry·Rz."""
  x, y, z = angles
  return turn([x, 0, 0]) @ turn([0, y, 0]) @ turn([0, 0, z])


ANGLES = np.array([[0.1, -0.3, 0.05], [0.2, 0.1, -0.1], [-0.1, 0.25, 0.1], [0.05, 0.4, 0.2]])
MOVES = np.array([[0.0, 0.1, 0.2], [0.01, 0.12, 0.2], [0.02, 0.1, 0.19], [0.0, 0.09, 0.2]])


def cameras():
  """World to camera of each serial; the world has y up, the cameras are in front of the head."""
  poses = {}
  for number, serial in enumerate(SERIALS):
    pose = np.eye(4)
    pose[:3, :3] = np.diag([1.0, -1.0, -1.0]) @ turn([0.05, 0.4 * number, 0.0])
    pose[:3, 3] = SHIFT - pose[:3, :3] @ MOVES.mean(axis=0)
    poses[serial] = pose
  return poses


LENS = np.array([2.0 * SIZE[1], 2.02 * SIZE[1], 0.49 * SIZE[0], 0.52 * SIZE[1]])


def truth(scene, serial):
  """Where the landmarks are, by the benchmark's own definition."""
  pose = cameras()[serial]
  places = []
  still = posed_landmarks(scene.head_codes())  # no rotation of the root, no translation
  for time in range(len(scene)):
    world = SCALE * still[time] @ euler(ANGLES[time]).T + MOVES[time]
    places.append(project(world[None], pose[None, :3, :3], pose[None, :3, 3], LENS)[0])
  return np.stack(places)


def write(folder, scene, *, sequence='EXP-1-head', full=False, frames=(0, 2, 3, 5)):
  calibration = folder / 'calibration'
  calibration.mkdir(parents=True, exist_ok=True)
  matrix = np.array([[LENS[0], 0, LENS[2]], [0, LENS[1], LENS[3]], [0, 0, 1]])
  lenses = {serial: matrix.tolist() for serial in SERIALS}
  if full:  # version 2: one matrix, for pictures of full size
    lenses = (np.diag([2200 / SIZE[0], 3208 / SIZE[1], 1.0]) @ matrix).tolist()
  poses = {serial: pose.tolist() for serial, pose in cameras().items()}
  (calibration / 'camera_params.json').write_text(
    json.dumps({'world_2_cam': poses, 'intrinsics': lenses})
  )
  where = folder / 'sequences' / sequence
  count = max(frames) + 1
  for kind in ('images', 'alpha_maps'):
    for number, serial in enumerate(SERIALS):
      pictures = [still_picture(kind, number, time) for time in range(count)]
      write_video(where / kind / f'cam_{serial}.mp4', pictures, 24.3)
  (where / 'tracking').mkdir()
  codes = scene.codes
  np.savez(
    where / 'tracking' / 'flame2023_tracking.npz',
    shape=codes['shape'][None].astype(np.float32),
    expression=codes['expression'].astype(np.float32),
    rotation=ANGLES.astype(np.float32),
    rotation_matrices=np.stack([euler(a) for a in ANGLES]).astype(np.float32),
    translation=MOVES.astype(np.float32),
    jaw=codes['jaw'].astype(np.float32),
    frames=np.array(frames),
    scale=np.array([[SCALE]], np.float32),
    neck=codes['neck'].astype(np.float32),
    eyes=codes['eyes'].astype(np.float32),
  )
  return where


def still_picture(kind, camera, time):
  """A picture whose level tells camera and time; its matte a box that wanders."""
  picture = np.full((*SIZE[::-1], 3), 40 + 15 * time + 100 * camera, np.uint8)
  if kind == 'alpha_maps':
    picture[:] = 0
    picture[20:70, 10 + 4 * time : 40 + 4 * time] = 255
  return picture


def test_a_sequence(scene, tmp_path):
  write(tmp_path / '461', scene)
  model = head('flame2023')
  imported = import_capture('nersemble', tmp_path / '461', model)
  capture = imported.capture
  assert capture.name == '461_EXP-1-head'
  assert capture.ids.tolist() == [0, 0, 2, 2, 3, 3, 5, 5]
  assert capture.view_ids.tolist() == [0, 1] * 4
  # Serials in order: 220700191 is camera 0.
  pixels = np.stack([truth(scene, SERIALS[1]), truth(scene, SERIALS[0])], axis=1)
  assert_same_places(capture, model, pixels.reshape(-1, 68, 2))
  for position in (0, 7, 2, 2, 5, 1):  # backwards too
    frame = capture.frames[position]
    camera, time = int(capture.view_ids[position]), int(capture.ids[position])
    expected = still_picture('images', 1 - camera, time)
    assert np.abs(frame.pixels.image.astype(int) - expected).max() < 6
    assert overlap(frame.pixels.matte, still_picture('alpha_maps', 0, time)[..., 0]) > 0.95
  assert 'scale 1.1500' in ' '.join(imported.notes)


def test_a_participant_of_version_2(scene, tmp_path):
  write(tmp_path / '017', scene, full=True)
  write(tmp_path / '017', scene, full=True, sequence='FREE', frames=(0, 1, 2, 3))
  model = head('flame2023_open')
  found = list(import_captures('nersemble', tmp_path / '017', model))
  assert [i.capture.name for i in found] == ['017_EXP-1-head', '017_FREE']
  np.testing.assert_allclose(
    landmarks_of(found[1].capture, model)[1::2], truth(scene, SERIALS[0]), atol=0.02
  )
  one = import_capture('nersemble', tmp_path / '017' / 'sequences' / 'FREE', model)
  assert one.capture.name == '017_FREE'


def resave(path, **changed):
  arrays = dict(np.load(path))
  arrays.update(changed)
  np.savez(path, **{name: value for name, value in arrays.items() if value is not None})


def test_damage_is_named(scene, tmp_path):
  where = write(tmp_path / '461', scene)
  tracking = where / 'tracking' / 'flame2023_tracking.npz'
  whole = tracking.read_bytes()

  def fails(kind, message, **changed):
    tracking.write_bytes(whole)
    resave(tracking, **changed)
    with pytest.raises(kind, match=message):
      import_capture('nersemble', tmp_path / '461', head('flame2023'))

  fails(ValueError, 'contradict each other', rotation=ANGLES[:, ::-1])
  fails(ValueError, "'jaw' is missing", jaw=None)
  fails(ValueError, "'jaw' has 2 rows for 4 frames", jaw=np.zeros((2, 3)))
  fails(ValueError, 'are not frame numbers', frames=np.array([0, 1, 2.5, 3]))
  fails(ValueError, r'scale 0\.0 of the meshes', scale=np.zeros((1, 1)))
  fails(ValueError, 'holds NaN', neck=np.full((4, 3), np.nan))
  fails(ValueError, 'longer codes than head', shape=np.zeros((1, 400)))
  tracking.write_bytes(whole)
  resave(tracking, frames=np.array([0, 1, 2, 9]))
  capture = import_capture('nersemble', tmp_path / '461', head('flame2023')).capture
  with pytest.raises(ValueError, match=r'cam_220700191\.mp4: has 6 frames, no frame 9'):
    capture.frames[6]
  tracking.unlink()
  with pytest.raises(FileNotFoundError, match='track the sequence with VHAP'):
    import_capture('nersemble', tmp_path / '461', head('flame2023'))
  tracking.write_bytes(whole)
  video = where / 'alpha_maps' / f'cam_{SERIALS[0]}.mp4'
  data = video.read_bytes()
  video.unlink()
  with pytest.raises(FileNotFoundError, match='no matte video cam_222200037'):
    import_capture('nersemble', tmp_path / '461', head('flame2023'))
  (tmp_path / 'mattes').mkdir()
  for serial in SERIALS:
    (tmp_path / 'mattes' / f'cam_{serial}.mp4').write_bytes(data[:400])
  options = ImportOptions(mattes=tmp_path / 'mattes')
  capture = import_capture('nersemble', tmp_path / '461', head('flame2023'), options).capture
  with pytest.raises(ValueError, match='not a readable video'):
    capture.frames[0]
  calibration = tmp_path / '461' / 'calibration' / 'camera_params.json'
  table = json.loads(calibration.read_text())
  table['intrinsics'] = np.diag([900.0, 900.0, 1.0]).tolist()
  calibration.write_text(json.dumps(table))
  with pytest.raises(ValueError, match='intrinsics fit neither the videos'):
    import_capture('nersemble', tmp_path / '461', head('flame2023'), options)
  with pytest.raises(FileNotFoundError, match='neither a participant'):
    import_capture('nersemble', tmp_path, head('flame2023'))
