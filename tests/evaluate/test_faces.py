"""CSIM, AED and APD by networks: of the right pictures, at the right places, as by hand."""

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from sa0_jax.capture import image_files
from sa0_jax.evaluate import faces, run
from sa0_jax.evaluate.coefficients import check_given_once
from sa0_jax.evaluate.face_network import FaceNetwork
from sa0_jax.evaluate.faces import ClipFaces, FaceNetworks, Seen, face_points, load_face_networks
from sa0_jax.evaluate.run import evaluate
from sa0_jax.head.lbs import pose_head
from sa0_jax.head.model import LandmarkEmbedding
from sa0_jax.head.registry import load_head
from sa0_jax.metrics.alignment import arcface_crop, deep3d_crop
from tests.evaluate.onnx_models import ARCFACE, DEEP3D, by_hand, matrix, network, write
from tests.evaluate.scenes import NAMES, avatars, config, work
from tests.refine.scenes import SIZE, small_capture, start_avatar
from tests.structure.sources import ROOT

pytest.importorskip('numba')
WEIGHTS = {'arcface': matrix(ARCFACE[1]), 'deep3d': matrix(DEEP3D[1], 1)}


@pytest.fixture(scope='module')
def files(tmp_path_factory):
  """Paths of the two networks."""
  folder = tmp_path_factory.mktemp('networks')
  sizes = {'arcface': ARCFACE[0], 'deep3d': DEEP3D[0]}
  return {n: write(folder / f'{n}.onnx', network(sizes[n], WEIGHTS[n])) for n in sizes}


@pytest.fixture(scope='module')
def networks(files) -> FaceNetworks:
  return load_face_networks(**files)


def points_of(shape: np.ndarray, seed: int, frame: int, size: int = SIZE) -> np.ndarray:
  """Eyes, nose and mouth of a frame, from the whole mesh, one point after the other."""
  head, capture = load_head(), small_capture(seed=seed)
  codes = dataclasses.replace(capture.frame_codes(frame), shape=shape)
  vertices, marks = np.asarray(pose_head(head, codes), np.float64), head.landmarks68
  camera = capture.frame_camera(frame)
  fx, fy, cx, cy = camera.intrinsics * size / camera.width

  def pixel(number: int) -> np.ndarray:
    [at] = np.flatnonzero(marks.index == number)
    point = marks.barycentric[at] @ vertices[head.faces[marks.face[at]]]
    x, y, z = camera.world_to_camera[:3, :3] @ point + camera.world_to_camera[:3, 3]
    return np.array([fx * x / z + cx, fy * y / z + cy])

  eyes = [(pixel(a) + pixel(b)) / 2 for a, b in ((36, 39), (42, 45))]
  return np.stack([*eyes, pixel(30), pixel(48), pixel(54)])


def test_points_are_those_of_the_posed_mesh_in_the_picture():
  capture = small_capture(seed=1)
  found = face_points(load_head(), capture, 2 * SIZE)
  for frame in range(len(capture)):
    expected = points_of(capture.codes.shape, 1, frame, 2 * SIZE)
    np.testing.assert_allclose(found[frame], expected, atol=0.01)
  (left, right, nose, *_), (mouth, _) = found[0], found[0, 3:]
  assert left[0] < nose[0] < right[0]  # in the picture
  assert left[1] < nose[1] < mouth[1]


def test_points_that_a_head_lacks_are_named():
  head, capture = load_head(), small_capture()
  marks = head.landmarks68
  some = [
    LandmarkEmbedding(marks.index[p], marks.face[p], marks.barycentric[p])
    for p in (marks.index >= 17, marks.index != 30)
  ]
  without_jaw, without_nose = (dataclasses.replace(head, landmarks68=m) for m in some)
  np.testing.assert_array_equal(
    face_points(without_jaw, capture, SIZE), face_points(head, capture, SIZE)
  )
  with pytest.raises(ValueError, match='eyes, nose or mouth are missing'):
    face_points(without_nose, capture, SIZE)
  with pytest.raises(ValueError, match='has no 68 landmarks'):
    face_points(dataclasses.replace(head, landmarks68=None), capture, SIZE)


def test_a_face_behind_the_camera_is_named():
  capture = small_capture()
  view = capture.camera.world_to_camera.copy()
  view[2, 2, 3] = -0.9
  camera = dataclasses.replace(capture.camera, world_to_camera=view)
  with pytest.raises(ValueError, match="'small', frame 2: the face is behind the camera"):
    face_points(load_head(), dataclasses.replace(capture, camera=camera), SIZE)


def picture(out, kind: str, name: str, frame: int) -> np.ndarray:
  return image_files.read_color(out / 'frames' / kind / name / f'{frame:06d}.png')


def numbers(network_name: str, image: np.ndarray, points: np.ndarray) -> np.ndarray:
  crop = {'arcface': arcface_crop, 'deep3d': deep3d_crop}[network_name]
  return by_hand(crop(image, points)[None], WEIGHTS[network_name])[0]


def cosine(a: np.ndarray, b: np.ndarray) -> float:
  return a @ b / np.sqrt((a @ a) * (b @ b))


def close(row, csim, ours, theirs) -> None:
  away = np.abs(ours - theirs)
  assert row['csim'] == pytest.approx(csim, abs=1e-5)
  assert row['aed'] == pytest.approx(away[80:144].mean(), rel=1e-3)
  assert row['apd'] == pytest.approx(away[224:227].mean(), rel=1e-3)
  assert row['aed'] > 1e-3


@pytest.fixture(scope='module')
def driven(networks, tmp_path_factory):
  """Anna's avatar driven by Bert, and his by her."""
  out = tmp_path_factory.mktemp('driven')
  todo = dataclasses.replace(work(out, NAMES[:2]), faces=networks)
  return out, evaluate(avatars(), todo, config('cross', save_frames=True))


def test_driven_by_another_identity_is_held_against_the_person_shown(driven):
  """Rendered with Anna's shape, filmed with Bert's; who it is, against Anna's first frame."""
  out, [anna, _] = driven
  person, driver = start_avatar(0), small_capture(seed=1)
  own = small_capture(seed=0).frames[0]
  over_white = np.round(255 * (own.image * own.matte[..., None] + 1 - own.matte[..., None]))
  source = numbers('arcface', over_white.astype(np.uint8), points_of(own.codes.shape, 0, 0))
  assert [row['frame'] for row in anna['frames']] == [0, 1, 2, 3, 4]
  for row in anna['frames']:
    at = row['frame']
    here = points_of(np.asarray(person.shape), 1, at)
    there = points_of(driver.codes.shape, 1, at)
    assert np.abs(here - there).max() > 0.05
    rendered, filmed = (picture(out, kind, 'anna', at) for kind in ('rendered', 'reference'))
    csim = cosine(numbers('arcface', rendered, here), source)
    close(row, csim, numbers('deep3d', rendered, here), numbers('deep3d', filmed, there))


def test_the_same_person_is_held_against_each_filmed_frame(networks, tmp_path, monkeypatch):
  monkeypatch.setattr(run, 'pixel_metrics', lambda *_: ())  # not compiled for this
  todo = dataclasses.replace(work(tmp_path, NAMES[:1]), faces=networks)
  [result] = evaluate(avatars(), todo, config('per-subject', save_frames=True))
  for row in result['frames']:
    points = points_of(small_capture().codes.shape, 0, row['frame'])
    pair = [picture(tmp_path, kind, 'anna', row['frame']) for kind in ('rendered', 'reference')]
    identity, other = (
      [numbers(name, image, points) for image in pair] for name in ('arcface', 'deep3d')
    )
    close(row, cosine(*identity), *other)


def test_batches_change_nothing(driven, networks, tmp_path, monkeypatch):
  _, whole = driven
  monkeypatch.setattr(faces, '_BATCH', 2)
  todo = dataclasses.replace(work(tmp_path, NAMES[:2]), faces=networks)
  again = evaluate(avatars(), todo, config('cross', frames_per_device=3))
  for mine, theirs in zip(again, whole, strict=True):
    for row, other in zip(mine['frames'], theirs['frames'], strict=True):
      assert row == pytest.approx(other, abs=1e-5)


@pytest.mark.slow
def test_eight_devices_give_the_bits_of_one(driven, files, tmp_path):
  """Frames come eight at a time there; networks see them in the same batches."""
  program = (
    'import dataclasses, pathlib, sys, jax\n'
    'from sa0_jax.evaluate import faces\n'
    'from sa0_jax.evaluate.run import evaluate\n'
    'from tests.evaluate.scenes import NAMES, avatars, config, work\n'
    'assert jax.device_count() == 8\n'
    'out, arcface, deep3d = map(pathlib.Path, sys.argv[1:])\n'
    'networks = faces.load_face_networks(arcface, deep3d)\n'
    'todo = dataclasses.replace(work(out, NAMES[:2]), faces=networks)\n'
    "evaluate(avatars(), todo, config('cross', frames_per_device=1))\n"
  )
  environment = os.environ | {
    'XLA_FLAGS': '--xla_force_host_platform_device_count=8',
    'JAX_PLATFORMS': 'cpu',
    'JAX_DISABLE_MOST_OPTIMIZATIONS': '1',  # as what it is compared with
  }
  paths = [str(path) for path in (tmp_path, files['arcface'], files['deep3d'])]
  subprocess.run([sys.executable, '-c', program, *paths], cwd=ROOT, env=environment, check=True)
  for result in driven[1]:
    again = json.loads((tmp_path / 'clips' / f'{result["clip"]}.json').read_text())
    assert again['frames'] == result['frames']


def test_results_follow_from_the_networks(driven, files, tmp_path):
  """Kept with the same ones; measured anew with another one, and without."""
  out, [before, _] = driven
  (tmp_path / 'clips').mkdir()
  stored = (out / 'clips' / 'anna.json').read_bytes()
  other = write(tmp_path / 'other.onnx', network(ARCFACE[0], matrix(ARCFACE[1], 9)))
  for arcface, deep3d, done in (
    (files['arcface'], files['deep3d'], 0),
    (other, files['deep3d'], 5),
    (None, None, 5),
  ):
    (tmp_path / 'clips' / 'anna.json').write_bytes(stored)
    (tmp_path / 'clips' / 'bert.json').write_bytes((out / 'clips' / 'bert.json').read_bytes())
    todo = dataclasses.replace(work(tmp_path, NAMES[:2]), faces=load_face_networks(arcface, deep3d))
    calls = []
    [result, _] = evaluate(
      avatars(), todo, config('cross', save_frames=True), lambda *at, c=calls: c.append(at)
    )
    assert len(calls) == 2 * done
    kept = json.loads((tmp_path / 'clips' / 'anna.json').read_text())
    assert kept == result
    assert (result == before) == (done == 0)
    assert ('csim' in result['frames'][0]) == (arcface is not None)


def seen(name: str = 'rendered frame 7', value: int = 90) -> Seen:
  image = np.full((SIZE, SIZE, 3), value, np.uint8)
  return Seen(image, points_of(small_capture().codes.shape, 0, 0), name)


def broken(folder, bias: float) -> FaceNetworks:
  """ArcFace that gives this number, and only this, for everything."""
  weights = np.zeros_like(WEIGHTS['arcface'])
  weights[:, 3] = bias
  path = write(folder / 'broken.onnx', network(ARCFACE[0], weights))
  return FaceNetworks(arcface=FaceNetwork(path, faces.ARCFACE))


@pytest.mark.parametrize(
  ('bias', 'message'),
  [
    (np.nan, "ArcFace must give finite numbers; for the rendered frame 7 of clip 'x' it gives 1"),
    (0.0, "gives zeros for the rendered frame 7 of clip 'x'"),
  ],
)
def test_numbers_that_cannot_be_are_told_with_file_and_frame(tmp_path, bias, message):
  clip, row = ClipFaces(broken(tmp_path, bias), 'x'), {}
  clip.add(row, seen(), seen('reference frame 7'))
  with pytest.raises(ValueError, match=message) as error:
    clip.finish()
  assert str(error.value).startswith(str(tmp_path / 'broken.onnx'))
  assert row == {}


def test_a_face_in_one_place_is_told_with_its_frame(networks):
  clip = ClipFaces(networks, 'x')
  clip.add({}, seen()._replace(points=np.ones((5, 2))), seen())
  with pytest.raises(ValueError, match="clip 'x', rendered frame 7: the five points"):
    clip.finish()


def test_a_metric_from_a_network_and_from_files_is_refused(networks, tmp_path):
  (tmp_path / 'rendered').mkdir()
  np.savez(tmp_path / 'rendered' / 'b.npz', frame=[0], landmarks=np.zeros((1, 136)))
  check_given_once(tmp_path, ['a', 'b'], networks.by_metric)
  check_given_once(tmp_path, ['a', 'b'], {})
  np.savez(tmp_path / 'rendered' / 'b.npz', frame=[0], pose=np.zeros((1, 3)))
  check_given_once(tmp_path, ['a', 'b'], {'csim': None})
  with pytest.raises(ValueError, match=r"b\.npz: holds 'pose', which gives apd, and a network"):
    check_given_once(tmp_path, ['a', 'b'], networks.by_metric)


def test_a_report_says_which_network_it_was(networks):
  sources = networks.sources
  assert sources.keys() == {'csim', 'aed', 'apd'}
  digest = networks.arcface.digest
  assert sources['csim'] == f'ArcFace {digest[:12]}, faces aligned by the head model'
  assert load_face_networks(None, None) is None
