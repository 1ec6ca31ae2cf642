"""The commands and the programs of docs/data.md, as written."""

import pytest

from sa0_jax.cli.main import main
from tests.data.scenes import save_captures
from tests.test_pages import blocks, commands


@pytest.mark.filterwarnings('ignore::DeprecationWarning')
def test_the_page_runs_from_captures_to_batches(tmp_path, monkeypatch):
  pytest.importorskip('numba')  # the pages' own module needs it
  monkeypatch.chdir(tmp_path)
  save_captures(tmp_path / 'captures', 4, instants=5)
  save_captures(tmp_path / 'studio', 3, instants=2, views=3)
  lines = commands('docs/data.md')
  assert [words[0] for words in lines] == ['prepare', 'prepare', 'bench']
  for words in lines:
    assert main(words) == 0
  names: dict = {}
  for code in blocks('docs/data.md', 'python'):
    exec(compile(code, 'docs/data.md', 'exec'), names)
  assert names['frame']['image'].shape == (32, 32, 3)
  assert names['frames'].images.shape == (2, 5, 32, 32, 3)
  assert names['host_bytes'](names['data'], names['run']) == 4 * 4 * 5 * 32 * 32 * 4
