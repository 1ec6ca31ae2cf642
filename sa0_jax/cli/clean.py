"""`sa0 clean`: a tracked video becomes clips of one person without bad frames."""

import argparse
import json
import pathlib

from sa0_jax.cli import options
from sa0_jax.cli.progress import ProgressLine


def add_parser(subparsers: argparse._SubParsersAction) -> None:
  """Registers the command."""
  parser = subparsers.add_parser(
    'clean',
    help='split a tracked video at cuts, drop blurred and occluded frames',
    description='Splits a tracked video where the person or the scene changes and where too many '
    'frames were not tracked, drops frames with a small, cut, blurred or occluded face, and writes '
    'what is left as CLIPS/NAME_00, NAME_01, … with CLIPS/NAME.clean.json, which says for every '
    'frame that is missing why. Thresholds are --config.min_sharpness=0.4 and the like.',
    epilog='example: sa0 clean subject --out clips',
    allow_abbrev=False,
  )
  parser.add_argument('capture', metavar='CAPTURE', type=pathlib.Path, help='capture folder')
  parser.add_argument(
    '--out', metavar='CLIPS', type=pathlib.Path, required=True, help='folder for the clips'
  )
  parser.add_argument(
    '--head', help="head model: a name of `sa0 head list`, or a file (default: the capture's)"
  )
  options.add_config(parser, 'clean')
  options.add_json(parser)
  parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
  """Runs `sa0 clean`; errors are raised as ValueError or OSError."""
  from sa0_jax import archive
  from sa0_jax.capture.capture import load_capture
  from sa0_jax.capture.hygiene import HygieneConfig, clean
  from sa0_jax.head.registry import load_head

  settings = options.read_settings(args, HygieneConfig)
  capture = load_capture(args.capture)
  name = archive.folder_name(capture.name)  # a text out of a file
  report_path = options.check_output(args.out / f'{name}.clean.json')
  with ProgressLine('clean') as line:
    head = load_head(args.head or capture.head_name)
    line.restart()
    result = clean(capture, head, settings, line.count)
    for clip in result.clips:
      line.write(f'writing {clip.name}: {len(clip)} frames')
      clip.save(args.out / archive.folder_name(clip.name))
  report = result.report()
  with archive.atomic_write(report_path) as file:
    file.write((json.dumps(report, indent=2) + '\n').encode())
  if args.json:
    print(json.dumps(report, indent=2))
    return 0
  print(f'{len(result.clips)} clips in {args.out}, {report["kept"]} of {len(capture)} frames')
  for split in result.splits:
    print(f'split between frames {split.before} and {split.after}: {split.reason} ({split.value})')
  for reason, count in report['dropped'].items():
    print(f'dropped {count} frames: {reason}')
  if result.untracked:
    print(f'{len(result.untracked)} frames were not tracked')
  return 0
