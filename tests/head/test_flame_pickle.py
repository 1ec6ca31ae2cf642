"""FLAME pickles: export and import agree, and foreign or broken models are refused by name."""

import dataclasses
import pickle
import sys
import types

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse

from sa0_jax.head import lbs
from sa0_jax.head.flame_pickle import deduce_edition, export_flame_pickle, load_flame_pickle
from sa0_jax.head.model import HeadCodes

_BASES = ('v_template', 'faces', 'shapedirs', 'exprdirs', 'posedirs', 'joint_regressor', 'weights')


def test_what_is_exported_comes_back(make_head, tmp_path):
  head = make_head(50, 300, 100)
  export_flame_pickle(head, tmp_path / 'model.pkl')
  loaded = load_flame_pickle(tmp_path / 'model.pkl', 'mine')
  assert loaded.name == 'mine'
  for name in _BASES:
    np.testing.assert_array_equal(getattr(loaded, name), getattr(head, name))
  assert loaded.vt.shape == (0, 2)
  assert (loaded.ft == -1).all()


def test_smaller_bases_are_padded_where_tools_expect_expressions(head, tmp_path):
  export_flame_pickle(head, tmp_path / 'model.pkl')
  loaded = load_flame_pickle(tmp_path / 'model.pkl', 'padded')
  assert (loaded.num_shape, loaded.num_expression) == (300, 100)
  codes = HeadCodes.neutral(loaded)
  codes = dataclasses.replace(
    codes, shape=codes.shape.at[6].set(2.0), expression=codes.expression.at[3].set(-1.0)
  )
  own = HeadCodes.neutral(head)
  own = dataclasses.replace(
    own, shape=own.shape.at[6].set(2.0), expression=own.expression.at[3].set(-1.0)
  )
  np.testing.assert_allclose(lbs.pose_head(loaded, codes), lbs.pose_head(head, own), atol=1e-7)


def test_export_is_a_pickle_any_numpy_reads(head, tmp_path):
  export_flame_pickle(head, tmp_path / 'model.pkl')
  data = (tmp_path / 'model.pkl').read_bytes()
  assert b'numpy._core' not in data  # which NumPy 1 does not have
  model = pickle.loads(data, encoding='latin1')
  assert all(type(value) in (np.ndarray, str) for value in model.values())
  np.testing.assert_array_equal(model['v_template'], head.v_template)
  np.testing.assert_array_equal(model['kintree_table'][0], [2**32 - 1, 0, 1, 1, 1])
  np.testing.assert_allclose(model['J'], lbs.pose_joints(head, HeadCodes.neutral(head)), atol=1e-7)


def test_heads_too_large_for_the_format_are_refused(make_head, tmp_path):
  with pytest.raises(ValueError, match='301 \\+ 2 directions'):
    export_flame_pickle(make_head(10, 301, 2), tmp_path / 'model.pkl')
  assert not list(tmp_path.iterdir())


def _model(head):
  zeros = np.zeros((len(head.v_template), 3, 400))
  zeros[..., : head.num_shape] = head.shapedirs
  return {
    'v_template': head.v_template.astype(np.float64),
    'f': head.faces.astype(np.uint32),
    'shapedirs': zeros,
    'posedirs': head.posedirs.astype(np.float64),
    'J_regressor': head.joint_regressor.astype(np.float64),
    'weights': head.weights.astype(np.float64),
    'kintree_table': np.array([[2**32 - 1, 0, 1, 1, 1], [0, 1, 2, 3, 4]], np.int64),
  }


def test_reads_files_as_published_with_chumpy_and_scipy_objects(head, tmp_path, monkeypatch):
  module = types.ModuleType('chumpy.ch')

  class Ch:
    pass

  Ch.__module__, Ch.__qualname__, module.Ch = 'chumpy.ch', 'Ch', Ch
  monkeypatch.setitem(sys.modules, 'chumpy', types.ModuleType('chumpy'))
  monkeypatch.setitem(sys.modules, 'chumpy.ch', module)
  model = _model(head)
  shapedirs = Ch()
  shapedirs.__dict__ = {'x': model['shapedirs'], '_dirty_vars': {'x'}, '_depends_on_deps': {}}
  model |= {
    'shapedirs': shapedirs,
    'J_regressor': scipy.sparse.csc_matrix(model['J_regressor']),
    # The flattened transpose other tools write.
    'posedirs': model['posedirs'].reshape(-1, 36).T,
    'bs_style': 'lbs',
  }
  path = tmp_path / 'model.pkl'
  path.write_bytes(pickle.dumps(model, 2))
  monkeypatch.delitem(sys.modules, 'chumpy.ch')
  monkeypatch.delitem(sys.modules, 'chumpy')
  loaded = load_flame_pickle(path, 'published')
  np.testing.assert_array_equal(loaded.joint_regressor, head.joint_regressor)
  np.testing.assert_array_equal(loaded.shapedirs[..., :7], head.shapedirs)
  np.testing.assert_array_equal(loaded.posedirs, head.posedirs)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'v_template': None}, "'v_template' is missing"),
    ({'v_template': np.zeros((60, 2))}, "'v_template' has the shape"),
    ({'v_template': np.full((60, 3), 1e300)}, "'v_template' has NaN or infinite"),
    ({'v_template': np.array(1.0)}, "'v_template' has the shape"),
    ({'v_template': 'word'}, "'v_template' is not an array"),
    ({'shapedirs': np.zeros((60, 3, 10))}, "'shapedirs' has the shape .*300 identity and 100"),
    ({'posedirs': np.zeros((60, 3, 9))}, "'posedirs' has the shape"),
    ({'f': np.full((58, 3), 60)}, "'f' is no table"),
    ({'f': np.zeros((58, 3))}, "'f' holds float64"),
    ({'f': np.zeros((58, 4), np.int64)}, "'faces' has the shape"),
    ({'weights': np.zeros((60, 24))}, "'weights' has the shape"),
    ({'weights': np.full((60, 5), np.nan)}, "'weights' has NaN"),
    ({'J_regressor': np.zeros((24, 60))}, "'joint_regressor' has the shape"),
    ({'kintree_table': np.zeros((2, 5), np.int64)}, "'kintree_table' is not FLAME's"),
    ({'kintree_table': np.zeros((2, 24), np.int64)}, "'kintree_table' is not FLAME's"),
  ],
)
def test_other_models_are_refused_by_array(head, tmp_path, changes, message):
  model = {key: value for key, value in (_model(head) | changes).items() if value is not None}
  path = tmp_path / 'model.pkl'
  path.write_bytes(pickle.dumps(model, 2))
  with pytest.raises(ValueError, match=message) as caught:
    load_flame_pickle(path, 'x')
  assert str(caught.value).startswith(f'{path}: ')


def test_a_list_is_no_model_and_a_missing_file_is_not_found(tmp_path):
  path = tmp_path / 'model.pkl'
  path.write_bytes(pickle.dumps([1, 2]))
  with pytest.raises(ValueError, match='not a dictionary'):
    load_flame_pickle(path, 'x')
  with pytest.raises(FileNotFoundError):
    load_flame_pickle(tmp_path / 'none.pkl', 'x')


@pytest.mark.parametrize(
  ('path', 'edition'),
  [
    ('FLAME2020/generic_model.pkl', 'flame2020'),
    ('flame2020.pkl', 'flame2020'),
    ('FLAME2023/flame2023.pkl', 'flame2023'),
    ('FLAME2023Open/flame2023_Open.pkl', 'flame2023_open'),
    ('flame2023_Open.pkl', 'flame2023_open'),
    ('models/generic_model.pkl', None),
    ('models/FLAME_NEUTRAL.pkl', None),
    ('FLAME2023/flame2023_no_jaw.pkl', None),
  ],
)
def test_editions_are_told_by_name_or_not_at_all(path, edition):
  assert deduce_edition(path) == edition


def test_flame_as_published_gets_teeth_and_eyes(flame, flame_pickle):
  loaded = load_flame_pickle(flame_pickle, 'flame2020')
  assert loaded.v_template.shape == (5143, 3)
  assert loaded.faces.shape == loaded.ft.shape == (10144, 3)
  np.testing.assert_array_equal(loaded.v_template[:5023], flame.v_template)
  np.testing.assert_array_equal(loaded.faces[:9976], flame.faces)
  names = np.array(loaded.component_names)[loaded.components]
  assert {name: int((names == name).sum()) for name in loaded.component_names} == {
    'skin': 3931,
    'left_eye': 546,
    'right_eye': 546,
    'teeth_upper': 60,
    'teeth_lower': 60,
  }
  vertices = lbs.pose_head(loaded, HeadCodes.neutral(loaded))
  assert jnp.isfinite(vertices).all()


def test_a_patched_model_is_taken_as_it_is(flame_pickle, tmp_path):
  patched = load_flame_pickle(flame_pickle, 'flame2020')
  export_flame_pickle(patched, tmp_path / 'patched.pkl')
  again = load_flame_pickle(tmp_path / 'patched.pkl', 'flame2020')
  for name in (*_BASES, 'components'):
    np.testing.assert_array_equal(getattr(again, name), getattr(patched, name))
  assert again.component_names == patched.component_names
