"""Configurations: strict, typed, and saying where a mistake is."""

import dataclasses
from typing import Literal

import ml_collections
import pytest
from sa0_jax.configs import ablations, base

from sa0_jax.capture.hygiene import HygieneConfig
from sa0_jax.config import (
  config_names,
  from_config_dict,
  load_config,
  to_config_dict,
  with_overrides,
)
from sa0_jax.refine.config import AntiSpike, LearningRates, RefineConfig
from sa0_jax.settings import parse_text, text_of
from sa0_jax.train.config import TrainConfig


@dataclasses.dataclass(frozen=True)
class _Inner:
  rate: float = 0.5
  layers: tuple[int, ...] = (1, 2)


@dataclasses.dataclass(frozen=True)
class _Outer:
  steps: int = 3
  name: str = 'x'
  fast: bool = False
  limit: float | None = None
  color: tuple[float, float, float] = (0.0, 0.5, 1.0)
  way: Literal['up', 'down', 2] = 'up'
  inner: _Inner = _Inner()


def test_base_and_library_have_the_same_defaults():
  """A number changed in one place and not in the other would make `sa0` and Python differ."""
  settings = from_config_dict(RefineConfig, base.get_config().refine)
  assert settings == RefineConfig()
  assert to_config_dict(RefineConfig()).to_dict() == base.get_config().refine.to_dict()
  assert from_config_dict(HygieneConfig, load_config('clean')) == HygieneConfig()
  assert from_config_dict(TrainConfig, load_config('paper')) == TrainConfig()
  assert to_config_dict(TrainConfig()).to_dict() == load_config('paper').to_dict()


def differences(one: dict, two: dict, prefix: str = '') -> set[str]:
  """Paths of values that differ."""
  found = set()
  for name in one:
    if isinstance(one[name], dict):
      found |= differences(one[name], two[name], f'{prefix}{name}.')
    elif one[name] != two[name]:
      found.add(prefix + name)
  return found


@pytest.mark.parametrize('base', ['paper', 'tiny'])
def test_a_row_of_the_ablations_is_its_base_and_one_difference(base):
  whole = load_config(base).to_dict()
  found = {}
  for row in ablations.ROWS:
    if row.startswith('backbone') and base != 'paper':
      continue
    config = load_config(f'ablations:{row},{base}')
    from_config_dict(TrainConfig, config)
    found[row] = differences(whole, config.to_dict())
  assert found['C'] == set()
  assert found['A'] == {'phase2.steps'}
  assert found['B'] == {'phase2.anchor', 'phase2.data.sampler.cross_time'}
  assert found['E'] == {'generator.use_residual'}
  weights = 'objective.weights.jacobian'
  assert found['F'] == {f'phase1.{weights}', f'phase2.{weights}'}
  assert found['cosine'] == {'phase1.optimizer.schedule'}
  if base == 'paper':  # the method's own values are rows, too
    same = ('backbone_b', 'linear', 'rate_2.5e-4', 'layer_decay_0.65', 'jacobian_0.1')
    assert all(found[row] == set() for row in (*same, 'anchor_1e-3_25'))
    assert 'generator.encoder.width' in found['backbone_l']


@pytest.mark.parametrize(
  ('name', 'message'),
  [('D', 'the row is one of A, B, C'), ('A,demo', 'paper, small, tiny or debug can be varied')],
)
def test_rows_and_bases_have_names(name, message):
  with pytest.raises(ValueError, match=message):
    load_config(f'ablations:{name}')
  with pytest.raises(ValueError, match='only paper has other backbones'):
    load_config('ablations:backbone_l,tiny')


@pytest.mark.parametrize('settings', [RefineConfig(), _Outer(limit=2.5, inner=_Inner(layers=()))])
def test_round_trip(settings):
  assert from_config_dict(type(settings), to_config_dict(settings)) == settings


def test_absent_fields_keep_their_defaults():
  config = ml_collections.ConfigDict({'inner': {'rate': 2}})
  assert from_config_dict(_Outer, config) == _Outer(inner=_Inner(rate=2.0))


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ({'stepz': 3}, r"unknown name 'stepz'; did you mean 'steps'\?"),
    ({'inner': {'rat': 1.0}}, r"unknown name 'inner\.rat'; did you mean 'inner\.rate'\?"),
    ({'zzzzzz': 3}, 'known: steps, name, fast'),
    ({'steps': 3.0}, r'steps = 3\.0: expected int'),
    ({'steps': True}, 'steps = True: expected int'),
    ({'way': 'left'}, "way = 'left': expected one of up, down, 2"),
    ({'way': 2.0}, r'way = 2\.0: expected one of'),
    ({'steps': None}, 'steps = None: expected int'),
    ({'fast': 1}, 'fast = 1: expected bool'),
    ({'name': 3}, 'name = 3: expected str'),
    ({'limit': 'a'}, "limit = 'a': expected float or none"),
    ({'limit': float('nan')}, 'limit = nan: expected a finite number'),
    ({'color': (1.0, 1.0)}, r'color = \(1\.0, 1\.0\): expected tuple\[float, float, float\]'),
    ({'color': (1.0, 1.0, 'a')}, r"color\[2\] = 'a': expected float"),
    ({'color': 1.0}, r'color = 1\.0: expected tuple'),
    ({'inner': 3}, 'inner = 3: expected a group of rate, layers'),
  ],
)
def test_mistakes_are_named(values, message):
  with pytest.raises(ValueError, match=message):
    from_config_dict(_Outer, ml_collections.ConfigDict(values))


def test_the_dataclass_has_the_last_word():
  with pytest.raises(ValueError, match='held_out is a fraction'):
    from_config_dict(RefineConfig, ml_collections.ConfigDict({'held_out': 1.5}))


def test_overrides_are_read_by_type():
  config = with_overrides(
    _Outer,
    to_config_dict(_Outer()),
    {
      'steps': '10_000',
      'name': '7',
      'fast': 'True',
      'limit': '2',
      'color': '(1, 0,0.25)',
      'way': '2',
      'inner.rate': '1e-3',
      'inner.layers': '4,5,6',
    },
  )
  expected = _Outer(10_000, '7', True, 2.0, (1.0, 0.0, 0.25), 2, _Inner(1e-3, (4, 5, 6)))
  assert from_config_dict(_Outer, config) == expected


@pytest.mark.parametrize(
  ('hint', 'value'),
  [
    (bool, True),
    (int, -3),
    (float, 2.5e-4),
    (str, 'data/x'),
    (tuple[float, float], (0.5, 1.0)),
    (tuple[str, ...], ()),
    (int | None, None),
    (Literal['mean', 'attention'], 'mean'),
  ],
)
def test_a_value_is_read_as_it_is_written(hint, value):
  assert parse_text(hint, text_of(value), 'x') == value


def test_overrides_can_set_and_clear_optional_values():
  config = with_overrides(_Outer, to_config_dict(_Outer(limit=1.0)), {'limit': 'none'})
  assert from_config_dict(_Outer, config).limit is None


def test_overrides_leave_the_given_configuration_alone():
  config = to_config_dict(_Outer())
  with_overrides(_Outer, config, {'inner.rate': '9', 'steps': '9'})
  assert from_config_dict(_Outer, config) == _Outer()


@pytest.mark.parametrize(
  ('path', 'text', 'message'),
  [
    ('step', '3', "unknown name 'step'; did you mean 'steps'"),
    ('iner.rate', '3', "unknown name 'iner'; did you mean 'inner'"),
    ('inner.rates', '3', r"unknown name 'inner\.rates'; did you mean 'inner\.rate'"),
    ('inner', '3', r"'inner' is a group: set one of inner\.rate, inner\.layers"),
    ('steps.more', '3', "'steps' is a single value"),
    ('steps', '3.5', r"steps = '3\.5': expected int"),
    ('fast', 'yes', "fast = 'yes': expected true or false"),
    ('limit', 'inf', 'limit = inf: expected a finite number'),
    ('color', '1,1', "color = '1,1': expected tuple"),
    ('inner.layers', '1,a', "'a': expected int"),
  ],
)
def test_wrong_overrides_are_named(path, text, message):
  with pytest.raises(ValueError, match=message):
    with_overrides(_Outer, to_config_dict(_Outer()), {path: text})


def test_every_shipped_configuration_loads():
  assert {'base', 'refine'} <= set(config_names())
  for name in config_names():
    assert isinstance(load_config(name), ml_collections.ConfigDict)


def test_ablations_switch_off_what_they_name():
  def spike(name: str) -> AntiSpike:
    return from_config_dict(RefineConfig, load_config(name)).anti_spike

  full = AntiSpike()
  assert spike('refine') == full
  assert spike('refine:no_freeze') == dataclasses.replace(full, freeze=False)
  assert spike('refine:no_clamp') == dataclasses.replace(full, clamp=False)
  assert spike('refine:no_penalty') == dataclasses.replace(full, penalty=False)
  with pytest.raises(ValueError, match='no_freeze, no_clamp'):
    load_config('refine:no_clamps')


def test_a_file_of_the_users_own(tmp_path):
  file = tmp_path / 'mine.py'
  file.write_text(
    'from sa0_jax.configs import refine\n'
    "def get_config(steps='7'):\n"
    '  config = refine.get_config()\n'
    '  config.steps = int(steps)\n'
    '  return config\n'
  )
  assert load_config(str(file)).steps == 7
  config = load_config(f'{file}:9')
  assert from_config_dict(RefineConfig, config) == RefineConfig(steps=9, rates=LearningRates())


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('x = 1', 'needs a function get_config'),
    ('def get_config():\n  return 3', 'must return a ConfigDict'),
    ('import not_there_at_all', 'ModuleNotFoundError'),
    ('def get_config(:', 'SyntaxError'),
  ],
)
def test_files_that_are_no_configuration(tmp_path, text, message):
  (tmp_path / 'bad.py').write_text(text)
  with pytest.raises(ValueError, match=message):
    load_config(str(tmp_path / 'bad.py'))


def test_missing_names_and_files():
  with pytest.raises(FileNotFoundError, match="no configuration 'refin'; did you mean 'refine'"):
    load_config('refin')
  with pytest.raises(FileNotFoundError, match='no such configuration file'):
    load_config('nowhere.py')
  with pytest.raises(ValueError, match='does not take this'):
    load_config('base:argument')
