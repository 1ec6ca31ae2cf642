"""The paper's ablations: rows are trained, scored on people held out, and collected in one table.

A run of a row and a seed lies in WORKDIR/ROW-SEED, as `sa0 train` leaves it, wherever it was
trained; scores beside it. Rows that differ from the base in Phase 2 alone begin with the weights
that row A, which is Phase 1, ends with.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sa0_jax import archive
from sa0_jax.capture.capture import load_capture
from sa0_jax.evaluate.models import GeneratorModel
from sa0_jax.evaluate.published import ABLATIONS, NUM_SOURCES, REFINED
from sa0_jax.evaluate.run import EvaluateConfig, Work, evaluate
from sa0_jax.evaluate.synth import MAX_SOURCES, Synth, held_out_clips
from sa0_jax.generator.checkpoint import load_generator
from sa0_jax.generator.reconstruct import reconstruct
from sa0_jax.refine.config import RefineConfig
from sa0_jax.refine.loop import refine_subjects
from sa0_jax.train.config import TrainConfig, WeightFiles
from sa0_jax.train.loop import Session, train
from sa0_jax.train.writers import METRICS

PHASE1, BASE = 'A', 'C'
SCORES = 'ablation.json'
_EXPORTED, _AFTER_PHASE1 = 'generator.npz', 'phase1.npz'
_MAX_BYTES = 1 << 30

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Ablation:
  """What is compared.

  Attributes:
    rows: configuration of each trained row by name; 'A' is Phase 1 alone and 'C' the base.
    refinements: of each row that is refined, by name: those that are trained rows too are refined
      from their own generator, others ('D', and those without a part of the anti-spike
      regularisation) from that of the base.
    workdir: folder of all runs.
    people: at most so many of the held-out are refined.
  """

  rows: Mapping[str, TrainConfig]
  refinements: Mapping[str, RefineConfig]
  workdir: Path
  people: int = 6

  def names(self) -> list[str]:
    """All rows, the paper's order."""
    known = [*ABLATIONS, *self.rows, *self.refinements]
    return [n for n in dict.fromkeys(known) if n in self.rows or n in self.refinements]

  def folder(self, name: str, seed: int) -> Path:
    """Of one run; rows that are the base have the base's."""
    if name in self.rows and self.rows[name] == self.rows[BASE]:
      name = BASE
    return self.workdir / f'{name}-{seed}'

  def shares_phase1(self, name: str) -> bool:
    """Whether a row's Phase 1 is that of row A."""
    row, base = self.rows[name], self.rows[BASE]
    return name != PHASE1 and dataclasses.replace(row, phase2=base.phase2) == base

  def needs(self, name: str) -> list[str]:
    """Rows that come first."""
    if name in self.rows:
      return [PHASE1] if self.shares_phase1(name) else []
    return [BASE]

  def config(self, name: str, seed: int) -> TrainConfig:
    """The configuration a row is trained with.

    Raises:
      ValueError: there is no such row.
    """
    if name not in self.rows:
      raise ValueError(f'no row {name!r} is trained: they are {", ".join(self.rows)}')
    config = dataclasses.replace(self.rows[name], seed=seed)
    if not self.shares_phase1(name):
      return config
    start = str(self.folder(PHASE1, seed) / _AFTER_PHASE1)
    return dataclasses.replace(
      config,
      phase1=dataclasses.replace(config.phase1, steps=0),
      weights=dataclasses.replace(WeightFiles(), generator=start, **_lpips_files(config)),
    )


def _lpips_files(config: TrainConfig) -> dict[str, str]:
  weights = config.weights
  return {'lpips_backbone': weights.lpips_backbone, 'lpips_linear': weights.lpips_linear}


def order(ablation: Ablation, wanted: Sequence[str]) -> list[str]:
  """Rows in an order in which each comes after those it needs; they are added.

  Raises:
    ValueError: there is no such row.
  """
  done: dict[str, None] = {}

  def visit(name: str) -> None:
    if name not in ablation.names():
      raise ValueError(f'no row {name!r}: they are {", ".join(ablation.names())}')
    for other in ablation.needs(name):
      visit(other)
    done[name] = None

  for name in wanted:
    visit(name)
  return list(done)


def run_row(
  ablation: Ablation,
  name: str,
  seed: int,
  synth: Synth | None = None,
  session: Session | None = None,
) -> bool:
  """Trains a row, or goes on with it, and scores it where SA0-Synth is at hand.

  Args:
    ablation: the rows.
    name: of the row; those it needs come first (`order`).
    seed: of weights and draws.
    synth: the benchmark, for the number of sources and for refinement.
    session: how training talks.

  Returns:
    False if training was asked to stop; the same call goes on.

  Raises:
    FileNotFoundError: a row that this one needs has not been trained.
    ValueError, OSError, FloatingPointError: as `sa0_jax.train.loop.train` and `evaluate`.
  """
  session = session or Session()
  folder = ablation.folder(name, seed)
  if name in ablation.rows:
    config = ablation.config(name, seed)
    if not train(config, folder, session).finished:
      return False
  owner = name if name in ablation.rows else BASE
  generator = ablation.folder(owner, seed) / _EXPORTED
  if not generator.is_file():
    raise FileNotFoundError(f'{generator}: row {owner} with seed {seed} has not been trained')
  scores = read_scores(folder)
  if synth is not None:
    if name == BASE and 'by_sources' not in scores:
      scores['by_sources'] = score_sources(generator, synth, folder)
    if name in ablation.refinements and 'refined' not in scores:
      session.say(f'refining {ablation.people} of the held-out')
      settings = ablation.refinements[name]
      scores['refined'] = score_refined(generator, synth, settings, ablation.people)
  if scores:
    folder.mkdir(parents=True, exist_ok=True)
    with archive.atomic_write(folder / SCORES) as file:
      file.write((json.dumps(scores, indent=1) + '\n').encode())
  return True


def read_scores(folder: Path) -> dict[str, Any]:
  """What a row was scored with already."""
  path = folder / SCORES
  if not path.is_file():
    return {}
  found = archive.read_json(path, _MAX_BYTES)
  whole = isinstance(found, dict)
  if whole and 'refined' in found:
    whole = _are_numbers(found['refined']) and {'psnr', 'max_aspect_ratio'} <= set(found['refined'])
  if whole and 'by_sources' in found:
    kinds = found['by_sources']
    whole = isinstance(kinds, dict) and set(kinds) <= set(map(str, NUM_SOURCES))
    whole = whole and all(_are_numbers(values) for values in kinds.values())
  if not whole:
    raise ValueError(f'{path}: no scores of a row; remove it')
  return dict(found)


def _are_numbers(values: Any) -> bool:
  return isinstance(values, dict) and all(map(archive.is_number, values.values()))


def score_sources(generator: Path, synth: Synth, out: Path) -> dict[str, dict[str, float]]:
  """PSNR on the held-out with one to four sources, at the captures' size over white.

  Targets are the same for every number of sources.

  Returns:
    Number of sources → {'monocular': dB, 'multiview': dB}.
  """
  model = GeneratorModel(generator)
  found: dict[str, dict[str, float]] = {}
  for count in range(1, MAX_SOURCES + 1):
    found[str(count)] = {}
    for kind, captures in synth.captures.items():
      clips = held_out_clips(synth, kind, count)
      config = EvaluateConfig(resolution=load_capture(captures / clips[0].name).width)
      work = Work(captures, clips, out / 'scores' / f'{kind}-{count}')
      rows = [row for result in evaluate(model, work, config) for row in result['frames']]
      found[str(count)][kind] = float(np.mean([row['psnr'] for row in rows]))
  return found


def score_refined(
  generator: Path, synth: Synth, config: RefineConfig, people: int
) -> dict[str, float]:
  """Refines held-out people on the frames their sources come from; PSNR on the others.

  Returns:
    'psnr' in dB and 'max_aspect_ratio' on the target frames, over all of the people.
  """
  network = load_generator(generator)
  clips = held_out_clips(synth, 'monocular', MAX_SOURCES)[:people]
  captures = [load_capture(synth.captures['monocular'] / clip.name) for clip in clips]
  size = network.config.uv_size
  starts = [
    reconstruct(capture, clip.sources or (0,), network, uv_size=size)
    for capture, clip in zip(captures, clips, strict=True)
  ]
  held_out = len(clips[0].targets or ()) / len(captures[0])
  settings = dataclasses.replace(config, held_out=held_out, uv_size=size)
  results = refine_subjects(starts, captures, settings)
  return {
    'psnr': float(np.mean([result.report['psnr'] for result in results])),
    'max_aspect_ratio': max(float(result.report['max_aspect_ratio']) for result in results),
  }


class RowResult(NamedTuple):
  """One row of the table.

  Attributes:
    name: of the row.
    published: what the paper reports, dB; None where it does not.
    refined: whether the paper's number is after refinement.
    seeds: that have been run to their end.
    values: number by number, one value for each of these seeds that has it: 'monocular' and
      'multiview' (held-out PSNR at the end of training), 'refined', 'max_aspect_ratio'.
    by_sources: number of sources → kind → values.
  """

  name: str
  published: float | None
  refined: bool
  seeds: tuple[int, ...]
  values: dict[str, list[float]]
  by_sources: dict[str, dict[str, list[float]]]


def collect(ablation: Ablation, seeds: Sequence[int]) -> list[RowResult]:
  """What has been run so far, whoever ran it."""
  results = []
  for name in ablation.names():
    values: dict[str, list[float]] = {}
    by_sources: dict[str, dict[str, list[float]]] = {}
    ended = []
    for seed in seeds:
      folder = ablation.folder(name, seed)
      found = _held_out(folder) if (folder / _EXPORTED).is_file() else {}
      scores = read_scores(folder)
      refined = scores.get('refined', {})
      found |= {'refined': refined['psnr']} if refined else {}
      found |= {'max_aspect_ratio': refined['max_aspect_ratio']} if refined else {}
      for key, value in found.items():
        values.setdefault(key, []).append(value)
      for count, kinds in scores.get('by_sources', {}).items():
        for kind, value in kinds.items():
          by_sources.setdefault(count, {}).setdefault(kind, []).append(value)
      if found:
        ended.append(seed)
    results.append(
      RowResult(name, ABLATIONS.get(name), name in REFINED, tuple(ended), values, by_sources)
    )
  return results


def _held_out(folder: Path) -> dict[str, float]:
  """The last held-out PSNR of a training run, by kind of data set."""
  path = folder / METRICS
  if not path.is_file():
    return {}
  found: dict[str, float] = {}
  for line in archive.read_text(path, _MAX_BYTES).splitlines():
    try:
      row = json.loads(line)
    except (ValueError, RecursionError):
      continue  # cut off by a kill
    for key, value in row.items() if isinstance(row, dict) else ():
      base, _, metric = key.partition('/')
      named = metric == 'psnr' and base in ('sa0_monocular', 'sa0_multiview')
      if named and archive.is_number(value):  # what was not finite is null
        found[base.removeprefix('sa0_')] = float(value)
  return found


def to_markdown(results: Sequence[RowResult], title: str) -> str:
  """The table: means over seeds, ± half the range, and the difference from the base."""
  base = next((r for r in results if r.name == BASE), None)
  lines = [
    f'# {title}',
    '',
    'PSNR in dB. "Paper" is of a held-out slice of CelebV-HQ, of the published network and data; '
    '*: after refinement. Ours: people held out, mean over seeds ± half the range; in brackets the '
    f'difference from row {BASE} (from D where refined).',
    '',
    '| row | paper | monocular | multi-view | refined | max aspect | seeds |',
    '|---|---|---|---|---|---|---|',
  ]
  for row in results:
    paper = '–' if row.published is None else f'{row.published:.2f}{"*" if row.refined else ""}'
    refined_base = next((r for r in results if r.name == 'D'), None)
    cells = [
      _cell(row.values.get('monocular'), base.values.get('monocular') if base else None),
      _cell(row.values.get('multiview'), base.values.get('multiview') if base else None),
      _cell(
        row.values.get('refined'), refined_base.values.get('refined') if refined_base else None
      ),
      _cell(row.values.get('max_aspect_ratio'), None, 1),
    ]
    seeds = ', '.join(map(str, row.seeds)) or 'not run'
    lines.append(f'| {row.name} | {paper} | {" | ".join(cells)} | {seeds} |')
  if base is not None and base.by_sources:
    lines += [
      '',
      f'Row {BASE} with one to four sources, the same targets:',
      '',
      '| sources | paper | monocular | multi-view |',
      '|---|---|---|---|',
    ]
    for count, kinds in sorted(base.by_sources.items()):
      ours = ' | '.join(_cell(kinds.get(kind), None) for kind in ('monocular', 'multiview'))
      lines.append(f'| {count} | {NUM_SOURCES[int(count)]:.2f} | {ours} |')
  return '\n'.join(lines) + '\n'


def _cell(values: list[float] | None, base: list[float] | None, digits: int = 2) -> str:
  if not values:
    return '–'
  text = f'{np.mean(values):.{digits}f}'
  if len(values) > 1:
    text += f' ± {(max(values) - min(values)) / 2:.{digits}f}'
  if base and base is not values:
    text += f' ({np.mean(values) - np.mean(base):+.{digits}f})'
  return text
