"""Tables: means of an evaluation, as JSON and as Markdown beside the paper's rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sa0_jax.evaluate.published import PUBLISHED, PublishedTable
from sa0_jax.evaluate.run import EvaluateConfig
from sa0_jax.evaluate.tracked import METRICS as TRACKED
from sa0_jax.metrics.spec import METRICS, MetricSpec

_OURS = 'this run'
_MISSING = '–'


def summarize(
  results: Sequence[dict[str, Any]], config: EvaluateConfig, sources: dict[str, str]
) -> dict[str, Any]:
  """Means of every metric that each frame has; of what is tracked, over frames with a face.

  Args:
    results: of the clips, `frames` with a number for each metric.
    config: how it was measured.
    sources: what metrics rest on, by name; for the record.

  Returns:
    A JSON-serialisable report; `mean_of_frames` counts every frame once, `mean_of_clips` every
    clip.
  """
  rows = [row for result in results for row in result['frames']]
  counts = {name: sum(name in row for row in rows) for name in METRICS}
  names = [n for n, count in counts.items() if count and (count == len(rows) or n in TRACKED)]
  clips = []
  for result in results:
    means = {name: _mean_of(result['frames'], name) for name in names}
    clips.append(
      {
        'clip': result['clip'],
        'driver': result['driver'],
        'sources': result['sources'],
        'frames': len(result['frames']),
        **means,
      }
    )
  specs = [
    {
      **MetricSpec(METRICS[n], config.resolution, config.background, sources.get(n, '')).to_json(),
      'num_frames': counts[n],
    }
    for n in names
  ]
  return {
    'protocol': config.protocol,
    'resolution': config.resolution,
    'background': list(config.background),
    'num_clips': len(results),
    'num_frames': len(rows),
    'metrics': specs,
    'mean_of_frames': {name: _mean_of(rows, name) for name in names},
    'mean_of_clips': {name: _mean_of(clips, name) for name in names},
    'clips': clips,
  }


def _mean_of(rows: Sequence[dict[str, Any]], name: str) -> float | None:
  """Mean of a metric over the rows that have it; None where none has."""
  values = [row[name] for row in rows if row.get(name) is not None]
  return float(np.mean(np.asarray(values, np.float64))) if values else None


def to_markdown(report: dict[str, Any], beside: str | None = None) -> str:
  """The report as a page.

  Args:
    report: from `summarize`; 'checkpoint' may be added: step, phase and score of the run.
    beside: name of the published table to stand beside, of `PUBLISHED`; None takes none.

  Raises:
    ValueError: there is no such table, or it is of another protocol.
  """
  names = [metric['name'] for metric in report['metrics']]
  lines = [
    f'# {report["protocol"]}: {report["num_clips"]} clips, {report["num_frames"]} frames',
    '',
    f'{report["resolution"]} × {report["resolution"]} px over the colour '
    f'{", ".join(f"{value:g}" for value in report["background"])} (RGB).',
  ]
  if 'checkpoint' in report:
    lines[-1] += f' {_checkpoint(report["checkpoint"])}'
  if beside is not None:
    lines += ['', *_beside(_published(beside, report['protocol']), report)]
  if names:
    titles = ['clip', 'driver', 'frames', *(_title(metric) for metric in report['metrics'])]
    rows = [
      [clip['clip'], clip['driver'], str(clip['frames']), *_numbers(clip, names)]
      for clip in report['clips']
    ]
    for label, key in (('mean of frames', 'mean_of_frames'), ('mean of clips', 'mean_of_clips')):
      rows.append([f'**{label}**', '', '', *_numbers(report[key], names)])
    lines += ['', *_table(titles, rows)]
  lines += ['', *(_explain(metric, report['num_frames']) for metric in report['metrics'])]
  return '\n'.join(lines).rstrip() + '\n'


def _checkpoint(position: dict[str, Any]) -> str:
  score = position['score']
  held_out = '' if score is None else f', {score:.2f} dB on held-out people'
  return f'Checkpoint {position["step"]}, of phase {position["phase"]}{held_out}.'


def _published(name: str, protocol: str) -> PublishedTable:
  if name not in PUBLISHED:
    raise ValueError(f'published table {name!r} is unknown: use one of {", ".join(PUBLISHED)}')
  table = PUBLISHED[name]
  if table.protocol != protocol:
    raise ValueError(f'published table {name!r} is of protocol {table.protocol}, not {protocol}')
  return table


def _beside(table: PublishedTable, report: dict[str, Any]) -> list[str]:
  """The paper's rows in the paper's columns, and ours under them."""
  rows = [[method, *(f'{v:g}' for v in numbers)] for method, numbers in table.rows.items()]
  # Each clip is a video of another length: the per-subject table is of subjects, not of frames.
  means = report['mean_of_clips' if table.protocol == 'per-subject' else 'mean_of_frames']
  ours = [f'**{_OURS}**']
  for _, name, factor in table.columns:
    value = means.get(name)
    ours.append(_MISSING if value is None else f'{value * factor:.{2 if name == "psnr" else 3}f}')
  lines = [f'## {table.title}', '']
  lines += _table(['', *(heading for heading, _, _ in table.columns)], [*rows, ours])
  if table.clips is not None and table.clips != report['num_clips']:
    lines += [
      '',
      f'Not comparable: the paper has {table.clips} clips, this run {len(report["clips"])}.',
    ]
  return lines


def _title(metric: dict[str, Any]) -> str:
  return f'{metric["name"]} {"↑" if metric["higher_is_better"] else "↓"}'


def _numbers(means: dict[str, Any], names: Sequence[str]) -> list[str]:
  return [
    _MISSING if means[name] is None else f'{means[name]:.{METRICS[name].digits}f}' for name in names
  ]


def _explain(metric: dict[str, Any], num_frames: int) -> str:
  found = metric['num_frames']
  some = '' if found == num_frames else f', of the {found} of {num_frames} frames that have it'
  unit = f', {metric["unit"]}' if metric['unit'] else ''
  source = f' ({metric["source"]})' if metric['source'] else ''
  return f'- `{metric["name"]}`: {metric["variant"]}{unit}{source}{some}'


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
  lines = [titles, ['---'] * len(titles), *rows]
  return [f'| {" | ".join(line)} |' for line in lines]
