"""What runs have written down, as curves: read, checked, and ready to be drawn."""

import dataclasses
import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sa0_jax import archive
from sa0_jax.train.writers import METRICS

KINDS = ('training', 'refinement', 'sources', 'rasterizer')
_MAX_BYTES = 1 << 30


class Curve(NamedTuple):
  """One line of a panel."""

  label: str
  x: tuple[float, ...]
  y: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Panel:
  """One pair of axes.

  Attributes:
    x_label, y_label: with units.
    curves: at least one.
    logarithmic: both axes; otherwise neither.
    points: mark every point; it is for curves of few.
    marks: places on the x axis where something begins, and what.
  """

  x_label: str
  y_label: str
  curves: tuple[Curve, ...]
  logarithmic: bool = False
  points: bool = False
  marks: tuple[tuple[float, str], ...] = ()


class Record(NamedTuple):
  """What one file says.

  Attributes:
    kind: one of `KINDS`; records of one kind are drawn together.
    panels: always as many, and with the same axes, for a kind.
  """

  kind: str
  panels: tuple[Panel, ...]


def read_record(path: Path) -> Record:
  """Reads a training run's folder or metrics.jsonl, or the JSON of another command.

  These are the report of `sa0 refine` or `sa0 demo` (quality against steps and seconds), the
  table.json of `sa0 ablate` (quality against the number of sources), and the report of
  `sa0 bench rasterizer --sweep` (rate against the number of Gaussians and the resolution).

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is damaged, or none of these.
  """
  if path.is_dir():
    path = path / METRICS
  if path.suffix == '.jsonl':
    return Record('training', _training(path))
  found = archive.read_json(path, _MAX_BYTES)
  kind, read = _kind_of(found)
  if read is None:
    raise ValueError(
      f'{path}: nothing that can be plotted: a training run, the report of a refinement or of '
      '`sa0 bench rasterizer --sweep`, or the table.json of `sa0 ablate`'
    )
  try:
    return Record(kind, read(found, _name(path)))
  except (LookupError, TypeError, AttributeError) as error:
    reason = f'{type(error).__name__}: {error}'
    raise ValueError(f'{path}: damaged: {kind} is recorded otherwise ({reason})') from error
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from error


def together(records: Sequence[Record]) -> dict[str, tuple[Panel, ...]]:
  """The panels of each kind, with the curves of all its records."""
  found: dict[str, tuple[Panel, ...]] = {}
  for kind in KINDS:
    chosen = [record.panels for record in records if record.kind == kind]
    if not chosen:
      continue
    found[kind] = tuple(
      dataclasses.replace(
        panels[0],
        curves=tuple(curve for panel in panels for curve in panel.curves),
        marks=tuple(dict.fromkeys(mark for panel in panels for mark in panel.marks)),
      )
      for panels in zip(*chosen, strict=True)
    )
  return found


def _name(path: Path) -> str:
  """What its curves are called: the run's folder, or the file where that says nothing."""
  if path.name in (METRICS, 'report.json', 'table.json'):
    return path.resolve().parent.name
  return path.name.removesuffix('.json').removesuffix('.report')


def _kind_of(found: Any) -> tuple[str, Callable[[Any, str], tuple[Panel, ...]] | None]:
  if isinstance(found, dict) and 'curve' in found:
    return 'refinement', _refinement
  if isinstance(found, dict) and 'implementations' in found:
    return 'rasterizer', _rasterizer
  if isinstance(found, list) and any(isinstance(r, dict) and 'by_sources' in r for r in found):
    return 'sources', _sources
  return '', None


def _number(row: Mapping[str, Any], key: str) -> float:
  value = row[key]
  if not archive.is_number(value) or not math.isfinite(value):
    raise ValueError(f'damaged: {key} is {value!r}, and no number')
  return float(value)


def _curve(label: str, points: Sequence[tuple[float, float]]) -> Curve:
  return Curve(label, tuple(x for x, _ in points), tuple(y for _, y in points))


def _training(path: Path) -> tuple[Panel, ...]:
  rows = list(_rows(path))
  name = _name(path)
  # A number that was not finite is null in the file: there is a gap at its step.
  losses = [(r['step'], _number(r, 'loss')) for r in rows if r.get('loss') is not None]
  held_out: dict[str, list[tuple[float, float]]] = {}
  for row in rows:
    for key in row:
      dataset, _, metric = key.rpartition('/')
      if metric == 'psnr' and dataset and row[key] is not None:
        held_out.setdefault(dataset, []).append((row['step'], _number(row, key)))
  if not losses:
    raise ValueError(f'{path}: no losses of a training run')
  scored = [_curve(f'{name}: {dataset}', points) for dataset, points in held_out.items()]
  marks = tuple(
    (before['step'], f'phase {after["phase"]:.0f}')
    for before, after in itertools.pairwise(row for row in rows if 'phase' in row)
    if after['phase'] != before['phase']
  )
  return (
    Panel('steps', 'loss', (_curve(name, losses),), marks=marks),
    Panel('steps', 'PSNR of people held out, dB', tuple(scored), points=True, marks=marks),
  )


def _rows(path: Path) -> Iterator[dict[str, Any]]:
  """Lines of a training run's numbers; one that a kill cut off may be the last."""
  lines = archive.read_text(path, _MAX_BYTES).split('\n')
  for number, line in enumerate(lines[:-1], 1):
    try:
      row = json.loads(line)
      row['step'] = _number(row, 'step')
      for key in row:
        if row[key] is not None and (key in ('loss', 'phase') or key.endswith('/psnr')):
          _number(row, key)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
      raise ValueError(f'{path}: line {number} is damaged: no numbers of a step') from error
    yield row


def _refinement(report: Mapping[str, Any], name: str) -> tuple[Panel, ...]:
  rows = [row for row in report['curve'] if row['psnr'] is not None]
  if len(rows) < 2:
    raise ValueError('a curve needs two points at least; the library records one with `progress`')
  steps, seconds, psnr = (
    [_number(row, key) for row in rows] for key in ('step', 'seconds', 'psnr')
  )
  held_out = report['held_out_frames']
  label = f'PSNR of {"held-out" if held_out else "training"} frames, dB'
  return (
    Panel('steps', label, (Curve(name, tuple(steps), tuple(psnr)),)),
    Panel('seconds', label, (Curve(name, tuple(seconds), tuple(psnr)),)),
  )


def _sources(table: Sequence[Mapping[str, Any]], name: str) -> tuple[Panel, ...]:
  curves = []
  scored = [row for row in table if row['by_sources']]
  for row in scored:
    whose = f'{name} {row["name"]}' if len(scored) > 1 else name
    by_kind: dict[str, list[tuple[float, float]]] = {}
    for count, kinds in sorted(row['by_sources'].items()):
      for kind, values in kinds.items():
        if not values:
          raise ValueError(f'damaged: row {row["name"]} has no score of {count} sources')
        mean = sum(_number({'psnr': value}, 'psnr') for value in values) / len(values)
        by_kind.setdefault(kind, []).append((float(int(count)), mean))
    curves += [_curve(f'{whose}: {kind}', points) for kind, points in by_kind.items()]
  if not curves:
    raise ValueError('no row has been scored by its number of sources; `--synth` does')
  return (Panel('source images', 'PSNR of people held out, dB', tuple(curves), points=True),)


def _rasterizer(report: Mapping[str, Any], name: str) -> tuple[Panel, ...]:
  usable = {k: v for k, v in report['implementations'].items() if 'by_gaussians' in v}
  if not usable:
    raise ValueError('it has no rates by size; `sa0 bench rasterizer --sweep` measures them')
  first = next(iter(usable.values()))
  axes = (
    ('by_gaussians', 'num_gaussians', f'Gaussians, at {first["by_gaussians"][0]["resolution"]}²'),
    (
      'by_resolution',
      'resolution',
      f'side, px, of {first["by_resolution"][0]["num_gaussians"]:,} Gaussians',
    ),
  )
  # Of a core where the processor draws: whatever else the machine did changes that little.
  clock, whose = 'milliseconds_median', ''
  if report['device'] == 'cpu':
    clock, whose = 'core_milliseconds_median', ' of a core'
  panels = []
  for series, key, text in axes:
    curves = tuple(
      _curve(f'{name}: {implementation}', [_rate(case, key, clock) for case in result[series]])
      for implementation, result in usable.items()
    )
    panels.append(Panel(text, f'images/s{whose}, with gradients', curves, True, True))
  return tuple(panels)


def _rate(case: Mapping[str, Any], key: str, clock: str) -> tuple[float, float]:
  milliseconds = _number(case, clock)
  if milliseconds <= 0:
    raise ValueError(f'damaged: {milliseconds} ms an image')
  return _number(case, key), 1e3 / milliseconds
