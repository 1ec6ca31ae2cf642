"""`sa0 demo`: a synthetic subject is filmed and becomes an avatar, in a few minutes on a laptop.

Twice: of its first frame alone, by the generator that comes along, and of the video, by refinement.

Refinement does not go on from the generator's avatar, which is ahead for the first hundred steps:
from the mesh, with colours of the video, it ends 0.7 dB higher (docs/refine_tuning.md).
"""

import argparse
import dataclasses
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
  from sa0_jax.avatar.avatar import Avatar
  from sa0_jax.capture.capture import Capture
  from sa0_jax.refine.compile_clock import CompileClock
  from sa0_jax.refine.config import RefineConfig
  from sa0_jax.refine.loop import Progress, RefineResult

_SEED, _FRAMES, _RESOLUTION = 14, 120, 256
_LEAST_FRAMES = 5
_FPS = 12.5  # every other frame of 25: twice as much of the performance in the same filming time
# The subject turns the head as far as one asks of people who film themselves for an avatar: what no
# picture shows cannot be learnt.
_YAW = 1.0
_SOURCE = 0  # the frame of which the generator makes an avatar
_SWING = 5.0  # seconds of orbit in the preview


def add_parser(subparsers: argparse._SubParsersAction) -> None:
  """Registers the command."""
  parser = subparsers.add_parser(
    'demo',
    help='film a synthetic subject, make its avatar, show it',
    description='Films a synthetic subject, makes an avatar of the first frame alone with the '
    'generator that comes along, refines another on the video, and tests both on the last fifth of '
    'it. DIR then holds capture/, one_shot.sa0, avatar.sa0, avatar.ply, preview.mp4 (on the frames '
    'held out: filmed, of one frame, refined; then the performance, and both from a camera that '
    'swings 60 degrees to both sides) and report.json. The same command again continues an '
    'interrupted demo.',
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

  from sa0_jax import archive
  from sa0_jax.cli.refine import strict_json
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
    one_shot, about_it = _one_shot(capture, settings, compiling)
    one_shot.save(out / 'one_shot.sa0')
    result = _refine(capture, settings, out / 'checkpoints')
    result.avatar.save(out / 'avatar.sa0')
    export(result.avatar, out / 'avatar.ply')
    refined = time.perf_counter()
    _write_preview([one_shot, result.avatar], capture, settings, out / 'preview.mp4')
    end = time.perf_counter()
  report = {
    **result.report,
    'one_shot': about_it,
    'seed': args.seed,
    'seconds_total': end - begin,
    'seconds_compile': compiling.seconds,
    'seconds_film': filmed - begin,
    'seconds_preview': end - refined,
  }
  text = strict_json(report)
  with archive.atomic_write(out / 'report.json') as file:
    file.write((text + '\n').encode())
  shutil.rmtree(out / 'checkpoints', ignore_errors=True)
  print(text if args.json else _summary(report, out))
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


def _one_shot(
  capture: 'Capture', settings: 'RefineConfig', compiling: 'CompileClock'
) -> tuple['Avatar', dict[str, Any]]:
  """The generator's avatar of the first frame, and the report of it."""
  from sa0_jax.generator.checkpoint import load_generator
  from sa0_jax.generator.reconstruct import reconstruct
  from sa0_jax.refine.evaluate import score_avatar
  from sa0_jax.refine.hold_out import divide

  with ProgressLine('one shot') as line:
    line.write('an avatar of the first frame: compiling', force=True)
    begin, compiled = time.perf_counter(), compiling.seconds
    network = load_generator()
    # As many Gaussians as refinement has: one program renders both.
    size = max(settings.uv_size, network.config.uv_size)
    avatar = reconstruct(capture, [_SOURCE], network, uv_size=size)
    report = {
      'source': _SOURCE,
      'num_gaussians': avatar.n,
      'seconds': time.perf_counter() - begin,
      'seconds_compile': compiling.seconds - compiled,
    }
    line.write('scoring it', force=True)
    scores = score_avatar(avatar, capture, divide(capture, settings.held_out).shown, settings)
  return avatar, {**report, 'psnr': scores.psnr, 'ssim': scores.ssim}


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
  avatars: list['Avatar'], capture: 'Capture', settings: 'RefineConfig', path: pathlib.Path
) -> None:
  """Filmed beside rendered on the held-out frames, then the avatars from a swinging camera."""
  from sa0_jax.refine.hold_out import divide
  from sa0_jax.refine.preview import comparison
  from sa0_jax.video import write_video

  tested = divide(capture, settings.held_out).shown
  swing = round(_SWING * capture.fps)
  with ProgressLine('preview') as line:

    def pictures() -> Iterator[Any]:
      yield from comparison(avatars, capture, tested, settings.background)
      yield from _swing(avatars, capture, settings, swing)

    def counted() -> Iterator[Any]:
      for done, picture in enumerate(pictures(), 1):
        line.count(done, len(tested) + swing)
        yield picture

    write_video(path, counted(), capture.fps)


def _swing(
  avatars: list['Avatar'], capture: 'Capture', settings: 'RefineConfig', frames: int
) -> Iterator[Any]:
  """The last one's performance from the video's camera on the left, then an orbit of each."""
  import numpy as np

  from sa0_jax.cli.orbit import Orbit, orbit_drive
  from sa0_jax.refine.preview import to_bytes
  from sa0_jax.render import Renderer

  renderers = [Renderer(avatar, settings.background) for avatar in avatars]
  drive = orbit_drive(avatars[-1], Orbit(frames, capture.width))
  for index, (codes, camera) in enumerate(drive):
    position = index % len(capture)
    performed = renderers[-1](capture.frame_codes(position), capture.frame_camera(position))
    turned = [renderer(codes, camera).rgb for renderer in renderers]
    yield to_bytes(np.concatenate([performed.rgb, *turned], axis=1))


def _summary(report: dict[str, Any], out: pathlib.Path) -> str:
  first = report['one_shot']
  return (
    f'of one frame, in {duration(first["seconds"])} ({duration(first["seconds_compile"])} '
    f'compiling): PSNR {first["psnr"]:.2f} dB, SSIM {first["ssim"]:.4f} on '
    f'{report["held_out_frames"]} held-out frames\n'
    f'refined for {report["steps"]} steps: PSNR {report["psnr"]:.2f} dB, SSIM '
    f'{report["ssim"]:.4f}; {report["num_gaussians"]} Gaussians, max aspect '
    f'{report["max_aspect_ratio"]:.1f}; {duration(report["seconds_total"])} '
    f'({duration(report["seconds_compile"])} compiling)\n'
    f'look at {out / "preview.mp4"}; the avatars are {out / "one_shot.sa0"} and '
    f'{out / "avatar.sa0"}'
  )
