"""`sa0 ablate`: the rows of the paper's ablation tables, run here or on a cluster, in one table."""

import argparse
import dataclasses
import functools
import importlib
import json
import pathlib
import shlex
from typing import TYPE_CHECKING

from sa0_jax.cli import options
from sa0_jax.cli.progress import ProgressLine

if TYPE_CHECKING:
  from sa0_jax.evaluate.ablation import Ablation
  from sa0_jax.evaluate.synth import Synth
  from sa0_jax.refine.config import RefineConfig

_BASES = ('paper', 'small', 'tiny', 'debug')
_PAPER_STEPS = 10_000  # of a refinement
_ANTI_SPIKE = ('no_freeze', 'no_clamp', 'no_penalty')


def add_parser(subparsers: argparse._SubParsersAction) -> None:
  """Registers the command."""
  parser = subparsers.add_parser(
    'ablate',
    help="run the paper's ablations and collect their table",
    description="Without --run or --commands: the table of the paper's Tables 5 to 9 with what has "
    'been run so far. Rows that differ in Phase 2 alone begin with the weights of row A. The same '
    'command again goes on. WORKDIR holds a training folder for each row and seed, table.md and '
    'table.json.',
    epilog='example: sa0 ablate --base tiny --synth synth --run A,B,C --workdir ablations',
    allow_abbrev=False,
  )
  options.add_config(parser, 'ablations')
  parser.add_argument(
    '--workdir', metavar='DIR', type=pathlib.Path, required=True, help='folder of all runs'
  )
  parser.add_argument(
    '--base', choices=_BASES, default='paper', help='configuration that is varied (default: paper)'
  )
  parser.add_argument(
    '--synth',
    metavar='DIR',
    type=pathlib.Path,
    help='learn and score on SA0-Synth in this folder; what is missing of it is filmed first',
  )
  parser.add_argument(
    '--run', metavar='ROW,…|all', dest='rows', help='train and score these rows here'
  )
  parser.add_argument(
    '--commands',
    metavar='PREFIX',
    nargs='?',
    const='sa0 train',
    help='print the command that trains each row instead (default prefix: sa0 train), such as '
    "'sbatch launch/slurm/train.sbatch'",
  )
  parser.add_argument(
    '--seeds', metavar='N,N', type=_numbers, default=(0,), help='one run each (default: 0)'
  )
  parser.add_argument(
    '--refine-steps',
    metavar='N',
    type=options.positive,
    default=_PAPER_STEPS,
    help=f'of refined rows; the scale freeze is the same part of them (default: {_PAPER_STEPS:,})',
  )
  options.add_json(parser)
  parser.set_defaults(run=run)


def _numbers(text: str) -> tuple[int, ...]:
  """Seeds (an argparse type)."""
  words = text.split(',')
  if not all(word.isdecimal() for word in words):
    raise argparse.ArgumentTypeError(f'{text!r} are no seeds: numbers like 0,1,2')
  return tuple(dict.fromkeys(int(word) for word in words))


def run(args: argparse.Namespace) -> int:
  """Runs `sa0 ablate`; errors as `sa0 train` and `sa0 evaluate`."""
  from sa0_jax import archive
  from sa0_jax.evaluate.ablation import collect, to_markdown

  if args.config != 'ablations':
    raise ValueError(
      f'--config={args.config}: the rows are those of configs/ablations.py; --base names what is '
      'varied, --config.key=value changes what all of them vary'
    )
  if args.rows and args.commands:
    raise ValueError('--run runs rows here, --commands prints how others run them: one of both')
  ablation = _ablation(args)
  if args.commands:
    for line in _commands(ablation, args):
      print(line)
    return 0
  if args.rows and not _run_rows(ablation, args):
    return 75  # as `sa0 train`: all is saved, and the same command goes on
  results = collect(ablation, args.seeds)
  page = to_markdown(results, f'Ablations of {args.base}, seeds {", ".join(map(str, args.seeds))}')
  table = json.dumps([result._asdict() for result in results], indent=1) + '\n'
  args.workdir.mkdir(parents=True, exist_ok=True)
  for name, text in (('table.md', page), ('table.json', table)):
    with archive.atomic_write(args.workdir / name) as file:
      file.write(text.encode())
  print(table if args.json else f'{page}\nwrote {args.workdir / "table.md"}')
  return 0


def _ablation(args: argparse.Namespace) -> 'Ablation':
  """All rows, with what the command line changes in them."""
  from sa0_jax import config
  from sa0_jax.evaluate.ablation import Ablation
  from sa0_jax.evaluate.synth import synth_folders
  from sa0_jax.refine.config import RefineConfig
  from sa0_jax.train.config import TrainConfig

  changes = dict(args.overrides)
  if args.synth is not None:
    data = synth_folders(args.synth).datasets
    both = f'{data["monocular"]},{data["multiview"]}'
    changes = {
      'phase1.data.datasets': str(data['monocular']),
      'phase2.data.datasets': str(data['multiview']),
      'watch.datasets': both,
      **changes,
    }
  rows = {}
  ablations = importlib.import_module('sa0_jax.configs.ablations')
  for name, change in ablations.ROWS.items():
    if name.startswith('backbone_') and args.base != 'paper':
      continue  # the others have one encoder
    # The base is changed, and the row is another change of that.
    row = config.with_overrides(TrainConfig, ablations.get_base(name, args.base), changes)
    change(row)
    rows[name] = config.from_config_dict(TrainConfig, row)
  refinements = {
    name: config.from_config_dict(RefineConfig, config.load_config(f'refine:{argument}'))
    for name, argument in (
      *((name, '') for name in ('D', 'E', 'F', 'G')),
      *((name, name) for name in _ANTI_SPIKE),
    )
  }
  return Ablation(
    rows, {n: _shortened(r, args.refine_steps) for n, r in refinements.items()}, args.workdir
  )


def _shortened(settings: 'RefineConfig', steps: int) -> 'RefineConfig':
  """A refinement of so many steps, its phases in proportion."""
  start = round(settings.anti_spike.start * steps / settings.steps)
  spikes = dataclasses.replace(settings.anti_spike, start=start)
  return dataclasses.replace(settings, steps=steps, anti_spike=spikes, checkpoint_every=0)


def _run_rows(ablation: 'Ablation', args: argparse.Namespace) -> bool:
  """Runs what was asked for and what that needs; False if it was told to stop."""
  from sa0_jax.evaluate.ablation import order, run_row
  from sa0_jax.train.loop import Session

  wanted = ablation.names() if args.rows == 'all' else args.rows.split(',')
  names = order(ablation, wanted)
  synth = None if args.synth is None else _make_synth(args)
  for seed in args.seeds:
    for name in names:
      with ProgressLine(f'{name}-{seed}') as line:
        session = Session(say=_saying(line), progress=line.write)
        if not run_row(ablation, name, seed, synth, session):
          return False
  return True


def _saying(line: ProgressLine):  # type: ignore[no-untyped-def]
  return lambda text: line.write(text, force=True)


def _make_synth(args: argparse.Namespace) -> 'Synth':
  from sa0_jax import config
  from sa0_jax.evaluate.synth import SynthConfig, make_synth

  numbers = config.from_config_dict(SynthConfig, config.load_config('synth'))
  with ProgressLine('synth') as line:
    return make_synth(
      numbers,
      args.synth,
      progress=lambda kind, done, total: line.count(done, total, f'pictures, {kind}'),
    )


def _commands(ablation: 'Ablation', args: argparse.Namespace) -> list[str]:
  """What trains each row and seed elsewhere, those first that others begin with."""
  from sa0_jax.evaluate.ablation import order
  from sa0_jax.settings import text_of

  wanted = [n for n in order(ablation, list(ablation.names())) if n in ablation.rows]
  lines = []
  for seed in args.seeds:
    for folder in dict.fromkeys(ablation.folder(name, seed) for name in wanted):
      name = next(n for n in wanted if ablation.folder(n, seed) == folder)
      config = ablation.config(name, seed)
      words = [f'--config=ablations:{name},{args.base}', f'--workdir={folder}']
      keys = ['seed', *args.overrides]
      if config.weights.generator:
        keys = ['phase1.steps', 'weights.generator', *keys]
      if args.synth is not None:
        keys += ['phase1.data.datasets', 'phase2.data.datasets', 'watch.datasets']
      # The values of this row, not of the command line: what the row changes goes before.
      for key in dict.fromkeys(keys):
        value = functools.reduce(getattr, key.split('.'), config)
        words.append(f'--config.{key}={text_of(value)}')
      lines.append(f'{args.commands} {shlex.join(words)}')
  return lines
