"""`sa0 view`: an avatar in the browser."""

import argparse
import pathlib

from sa0_jax.cli import options


def add_parser(subparsers: argparse._SubParsersAction) -> None:
  """Registers the command."""
  parser = subparsers.add_parser(
    'view',
    help='look at an avatar in the browser',
    description='Serves a page to the browser of this machine: turn the avatar, move its '
    'expressions, jaw and gaze, play the motion of a capture, save pictures. Two avatars are shown '
    'side by side. Nothing leaves this machine; Ctrl-C ends it.',
    epilog='example: sa0 view subject.sa0 --drive subject',
    allow_abbrev=False,
  )
  parser.add_argument('avatar', metavar='AVATAR', type=pathlib.Path, help='avatar file')
  parser.add_argument(
    'other', metavar='AVATAR2', type=pathlib.Path, nargs='?', help='another, beside the first'
  )
  parser.add_argument(
    '--drive', metavar='CAPTURE', type=pathlib.Path, help='capture whose motion can be played'
  )
  parser.add_argument(
    '--port', metavar='N', type=options.port, default=0, help='default: any free port'
  )
  parser.add_argument(
    '--no-browser', action='store_true', help='print the address and open no browser'
  )
  parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
  """Runs `sa0 view` until Ctrl-C; errors are raised as ValueError or OSError."""
  import webbrowser

  from sa0_jax.avatar.avatar import Avatar
  from sa0_jax.capture.capture import load_capture
  from sa0_jax.viewer.view import serve_avatars

  paths = [args.avatar] if args.other is None else [args.avatar, args.other]
  capture = None if args.drive is None else load_capture(args.drive)
  with serve_avatars([Avatar.load(path) for path in paths], capture, args.port) as server:
    print(f'showing {" and ".join(map(str, paths))} at {server.url}; Ctrl-C ends it', flush=True)
    if not args.no_browser:
      webbrowser.open(server.url)
    try:
      server.serve_forever()
    except KeyboardInterrupt:
      print()  # after the terminal's ^C
  return 0
