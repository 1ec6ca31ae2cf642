"""UV unwraps from .npz and OBJ."""

import numpy as np
import pytest

from sa0_jax.head.uv_files import read_uv


def _write_obj(path, head, order, shift, *, corner='{}/{}'):
  lines = ['# a template', 'o head'] + [f'v {x} {y} {z}' for x, y, z in head.v_template]
  lines += [f'vt {u} {v}' for u, v in head.vt] + ['vn 0 0 1', 's off']
  for row in order:
    corners = zip(np.roll(head.faces[row], shift), np.roll(head.ft[row], shift), strict=True)
    lines.append('f ' + ' '.join(corner.format(v + 1, t + 1) for v, t in corners))
  path.write_text('\n'.join(lines) + '\n')


def test_reads_npz_with_only_the_arrays_it_needs(head, tmp_path):
  path = tmp_path / 'FLAME_texture.npz'
  np.savez(path, vt=head.vt.astype(np.float64), ft=head.ft.astype(np.int64), mean=np.zeros((9, 9)))
  vt, ft = read_uv(path, head.faces)
  np.testing.assert_array_equal(vt, head.vt)
  np.testing.assert_array_equal(ft, head.ft)
  assert (vt.dtype, ft.dtype) == (np.float32, np.int32)


def test_faces_beyond_the_file_have_no_uv(head, tmp_path):
  np.savez(tmp_path / 'uv.npz', vt=head.vt, ft=head.ft[:50])
  _, ft = read_uv(tmp_path / 'uv.npz', head.faces)
  np.testing.assert_array_equal(ft[:50], head.ft[:50])
  np.testing.assert_array_equal(ft[50:], -1)


@pytest.mark.parametrize('corner', ['{}/{}', '{}/{}/1'])
@pytest.mark.parametrize('shift', [0, 1, 2])
def test_reads_obj_whatever_its_order_of_faces_and_corners(head, tmp_path, shift, corner):
  order = np.random.default_rng(shift).permutation(len(head.faces))
  _write_obj(tmp_path / 'template.obj', head, order, shift, corner=corner)
  vt, ft = read_uv(tmp_path / 'template.obj', head.faces)
  np.testing.assert_array_equal(vt, head.vt)
  np.testing.assert_array_equal(ft, head.ft)


def test_obj_indices_may_count_from_the_end(tmp_path):
  path = tmp_path / 'template.obj'
  path.write_text('v 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 0 1\nf -3/-3 -2/-2 -1/-1\n')
  _, ft = read_uv(path, np.array([[1, 2, 0]], np.int32))
  np.testing.assert_array_equal(ft, [[1, 2, 0]])


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('v 0 0 0\nvt 0 0\nf 1 1 1\n', 'line 3 is not understood'),
    ('v 0 0 0\nvt 0 0\nf 1/1 1/1 1/1 1/1\n', 'only triangles'),
    ('v 0 0 0\nvt 0 0\nf 1/1 1/2 1/1\n', 'line 3'),
    ('v 0 0 0\nvt 0 0\nf 1/1 0/1 1/1\n', 'line 3'),
    ('v 0 0 0\nvt 0\n', 'line 2'),
    ('v 0 0 0\nvt a b\n', 'line 2'),
    ('', 'needs triangles'),
    ('\x00\xff garbage\n', 'needs triangles'),
    ('v 0 0 0\nvt 0 0\nf 1/1 1/1 1/1\n', 'not those of this head'),
    ('v 0 0 0\nv 0 0 0\nv 0 0 0\nvt nan 0\nf 1/1 2/1 3/1\n', 'finite'),
  ],
)
def test_unusable_obj_files_are_refused_by_line(tmp_path, text, message):
  path = tmp_path / 'template.obj'
  path.write_text(text, encoding='latin1')
  with pytest.raises(ValueError, match=message) as caught:
    read_uv(path, np.array([[0, 1, 2]], np.int32))
  assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
  ('arrays', 'message'),
  [
    ({'vt': np.zeros((4, 2))}, "'vt' and 'ft'"),
    ({'vt': np.zeros((4, 3)), 'ft': np.zeros((58, 3), int)}, "'vt' must be finite"),
    ({'vt': np.full((4, 2), np.nan), 'ft': np.zeros((58, 3), int)}, "'vt' must be finite"),
    ({'vt': np.zeros((4, 2)), 'ft': np.zeros((58, 3))}, "'ft' must be indices"),
    ({'vt': np.zeros((4, 2)), 'ft': np.zeros((59, 3), int)}, "'ft' must be indices"),
    ({'vt': np.zeros((4, 2)), 'ft': np.full((58, 3), 4)}, 'not in'),
    ({'vt': np.zeros((4, 2)), 'ft': np.full((58, 3), -1)}, 'not in'),
  ],
)
def test_unusable_arrays_are_refused(head, tmp_path, arrays, message):
  np.savez(tmp_path / 'uv.npz', **arrays)
  with pytest.raises(ValueError, match=message):
    read_uv(tmp_path / 'uv.npz', head.faces)
