"""What a run writes is read back: JSON, pictures, TensorBoard's events."""

import errno
import io
import json
import struct
import sys

import jax
import numpy as np
import pytest

from sa0_jax.capture.image_files import read_color
from sa0_jax.train.config import WatchConfig
from sa0_jax.train.writers import METRICS, NullWriter, RunWriter, parameter_overview


def lines(folder):
  return [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]


def steps(folder):
  return [line['step'] for line in lines(folder)]


def events(folder):
  """TFRecord framing: length, its checksum, data, its checksum."""
  from tensorboardX.proto.event_pb2 import Event

  found = []
  for path in sorted((folder / 'tensorboard').iterdir()):
    data, at = path.read_bytes(), 0
    while at < len(data):
      (size,) = struct.unpack_from('<Q', data, at)
      found.append(Event.FromString(data[at + 12 : at + 12 + size]))
      at += 12 + size + 4
    assert at == len(data)
  return found


def test_the_settings_name_the_file_that_is_written():
  assert f' {METRICS}.' in WatchConfig.__doc__


def test_numbers_are_a_json_object_a_line(tmp_path):
  with RunWriter(tmp_path / 'new' / 'run', 0, tensorboard=False) as writer:
    assert writer.tensorboard == 'none'
    writer.scalars(10, {'loss': np.float32(0.5), 'psnr': 20})
    # There while the run goes on: a killed one loses nothing.
    (line,) = lines(tmp_path / 'new' / 'run')
  assert line.pop('time') > 1.7e9
  assert line == {'step': 10, 'loss': 0.5, 'psnr': 20.0}


def test_what_is_no_number_is_null_and_named(tmp_path):
  with RunWriter(tmp_path, 0, tensorboard=False) as writer:
    writer.scalars(1, {'loss': float('nan'), 'psnr': -float('inf'), 'rate': 1.0})
  (line,) = lines(tmp_path)
  assert (line['loss'], line['psnr'], line['rate']) == (None, None, 1.0)
  assert line['not_finite'] == ['loss', 'psnr']
  assert 'NaN' not in (tmp_path / METRICS).read_text()


def test_a_resumed_run_has_each_step_once(tmp_path):
  with RunWriter(tmp_path, 0, tensorboard=False) as writer:
    for step in (10, 20, 30, 40):
      writer.scalars(step, {'loss': float(step)})
  with open(tmp_path / METRICS, 'a') as file:
    file.write('{"step": 15, "lo')  # killed while it wrote
  with RunWriter(tmp_path, 25, tensorboard=False) as writer:
    assert steps(tmp_path) == [10, 20]
    writer.scalars(30, {'loss': -1.0})
  assert steps(tmp_path) == [10, 20, 30]
  assert lines(tmp_path)[-1]['loss'] == -1.0
  assert 'dropped 3 lines' in (tmp_path / 'log.txt').read_text()
  RunWriter(tmp_path, 0, tensorboard=False).close()
  assert steps(tmp_path) == []
  assert {path.name for path in tmp_path.iterdir()} == {METRICS, 'log.txt'}  # nothing temporary


@pytest.mark.parametrize('broken', [b'\0\0\0\n', b'[1]\n', b'{"loss": 1}\n', b'{"step": "x"}\n'])
def test_lines_that_are_none_of_ours_are_dropped(tmp_path, broken):
  (tmp_path / METRICS).write_bytes(b'{"step": 1}\n' + broken + b'{"step": 2}\n')
  RunWriter(tmp_path, 9, tensorboard=False).close()
  assert steps(tmp_path) == [1, 2]


def test_pictures_are_files_with_the_step_in_the_name(tmp_path):
  pixels = np.zeros((4, 6, 3), np.uint8)
  pixels[0, :, 0] = 200  # a red line at the top
  with RunWriter(tmp_path, 0, tensorboard=False) as writer:
    writer.images(1200, {'people': pixels})
    with pytest.raises(ValueError, match='is no name'):
      writer.images(1200, {'../people': pixels})
  np.testing.assert_array_equal(read_color(tmp_path / 'pictures/people_0001200.png'), pixels)


def test_remarks_have_the_time_and_a_line_each(tmp_path):
  with RunWriter(tmp_path, 0, tensorboard=False) as writer:
    writer.note('begun')
    writer.note('a table\nof two lines')
  first, second, third = (tmp_path / 'log.txt').read_text().splitlines()
  assert first[4] == second[4] == '-'
  assert first.endswith(' begun')
  assert second.endswith(' a table')
  assert third == '  of two lines'


def test_tensorboard_gets_the_same(tmp_path):
  pixels = np.full((4, 6, 3), 7, np.uint8)
  with RunWriter(tmp_path, 100, tensorboard=True) as writer:
    assert writer.tensorboard == 'tensorboardX'
    writer.scalars(110, {'loss': 0.5, 'psnr': float('nan')})
    writer.images(110, {'people': pixels})
    version, start, numbers, picture = events(tmp_path)  # before it is closed
  assert version.file_version == 'brain.Event:2'
  # From here on TensorBoard takes no step of an earlier file.
  assert (start.step, start.session_log.status) == (101, 1)
  values = {value.tag: value.simple_value for value in numbers.summary.value}
  assert numbers.step == 110
  assert values['loss'] == 0.5
  assert np.isnan(values['psnr'])
  (value,) = picture.summary.value
  assert (value.tag, value.image.width, value.image.height) == ('people', 6, 4)
  assert value.image.encoded_image_string.startswith(b'\x89PNG')


def test_half_a_tensorflow_is_none(tmp_path, monkeypatch):
  """An installation that was interrupted is found, but cannot be imported."""
  (tmp_path / 'path' / 'tensorflow').mkdir(parents=True)
  (tmp_path / 'path' / 'tensorflow' / '__init__.py').write_text('import tensorflow.python')
  monkeypatch.syspath_prepend(tmp_path / 'path')
  with RunWriter(tmp_path / 'run', 0, tensorboard=True) as writer:
    assert writer.tensorboard == 'tensorboardX'


def test_nothing_is_needed_for_json(tmp_path, monkeypatch):
  for name in ('clu', 'tensorboardX'):
    monkeypatch.setitem(sys.modules, name, None)
    for loaded in [m for m in sys.modules if m.startswith(f'{name}.')]:
      monkeypatch.setitem(sys.modules, loaded, None)
  with RunWriter(tmp_path, 0, tensorboard=True) as writer:
    assert writer.tensorboard == 'none'
    writer.scalars(1, {'loss': 1.0})
  assert steps(tmp_path) == [1]


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='needs a device that is full')
def test_a_full_disk_is_said_in_one_line(tmp_path):
  (tmp_path / 'log.txt').symlink_to('/dev/full')
  with (
    RunWriter(tmp_path, 0, tensorboard=False) as writer,
    pytest.raises(
      OSError, match=r'the run cannot write here; make room, and resume it.*log\.txt'
    ) as caught,
  ):
    writer.note('begun')
  assert caught.value.errno == errno.ENOSPC


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='needs a device that is full')
def test_events_on_a_full_disk_are_an_error_too(tmp_path, monkeypatch):
  """tensorboardX's own SummaryWriter loses its thread then, and waits for ever at event eleven."""
  writer = RunWriter(tmp_path, 0, tensorboard=True)
  full = io.FileIO('/dev/full', 'w')
  monkeypatch.setattr(writer._events._writer._py_recordio_writer, '_writer', full)
  with pytest.raises(OSError, match='make room') as caught:
    writer.scalars(1, {'loss': 1.0})
  assert caught.value.errno == errno.ENOSPC
  assert steps(tmp_path) == [1]  # the line was written before
  monkeypatch.undo()
  full.close()
  writer.close()


def test_names_of_the_line_itself_are_refused(tmp_path):
  with (
    RunWriter(tmp_path, 0, tensorboard=False) as writer,
    pytest.raises(ValueError, match=r"\['step'\] are names of the line itself"),
  ):
    writer.scalars(1, {'step': 2.0})


def test_the_other_processes_write_nothing(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  writer = NullWriter()
  writer.scalars(1, {'loss': 1.0})
  writer.images(1, {'people': np.zeros((1, 1, 3), np.uint8)})
  writer.note('begun')
  writer.close()
  assert list(tmp_path.iterdir()) == []


def test_parameters_are_a_table(monkeypatch):
  tree = {'encoder': {'blocks': [jax.ShapeDtypeStruct((3, 5), np.float32)]}, 'out': np.zeros(7)}
  table = parameter_overview(tree)
  assert 'encoder/blocks/0' in table
  assert '22' in table
  monkeypatch.setitem(sys.modules, 'clu', None)
  assert parameter_overview(tree).startswith('22 parameters in 2 arrays')
