"""`sa0 plot`: what runs have written down, as curves."""

import argparse
import json
import pathlib

from sa0_jax.cli import options


def add_parser(subparsers: argparse._SubParsersAction) -> None:
  """Registers the command."""
  parser = subparsers.add_parser(
    'plot',
    help='draw the curves of training, refinement and benchmarks',
    description='Draws what other commands have written down: training runs (loss, and quality of '
    'people held out), reports of `sa0 refine` and `sa0 demo` (quality against steps and seconds), '
    'table.json of `sa0 ablate` (quality against the number of source images) and of `sa0 bench '
    'rasterizer --sweep --json` (rate against the number of Gaussians and the resolution). Files '
    'of one kind share a picture: OUT then holds training, refinement, sources and rasterizer, '
    "whichever were given. Needs matplotlib: pip install 'sa0-jax[plots]'.",
    epilog='example: sa0 plot runs/first runs/second --out plots',
    allow_abbrev=False,
  )
  parser.add_argument(
    'records',
    metavar='RUN|FILE',
    nargs='+',
    type=pathlib.Path,
    help='folder of a training run, its metrics.jsonl, or a JSON file of another command',
  )
  parser.add_argument(
    '--out', metavar='DIR', type=pathlib.Path, required=True, help='folder for the pictures'
  )
  parser.add_argument(
    '--format', choices=('svg', 'png', 'pdf'), default='svg', help='of the pictures (default: svg)'
  )
  options.add_json(parser)
  parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
  """Runs `sa0 plot`; errors are raised as ValueError, OSError or ImportError."""
  from sa0_jax import archive
  from sa0_jax.evaluate.plots import draw
  from sa0_jax.evaluate.recorded import read_record, together

  figures = together([read_record(path) for path in args.records])
  # All are drawn before the first is written.
  pictures = {f'{kind}.{args.format}': draw(p, args.format) for kind, p in figures.items()}
  args.out.mkdir(parents=True, exist_ok=True)
  for name, picture in pictures.items():
    with archive.atomic_write(args.out / name) as file:
      file.write(picture)
  made = [str(args.out / name) for name in pictures]
  print(json.dumps({'pictures': made}, indent=2) if args.json else f'wrote {", ".join(made)}')
  return 0
