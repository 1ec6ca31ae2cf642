"""`sa0 render`: an avatar, driven by a capture or seen from a swinging camera."""

import argparse
import json
import pathlib
import time
from typing import TYPE_CHECKING

from sa0_jax.cli import options, pictures_out
from sa0_jax.cli.progress import ProgressLine

if TYPE_CHECKING:
  from sa0_kernels import Camera

  from sa0_jax.avatar.avatar import Avatar
  from sa0_jax.head.model import HeadCodes

  Drive = list[tuple[HeadCodes, Camera]]

_ORBIT_FRAMES = 120
_ORBIT_SIZE = 512
_ORBIT_FPS = 30.0


def add_parser(subparsers: argparse._SubParsersAction) -> None:
  """Registers the command."""
  parser = subparsers.add_parser(
    'render',
    help='render an avatar to a video or a folder of pictures',
    description='Renders an avatar with the codes and cameras of a capture, of its own subject or '
    'of another one tracked with the same head model, or from a camera that swings 60 degrees to '
    'both sides.',
    epilog='example: sa0 render subject.sa0 --drive orbit --out orbit.mp4',
    allow_abbrev=False,
  )
  parser.add_argument('avatar', metavar='AVATAR', type=pathlib.Path, help='avatar file')
  parser.add_argument(
    '--drive', metavar='CAPTURE|orbit', default='orbit', help='what moves it (default: orbit)'
  )
  pictures_out.add_options(parser, 'which frames of the drive (default: all; 120 for orbit)')
  parser.add_argument(
    '--size',
    metavar='PX',
    type=options.positive,
    help="height of the images (default: the capture's; 512 for orbit)",
  )
  parser.add_argument('--fps', metavar='N', type=float, help="default: the capture's; 30 for orbit")
  parser.add_argument('--still', action='store_true', help='orbit: keep the face neutral')
  options.add_json(parser)
  parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
  """Runs `sa0 render`; errors are raised as ValueError or OSError."""
  from sa0_jax.avatar.avatar import Avatar
  from sa0_jax.refine.preview import to_bytes
  from sa0_jax.render import Renderer

  pictures_out.check_out(args.out)
  avatar = Avatar.load(args.avatar)
  drive, fps = _orbit(avatar, args) if args.drive == 'orbit' else _captured(avatar, args)
  if not drive:
    raise ValueError(f'--frames: selects none of the frames of {args.drive}')
  renderer = Renderer(avatar, args.background)
  with ProgressLine('render') as line:
    pictures = (to_bytes(frame.rgb) for frame in renderer.frames(drive))
    begin = time.perf_counter()
    pictures_out.write(args.out, pictures_out.counted(pictures, len(drive), line), fps)
    seconds = time.perf_counter() - begin
  width, height = drive[0][1].width, drive[0][1].height
  report = {
    'path': str(args.out),
    'frames': len(drive),
    'width': width,
    'height': height,
    'fps': fps,
    'seconds': seconds,
  }
  if args.json:
    print(json.dumps(report, indent=2))
  else:
    print(f'wrote {args.out}: {len(drive)} frames of {width} × {height} in {seconds:.1f} s')
  return 0


def _orbit(avatar: 'Avatar', args: argparse.Namespace) -> tuple['Drive', float]:
  from sa0_jax.cli.orbit import Orbit, orbit_drive

  selected, length = args.frames, _ORBIT_FRAMES
  if selected.start is None and selected.stop is not None and selected.stop > 0:
    selected, length = slice(None, None, selected.step), selected.stop  # a swing of that length
  size = pictures_out.even(args.size or _ORBIT_SIZE, args.out)
  drive = list(orbit_drive(avatar, Orbit(length, size, args.still)))
  return drive[selected], args.fps or _ORBIT_FPS


def _captured(avatar: 'Avatar', args: argparse.Namespace) -> tuple['Drive', float]:
  from sa0_jax.capture.capture import load_capture

  capture = load_capture(args.drive)
  capture.check_head(avatar.head)
  height = args.size or capture.height
  width = round(capture.width * height / capture.height)
  size = (pictures_out.even(width, args.out), pictures_out.even(height, args.out))
  positions = range(len(capture))[args.frames]
  drive = [(capture.frame_codes(p), capture.frame_camera(p).resized(*size)) for p in positions]
  return drive, args.fps or capture.fps
