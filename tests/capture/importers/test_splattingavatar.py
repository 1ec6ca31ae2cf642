"""IMavatar's and SplattingAvatar's flame_params.json: meshes times 4, shorter codes, on white."""

import json

import cv2
import numpy as np
import pytest

from sa0_jax.capture.importers import ImportOptions, import_capture
from tests.capture.importers.truth import assert_same_places, head, make_scene, overlap

pytest.importorskip('numba')
SIZE = (128, 112)


@pytest.fixture(scope='module')
def scene():
  made = make_scene(4, size=SIZE, focal=2.2, counts=(100, 50))
  codes = dict(made.codes)
  codes['rotation'] = 0.1 * np.random.default_rng(3).normal(size=(4, 3))
  codes['neck'] = 0.1 * np.random.default_rng(4).normal(size=(4, 3))
  return type(made)(codes, made.rotation, made.translation, made.lens, made.size)


def table_of(scene, file_path='./image/{}'):
  width, height = SIZE
  frames = []
  for position in range(len(scene)):
    matrix = np.concatenate(
      [scene.rotation[position], 4.0 * scene.translation[position][:, None]], axis=1
    )
    matrix[1:] *= -1  # y up, z backward
    codes = [scene.codes[name][position] for name in ('rotation', 'neck', 'jaw', 'eyes')]
    frames.append(
      {
        'file_path': file_path.format(position + 1),
        'world_mat': matrix.tolist(),
        'expression': scene.codes['expression'][position, :50].tolist(),
        'pose': np.concatenate(codes).tolist(),
        'bbox': [0.1, 0.1, 0.9, 0.9],
        'flame_keypoints': [[0.0, 0.0]] * 68,
      }
    )
  fx, fy, cx, cy = scene.lens / [width, height, width, height]
  return {
    'frames': frames,
    'shape_params': scene.codes['shape'][:100].tolist(),
    'intrinsics': [-fx, fy, cx, cy],  # the sign is its tool's own
  }


def write(folder, scene, *, images='image', masks=None, table=None):
  (folder / images).mkdir(parents=True)
  for position in range(len(scene)):
    name = f'{position + 1}.png'
    cv2.imwrite(str(folder / images / name), scene.on(position, 255)[..., ::-1])
    if masks:
      (folder / masks).mkdir(exist_ok=True)
      cv2.imwrite(str(folder / masks / name), scene.pictures[position][1])
  text = json.dumps(table_of(scene) if table is None else table)
  (folder / 'flame_params.json').write_text(text)


def test_a_subject_with_masks(scene, tmp_path):
  write(tmp_path / 'bala', scene, masks='mask')
  model = head('flame2020')
  imported = import_capture('splattingavatar', tmp_path / 'bala', model)
  assert imported.capture.ids.tolist() == [1, 2, 3, 4]
  assert imported.capture.codes.expression.shape == (4, 100)
  assert_same_places(imported.capture, model, scene.pixels)
  # By the format's definition too: the mesh times 4, then the matrix as it is written.
  entry = table_of(scene)['frames'][2]
  matrix = np.array(entry['world_mat'])
  seen = 4.0 * scene.points[2] @ matrix[:, :3].T + matrix[:, 3]
  flat = seen[:, :2] / -seen[:, 2:] * [1, -1]  # z backward: depth is −z; y up
  np.testing.assert_allclose(flat * scene.lens[:2] + scene.lens[2:], scene.pixels[2], atol=1e-6)
  np.testing.assert_array_equal(imported.capture.frames[1].pixels.matte, scene.pictures[1][1])


def test_other_folder_names_and_a_derived_matte(scene, tmp_path):
  write(tmp_path / 's', scene, images='images')
  imported = import_capture('splattingavatar', tmp_path / 's', head('flame2020'))
  for frame, (_, matte) in zip(imported.capture.frames, scene.pictures, strict=True):
    assert overlap(frame.pixels.matte, matte) > 0.97
  assert 'derived from the white background' in ' '.join(imported.notes)
  write(tmp_path / 'm', scene, masks='given')
  options = ImportOptions(mattes=tmp_path / 'm' / 'given')
  imported = import_capture('splattingavatar', tmp_path / 's', head('flame2020'), options)
  np.testing.assert_array_equal(imported.capture.frames[3].pixels.matte, scene.pictures[3][1])


def test_damage_is_named(scene, tmp_path):
  write(tmp_path / 's', scene)
  path = tmp_path / 's' / 'flame_params.json'

  def fails(kind, message, change):
    table = table_of(scene)
    change(table)
    path.write_text(json.dumps(table))
    with pytest.raises(kind, match=message):
      import_capture('splattingavatar', tmp_path / 's', head('flame2020'))

  fails(ValueError, 'no frames', lambda t: t.update(frames=[]))
  fails(ValueError, r"'pose' has the shape \(6,\)", lambda t: t['frames'][1].update(pose=[0] * 6))
  fails(ValueError, "frame 2: 'world_mat' is not made", lambda t: t['frames'][2].pop('world_mat'))
  fails(ValueError, 'several lengths', lambda t: t['frames'][2].update(expression=[0.0] * 10))
  fails(ValueError, "'intrinsics' has the shape", lambda t: t.update(intrinsics=[1.0]))
  fails(ValueError, "'shape_params' is not made", lambda t: t.pop('shape_params'))
  fails(ValueError, 'leaves the folder', lambda t: t['frames'][0].update(file_path='../../x'))
  fails(FileNotFoundError, 'no such image', lambda t: t['frames'][0].update(file_path='image/9'))
  fails(ValueError, 'expected a table', lambda t: t['frames'].append(3))
  fails(
    ValueError,
    "120 expression coefficients, head 'flame2020' has 100",
    lambda t: [f.update(expression=[0.1] * 120) for f in t['frames']],
  )
  with pytest.raises(FileNotFoundError, match=r'no flame_params\.json here'):
    import_capture('splattingavatar', tmp_path / 's' / 'image', head('flame2020'))
