"""`sa0 reconstruct`: one to four portraits become an avatar in one forward pass."""

import argparse
import json
import pathlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from sa0_jax.cli import options
from sa0_jax.cli.progress import ProgressLine, StageProgress

if TYPE_CHECKING:
  from sa0_jax.capture.capture import Capture
  from sa0_jax.generator.generator import Generator

_MAX_IMAGES = 4


def add_parser(subparsers: argparse._SubParsersAction) -> None:
  """Registers the command."""
  parser = subparsers.add_parser(
    'reconstruct',
    help='make an avatar of one to four portraits',
    description='Makes an avatar of frames of a capture, or of one to four images of one person, '
    'which are tracked first, in one forward pass of a trained generator.',
    epilog='example: sa0 reconstruct portrait.jpg --out subject.sa0',
    allow_abbrev=False,
  )
  parser.add_argument(
    'inputs',
    metavar='CAPTURE|IMAGE',
    nargs='+',
    type=pathlib.Path,
    help='a capture folder, or one to four images of one person',
  )
  parser.add_argument(
    '--out', metavar='AVATAR', type=pathlib.Path, required=True, help='avatar file to write'
  )
  parser.add_argument(
    '--checkpoint',
    metavar='FILE',
    type=pathlib.Path,
    help='generator file, as training writes it (default: the small one that comes along)',
  )
  parser.add_argument(
    '--sources',
    metavar='N,N',
    type=_positions,
    help='which frames of the capture, counted from 0 (default: the first)',
  )
  parser.add_argument(
    '--uv-size',
    metavar='TEXELS',
    type=int,
    help="side of the UV image the Gaussians lie on, the network's or more: more and smaller "
    'Gaussians',
  )
  parser.add_argument(
    '--head', default='procedural', help='head model that images are tracked with'
  )
  options.add_json(parser)
  parser.set_defaults(run=run)


def _positions(text: str) -> tuple[int, ...]:
  """Frame positions (an argparse type)."""
  words = text.split(',')
  if not all(word.strip().isdecimal() for word in words):
    raise argparse.ArgumentTypeError(f'{text!r} are no frame positions: numbers like 0,40')
  return tuple(int(word) for word in words)


def run(args: argparse.Namespace) -> int:
  """Runs `sa0 reconstruct`; errors are raised as ValueError, OSError or RuntimeError."""
  from sa0_jax.capture.capture import load_capture
  from sa0_jax.generator.checkpoint import load_generator
  from sa0_jax.generator.reconstruct import reconstruct

  options.check_output(args.out)
  generator = load_generator(args.checkpoint)  # before the images are tracked, which takes longer
  first = args.inputs[0]
  if len(args.inputs) == 1 and first.is_dir():
    capture, sources = load_capture(first), args.sources or (0,)
  else:
    if args.sources is not None:
      raise ValueError('--sources picks frames of a capture; of images all are used')
    capture = _track(args, generator)
    sources = tuple(range(len(capture)))
  begin = time.perf_counter()
  avatar = reconstruct(capture, sources, generator, uv_size=args.uv_size)
  seconds = time.perf_counter() - begin
  avatar.save(args.out)
  report = {
    'avatar': str(args.out),
    'num_gaussians': avatar.n,
    'sources': [int(capture.ids[position]) for position in sources],
    'seconds': seconds,
  }
  print(json.dumps(report, indent=2) if args.json else _text(report))
  return 0


def _text(report: dict[str, Any]) -> str:
  return (
    f'wrote {report["avatar"]}: {report["num_gaussians"]} Gaussians of '
    f'{len(report["sources"])} source images, {report["seconds"]:.1f} s'
  )


def _track(args: argparse.Namespace, generator: 'Generator') -> 'Capture':
  """Tracks images of one person, in the order given; every one must show a face."""
  from sa0_jax.capture.track.footage import Footage
  from sa0_jax.capture.track.track import TrackConfig, track_footage
  from sa0_jax.generator.reconstruct import compile_ahead
  from sa0_jax.head.registry import load_head

  images = args.inputs
  _check_images(images)
  footage, head, config = Footage.of_images(images), load_head(args.head), TrackConfig()
  # The detectors are another process: what comes after them is compiled while they look.
  pool = ThreadPoolExecutor(1)
  compiled = pool.submit(
    compile_ahead, generator, head, config.resolution, len(images), args.uv_size
  )
  with ProgressLine('track') as line:
    result = track_footage(footage, head, config, progress=StageProgress(line))
  if len(result.capture) < len(images):
    failed = [images[failure.frame].name for failure in result.failures]
    raise ValueError(f'no face was found in {", ".join(failed)}: leave it out')
  compiled.result()
  return result.capture


def _check_images(images: list[pathlib.Path]) -> None:
  from sa0_jax.capture.track.footage import IMAGE_SUFFIXES

  if len(images) > _MAX_IMAGES:
    raise ValueError(f'{len(images)} images were given, the generator takes 1 to {_MAX_IMAGES}')
  for image in images:
    if not image.is_file():
      raise FileNotFoundError(f'{image}: no such image, and no capture folder')
    if image.suffix.lower() not in IMAGE_SUFFIXES:
      raise ValueError(f'{image}: not an image ({", ".join(IMAGE_SUFFIXES)}); track videos first')
