"""Pictures as commands write them: a video, or a folder of .png files."""

import argparse
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

from sa0_jax.cli import options
from sa0_jax.cli.progress import ProgressLine


def add_options(parser: argparse.ArgumentParser, frames: str) -> None:
  """Adds `--out`, `--background` and `--frames`.

  Args:
    parser: of a command that renders.
    frames: help of `--frames`.
  """
  parser.add_argument(
    '--out',
    metavar='PATH',
    type=pathlib.Path,
    required=True,
    help='a video (.mp4), or a name without suffix: a folder of .png pictures',
  )
  options.add_background(parser)
  parser.add_argument(
    '--frames',
    metavar='N|START:STOP[:STEP]',
    type=options.frame_range,
    default=slice(None),
    help=frames,
  )


def even(pixels: int, out: pathlib.Path) -> int:
  """Videos need even sides: rounded up; pictures take any."""
  return pixels + pixels % 2 if out.suffix else pixels


def check_out(out: pathlib.Path) -> None:
  """A video or a folder of our own pictures: nothing else is ever replaced."""
  if out.suffix:
    if out.suffix.lower() not in ('.mp4', '.mov', '.mkv'):
      raise ValueError(f'{out}: use .mp4, .mov or .mkv, or no suffix for a folder of pictures')
    options.check_output(out)
    return
  options.check_folder(out, r'\d{6}\.png')


def counted(pictures: Iterable[Any], total: int, line: ProgressLine) -> Iterator[Any]:
  """Passes pictures on and says how many have gone by."""
  for done, picture in enumerate(pictures, 1):
    line.count(done, total)
    yield picture


def write(out: pathlib.Path, pictures: Iterable[Any], fps: float) -> None:
  """Writes a video or a folder of pictures, whole or not at all."""
  from sa0_jax import archive
  from sa0_jax.capture import image_files
  from sa0_jax.video import write_video

  if out.suffix:
    write_video(out, pictures, fps)
    return
  with archive.atomic_folder(out) as folder:
    for number, picture in enumerate(pictures):
      image_files.write(folder / f'{number:06d}.png', picture)
