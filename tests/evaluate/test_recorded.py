"""Recorded runs become curves, and damage is named."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from sa0_kernels import bench

from sa0_jax.evaluate.ablation import RowResult
from sa0_jax.evaluate.plots import FORMATS, draw
from sa0_jax.evaluate.recorded import Curve, Panel, read_record, together
from sa0_jax.train.writers import RunWriter
from tests.structure.sources import ROOT

# What the figures of the pages are made of, by the command that results/README.md shows.
RECORDED = (
  'default',
  'shipped.json',
  'refine_from_mesh.report.json',
  'refine_from_generator.report.json',
  'rasterizer_cpu.json',
)
FIGURES = {'training', 'sources', 'refinement', 'rasterizer'}
CURVE = [{'step': i, 'seconds': 0.5 * i, 'psnr': 20.0 + i} for i in range(3)]
REPORT = {'curve': CURVE, 'held_out_frames': 4}


def write(path: Path, content) -> Path:
  path.write_text(content if isinstance(content, str) else json.dumps(content))
  return path


@pytest.fixture
def run(tmp_path):
  """The numbers of a training run of two phases, as training writes them."""
  folder = tmp_path / 'mine'
  with RunWriter(folder, 0, tensorboard=False) as writer:
    for step in (1, 2, 3):
      writer.scalars(step, {'phase': 1 + (step == 3), 'loss': 1 / step if step != 2 else np.nan})
      writer.scalars(step, {'sa0_monocular/psnr': 20.0 + step, 'sa0_monocular/psnr_from_1': 1.0})
  return folder


def test_a_training_run(run):
  record = read_record(run)
  assert record == read_record(run / 'metrics.jsonl')
  losses, scores = record.panels
  assert losses.curves == (Curve('mine', (1.0, 3.0), (1.0, 1 / 3)),)  # 2 was not finite
  assert scores.curves == (Curve('mine: sa0_monocular', (1.0, 2.0, 3.0), (21.0, 22.0, 23.0)),)
  assert losses.marks == scores.marks == ((2.0, 'phase 2'),)
  # What a kill cut off is no damage.
  with open(run / 'metrics.jsonl', 'a') as file:
    file.write('{"step": 4, "lo')
  assert read_record(run) == record


def test_a_refinement(tmp_path):
  by_step, by_time = read_record(write(tmp_path / 'anna.report.json', REPORT)).panels
  assert by_step.curves == (Curve('anna', (0.0, 1.0, 2.0), (20.0, 21.0, 22.0)),)
  assert by_time.curves == (Curve('anna', (0.0, 0.5, 1.0), (20.0, 21.0, 22.0)),)
  assert (by_time.x_label, by_time.y_label) == ('seconds', 'PSNR of held-out frames, dB')
  trained = {**REPORT, 'held_out_frames': 0}
  assert 'training' in read_record(write(tmp_path / 'b.json', trained)).panels[0].y_label


def test_the_number_of_sources(tmp_path):
  by_sources = {'2': {'monocular': [22.0]}, '1': {'monocular': [20.0, 21.0]}}
  row = RowResult('C', None, False, (0, 1), {}, by_sources)._asdict()
  other = RowResult('D', None, False, (), {}, {})._asdict()
  [panel] = read_record(write(tmp_path / 'table.json', [row, other])).panels
  assert panel.curves == (Curve(f'{tmp_path.name}: monocular', (1.0, 2.0), (20.5, 22.0)),)
  [panel] = read_record(write(tmp_path / 'two.json', [row, {**row, 'name': 'E'}])).panels
  assert [curve.label for curve in panel.curves] == ['two C: monocular', 'two E: monocular']


def test_the_rates_of_a_rasterizer(tmp_path, monkeypatch):
  def measure(name, case, seconds):
    milliseconds = case.num_gaussians / 1000 * (case.resolution / 512)
    return {
      **dataclasses.asdict(case),
      'milliseconds_median': milliseconds,
      'core_milliseconds_median': milliseconds / 2,
    }

  monkeypatch.setattr(bench, 'measure', measure)
  report = bench.sweep(['xla', 'triton'])
  text = bench.table(report)
  assert 'triton     unusable' in text
  assert re.search(
    r'xla +16384 Gaussians +512² +median +16.4 ms +61.04 images/s +8.2 ms of a core', text
  )
  by_number, by_size = read_record(write(tmp_path / 'cpu.json', report)).panels
  assert by_number.logarithmic
  assert by_number.curves[0].label == 'cpu: xla'
  assert by_number.curves[0].x == bench.SWEEP_GAUSSIANS
  assert by_number.curves[0].y == pytest.approx([2e6 / n for n in bench.SWEEP_GAUSSIANS])
  assert by_size.curves[0].x == bench.SWEEP_RESOLUTIONS
  assert by_number.y_label == 'images/s of a core, with gradients'
  report['device'] = 'NVIDIA H100'
  panel, _ = read_record(write(tmp_path / 'gpu.json', report)).panels
  assert panel.curves[0].y == pytest.approx([1e6 / n for n in bench.SWEEP_GAUSSIANS])
  assert panel.y_label == 'images/s, with gradients'
  assert (by_number.x_label, by_size.x_label) == (
    'Gaussians, at 512²',
    'side, px, of 58,173 Gaussians',
  )


def test_files_of_one_kind_share_a_figure(run, tmp_path):
  records = [read_record(write(tmp_path / f'{name}.json', REPORT)) for name in 'ab']
  figures = together([records[0], read_record(run), records[1]])
  assert list(figures) == ['training', 'refinement']
  for panel in figures['refinement']:
    assert [curve.label for curve in panel.curves] == ['a', 'b']


@pytest.mark.parametrize(
  ('name', 'content', 'message'),
  [
    ('x.json', '{', 'damaged'),
    ('x.json', {'format': 'other'}, 'nothing that can be plotted'),
    ('x.json', [1, 2], 'nothing that can be plotted'),
    ('x.json', {**REPORT, 'curve': 3}, 'damaged'),
    ('x.json', {**REPORT, 'curve': []}, 'two points'),
    ('x.json', {**REPORT, 'curve': [{'psnr': 1.0}] * 2}, "KeyError: 'step'"),
    ('x.json', {**REPORT, 'curve': [{**CURVE[0], 'step': 'x'}, CURVE[1]]}, "step is 'x'"),
    ('x.json', {'implementations': {'xla': {'cases': []}}}, '--sweep'),
    ('x.json', {'implementations': []}, 'damaged'),
    ('x.json', {'implementations': {'xla': {'by_gaussians': []}}}, 'damaged'),
    ('x.json', {'implementations': {'xla': {'by_gaussians': [{}]}}}, 'damaged'),
    ('x.json', [{'by_sources': {}, 'name': 'C'}], 'no row'),
    ('x.json', [{'by_sources': {'one': {'monocular': [1.0]}}, 'name': 'C'}], 'one'),
    ('x.json', [{'by_sources': {'1': {'monocular': []}}, 'name': 'C'}], 'damaged'),
    ('x.jsonl', 'nonsense\n', 'line 1 is damaged'),
    ('x.jsonl', '{"step": 1, "loss": 2}\n{"step": 2, "lo\n', 'line 2 is damaged'),
    ('x.jsonl', '{"step": 1, "loss": "high"}\n', 'line 1 is damaged'),
    ('x.jsonl', '{"step": 1, "loss": NaN}\n', 'line 1 is damaged'),
    ('x.jsonl', '[1]\n', 'line 1 is damaged'),
    ('x.jsonl', '', 'no losses'),
  ],
)
def test_damage_is_named(tmp_path, name, content, message):
  path = write(tmp_path / name, content)
  with pytest.raises(ValueError, match='(?s)' + re.escape(str(path)) + '.*' + re.escape(message)):
    read_record(path)


def test_bytes_that_are_no_text(tmp_path):
  (tmp_path / 'x.jsonl').write_bytes(b'\xff\xfe\n')
  with pytest.raises(ValueError, match='not a text file'):
    read_record(tmp_path / 'x.jsonl')
  with pytest.raises(FileNotFoundError):
    read_record(tmp_path)  # a folder without numbers


@pytest.mark.parametrize('suffix', FORMATS)
def test_the_same_curves_are_the_same_bytes(suffix):
  panels = [
    Panel('steps', 'loss', (Curve('a', (1.0, 2.0), (3.0, 4.0)),), marks=((1.5, 'phase 2'),)),
    Panel('N', 'rate', (Curve('b', (1.0, 10.0), (3.0, 4.0)),), logarithmic=True, points=True),
    Panel('steps', 'nothing', ()),  # no data set was held out
  ]
  picture = draw(panels, suffix)
  assert picture == draw(panels, suffix)
  assert picture.startswith({'svg': b'<?xml', 'png': b'\x89PNG', 'pdf': b'%PDF'}[suffix])


def numbers(text: str) -> np.ndarray:
  return np.array(re.findall(r'-?\d+\.?\d*', text), float)


def test_the_figures_of_the_pages_are_the_recorded_numbers():
  figures = together([read_record(ROOT / 'results' / name) for name in RECORDED])
  assert figures.keys() == FIGURES
  page = (ROOT / 'results' / 'README.md').read_text()
  command = 'sa0 plot ' + ' '.join(f'results/{name}' for name in RECORDED)
  assert f'{command} --out docs/images/plots' in page.replace(' \\\n  ', ' ')
  for name, panels in figures.items():
    drawn = draw(panels, 'svg').decode()
    kept = (ROOT / 'docs' / 'images' / 'plots' / f'{name}.svg').read_text()
    found, expected = numbers(drawn), numbers(kept)
    assert found.shape == expected.shape, name  # run the command again
    np.testing.assert_allclose(found, expected, atol=0.02, err_msg=name)
    assert f'../docs/images/plots/{name}.svg' in page


def test_the_table_of_sources_is_the_recorded_one():
  page = (ROOT / 'results' / 'README.md').read_text()
  table = page[page.index('| sources | monocular') :]
  [row] = json.loads((ROOT / 'results' / 'shipped.json').read_text())
  for count, kinds in row['by_sources'].items():
    cells = ' | '.join(f'{kinds[kind][0]:.2f} dB' for kind in ('monocular', 'multiview'))
    assert f'| {count} | {cells} |' in table
