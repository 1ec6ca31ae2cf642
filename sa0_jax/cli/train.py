"""`sa0 train`: the two phases of the feed-forward generator."""

import argparse
import json
import pathlib
from typing import TYPE_CHECKING, Any

from sa0_jax.cli import options
from sa0_jax.cli.progress import ProgressLine

if TYPE_CHECKING:
  from sa0_jax.train.loop import TrainResult

STOPPED = 75  # EX_TEMPFAIL: everything is saved, and the same command goes on


def add_parser(subparsers: argparse._SubParsersAction) -> None:
  """Registers the command."""
  parser = subparsers.add_parser(
    'train',
    help='train the feed-forward generator',
    description='Trains the generator by the two-phase schedule. The same command with the same '
    f'WORKDIR goes on with the run. SIGTERM saves and exits with code {STOPPED}. Several processes '
    'find each other under SLURM, on GKE and on TPU VMs; elsewhere name a coordinator.',
    epilog='example: sa0 train --config=tiny --workdir=runs/tiny '
    '--config.phase1.data.datasets=data/sa0_monocular '
    '--config.phase2.data.datasets=data/sa0_multiview',
    allow_abbrev=False,
  )
  options.add_config(parser, 'paper')
  parser.add_argument(
    '--workdir', metavar='DIR', type=pathlib.Path, required=True, help='folder of the run'
  )
  parser.add_argument('--coordinator', metavar='HOST:PORT', help='of process 0')
  parser.add_argument('--processes', metavar='N', type=options.positive, help='of the run')
  parser.add_argument('--process', metavar='I', type=options.whole, help='number of this one')
  parser.add_argument(
    '--profile',
    metavar='STEP:COUNT',
    type=_profile,
    help='trace COUNT steps after STEP into WORKDIR/profile and print where their time goes',
  )
  options.add_json(parser)
  parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
  """Runs `sa0 train`; errors are raised as ValueError, OSError, ArithmeticError or RuntimeError."""
  import os

  from sa0_jax.train import cluster

  flags = {name: getattr(args, name) for name in ('coordinator', 'processes', 'process')}
  cluster.initialize(cluster.find_cluster(os.environ, **flags))

  from sa0_jax.train.config import TrainConfig
  from sa0_jax.train.loop import Session, train

  settings = options.read_settings(args, TrainConfig)
  with ProgressLine('train') as line:
    session = Session(
      say=lambda text: line.write(text, force=True), progress=line.write, profile=args.profile
    )
    result = train(settings, args.workdir, session)
  if args.profile:
    from sa0_jax.train import trace

    print(trace.table(trace.breakdown(args.workdir / 'profile')))
  print(json.dumps(_report(result), indent=2) if args.json else _text(result))
  return 0 if result.finished else STOPPED


def _profile(text: str) -> tuple[int, int]:
  """STEP:COUNT (an argparse type)."""
  step, _, count = text.partition(':')
  if not step.isdecimal() or not count.isdecimal() or int(count) < 1:
    raise argparse.ArgumentTypeError(f'{text!r}: expected STEP:COUNT, such as 100:5')
  return int(step), int(count)


def _report(result: 'TrainResult') -> dict[str, Any]:
  return {
    'step': result.step,
    'finished': result.finished,
    'generator': None if result.generator is None else str(result.generator),
    'scores': {name: scores._asdict() for name, scores in result.scores.items()},
  }


def _text(result: 'TrainResult') -> str:
  if not result.finished:
    return f'stopped at step {result.step}; the same command goes on from there'
  scores = ', '.join(f'{name} {s.psnr:.2f} dB' for name, s in result.scores.items())
  return f'{result.step} steps; held out: {scores or "no data set has it"}; {result.generator}'
