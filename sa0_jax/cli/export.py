"""`sa0 export`: an avatar for other programs."""

import argparse
import json
import pathlib

from sa0_jax.cli import options


def add_parser(subparsers: argparse._SubParsersAction) -> None:
  """Registers the command."""
  parser = subparsers.add_parser(
    'export',
    help='write an avatar in a format other programs open',
    description='Writes an avatar in a format other programs open. ply: INRIA 3DGS point cloud in '
    'world space, neutral expression, or as in one frame of a capture. html: one web page to turn '
    'and move it in, with the motion of a capture to play.',
    epilog='example: sa0 export subject.sa0 --format ply --out subject.ply',
    allow_abbrev=False,
  )
  parser.add_argument('avatar', metavar='AVATAR', type=pathlib.Path, help='avatar file')
  parser.add_argument('--format', choices=('ply', 'html'), default='ply', help='default: ply')
  parser.add_argument(
    '--out', metavar='PATH', type=pathlib.Path, required=True, help='file to write'
  )
  parser.add_argument(
    '--capture', metavar='CAPTURE', type=pathlib.Path, help='pose and expression from this capture'
  )
  parser.add_argument(
    '--frame', metavar='N', type=int, default=0, help='which of its frames (default: 0)'
  )
  options.add_json(parser)
  parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
  """Runs `sa0 export`; errors are raised as ValueError or OSError."""
  from sa0_jax.avatar.avatar import Avatar
  from sa0_jax.capture.capture import load_capture
  from sa0_jax.export.export import export
  from sa0_jax.viewer.page import export_html

  if args.out.suffix.lower() != f'.{args.format}':
    raise ValueError(f'{args.out}: a {args.format} file is named *.{args.format}')
  options.check_output(args.out)
  avatar, codes = Avatar.load(args.avatar), None
  capture = None if args.capture is None else load_capture(args.capture)
  if capture is not None:
    capture.check_head(avatar.head)
    if not 0 <= args.frame < len(capture):
      raise ValueError(f'{args.capture}: has {len(capture)} frames, there is no {args.frame}')
    codes = capture.frame_codes(args.frame)
  if args.format == 'html':
    export_html(avatar, args.out, capture)
  else:
    export(avatar, args.out, codes)
  size = args.out.stat().st_size
  if args.json:
    print(json.dumps({'path': str(args.out), 'num_gaussians': avatar.n, 'bytes': size}, indent=2))
  else:
    print(f'wrote {args.out}: {avatar.n} Gaussians, {size / 1e6:.1f} MB')
  return 0
