"""Lists of clips, coefficient files and tables."""

import json

import numpy as np
import pytest

from sa0_jax.evaluate.clips import Clip, clips_of_folder, read_clips
from sa0_jax.evaluate.coefficients import face_rows, read_table
from sa0_jax.evaluate.published import PUBLISHED
from sa0_jax.evaluate.report import summarize, to_markdown
from sa0_jax.evaluate.run import PROTOCOLS, EvaluateConfig
from sa0_jax.metrics.spec import METRICS


def test_names_one_a_line(tmp_path):
  (tmp_path / 'list.txt').write_text('# the test set\nzoe\n\nClip+a-1  # a comment\n')
  assert read_clips(tmp_path / 'list.txt') == (Clip('zoe'), Clip('Clip+a-1'))


def write_list(path, clips, **changes):
  table = {'format': 'sa0-evaluation-list', 'version': 1, 'clips': clips, **changes}
  path.write_text(json.dumps(table))
  return path


def test_a_list_may_name_frames(tmp_path):
  clips = [{'name': 'a', 'sources': [3, 1], 'targets': [0]}, {'name': 'b'}]
  got = read_clips(write_list(tmp_path / 'x.json', clips))
  assert got == (Clip('a', (3, 1), (0,)), Clip('b'))


@pytest.mark.parametrize(
  ('clips', 'changes', 'message'),
  [
    ([], {}, 'names no clip'),
    ([{'name': 'a'}, {'name': 'a'}], {}, "names 'a' twice"),
    ([{'name': '../a'}], {}, 'no name of a capture folder'),
    ([{'name': '..'}], {}, 'no name of a capture folder'),
    ([{'name': 'a', 'sources': [-1]}], {}, "'sources' of 'a'"),
    ([{'name': 'a', 'targets': []}], {}, "'targets' of 'a'"),
    ([{'name': 'a', 'targets': [1, 1]}], {}, "'targets' of 'a'"),
    ([{'name': 'a', 'frames': [1]}], {}, "a clip has a 'name'"),
    ([{'name': 3}], {}, "a clip has a 'name'"),
    ({}, {}, "'clips' must be a list"),
    ([{'name': 'a'}], {'version': 2}, 'list version 2'),
    ([{'name': 'a'}], {'format': 'x'}, 'not a list of clips'),
  ],
)
def test_lists_that_cannot_be_are_refused(tmp_path, clips, changes, message):
  path = write_list(tmp_path / 'x.json', clips, **changes)
  with pytest.raises(ValueError, match=message) as error:
    read_clips(path)
  assert str(path) in str(error.value)


def test_a_missing_list_and_an_empty_folder_are_named(tmp_path):
  with pytest.raises(FileNotFoundError, match='no such list'):
    read_clips(tmp_path / 'x.txt')
  with pytest.raises(FileNotFoundError, match='no captures in it'):
    clips_of_folder(tmp_path)
  (tmp_path / 'y.txt').write_bytes(b'\xff\xfe\x00')
  with pytest.raises(ValueError, match='not a text'):
    read_clips(tmp_path / 'y.txt')


RESULT = {'clip': 'a', 'driver': 'a', 'sources': [0], 'frames': [{'frame': 4}, {'frame': 2}]}


def write_npz(folder, kind, **arrays):
  (folder / kind).mkdir(exist_ok=True)
  np.savez(folder / kind / 'a.npz', **arrays)


@pytest.fixture
def coefficients(tmp_path):
  """Rows by frame 2, 3, 4; differences are larger for later frames."""
  frame, step = np.array([2, 3, 4]), np.array([0.1, 0.2, 0.3])[:, None]
  zero = {
    'expression': np.zeros((3, 64)),
    'pose': np.zeros((3, 3)),
    'landmarks': np.zeros((3, 136)),
  }
  away = {name: array + step for name, array in zero.items()}
  write_npz(tmp_path, 'reference', frame=frame, embedding=np.eye(3), **zero)
  write_npz(tmp_path, 'rendered', frame=frame, embedding=np.eye(3) + np.float64([0, 0, 1]), **away)
  write_npz(tmp_path, 'source', frame=np.array([0]), embedding=np.array([[0, 0, 1.0]]))
  return tmp_path


def test_rows_are_matched_by_frame(coefficients):
  late, early = face_rows(coefficients, RESULT, 'self', 256)
  assert early['csim'] == pytest.approx(np.sqrt(0.5))
  assert late['csim'] == pytest.approx(1.0)
  assert (early['aed'], late['aed']) == pytest.approx((0.1, 0.3))
  assert (early['apd'], late['apd']) == pytest.approx((0.1, 0.3))
  # √2 · 0.1 px of 256² are twice as much of 512².
  assert early['akd'] == pytest.approx(2 * 0.1 * np.sqrt(2))


def test_cross_compares_identity_with_the_source_and_has_no_landmarks(coefficients):
  late, early = face_rows(coefficients, RESULT, 'cross', 256)
  assert early.keys() == {'csim', 'aed', 'apd'}
  assert early['csim'] == pytest.approx(np.sqrt(0.5))
  assert late['csim'] == pytest.approx(1.0)


def test_a_csv_is_the_same(tmp_path):
  names = ['frame', *(f'pose_{i}' for i in range(3))]
  (tmp_path / 'a.csv').write_text(','.join(names) + '\n7,0.1,0.2,0.3\n5,1,2,3\n')
  table = read_table(tmp_path / 'a.csv')
  assert table['frame'].tolist() == [5, 7]
  np.testing.assert_allclose(table['pose'], [[1, 2, 3], [0.1, 0.2, 0.3]])


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('pose_0\n1\n', "'frame' must be"),
    ('frame,pose_0\n1,2\n', r"'pose' is \[1, 1\], expected \[1, 3\]"),
    ('frame,pose_0,pose_1,pose_3\n1,2,3,4\n', 'must be pose_0 to pose_2'),
    ('frame,pose_0,pose_1,pose_2\n1,2,3,nan\n', 'not finite'),
    ('frame\n1\n1\n', 'twice'),
    ('frame\n1.5\n', "'frame' must be"),
    ('frame,pose_0\n1\n', 'different lengths'),
    ('frame\nx\n', 'not a table of numbers'),
  ],
)
def test_tables_that_cannot_be_are_refused(tmp_path, text, message):
  (tmp_path / 'a.csv').write_text(text)
  with pytest.raises(ValueError, match=message):
    read_table(tmp_path / 'a.csv')


def test_missing_frames_and_files_are_named(coefficients):
  with pytest.raises(ValueError, match='frame 9 is missing'):
    face_rows(coefficients, RESULT | {'frames': [{'frame': 9}]}, 'self', 256)
  with pytest.raises(FileNotFoundError, match='no such coefficients'):
    face_rows(coefficients, RESULT | {'clip': 'b'}, 'self', 256)


def results():
  first = [{'frame': i, 'id': i, 'psnr': 20.0, 'ssim_rgb': 0.8} for i in range(3)]
  second = [{'frame': 0, 'id': 0, 'psnr': 30.0, 'ssim_rgb': 0.9}]
  names = {'driver': 'x', 'sources': [0]}
  return [{'clip': 'a', 'frames': first, **names}, {'clip': 'b', 'frames': second, **names}]


def test_means_over_frames_and_over_clips():
  report = summarize(results(), EvaluateConfig(resolution=256), {'psnr': 'why'})
  assert report['mean_of_frames']['psnr'] == 22.5
  assert report['mean_of_clips']['psnr'] == 25.0
  assert report['num_frames'] == 4
  spec = report['metrics'][0]
  assert (spec['name'], spec['resolution'], spec['background']) == ('psnr', 256, [1.0, 1.0, 1.0])
  assert spec['source'] == 'why'


def test_a_metric_that_a_frame_lacks_has_no_mean():
  some = results()
  del some[1]['frames'][0]['ssim_rgb']
  assert set(summarize(some, EvaluateConfig(), {})['mean_of_frames']) == {'psnr'}


def test_what_is_tracked_is_of_the_frames_that_show_a_face():
  some = results()
  some[0]['frames'][1]['landmark_px'] = 2.0
  report = summarize(some, EvaluateConfig(), {})
  assert report['mean_of_frames']['landmark_px'] == report['mean_of_clips']['landmark_px'] == 2.0
  assert [clip['landmark_px'] for clip in report['clips']] == [2.0, None]
  assert [metric['num_frames'] for metric in report['metrics']] == [4, 4, 1]
  page = to_markdown(report)
  assert '| b | x | 1 | 30.00 | 0.900 | – |' in page
  assert page.rstrip().endswith('px, of the 1 of 4 frames that have it')


def test_the_page_stands_beside_the_papers_rows():
  page = to_markdown(summarize(results(), EvaluateConfig(), {}), 'vfhq-self')
  assert '|  | PSNR | SSIM | LPIPS | CSIM | AED | APD | AKD |' in page
  assert '| SpatialAvatar-0 | 23.34 | 0.875 | 0.077 | 0.916 | 0.091 | 0.061 | 2.181 |' in page
  assert '| **this run** | 22.50 | 0.825 | – | – | – | – | – |' in page
  assert 'Not comparable: the paper has 50 clips, this run 2.' in page
  assert '512 × 512 px over the colour 1, 1, 1' in page


def test_per_subject_rows_are_in_the_papers_units():
  some = [
    {**result, 'frames': [dict(row, mse=5e-4) for row in result['frames']]} for result in results()
  ]
  report = summarize(some, EvaluateConfig('per-subject'), {})
  page = to_markdown(report, 'splattingavatar')
  assert '| SpatialAvatar-0 | 0.402 | 33.96 | 0.971 | 0.355 |' in page
  assert '| **this run** | 0.500 | 25.00 | 0.850 | – |' in page


def test_a_table_of_another_protocol_is_refused():
  report = summarize(results(), EvaluateConfig(), {})
  for name, message in (('hdtf-cross', 'is of protocol cross'), ('x', 'unknown')):
    with pytest.raises(ValueError, match=message):
      to_markdown(report, name)


def test_published_tables_are_whole():
  for table in PUBLISHED.values():
    assert table.protocol in PROTOCOLS
    assert all(metric in METRICS for _, metric, _ in table.columns)
    assert all(len(numbers) == len(table.columns) for numbers in table.rows.values())
    assert [*table.rows][-1] == 'SpatialAvatar-0'
