"""`sa0 studio`: many synthetic subjects become a set of captures."""

import argparse
import json
import pathlib
import time
from typing import TYPE_CHECKING, Any

from sa0_jax.cli import options
from sa0_jax.cli.errors import Interrupted
from sa0_jax.cli.progress import ProgressLine, duration

if TYPE_CHECKING:
  from sa0_jax.capture.studio import StudioSet

# Given on the command line they describe a set; with --like the file does.
_FILMING = ('kind', 'frames', 'fps', 'resolution', 'cameras', 'hair')
_DESCRIBING = (*_FILMING, 'subjects', 'seed', 'format')


def add_parser(subparsers: argparse._SubParsersAction) -> None:
  """Registers the command."""
  parser = subparsers.add_parser(
    'studio',
    help='film many synthetic subjects',
    description='Films people who do not exist, one for each seed: CAPTURES then holds '
    'studio.json, which describes the set, and one capture folder a subject. The same command '
    'again continues: finished subjects stay. A larger --subjects makes a set grow.',
    epilog='example: sa0 studio --subjects 300 --kind monocular --out captures',
    allow_abbrev=False,
  )
  parser.add_argument(
    '--out', metavar='CAPTURES', type=pathlib.Path, required=True, help='folder of the set'
  )
  parser.add_argument('--subjects', metavar='N', type=options.positive, help='how many (required)')
  parser.add_argument(
    '--kind', choices=('monocular', 'multiview'), help='videos (default), or many cameras at once'
  )
  parser.add_argument(
    '--seed', metavar='N', type=options.whole, help='of the first subject (default: 0)'
  )
  parser.add_argument(
    '--frames',
    metavar='N',
    type=options.positive,
    help='of each video (default: 24), or instants at which all cameras fire (default: 8)',
  )
  parser.add_argument('--fps', metavar='X', type=float, help='of these a second (default: 5, or 2)')
  parser.add_argument(
    '--resolution', metavar='PX', type=options.positive, help='side of the images (default: 256)'
  )
  parser.add_argument(
    '--cameras', metavar='N', type=options.positive, help='of a multi-view set (default: 16)'
  )
  parser.add_argument('--hair', metavar='STYLE', help='one style for all (default: the seed says)')
  parser.add_argument(
    '--plain',
    action='store_true',
    help='no beards, glasses, backgrounds, noise or compression: the studio as `sa0 demo` has it',
  )
  parser.add_argument('--format', choices=('jpg', 'png'), help='of the images (default: jpg)')
  parser.add_argument(
    '--like',
    metavar='STUDIO.json',
    type=pathlib.Path,
    help='the set that this file describes, instead of the options above',
  )
  parser.add_argument(
    '--only',
    metavar='START:STOP',
    type=options.frame_range,
    default=slice(None),
    help='film these of the subjects now, by position; other machines may film others',
  )
  parser.add_argument('--describe', action='store_true', help='write studio.json and film nothing')
  parser.add_argument(
    '--workers',
    metavar='N',
    type=options.positive,
    help='subjects filmed at once (default: processors); each takes about 0.8 GB',
  )
  options.add_json(parser)
  parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
  """Runs `sa0 studio`; errors are raised as ValueError, OSError, RuntimeError or ImportError."""
  from sa0_jax.capture.studio import build_set, describe_set

  wanted = _wanted(args)
  path = describe_set(wanted, args.out)
  if args.describe:
    described = {'manifest': str(path), 'subjects': len(wanted)}
    print(json.dumps(described) if args.json else f'{path}: {len(wanted)} subjects')
    return 0
  begin = time.perf_counter()
  with ProgressLine('studio') as line:
    line.write('preparing the first subjects', force=True)

    def show(done: int, total: int) -> None:
      line.count(done, total, 'pictures', force=done == total)

    try:
      report = build_set(wanted, args.out, only=args.only, workers=args.workers, progress=show)
    except KeyboardInterrupt as error:
      raise Interrupted(
        'finished subjects are kept; the same command again continues there'
      ) from error
  seconds = time.perf_counter() - begin
  result: dict[str, Any] = {
    'manifest': str(path),
    'subjects': len(wanted),
    'made': report.made,
    'kept': report.kept,
    'pictures': report.pictures,
    'seconds': seconds,
    'pictures_per_second': report.pictures / seconds,
  }
  print(json.dumps(result, indent=2) if args.json else _summary(result, args.out))
  return 0


def _wanted(args: argparse.Namespace) -> 'StudioSet':
  """The set that the options or a file describe."""
  from sa0_jax.capture.studio import StudioConfig, StudioSet, read_set, varied

  if args.like is not None:
    given = [name for name in _DESCRIBING if getattr(args, name) is not None]
    if given or args.plain:
      raise ValueError(
        f'--like describes the whole set: leave out --{given[0] if given else "plain"}'
      )
    return read_set(args.like)
  if args.subjects is None:
    raise ValueError('how many? Give --subjects N, or --like STUDIO.json')
  if args.cameras is not None and args.kind != 'multiview':
    raise ValueError('--cameras is for --kind multiview; a video has one')
  changes = {name: getattr(args, name) for name in _FILMING if getattr(args, name) is not None}
  if args.plain:
    changes.update(dict.fromkeys(('beard', 'glasses', 'background', 'sensor'), 'none'))
  film: StudioConfig = varied(**changes)
  first = args.seed or 0
  return StudioSet(((first, first + args.subjects),), film, args.format or 'jpg')


def _summary(result: dict[str, Any], out: pathlib.Path) -> str:
  made, kept = result['made'], result['kept']
  text = f'{out}: {made} of {result["subjects"]} subjects filmed'
  if made:
    text += (
      f', {result["pictures"]} pictures in {duration(result["seconds"])} '
      f'({result["pictures_per_second"]:.1f} a second)'
    )
  return text + (f'; {kept} were there' if kept else '')
