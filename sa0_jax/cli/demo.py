"""`sa0 demo`: a synthetic subject is filmed and becomes an avatar, in a few minutes on a laptop."""

import argparse
import dataclasses
import json
import pathlib
import shutil
import time
from collections.abc import Iterator
from concurrent import futures
from typing import TYPE_CHECKING, Any

from sa0_jax.cli import options
from sa0_jax.cli.errors import Interrupted
from sa0_jax.cli.progress import ProgressLine, duration

if TYPE_CHECKING:
  from sa0_jax.capture.capture import Capture
  from sa0_jax.refine.config import RefineConfig
  from sa0_jax.refine.loop import Progress, RefineResult

_SEED, _FRAMES, _RESOLUTION = 14, 120, 256
_LEAST_FRAMES = 5
_FPS = 12.5  # every other frame of 25: twice as much of the performance in the same filming time
# The subject turns the head as far as one asks of people who film themselves for an avatar: what no
# picture shows cannot be learnt.
_YAW = 1.0
_SWING = 5.0  # seconds of orbit in the preview


def add_parser(subparsers: argparse._SubParsersAction) -> None:
  """Registers the command."""
  parser = subparsers.add_parser(
    'demo',
    help='film a synthetic subject, make its avatar, show it',
    description='Films a synthetic subject, starts an avatar from the pictures, refines it and '
    'tests it on the last fifth of the video. DIR then holds capture/, avatar.sa0, avatar.ply, '
    'preview.mp4 (filmed beside rendered on the frames held out, then the performance beside a '
    'camera that swings 60 degrees to both sides) and report.json. The same command again '
    'continues an interrupted demo.',
    epilog='example: sa0 demo --out demo',
    allow_abbrev=False,
  )
  parser.add_argument(
    '--out', metavar='DIR', type=pathlib.Path, required=True, help='folder for the results'
  )
  parser.add_argument(
    '--seed',
    metavar='N',
    type=options.whole,
    default=_SEED,
    help=f'who is filmed (default: {_SEED})',
  )
  parser.add_argument(
    '--steps', metavar='N', type=options.positive, help="optimisation steps (default: config's)"
  )
  parser.add_argument(
    '--frames',
    metavar='N',
    type=options.positive,
    default=_FRAMES,
    help=f'length of the video (default: {_FRAMES})',
  )
  parser.add_argument(
    '--resolution',
    metavar='PX',
    type=options.positive,
    default=_RESOLUTION,
    help=f'side of the square pictures, even (default: {_RESOLUTION})',
  )
  options.add_config(parser, 'demo')
  options.add_json(parser)
  parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
  """Runs `sa0 demo`; errors are raised as ValueError, OSError or FloatingPointError."""
  begin = time.perf_counter()
  from sa0_kernels.numba_cache import compile_ahead

  from sa0_jax.export.export import export
  from sa0_jax.refine.compile_clock import CompileClock
  from sa0_jax.refine.config import RefineConfig

  settings = options.read_settings(args, RefineConfig)
  if args.steps is not None:
    settings = dataclasses.replace(settings, steps=args.steps)
  if args.resolution % 2:
    raise ValueError(f'--resolution {args.resolution}: videos need an even number')
  if args.frames < _LEAST_FRAMES:
    raise ValueError(f'--frames {args.frames}: need at least {_LEAST_FRAMES}, to hold one out')
  out: pathlib.Path = args.out
  out.mkdir(parents=True, exist_ok=True)
  with CompileClock() as compiling, futures.ThreadPoolExecutor(1) as beside:
    # Another process does this: on the first run it fills the time of filming.
    kernels = beside.submit(compile_ahead)
    capture = _film(args)
    kernels.result()
    filmed = time.perf_counter()
    result = _refine(capture, settings, out / 'checkpoints')
    result.avatar.save(out / 'avatar.sa0')
    export(result.avatar, out / 'avatar.ply')
    refined = time.perf_counter()
    _write_preview(result, capture, settings, out / 'preview.mp4')
    end = time.perf_counter()
  report = {
    **result.report,
    'seed': args.seed,
    'seconds_total': end - begin,
    'seconds_compile': compiling.seconds,
    'seconds_film': filmed - begin,
    'seconds_preview': end - refined,
  }
  _write_report(report, out / 'report.json')
  shutil.rmtree(out / 'checkpoints', ignore_errors=True)
  print(json.dumps(report, indent=2) if args.json else _summary(report, out))
  return 0


def _film(args: argparse.Namespace) -> 'Capture':
  """The capture in the output folder; filmed, unless an earlier start has done that."""
  from sa0_jax.capture.capture import load_capture
  from sa0_jax.capture.studio import Stock, StudioConfig, film_monocular, sample_session

  folder = args.out / 'capture'
  if (folder / 'capture.json').is_file():
    capture = load_capture(folder)
    found = (capture.name, len(capture), capture.width, capture.fps)
    if found != (f'studio-{args.seed}', args.frames, args.resolution, _FPS):
      raise ValueError(
        f'{folder}: holds {capture.name!r}, {len(capture)} frames of {capture.width} px, not what '
        'this demo films; give the same options as then, or another --out'
      )
    return capture
  config = StudioConfig(args.seed, frames=args.frames, resolution=args.resolution, fps=_FPS)
  session = sample_session(config)
  performance = dataclasses.replace(session.performance, yaw=_YAW)
  session = dataclasses.replace(session, performance=performance)
  with ProgressLine('film') as line:
    line.write('preparing the subject', force=True)
    capture = film_monocular(session, Stock(args.frames, _FPS, args.resolution), line.count)
  capture.save(folder)
  return capture


def _refine(
  capture: 'Capture', settings: 'RefineConfig', checkpoints: pathlib.Path
) -> 'RefineResult':
  from sa0_jax.cli.refine import progress_text
  from sa0_jax.refine.loop import refine_subjects

  with ProgressLine('refine') as line:
    line.write(f'{settings.steps} steps: colours from the video, compiling', force=True)

    def show(at: 'Progress') -> None:
      line.write(progress_text(at), force=True)

    try:
      [result] = refine_subjects(
        [None], [capture], settings, checkpoints=checkpoints, progress=show
      )
    except KeyboardInterrupt as error:
      raise Interrupted('the same command again continues there') from error
  return result


def _write_preview(
  result: 'RefineResult', capture: 'Capture', settings: 'RefineConfig', path: pathlib.Path
) -> None:
  """Filmed beside rendered on the held-out frames, then the avatar from a swinging camera."""
  from sa0_jax.refine.hold_out import divide
  from sa0_jax.refine.preview import comparison
  from sa0_jax.video import write_video

  tested = divide(capture, settings.held_out).shown
  swing = round(_SWING * capture.fps)
  with ProgressLine('preview') as line:

    def pictures() -> Iterator[Any]:
      yield from comparison(result.avatar, capture, tested, settings.background)
      yield from _swing(result, capture, settings, swing)

    def counted() -> Iterator[Any]:
      for done, picture in enumerate(pictures(), 1):
        line.count(done, len(tested) + swing)
        yield picture

    write_video(path, counted(), capture.fps)


def _swing(
  result: 'RefineResult', capture: 'Capture', settings: 'RefineConfig', frames: int
) -> Iterator[Any]:
  """The performance from the video's camera on the left, an orbit on the right."""
  import numpy as np

  from sa0_jax.cli.orbit import Orbit, orbit_drive
  from sa0_jax.refine.preview import to_bytes
  from sa0_jax.render import Renderer

  avatar = result.avatar
  renderer = Renderer(avatar, settings.background)
  drive = orbit_drive(avatar, Orbit(frames, capture.width))
  for index, (codes, camera) in enumerate(drive):
    position = index % len(capture)
    performed = renderer(capture.frame_codes(position), capture.frame_camera(position))
    yield to_bytes(np.concatenate([performed.rgb, renderer(codes, camera).rgb], axis=1))


def _write_report(report: dict[str, Any], path: pathlib.Path) -> None:
  from sa0_jax import archive

  with archive.atomic_write(path) as file:
    file.write((json.dumps(report, indent=2) + '\n').encode())


def _summary(report: dict[str, Any], out: pathlib.Path) -> str:
  return (
    f'{report["held_out_frames"]} held-out frames: PSNR {report["psnr"]:.2f} dB, SSIM '
    f'{report["ssim"]:.4f}; {report["num_gaussians"]} Gaussians, max aspect '
    f'{report["max_aspect_ratio"]:.1f}; {duration(report["seconds_total"])} '
    f'({duration(report["seconds_compile"])} compiling)\n'
    f'look at {out / "preview.mp4"}; the avatar is {out / "avatar.sa0"}'
  )
