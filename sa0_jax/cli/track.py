"""`sa0 track`: a video or images become a capture."""

import argparse
import dataclasses
import json
import pathlib
from typing import TYPE_CHECKING, Any

from sa0_jax.cli import options
from sa0_jax.cli.errors import Interrupted
from sa0_jax.cli.progress import ProgressLine, StageProgress

if TYPE_CHECKING:
  from sa0_jax.capture.track.track import TrackResult

_SHOWN_FAILURES = 5


def add_parser(subparsers: argparse._SubParsersAction) -> None:
  """Registers the command."""
  parser = subparsers.add_parser(
    'track',
    help='track the head in a video or in images',
    description='Tracks the head in a video, a folder of images or one image: landmarks and matte '
    'by MediaPipe (installed into an environment of its own on first use, about 1 GB), a fit of '
    'the head model to them, and a photometric refinement of it. Writes the capture folder, a '
    'report (CAPTURE.track.json), and CAPTURE.overlay.mp4 to look at. Finished stages are kept in '
    'CAPTURE.work until the capture is complete: the same command again continues.',
    epilog='example: sa0 track clip.mp4 --out subject',
    allow_abbrev=False,
  )
  parser.add_argument(
    'input', metavar='INPUT', type=pathlib.Path, help='video, image, or folder of images'
  )
  parser.add_argument(
    '--out', metavar='CAPTURE', type=pathlib.Path, required=True, help='capture folder to write'
  )
  parser.add_argument(
    '--head', default='procedural', help='head model: a name of `sa0 head list`, or a file'
  )
  parser.add_argument(
    '--resolution',
    metavar='PX',
    type=options.positive,
    default=512,
    help='side of the square images (default: 512)',
  )
  parser.add_argument(
    '--stride', metavar='N', type=options.positive, default=1, help='take every N-th frame'
  )
  parser.add_argument(
    '--max-frames', metavar='N', type=options.positive, help='stop after N frames'
  )
  parser.add_argument(
    '--shot',
    metavar='N',
    type=options.whole,
    help='which shot of a video with cuts, from 0 (default: the longest)',
  )
  parser.add_argument(
    '--landmarks',
    metavar='FILE.npz',
    type=pathlib.Path,
    help="MediaPipe landmarks made elsewhere: an array 'landmarks' [frames, 478, 3], px "
    'of the upright pictures',
  )
  parser.add_argument(
    '--mattes',
    metavar='PATH',
    type=pathlib.Path,
    help='mattes of the person made elsewhere: a folder of images or a video, one for each frame '
    'and of its size, white where the person is; with --landmarks, too, MediaPipe is not needed',
  )
  parser.add_argument(
    '--keep-clothes', action='store_true', help='do not cut the matte below the neck'
  )
  parser.add_argument(
    '--landmarks-only', action='store_true', help='leave the photometric stages out'
  )
  options.add_json(parser)
  parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
  """Runs `sa0 track`; errors are raised as ValueError, OSError or RuntimeError."""
  from sa0_jax import archive
  from sa0_jax.capture.track.observations import landmark_targets
  from sa0_jax.capture.track.overlay import write_overlay
  from sa0_jax.capture.track.track import TrackConfig, track_footage
  from sa0_jax.head.registry import load_head

  name = args.out.name
  # Not .report.json: that is what the refinement of an avatar of the same name writes.
  report_path, overlay_path, work = (
    args.out.with_name(name + suffix) for suffix in ('.track.json', '.overlay.mp4', '.work')
  )
  options.check_output(report_path)
  if args.out.exists() and not (args.out / 'capture.json').is_file():
    raise ValueError(f'{args.out}: exists and is no capture; choose another place')
  head = load_head(args.head)
  config = TrackConfig(
    resolution=args.resolution,
    stride=args.stride,
    max_frames=args.max_frames or 0,
    shot=args.shot,
    cut_clothes=not args.keep_clothes,
    landmarks=None if args.landmarks is None else str(args.landmarks),
    mattes=None if args.mattes is None else str(args.mattes),
  )
  if args.landmarks_only:
    config = dataclasses.replace(config, photometric=())
  with ProgressLine('track') as line:
    show = StageProgress(line)
    try:
      result = track_footage(args.input, head, config, work=work, progress=show)
    except KeyboardInterrupt as error:
      kept = f'finished stages are kept in {work}: the same command again continues there'
      raise Interrupted(kept) from error
    line.write('writing the capture and its overlay')
    result.capture.save(args.out)
    write_overlay(overlay_path, result.capture, head, landmark_targets(head))
  with archive.atomic_write(report_path) as file:
    file.write((json.dumps(result.report, indent=2) + '\n').encode())
  result.remove_work()
  print(json.dumps(result.report, indent=2) if args.json else _summary(result, args.out))
  return 0


def _summary(result: 'TrackResult', out: pathlib.Path) -> str:
  report: dict[str, Any] = result.report
  lines = [
    f'wrote {out}: {report["tracked"]} of {report["frames"]} frames tracked, '
    f'landmark error {report["landmark_error_px"]:.2f} px at 512',
  ]
  shots = report['shots']
  if len(shots) > 1:
    number, (first, end) = shots.index(list(report['span'])), report['span']
    lines.append(
      f'the video has {len(shots)} shots: this is shot {number}, frames {first} to {end - 1}; '
      '--shot takes another'
    )
  for failure in result.failures[:_SHOWN_FAILURES]:
    lines.append(f'left out frame {failure.frame}: {failure.reason}')
  if len(result.failures) > _SHOWN_FAILURES:
    lines.append(f'… and {len(result.failures) - _SHOWN_FAILURES} more, see the report')
  return '\n'.join(lines)
