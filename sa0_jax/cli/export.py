"""`sa0 export`: an avatar for other programs."""

import argparse
import json
import pathlib
import re
from typing import TYPE_CHECKING, Any

from sa0_jax.cli import options
from sa0_jax.export.formats import FORMATS, Format, format_of

if TYPE_CHECKING:
  from sa0_jax.avatar.avatar import Avatar
  from sa0_jax.capture.capture import Capture


def add_parser(subparsers: argparse._SubParsersAction) -> None:
  """Registers the command."""
  about = '; '.join(f'{name}: {format_.about}' for name, format_ in FORMATS.items())
  parser = subparsers.add_parser(
    'export',
    help='write an avatar in a format other programs open',
    description=f'Writes an avatar in a format other programs open. {about}. The pose is neutral, '
    'or that of a frame of a capture; --frames writes one file a frame into a folder. '
    'docs/exports.md says what each format keeps and loses.',
    epilog='example: sa0 export subject.sa0 --format ply --out subject.ply',
    allow_abbrev=False,
  )
  parser.add_argument('avatar', metavar='AVATAR', type=pathlib.Path, help='avatar file')
  parser.add_argument('--format', choices=tuple(FORMATS), default='ply', help='default: ply')
  parser.add_argument(
    '--out',
    metavar='PATH',
    type=pathlib.Path,
    required=True,
    help='file to write; with --frames a folder',
  )
  parser.add_argument(
    '--drive',
    metavar='CAPTURE',
    type=pathlib.Path,
    help='pose and expression from this capture; html: its motion to play',
  )
  which = parser.add_mutually_exclusive_group()
  which.add_argument(
    '--frame', metavar='N', type=int, default=0, help='which of its frames (default: 0)'
  )
  which.add_argument(
    '--frames',
    metavar='N|START:STOP[:STEP]',
    type=options.frame_range,
    help='several of its frames: 000000.ply and so on, numbered as in the capture',
  )
  parser.add_argument(
    '--local', action='store_true', help='ply: in triangle frames, as GaussianAvatars writes it'
  )
  parser.add_argument(
    '--size',
    metavar='PX',
    type=options.positive,
    default=512,
    help='stablehlo: side of the images it renders (default: 512)',
  )
  options.add_json(parser)
  parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
  """Runs `sa0 export`; errors are raised as ValueError or OSError."""
  from sa0_jax.avatar.avatar import Avatar
  from sa0_jax.export.export import export

  name = _format_name(args)
  format_ = FORMATS[name]
  if args.frames is not None:
    _check_sequence(args, format_)
  else:
    format_of(args.out, name)
    options.check_output(args.out)
  avatar = Avatar.load(args.avatar)
  capture = _drive(args, avatar)
  if args.frames is not None and capture is not None:
    report = _sequence(args, avatar, capture, name)
  else:
    codes = None if capture is None else capture.frame_codes(args.frame)
    export(avatar, args.out, codes, format=name, size=args.size, motion=capture)
    report = {'path': str(args.out), 'bytes': args.out.stat().st_size}
  report['num_gaussians'] = avatar.n
  if args.json:
    print(json.dumps(report, indent=2))
  else:
    files = f' in {report["files"]} files' if 'files' in report else ''
    print(f'wrote {args.out}: {avatar.n} Gaussians, {report["bytes"] / 1e6:.1f} MB{files}')
  return 0


def _format_name(args: argparse.Namespace) -> str:
  if not args.local:
    return str(args.format)
  if args.format != 'ply':
    raise ValueError(f'--local: only ply can be in triangle frames, not {args.format}')
  return 'local_ply'


def _drive(args: argparse.Namespace, avatar: 'Avatar') -> 'Capture | None':
  from sa0_jax.capture.capture import load_capture

  if args.drive is None:
    return None
  capture = load_capture(args.drive)
  capture.check_head(avatar.head)
  if args.frames is None and not 0 <= args.frame < len(capture):
    raise ValueError(f'{args.drive}: has {len(capture)} frames, there is no {args.frame}')
  return capture


def _check_sequence(args: argparse.Namespace, format_: Format) -> None:
  """A folder of files of this kind and nothing else may stand where the new one goes."""
  if args.drive is None:
    raise ValueError('--frames: of which capture? add --drive CAPTURE')
  if not format_.frozen:
    raise ValueError(f'--frames: a {args.format} file is not of one frame, one is enough')
  if args.out.suffix:
    raise ValueError(f'{args.out}: --frames writes a folder; give a name without suffix')
  options.check_folder(args.out, rf'\d{{6}}{re.escape(format_.suffix)}')


def _sequence(
  args: argparse.Namespace, avatar: 'Avatar', capture: 'Capture', name: str
) -> dict[str, Any]:
  """One file a frame, in a folder that appears when all are there."""
  from sa0_jax import archive
  from sa0_jax.cli.progress import ProgressLine
  from sa0_jax.export.export import export

  positions = range(len(capture))[args.frames]
  if not positions:
    raise ValueError(f'--frames: selects none of the {len(capture)} frames of {args.drive}')
  size = 0
  with ProgressLine('export') as line, archive.atomic_folder(args.out) as folder:
    for done, position in enumerate(positions, 1):
      path = folder / f'{position:06d}{FORMATS[name].suffix}'
      export(avatar, path, capture.frame_codes(position), format=name)
      size += path.stat().st_size
      line.count(done, len(positions))
  return {'path': str(args.out), 'files': len(positions), 'bytes': size}
