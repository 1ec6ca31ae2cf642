"""`sa0 prepare`: captures become a data set that training reads."""

import argparse
import dataclasses
import json
import pathlib
from typing import TYPE_CHECKING

from sa0_jax.cli import options
from sa0_jax.cli.errors import Interrupted
from sa0_jax.cli.progress import ProgressLine

if TYPE_CHECKING:
  from sa0_jax.data.build import BuildReport

_SHOWN_FAILURES = 5


def add_parser(subparsers: argparse._SubParsersAction) -> None:
  """Registers the command."""
  parser = subparsers.add_parser(
    'prepare',
    help='make a training data set of captures',
    description='Writes a TFDS data set (ArrayRecord files) of captures, DATA_DIR/DATASET. '
    'Subjects are split by two text files beside the captures, train.txt and val.txt, with the '
    'name of a subject on each line; --hold-out writes them where they are missing. The same '
    'command again continues an interrupted one. Unreadable frames are named and left out.',
    epilog='example: sa0 prepare sa0_monocular --captures captures --data_dir data --hold-out 0.05',
    allow_abbrev=False,
  )
  parser.add_argument(
    'dataset',
    metavar='DATASET',
    choices=('sa0_monocular', 'sa0_multiview'),
    help='sa0_monocular (clips of one camera) or sa0_multiview (several cameras at once)',
  )
  parser.add_argument(
    '--captures',
    metavar='DIR',
    type=pathlib.Path,
    required=True,
    help='folder of captures: DIR/SUBJECT, or DIR/SUBJECT/CLIP',
  )
  parser.add_argument(
    '--data_dir', metavar='DIR', type=pathlib.Path, required=True, help='TFDS data folder'
  )
  for name in ('train', 'val'):
    parser.add_argument(
      f'--{name}',
      metavar='FILE',
      type=pathlib.Path,
      help=f'subjects of this split (default: {name}.txt in the captures folder)',
    )
  parser.add_argument(
    '--hold-out',
    metavar='SHARE',
    type=float,
    help='write train.txt and val.txt where they are missing, with this share of the subjects for '
    'validation',
  )
  parser.add_argument('--seed', type=int, default=0, help='of --hold-out (default: 0)')
  parser.add_argument(
    '--resolution', metavar='PX', type=options.positive, help="side (default: the captures' own)"
  )
  parser.add_argument(
    '--max-bad-share',
    metavar='SHARE',
    type=float,
    help='more unreadable frames than this are an error (default: 0.01)',
  )
  parser.add_argument(
    '--frames-per-shard', metavar='N', type=options.positive, help='(default: 1024)'
  )
  parser.add_argument(
    '--jobs', metavar='N', type=options.positive, default=1, help='worker processes (default: 1)'
  )
  parser.add_argument(
    '--beam',
    metavar='OPTION',
    action='append',
    help="build on Apache Beam (extra 'beam'), with one of its options: "
    '--beam=--runner=DirectRunner; may be given again',
  )
  options.add_json(parser)
  parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
  """Runs `sa0 prepare`; errors are raised as ValueError, OSError, RuntimeError or ImportError."""
  from sa0_jax.data import beam
  from sa0_jax.data.build import build
  from sa0_jax.data.config import BuildConfig
  from sa0_jax.data.plan import make_plan, read_split, write_splits

  names = ('resolution', 'max_bad_share', 'frames_per_shard')
  given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
  config = BuildConfig(args.dataset, **given)
  runner = None if args.beam is None else beam.run_shards(args.beam)
  if args.hold_out is not None:
    if args.train or args.val:
      raise ValueError('--hold-out writes train.txt and val.txt: leave --train and --val out')
    write_splits(args.captures, args.hold_out, args.seed)
  splits = {
    name: read_split(getattr(args, name) or args.captures / f'{name}.txt')
    for name in ('train', 'val')
  }
  with ProgressLine('prepare') as line:
    try:
      plan = make_plan(
        args.captures, splits, config, lambda done, total: line.count(done, total, 'captures')
      )
      line.restart()
      counted = _Counted(line)
      report = build(plan, args.data_dir, args.jobs, counted, runner)
    except KeyboardInterrupt as error:
      raise Interrupted('finished shards are kept; the same command continues') from error
  if args.json:
    print(json.dumps(dataclasses.asdict(report), indent=2))
  else:
    print(_text(report))
  return 0


class _Counted:
  """Frames on the progress line; those of an earlier run do not count for the rate."""

  def __init__(self, line: ProgressLine):
    self._line = line
    self._started = False

  def __call__(self, done: int, total: int) -> None:
    if not self._started:
      self._line.restart(done)
      self._started = True
    self._line.count(done, total, force=done == total)


def _text(report: 'BuildReport') -> str:
  lines = [report.path]
  for name, split in report.splits.items():
    lines.append(
      f'  {name}: {split["frames"]} frames of {split["clips"]} clips of {split["subjects"]} '
      f'subjects; {split["bytes"] / 1e6:.1f} MB in {split["shards"]} shards'
    )
  if report.bad_frames:
    lines.append(f'  left out {len(report.bad_frames)} frames:')
    lines += [f'    {text}' for text in report.bad_frames[:_SHOWN_FAILURES]]
    if len(report.bad_frames) > _SHOWN_FAILURES:
      lines.append('    … all of them in sa0_report.json')
  if report.unlisted:
    lines.append(f'  {len(report.unlisted)} subjects are in no split file')
  return '\n'.join(lines)
