"""Landmark files of the FLAME world, read without executing them."""

import pickle

import numpy as np
import pytest

from sa0_jax.head.landmark_files import read_landmarks

_FACES = 500


def _points(count, seed=0):
  generator = np.random.default_rng(seed)
  weights = generator.dirichlet(np.ones(3), size=count)
  return generator.integers(0, _FACES, size=count), weights


def test_mediapipe_npz(tmp_path):
  face, weights = _points(105)
  index = np.sort(np.random.default_rng(1).permutation(468)[:105])
  path = tmp_path / 'mediapipe_landmark_embedding.npz'
  np.savez(path, lmk_face_idx=face, lmk_b_coords=weights, landmark_indices=index)
  scheme, embedding = read_landmarks(path, _FACES)
  assert scheme == 'landmarks_mediapipe'
  np.testing.assert_array_equal(embedding.index, index)
  np.testing.assert_array_equal(embedding.face, face)
  np.testing.assert_allclose(embedding.barycentric, weights, atol=1e-7)


@pytest.mark.parametrize('protocol', [0, 2, 4])
def test_static_pickle_has_the_points_behind_the_jaw(tmp_path, protocol):
  face, weights = _points(51)
  path = tmp_path / 'flame_static_embedding.pkl'
  content = {'lmk_face_idx': face.astype(np.float64), 'lmk_b_coords': np.round(weights, 3)}
  path.write_bytes(pickle.dumps(content, protocol))
  scheme, embedding = read_landmarks(path, _FACES)
  assert scheme == 'landmarks68'
  np.testing.assert_array_equal(embedding.index, np.arange(17, 68))
  np.testing.assert_array_equal(embedding.face, face)
  np.testing.assert_allclose(embedding.barycentric.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize('count', [68, 70])
def test_deca_object_array(tmp_path, count):
  face, weights = _points(count)
  dynamic = np.zeros((79, 17), np.int64)
  content = {
    'static_lmk_faces_idx': face[17:68],
    'dynamic_lmk_faces_idx': dynamic,
    'full_lmk_faces_idx': face[None],
    'full_lmk_bary_coords': weights[None],
  }
  path = tmp_path / 'landmark_embedding.npy'
  np.save(path, np.array(content, dtype=object))
  scheme, embedding = read_landmarks(path, _FACES)
  assert scheme == 'landmarks68'
  np.testing.assert_array_equal(embedding.index, np.arange(68))
  np.testing.assert_array_equal(embedding.face, face[:68])


def test_full_68_in_an_npz(tmp_path):
  face, weights = _points(68)
  np.savez(tmp_path / 'x.npz', lmk_face_idx=face, lmk_b_coords=weights)
  assert len(read_landmarks(tmp_path / 'x.npz', _FACES)[1].index) == 68


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'lmk_face_idx': None}, "'lmk_face_idx' is missing"),
    ({'lmk_b_coords': None}, "'lmk_b_coords' is missing"),
    ({'lmk_face_idx': np.full(51, _FACES)}, "'face' has values from 500"),
    ({'lmk_face_idx': np.full(51, -1)}, "'face' has values from -1"),
    ({'lmk_face_idx': np.full(51, 0.5)}, "'lmk_face_idx' must hold indices"),
    ({'lmk_face_idx': np.full(51, 1e20)}, "'lmk_face_idx' must hold indices"),
    ({'lmk_face_idx': np.zeros(50, int)}, '50 points are neither'),
    ({'lmk_b_coords': np.zeros((51, 2))}, "'lmk_b_coords' has the shape"),
    ({'lmk_b_coords': np.zeros((51, 3))}, 'do not sum to 1'),
    ({'lmk_b_coords': np.full((51, 3), np.nan)}, 'finite numbers'),
    ({'lmk_b_coords': 'word'}, 'not an array'),
    ({'landmark_indices': np.arange(50)}, 'of the shapes'),
    ({'landmark_indices': np.zeros(51, int)}, 'has a point twice'),
    (
      {'full_lmk_faces_idx': np.zeros(68, int), 'full_lmk_bary_coords': np.zeros(7)},
      'has the shape',
    ),
  ],
)
def test_unusable_landmarks_are_refused(tmp_path, changes, message):
  face, weights = _points(51)
  content = {'lmk_face_idx': face, 'lmk_b_coords': weights} | changes
  content = {key: value for key, value in content.items() if value is not None}
  path = tmp_path / 'x.pkl'
  path.write_bytes(pickle.dumps(content, 2))
  with pytest.raises(ValueError, match=message) as caught:
    read_landmarks(path, _FACES)
  assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
  'content',
  [
    b'',
    b'\x93NUMPY',
    b'\x93NUMPY\x01\x00\x04\x00abc\n',
    b'\x93NUMPY\x01\x00\xff\xffabc',
    b'hello' * 9,
  ],
)
def test_damaged_npy_files_are_refused(tmp_path, content):
  path = tmp_path / 'x.npy'
  path.write_bytes(content)
  with pytest.raises(ValueError, match=r'x\.npy: '):
    read_landmarks(path, _FACES)


def test_hostile_files_of_every_kind_are_refused(tmp_path):
  class Run:
    def __reduce__(self):
      return exec, ('open("executed", "w")',)

  np.save(tmp_path / 'a.npy', np.array(Run(), dtype=object))
  np.savez(tmp_path / 'b.npz', lmk_face_idx=np.array([Run()], dtype=object))
  (tmp_path / 'c.pkl').write_bytes(pickle.dumps({'lmk_face_idx': Run()}))
  np.save(tmp_path / 'd.npy', np.zeros(3))
  for name in ('a.npy', 'b.npz', 'c.pkl', 'd.npy'):
    with pytest.raises(ValueError, match=name):
      read_landmarks(tmp_path / name, _FACES)
  with pytest.raises(FileNotFoundError):
    read_landmarks(tmp_path / 'none.pkl', _FACES)
