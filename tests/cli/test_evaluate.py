"""`sa0 evaluate`."""

import json

import pytest

from sa0_jax.evaluate.published import PUBLISHED
from tests.evaluate.scenes import scene
from tests.refine.scenes import SIZE

pytest.importorskip('numba')


def words(model, *more):
  folder = scene()
  return ('evaluate', '--captures', folder / 'captures', *model, '--resolution', SIZE, *more)


def test_avatars_of_people(sa0, tmp_path):
  model = ('--avatar', scene() / 'avatars')
  command = words(model, '--protocol', 'per-subject', '--test-frames', 2, '--out', tmp_path)
  code, output, errors = sa0(*command, '--json', '--beside', 'splattingavatar')
  assert code == 0, errors
  report = json.loads(output)
  assert (report['num_clips'], report['num_frames']) == (3, 6)
  assert 5 < report['mean_of_clips']['psnr'] < 40
  assert json.loads((tmp_path / 'report.json').read_text()) == report
  page = (tmp_path / 'report.md').read_text()
  assert 'GeoAvatar' in page
  first = {path: path.read_bytes() for path in sorted(tmp_path.rglob('*')) if path.is_file()}
  code, output, _ = sa0(*command)  # everything is there: only the tables are written again
  assert code == 0
  assert f'wrote {tmp_path / "report.json"}' in output
  assert (tmp_path / 'report.json').read_bytes() == first[tmp_path / 'report.json']


def test_a_training_folder_and_a_list(sa0, tmp_path):
  (tmp_path / 'list.txt').write_text('bert\n')
  model = ('--workdir', scene())
  command = words(model, '--split', tmp_path / 'list.txt', '--out', tmp_path / 'o', '--json')
  code, output, errors = sa0(*command)
  assert code == 0, errors
  [clip] = json.loads(output)['clips']
  assert (clip['clip'], clip['frames'], clip['sources']) == ('bert', 4, [0])


def test_what_cannot_be_done_is_one_line(fails, tmp_path):
  generator = ('--generator', scene() / 'generator.npz')
  out = ('--out', tmp_path / 'o')
  assert 'no such generator; training writes it' in fails(*words(('--workdir', tmp_path), *out))
  assert 'no such list of clips' in fails(*words(generator, '--split', tmp_path / 'x', *out))
  assert 'nobody: no capture.json here' in fails(
    *words(generator, '--split', write(tmp_path / 'l.txt', 'nobody'), *out)
  )
  assert 'no such avatar' in fails(*words(('--avatar', tmp_path / 'x.sa0'), *out))
  assert "'alex' or 'vgg'" in fails(*words(generator, '--lpips', 'squeeze', 'a', 'b', *out))
  assert 'is of protocol cross' in fails(*words(generator, '--beside', 'vfhq-cross', *out))
  assert 'the last 350 of 5 frames' in fails(
    *words(('--avatar', scene() / 'avatars'), '--protocol', 'per-subject', *out)
  )


def write(path, text):
  path.write_text(text)
  return path


def test_two_models_are_wrong_usage(sa0, tmp_path):
  both = ('--generator', tmp_path / 'g.npz', '--avatar', tmp_path / 'a.sa0')
  code, _, errors = sa0(*words(both, '--out', tmp_path))
  assert code == 2
  assert 'not allowed with' in errors


def test_the_page_names_every_published_table():
  from tests.structure.sources import read

  page = read('docs/evaluation.md')
  assert all(f'`{name}`' in page for name in PUBLISHED)
