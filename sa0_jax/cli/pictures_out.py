"""Pictures as commands write them: a video, or a folder of .png files."""

import pathlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

from sa0_jax.cli import options
from sa0_jax.cli.progress import ProgressLine

_PICTURE = re.compile(r'\d{6}\.png')


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
  if out.is_file() or (out.is_dir() and not all(_PICTURE.fullmatch(p.name) for p in out.iterdir())):
    raise ValueError(f'{out}: exists and holds other things; choose another place')
  out.parent.mkdir(parents=True, exist_ok=True)


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
