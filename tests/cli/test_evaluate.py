"""`sa0 evaluate`."""

import json

import pytest

from sa0_jax.evaluate.published import PUBLISHED
from tests.evaluate.onnx_models import ARCFACE, DEEP3D, matrix
from tests.evaluate.onnx_models import network as small_network
from tests.evaluate.onnx_models import write as write_network
from tests.evaluate.scenes import save_run, scene
from tests.refine.scenes import SIZE

pytest.importorskip('numba')


def words(model, *more):
  folder = scene()
  return ('evaluate', '--captures', folder / 'captures', *model, '--resolution', SIZE, *more)


def test_avatars_of_people(sa0, tmp_path):
  model = ('--avatar', scene() / 'avatars')
  plan = ('--protocol', 'per-subject', '--test-frames', 2, '--out', tmp_path / 'out')
  command = words(model, *face_networks(tmp_path), *plan)
  code, output, errors = sa0(*command, '--json', '--beside', 'splattingavatar')
  assert code == 0, errors
  report = json.loads(output)
  assert (report['num_clips'], report['num_frames']) == (3, 6)
  assert 5 < report['mean_of_clips']['psnr'] < 40
  assert {'csim', 'aed', 'apd'} <= report['mean_of_clips'].keys()
  assert 'akd' not in report['mean_of_clips']
  written = tmp_path / 'out' / 'report.json'
  assert json.loads(written.read_text()) == report
  page = (tmp_path / 'out' / 'report.md').read_text()
  assert 'GeoAvatar' in page
  assert '(ArcFace ' in page
  before = written.read_bytes(), written.stat().st_mtime_ns
  clips = {path: path.stat().st_mtime_ns for path in (tmp_path / 'out' / 'clips').iterdir()}
  code, output, _ = sa0(*command)  # everything is there: only the tables are written again
  assert code == 0
  assert f'wrote {written}' in output
  assert written.read_bytes() == before[0]
  assert written.stat().st_mtime_ns > before[1]
  assert {path: path.stat().st_mtime_ns for path in clips} == clips


def face_networks(folder):
  """Options with networks of no use but for tests."""
  given = []
  for option, (size, count) in (('--arcface', ARCFACE), ('--deep3d', DEEP3D)):
    file = write_network(folder / f'{option[2:]}.onnx', small_network(size, matrix(count)))
    given += [option, file]
  return given


def test_a_training_folder_and_a_list(sa0, tmp_path):
  (tmp_path / 'list.txt').write_text('bert\n')
  model = ('--workdir', scene())
  command = words(model, '--split', tmp_path / 'list.txt', '--out', tmp_path / 'o', '--json')
  code, output, errors = sa0(*command)
  assert code == 0, errors
  report = json.loads(output)
  [clip] = report['clips']
  assert (clip['clip'], clip['frames'], clip['sources']) == ('bert', 4, [0])
  assert 'checkpoint' not in report
  run = save_run(tmp_path / 'run', {10: 21.0, 20: 20.5})
  command = words(('--workdir', run), '--split', tmp_path / 'list.txt', '--out', tmp_path / 'c')
  code, output, errors = sa0(*command, '--checkpoint', 'best', '--json')
  assert code == 0, errors
  found = json.loads(output)
  assert found.pop('checkpoint') == {'step': 10, 'phase': 1, 'score': 21.0}
  assert found == report  # the same weights
  page = (tmp_path / 'c' / 'report.md').read_text()
  assert 'Checkpoint 10, of phase 1, 21.00 dB on held-out people.' in page
  code, output, errors = sa0(*command, '--checkpoint', 'latest', '--json')
  assert code == 0, errors
  later = json.loads(output)
  assert later['checkpoint']['step'] == 20
  assert later['mean_of_frames']['psnr'] != found['mean_of_frames']['psnr']  # not what was kept


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
  run = ('--workdir', scene(), '--checkpoint')
  assert 'no checkpoints there' in fails(*words((*run, 'latest'), *out))
  (tmp_path / 'checkpoints' / '20').mkdir(parents=True)
  assert 'no checkpoint 7; there are 20' in fails(
    *words(('--workdir', tmp_path, '--checkpoint', 7), *out)
  )
  assert '--checkpoint picks one of a training folder' in fails(
    *words(generator, '--checkpoint', 7, *out)
  )
  assert 'is of protocol cross' in fails(*words(generator, '--beside', 'vfhq-cross', *out))
  assert 'the last 350 of 5 frames' in fails(
    *words(('--avatar', scene() / 'avatars'), '--protocol', 'per-subject', *out)
  )


def test_face_networks_that_cannot_be_are_one_line(fails, tmp_path):
  model = ('--avatar', scene() / 'avatars')
  out = ('--out', tmp_path / 'o')
  given = face_networks(tmp_path)
  assert 'no such network' in fails(*words(model, '--arcface', tmp_path / 'x.onnx', *out))
  assert 'Deep3DFaceRecon has one input' in fails(*words(model, '--deep3d', given[1], *out))
  assert 'not an ONNX file' in fails(
    *words(model, '--arcface', write(tmp_path / 'y.onnx', 'hello'), *out)
  )
  (tmp_path / 'c' / 'rendered').mkdir(parents=True)
  write(tmp_path / 'c' / 'rendered' / 'cora.csv', 'frame,embedding_0\n1,2\n')
  assert "cora.csv: holds 'embedding', which gives csim" in fails(
    *words(model, *given, '--coefficients', tmp_path / 'c', *out)
  )
  assert not (tmp_path / 'o' / 'clips').exists()  # told before anything is rendered


def write(path, text):
  path.write_text(text)
  return path


def test_two_models_are_wrong_usage(sa0, tmp_path):
  both = ('--generator', tmp_path / 'g.npz', '--avatar', tmp_path / 'a.sa0')
  code, _, errors = sa0(*words(both, '--out', tmp_path))
  assert code == 2
  assert 'not allowed with' in errors
  code, _, errors = sa0(*words(both[:2], '--checkpoint', 'newest', '--out', tmp_path))
  assert code == 2
  assert "'newest' is no checkpoint: a step, latest or best" in errors


def test_the_page_names_every_published_table():
  from tests.structure.sources import read

  page = read('docs/evaluation.md')
  assert all(f'`{name}`' in page for name in PUBLISHED)
