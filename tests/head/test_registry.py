"""Heads by name: installing, listing, loading, and the command line around them."""

import argparse
import json
import pickle

import numpy as np
import pytest

from sa0_jax.cli import head as head_command
from sa0_jax.head import files, registry
from sa0_jax.head.uv_layout import UVLayout


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
  """Every test has its own data folder."""
  monkeypatch.setenv('SA0_HOME', str(tmp_path / 'home'))
  return tmp_path / 'home'


@pytest.fixture
def uv_file(flame, tmp_path):
  np.savez(tmp_path / 'flame_uv.npz', vt=flame.vt, ft=flame.ft)
  return tmp_path / 'flame_uv.npz'


@pytest.fixture
def landmark_files(head, tmp_path):
  weights = np.full((68, 3), 1 / 3)
  static = {'lmk_face_idx': np.arange(51), 'lmk_b_coords': weights[:51]}
  (tmp_path / 'flame_static_embedding.pkl').write_bytes(pickle.dumps(static, 2))
  np.savez(
    tmp_path / 'mediapipe_landmark_embedding.npz',
    lmk_face_idx=np.arange(40),
    lmk_b_coords=weights[:40],
    landmark_indices=np.arange(40),
  )
  return tmp_path / 'flame_static_embedding.pkl', tmp_path / 'mediapipe_landmark_embedding.npz'


def test_a_flame_model_is_installed_whole(flame, flame_pickle, uv_file, landmark_files, home):
  installed = registry.install_head(flame_pickle, uv=uv_file, landmarks=landmark_files)
  assert installed == registry.InstalledHead(
    'flame2020', home / 'heads' / 'flame2020.npz', 5143, 10144, True, ('68', 'mediapipe')
  )
  loaded = registry.load_head('flame2020')
  assert loaded.name == 'flame2020'
  np.testing.assert_array_equal(loaded.ft[:9976], flame.ft)
  np.testing.assert_array_equal(loaded.ft[9976:], -1)
  np.testing.assert_array_equal(loaded.require_landmarks('68').index, np.arange(17, 68))
  assert UVLayout.from_head(loaded, 64).n > 0
  assert [head.name for head in registry.list_heads()] == ['procedural', 'flame2020']


def test_bare_models_load_and_say_what_they_lack(flame_pickle):
  installed = registry.install_head(flame_pickle, name='mine')
  assert not installed.has_uv
  assert installed.landmarks == ()
  loaded = registry.load_head('mine')
  with pytest.raises(ValueError, match='--uv'):
    UVLayout.from_head(loaded, 64)
  with pytest.raises(ValueError, match='--landmarks'):
    loaded.require_landmarks('mediapipe')


def test_head_files_are_loaded_by_path_and_installed_by_name(head, tmp_path):
  path = tmp_path / 'file.npz'
  files.save_head(head, path)
  assert registry.load_head(path).fingerprint == head.fingerprint
  assert registry.load_head(str(path)).name == 'synthetic'
  assert registry.install_head(path).name == 'synthetic'
  assert registry.install_head(path, name='other').name == 'other'
  assert registry.load_head('other').name == 'other'
  names = [head.name for head in registry.list_heads()]
  assert names == ['procedural', 'other', 'synthetic']


def test_unknown_heads_say_what_there_is_and_what_to_do(head, tmp_path):
  files.save_head(head, tmp_path / 'file.npz')
  registry.install_head(tmp_path / 'file.npz', name='mine')
  with pytest.raises(FileNotFoundError, match=r'procedural, mine.*sa0 head install'):
    registry.load_head('flame2023')
  with pytest.raises(FileNotFoundError):
    registry.load_head('../heads/mine')
  with pytest.raises(ValueError, match='sa0 head install'):
    registry.load_head('generic_model.pkl')


def test_editions_that_cannot_be_told_must_be_named(flame_pickle, tmp_path):
  bare = tmp_path / 'generic_model.pkl'
  bare.symlink_to(flame_pickle)
  with pytest.raises(ValueError, match='add --name'):
    registry.install_head(bare)
  assert registry.install_head(bare, name='flame2023').name == 'flame2023'


@pytest.mark.parametrize('name', ['procedural', '', '../x', 'Ä', 'a/b', 'x' * 65, '.hidden', 'A'])
def test_names_that_are_no_file_names_are_refused(head, tmp_path, name):
  files.save_head(head, tmp_path / 'file.npz')
  with pytest.raises(ValueError, match='cannot be used'):
    registry.install_head(tmp_path / 'file.npz', name=name)


def test_a_failed_installation_leaves_the_old_head(head, tmp_path, home, landmark_files):
  files.save_head(head, tmp_path / 'file.npz')
  registry.install_head(tmp_path / 'file.npz', name='mine')
  before = (home / 'heads' / 'mine.npz').read_bytes()
  (tmp_path / 'bad.npz').write_bytes(b'no zip')
  for options in (
    {'uv': tmp_path / 'bad.npz'},
    {'landmarks': [tmp_path / 'bad.npz']},
    {'landmarks': [landmark_files[0], landmark_files[0]]},
  ):
    with pytest.raises(ValueError, match=r'bad\.npz|already in'):
      registry.install_head(tmp_path / 'file.npz', name='mine', **options)
  with pytest.raises(FileNotFoundError):
    registry.install_head(tmp_path / 'file.npz', name='mine', uv=tmp_path / 'none.npz')
  assert (home / 'heads' / 'mine.npz').read_bytes() == before
  assert [path.name for path in (home / 'heads').iterdir()] == ['mine.npz']


def test_listing_passes_over_what_is_no_head(head, home):
  (home / 'heads').mkdir(parents=True)
  (home / 'heads' / 'broken.npz').write_bytes(b'no zip')
  np.savez(home / 'heads' / 'other.npz', a=np.zeros(3))
  assert [head.name for head in registry.list_heads()] == ['procedural']


def test_the_data_folder_follows_the_environment(monkeypatch, tmp_path):
  assert registry.data_home() == tmp_path / 'home'
  monkeypatch.delenv('SA0_HOME')
  monkeypatch.setattr(registry.sys, 'platform', 'linux')
  monkeypatch.setenv('XDG_DATA_HOME', '/data')
  assert str(registry.data_home()) == '/data/sa0'
  monkeypatch.delenv('XDG_DATA_HOME')
  assert registry.data_home().parts[-3:] == ('.local', 'share', 'sa0')
  monkeypatch.setattr(registry.sys, 'platform', 'darwin')
  assert registry.data_home().parts[-3:] == ('Library', 'Application Support', 'sa0')


def _run(*words):
  parser = argparse.ArgumentParser()
  head_command.add_parser(parser.add_subparsers())
  args = parser.parse_args(['head', *map(str, words)])
  return args.run(args)


def test_command_line(flame_pickle, uv_file, landmark_files, capsys):
  options = [word for file in landmark_files for word in ('--landmarks', file)]
  assert _run('install', flame_pickle, '--uv', uv_file, *options) == 0
  assert '5143 vertices' in capsys.readouterr().out
  assert _run('list') == 0
  assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
    'procedural',
    'flame2020',
  ]
  assert _run('list', '--json') == 0
  rows = json.loads(capsys.readouterr().out)
  assert rows[1]['landmarks'] == ['68', 'mediapipe']
  assert _run('install', flame_pickle, '--name', 'bare') == 0
  assert '--uv' in capsys.readouterr().out
  assert _run('install', flame_pickle, '--name', 'bare', '--json') == 0
  assert json.loads(capsys.readouterr().out)['has_uv'] is False
  with pytest.raises(FileNotFoundError):
    _run('install', 'none.pkl', '--name', 'x')
