"""`sa0 refine`: a capture becomes an avatar, or an avatar a better one."""

import argparse
import json
import math
import pathlib
import shutil
import time
from typing import TYPE_CHECKING, Any

from sa0_jax.cli import options
from sa0_jax.cli.errors import Interrupted
from sa0_jax.cli.progress import ProgressLine, duration

if TYPE_CHECKING:
  from sa0_jax.capture.capture import Capture
  from sa0_jax.refine.config import RefineConfig
  from sa0_jax.refine.loop import Progress, RefineResult


def add_parser(subparsers: argparse._SubParsersAction) -> None:
  """Registers the command."""
  parser = subparsers.add_parser(
    'refine',
    help='refine an avatar on a capture of its subject',
    description='Optimises the Gaussians of an avatar photometrically on the frames of a capture. '
    'Without --avatar it starts on the mesh, with colours warped from the capture. Test frames of '
    'a split.json in the capture are held out, unless --config.held_out says otherwise. '
    'Checkpoints are kept beside the result until it is complete: the same command again continues '
    'an interrupted run and ends with the same file. Writes AVATAR and its report, AVATAR with the '
    'suffix .report.json.',
    epilog='example: sa0 refine subject/ --out subject.sa0 --config.held_out=0.2 '
    '--config.resolution=256 --preview subject.mp4',
    allow_abbrev=False,
  )
  parser.add_argument('capture', metavar='CAPTURE', type=pathlib.Path, help='capture folder')
  parser.add_argument(
    '--avatar', metavar='AVATAR', type=pathlib.Path, help='avatar to start from (default: the mesh)'
  )
  parser.add_argument(
    '--out', metavar='AVATAR', type=pathlib.Path, required=True, help='avatar file to write'
  )
  parser.add_argument(
    '--preview',
    metavar='PATH.mp4',
    type=pathlib.Path,
    help='video: filmed on the left, rendered on the right; the held-out frames, if there are any',
  )
  options.add_config(parser, 'refine')
  options.add_json(parser)
  parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
  """Runs `sa0 refine`; errors are raised as ValueError, OSError or FloatingPointError."""
  begin = time.perf_counter()
  from sa0_jax.avatar.avatar import Avatar
  from sa0_jax.capture.capture import load_capture
  from sa0_jax.refine.config import RefineConfig
  from sa0_jax.refine.hold_out import divide

  settings = options.read_settings(args, RefineConfig)
  for path in filter(None, (args.out, args.preview)):
    options.check_output(path)
  capture = load_capture(args.capture)
  avatar = None if args.avatar is None else Avatar.load(args.avatar)
  checkpoints = args.out.with_name(args.out.name + '.checkpoints')
  division = divide(capture, settings.held_out)
  result = _refine(avatar, capture, settings, checkpoints, division.text)
  result.avatar.save(args.out)
  report_path = args.out.with_suffix('.report.json')
  report = {**result.report, 'seconds_total': time.perf_counter() - begin}
  _write_report(report, report_path)
  shutil.rmtree(checkpoints, ignore_errors=True)
  if args.preview is not None:
    try:
      _write_preview(args.preview, result.avatar, capture.select(division.shown), settings)
    except KeyboardInterrupt as error:
      raise Interrupted(f'{args.out} is complete, its preview is not') from error
  if args.json:
    print(strict_json(report))
  else:
    print(f'wrote {args.out} and {report_path}')
    print(_summary(report))
  return 0


def _refine(
  avatar: Any,
  capture: 'Capture',
  settings: 'RefineConfig',
  checkpoints: pathlib.Path,
  held_out: str,
) -> 'RefineResult':
  from sa0_jax.refine.loop import refine_subjects

  with ProgressLine('refine') as line:
    size = (settings.resolution or capture.width, settings.resolution or capture.height)
    resuming = ', resuming' if checkpoints.is_dir() and any(checkpoints.iterdir()) else ''
    line.write(
      f'{len(capture)} frames of {size[0]} × {size[1]}, {held_out}; {settings.steps} steps'
      f'{resuming}: reading, compiling',
      force=True,
    )

    def show(at: 'Progress') -> None:
      line.write(progress_text(at), force=True)

    try:
      [result] = refine_subjects(
        [avatar], [capture], settings, checkpoints=checkpoints, progress=show
      )
    except KeyboardInterrupt as error:
      raise Interrupted(_saved(checkpoints)) from error
  return result


def progress_text(at: 'Progress') -> str:
  """What a progress line says."""
  return (
    f'step {at.step}/{at.steps}  {at.iterations_per_second:.1f} it/s  PSNR {at.psnr:.2f} dB  '
    f'max aspect {at.max_aspect_ratio:.1f}  {duration(at.seconds_left)} left'
  )


def _saved(checkpoints: pathlib.Path) -> str:
  """What an interrupted run leaves behind."""
  steps = [int(p.name) for p in checkpoints.glob('[0-9]*') if p.name.isdecimal()]
  if not steps:
    return 'no checkpoint had been written'
  return f'step {max(steps)} is kept in {checkpoints}: the same command again continues there'


def _write_preview(
  path: pathlib.Path, avatar: Any, capture: 'Capture', settings: 'RefineConfig'
) -> None:
  import numpy as np

  from sa0_jax.refine.preview import comparison
  from sa0_jax.video import write_video

  # Camera after camera, so that the picture does not jump.
  positions = np.argsort(capture.view_ids, kind='stable')
  with ProgressLine('preview') as line:

    def counted() -> Any:
      pictures = comparison([avatar], capture, positions, settings.background)
      for done, picture in enumerate(pictures, 1):
        line.count(done, len(positions))
        # Video frames need an even height; the last row is repeated.
        yield np.pad(picture, ((0, len(picture) % 2), (0, 0), (0, 0)), mode='edge')

    write_video(path, counted(), capture.fps)


def _write_report(report: dict[str, Any], path: pathlib.Path) -> None:
  from sa0_jax import archive

  with archive.atomic_write(path) as file:
    file.write((strict_json(report) + '\n').encode())


def strict_json(report: dict[str, Any]) -> str:
  """Strict JSON: what is not finite has no number in it."""

  def finite(value: Any) -> Any:
    if isinstance(value, dict):
      return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
      return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

  return json.dumps(finite(report), indent=2, allow_nan=False)


def _summary(report: dict[str, Any]) -> str:
  tested = f'{report["held_out_frames"]} held-out frames'
  if not report['held_out_frames']:
    tested = 'training frames'
  return (
    f'{tested}: PSNR {report["psnr"]:.2f} dB, SSIM {report["ssim"]:.4f}; '
    f'{report["num_gaussians"]} Gaussians, max aspect {report["max_aspect_ratio"]:.1f}; '
    f'{report["iterations_per_second"]:.1f} it/s, {duration(report["seconds_total"])} '
    f'({duration(report["seconds_compile"])} compiling)'
  )
