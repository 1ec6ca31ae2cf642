"""`sa0 evaluate`: a generator or an avatar against what was filmed, in numbers and pictures."""

import argparse
import json
import pathlib
from typing import TYPE_CHECKING, Any

from sa0_jax.cli import options
from sa0_jax.cli.errors import Interrupted
from sa0_jax.cli.progress import ProgressLine

if TYPE_CHECKING:
  from sa0_jax.evaluate.models import Model
  from sa0_jax.evaluate.run import EvaluateConfig

_EXPORTED = 'generator.npz'  # what training leaves in its folder at the end of a phase


def add_parser(subparsers: argparse._SubParsersAction) -> None:
  """Registers the command."""
  parser = subparsers.add_parser(
    'evaluate',
    help='score a generator or an avatar on captures',
    description='Renders frames of captures and compares them with what was filmed. OUT then holds '
    'report.json, report.md, a picture and a result file for each clip; the same command again '
    'goes on where it was cut off.',
    epilog='example: sa0 evaluate --captures captures --generator generator.npz --protocol self '
    '--resolution 256 --out scores',
    allow_abbrev=False,
  )
  parser.add_argument(
    '--captures', metavar='DIR', type=pathlib.Path, required=True, help='folder of capture folders'
  )
  parser.add_argument(
    '--split',
    metavar='FILE',
    type=pathlib.Path,
    help='which of them: names, one a line, or a .json list that names frames (default: all)',
  )
  _add_model(parser)
  parser.add_argument(
    '--protocol', choices=('self', 'cross', 'per-subject'), default='self', help='default: self'
  )
  parser.add_argument(
    '--resolution', metavar='PX', type=options.positive, default=512, help='default: 512'
  )
  options.add_background(parser)
  parser.add_argument(
    '--test-frames',
    metavar='N',
    type=options.positive,
    default=350,
    help='per-subject, without split.json: the last N frames (default: 350)',
  )
  _add_networks(parser)
  parser.add_argument(
    '--save-frames', action='store_true', help='keep rendered, driving and source frames as PNG'
  )
  parser.add_argument('--beside', metavar='TABLE', help="the paper's table to stand beside")
  parser.add_argument(
    '--out', metavar='DIR', type=pathlib.Path, required=True, help='folder for the results'
  )
  options.add_json(parser)
  parser.set_defaults(run=run)


def _add_model(parser: argparse.ArgumentParser) -> None:
  """Adds what is evaluated."""
  model = parser.add_mutually_exclusive_group(required=True)
  model.add_argument('--generator', metavar='FILE', type=pathlib.Path, help='generator file')
  model.add_argument(
    '--workdir', metavar='DIR', type=pathlib.Path, help=f'training folder: its {_EXPORTED}'
  )
  model.add_argument(
    '--avatar',
    metavar='FILE|DIR',
    type=pathlib.Path,
    help='avatar file, or a folder with NAME.sa0 for each clip',
  )
  parser.add_argument(
    '--checkpoint',
    metavar='STEP|latest|best',
    type=_which,
    help=f'of --workdir: this checkpoint instead of {_EXPORTED}; best is the one with the highest '
    'score on held-out people',
  )


def _add_networks(parser: argparse.ArgumentParser) -> None:
  """Adds what measures."""
  parser.add_argument(
    '--lpips',
    metavar=('alex|vgg', 'BACKBONE', 'LINEAR'),
    nargs=3,
    action='append',
    default=[],
    help='weights of LPIPS; may be given for both networks',
  )
  parser.add_argument(
    '--arcface',
    metavar='FILE.onnx',
    type=pathlib.Path,
    help='your ArcFace network, for CSIM (extra `onnx`), see docs/evaluation.md',
  )
  parser.add_argument(
    '--deep3d',
    metavar='FILE.onnx',
    type=pathlib.Path,
    help='your Deep3DFaceRecon network, for AED and APD (extra `onnx`)',
  )
  parser.add_argument(
    '--coefficients',
    metavar='DIR',
    type=pathlib.Path,
    help='outputs of face networks run elsewhere, for CSIM, AED, APD and AKD',
  )
  parser.add_argument(
    '--track',
    action='store_true',
    help='track what is rendered and filmed (MediaPipe, installed when first used): our own '
    'distances of expression, pose and landmarks',
  )


def _which(text: str) -> int | str:
  """A checkpoint (an argparse type)."""
  if text in ('latest', 'best'):
    return text
  if not text.isdecimal():
    raise argparse.ArgumentTypeError(f'{text!r} is no checkpoint: a step, latest or best')
  return int(text)


def run(args: argparse.Namespace) -> int:
  """Runs `sa0 evaluate`; errors are raised as ValueError, OSError or ImportError."""
  from sa0_jax import archive
  from sa0_jax.evaluate import tracked
  from sa0_jax.evaluate.clips import clips_of_folder, read_clips
  from sa0_jax.evaluate.coefficients import check_given_once
  from sa0_jax.evaluate.faces import load_face_networks
  from sa0_jax.evaluate.models import CheckpointModel
  from sa0_jax.evaluate.report import summarize, to_markdown
  from sa0_jax.evaluate.run import EvaluateConfig, Work, evaluate

  config = EvaluateConfig(
    protocol=args.protocol,
    resolution=args.resolution,
    background=args.background,
    test_frames=args.test_frames,
    save_frames=args.save_frames,
  )
  report_path = options.check_output(args.out / 'report.json')
  # A table of another protocol is refused now, not after hours.
  to_markdown(summarize([], config, {}), args.beside)
  clips = read_clips(args.split) if args.split else clips_of_folder(args.captures)
  weights, sources = _lpips(args.lpips)
  described = json.dumps(sources, sort_keys=True) if sources else ''
  networks = load_face_networks(args.arcface, args.deep3d)
  measured = {} if networks is None else networks.sources
  if args.coefficients is not None:
    check_given_once(args.coefficients, [clip.name for clip in clips], measured)
  model = _model(args)
  if args.track:
    measured = {**measured, **dict.fromkeys(tracked.METRICS, tracked.SOURCE)}
  work = Work(args.captures, clips, args.out, weights, described, networks, args.track)
  with ProgressLine('evaluate') as line:
    try:
      results = evaluate(model, work, config, line.count)
    except KeyboardInterrupt as error:
      raise Interrupted('finished clips are kept: the same command again goes on') from error
  if args.coefficients is not None:
    sources |= _add_coefficients(args.coefficients, results, config)
  report = summarize(results, config, sources | measured)
  if isinstance(model, CheckpointModel):
    position = model.position
    report['checkpoint'] = {
      'step': position.step,
      'phase': position.phase,
      'score': position.score,
    }
  page = to_markdown(report, args.beside)
  for path, text in (
    (report_path, json.dumps(report, indent=2) + '\n'),
    (args.out / 'report.md', page),
  ):
    with archive.atomic_write(path) as file:
      file.write(text.encode())
  print(json.dumps(report, indent=2) if args.json else f'{page}\nwrote {report_path}')
  return 0


def _add_coefficients(
  folder: pathlib.Path, results: list[dict[str, Any]], config: 'EvaluateConfig'
) -> dict[str, str]:
  """Adds their metrics to the rows of the results; returns what these rest on."""
  from sa0_jax.evaluate.coefficients import METRICS, face_rows

  for result in results:
    faces = face_rows(folder, result, config.protocol, config.resolution)
    for row, values in zip(result['frames'], faces, strict=True):
      row.update(values)
  return dict.fromkeys(METRICS.values(), f'files in {folder.name}')


def _model(args: argparse.Namespace) -> 'Model':
  from sa0_jax.evaluate.models import AvatarModel, CheckpointModel, GeneratorModel

  if args.checkpoint is not None:
    if args.workdir is None:
      raise ValueError('--checkpoint picks one of a training folder: give its --workdir')
    return CheckpointModel(args.workdir, args.checkpoint)
  if args.avatar is not None:
    return AvatarModel(args.avatar)
  if args.generator is not None:
    return GeneratorModel(args.generator)
  path = args.workdir / _EXPORTED
  if not path.is_file():
    raise FileNotFoundError(
      f'{path}: no such generator; training writes it when a phase ends, before that take '
      '--checkpoint latest'
    )
  return GeneratorModel(path)


def _lpips(given: list[list[str]]) -> tuple[dict[str, Any], dict[str, str]]:
  """Weights by network, and the hashes of their files by metric."""
  from sa0_jax.evaluate.models import file_digest
  from sa0_jax.losses.lpips import load_lpips

  weights: dict[str, Any] = {}
  sources: dict[str, str] = {}
  for network, backbone, linear in given:
    if network not in ('alex', 'vgg'):
      raise ValueError(f"--lpips: the network is 'alex' or 'vgg', got {network!r}")
    weights[network] = load_lpips(backbone, linear, 'alex' if network == 'alex' else 'vgg')
    digests = [file_digest(path)[:12] for path in (backbone, linear)]
    sources[f'lpips_{network}'] = f'weights {digests[0]}, {digests[1]}'
  return weights, sources
