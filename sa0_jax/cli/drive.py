"""`sa0 drive`: an avatar moved by somebody else, by a phone or by an audio model."""

import argparse
import json
import pathlib
import time
from typing import TYPE_CHECKING

from sa0_jax.cli import options, pictures_out
from sa0_jax.cli.progress import ProgressLine, StageProgress

if TYPE_CHECKING:
  from sa0_jax.drive.motion import Motion
  from sa0_jax.head.model import HeadModel

_SIZE = 512


def add_parser(subparsers: argparse._SubParsersAction) -> None:
  """Registers the command."""
  parser = subparsers.add_parser(
    'drive',
    help='move an avatar by another performance',
    description='Renders an avatar moved by another performance, from the front: a capture of '
    'somebody else (tracked with the same head model), a video (tracked first: see `sa0 track`), a '
    'CSV file of Live Link Face, or a .npz file of FLAME codes [t, 106 or 112]. Motions are taken '
    "relative to the driver's own neutral. docs/driving.md has the details.",
    epilog='example: sa0 drive subject.sa0 --with other --out driven.mp4',
    allow_abbrev=False,
  )
  parser.add_argument('avatar', metavar='AVATAR', type=pathlib.Path, help='avatar file')
  parser.add_argument(
    '--with',
    dest='source',
    metavar='SOURCE',
    type=pathlib.Path,
    required=True,
    help='a capture, a video, a .csv or a .npz file',
  )
  pictures_out.add_options(parser, 'which frames of the source (default: all)')
  parser.add_argument(
    '--neutral',
    metavar='N|auto|none',
    default=None,
    help="the driver's neutral: a frame, auto finds one, none takes codes as they are (default: "
    'auto for captures and videos, none for .csv and .npz)',
  )
  parser.add_argument(
    '--map', metavar='FILE', type=pathlib.Path, help='.csv: what ARKit shapes do, as JSON'
  )
  parser.add_argument(
    '--size', metavar='PX', type=options.positive, default=_SIZE, help='side (default: 512)'
  )
  parser.add_argument('--fps', metavar='N', type=float, help="default: the source's")
  options.add_json(parser)
  parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
  """Runs `sa0 drive`; errors are raised as ValueError, OSError or RuntimeError."""
  from sa0_jax.avatar.avatar import Avatar
  from sa0_jax.drive.motion import neutral_of, portrait_drive, relative_to
  from sa0_jax.refine.preview import to_bytes
  from sa0_jax.render import Renderer

  pictures_out.check_out(args.out)
  avatar = Avatar.load(args.avatar)
  motion, default = _motion(args, avatar.head)
  word = args.neutral or default
  if word not in ('auto', 'none') and not word.isdecimal():
    raise ValueError(f"--neutral: {word!r} is neither a frame's number nor auto nor none")
  frame = (
    None if word == 'none' else neutral_of(motion, avatar.head) if word == 'auto' else int(word)
  )
  motion = motion if frame is None else relative_to(motion, frame)
  drive = portrait_drive(avatar, motion, pictures_out.even(args.size, args.out))[args.frames]
  if not drive:
    raise ValueError(f'--frames: selects none of the {len(motion)} frames of {args.source}')
  renderer, fps = Renderer(avatar, args.background), args.fps or motion.fps
  begin = time.perf_counter()
  with ProgressLine('drive') as line:
    pictures = (to_bytes(picture.rgb) for picture in renderer.frames(drive))
    pictures_out.write(args.out, pictures_out.counted(pictures, len(drive), line), fps)
  seconds = time.perf_counter() - begin
  report = {
    'path': str(args.out),
    'frames': len(drive),
    'size': drive[0][1].width,
    'fps': fps,
    'neutral': frame,
    'seconds': seconds,
  }
  if args.json:
    print(json.dumps(report, indent=2))
  else:
    neutral = '' if frame is None else f', neutral is frame {frame}'
    print(f'wrote {args.out}: {len(drive)} frames at {fps:g} fps in {seconds:.1f} s{neutral}')
  return 0


def _motion(args: argparse.Namespace, head: 'HeadModel') -> tuple['Motion', str]:
  """The source's motion, and how its neutral is found unless the user says so."""
  from sa0_jax.capture.capture import load_capture
  from sa0_jax.drive.arkit import read_arkit_csv
  from sa0_jax.drive.flame_codes import read_flame_codes
  from sa0_jax.drive.motion import capture_motion

  source, suffix = args.source, args.source.suffix.lower()
  if args.map is not None and suffix != '.csv':
    raise ValueError('--map: only .csv files of ARKit shapes are mapped')
  if suffix == '.csv':
    return read_arkit_csv(source, head, args.map), 'none'
  if suffix == '.npz':
    return read_flame_codes(source, head), 'none'
  if source.is_file():
    return _tracked(args, head), 'auto'
  capture = load_capture(source)
  capture.check_head(head)
  return capture_motion(capture), 'auto'


def _tracked(args: argparse.Namespace, head: 'HeadModel') -> 'Motion':
  """A video's motion; stages of an interrupted run are kept beside the output."""
  from sa0_jax.capture.track.track import track
  from sa0_jax.drive.motion import capture_motion

  with ProgressLine('track') as line:
    work = args.out.with_name(args.out.name + '.work')
    return capture_motion(track(args.source, head, work=work, progress=StageProgress(line)))
