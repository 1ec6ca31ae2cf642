"""`sa0 import`: other people's tracked data become captures."""

import argparse
import json
import pathlib
from typing import TYPE_CHECKING, Any

from sa0_jax.cli import options
from sa0_jax.cli.errors import EXPECTED, Interrupted, error_line
from sa0_jax.cli.progress import ProgressLine

if TYPE_CHECKING:
  from sa0_jax.capture.importers import Found, ImportOptions
  from sa0_jax.head.model import HeadModel

# Listed here so that --help need not load the importers; a test holds it against theirs.
FORMATS = ('gagavatar_track', 'vhap', 'insta', 'splattingavatar', 'nersemble', 'folder')
_SHOWN = 5


def add_parser(subparsers: argparse._SubParsersAction) -> None:
  """Registers the command."""
  parser = subparsers.add_parser(
    'import',
    help='tracked data of other tools become captures',
    description='Converts tracked data of other tools to a capture folder: codes, cameras, images '
    'and mattes, and the split where the data set has one (split.json). Codes belong to a head '
    'model, which must be installed (`sa0 head install`). A data set of one video becomes CAPTURE '
    'itself, each video of a larger one CAPTURE/NAME. docs/importing.md describes the formats.',
    epilog='example: sa0 import vhap export/074_EMO-1 --out subject --check',
    allow_abbrev=False,
  )
  parser.add_argument('format', metavar='FORMAT', choices=FORMATS, help=', '.join(FORMATS))
  parser.add_argument('path', metavar='PATH', type=pathlib.Path, help="the data set's folder")
  parser.add_argument(
    '--out', metavar='CAPTURE', type=pathlib.Path, required=True, help='capture folder to write'
  )
  parser.add_argument(
    '--head', help='head model the codes were made with (default: the usual one of the format)'
  )
  parser.add_argument(
    '--edition',
    metavar='NAME',
    help='the codes were made with this head model and not with the usual one of the format',
  )
  parser.add_argument(
    '--split',
    choices=('all', 'train', 'val', 'test'),
    default='all',
    help='frames to import (default: all, with split.json beside them)',
  )
  parser.add_argument(
    '--only',
    metavar='NAME',
    action='append',
    default=[],
    help='import only this video or sequence; may be given again',
  )
  parser.add_argument(
    '--mattes', metavar='FOLDER', type=pathlib.Path, help='mattes to use, named as the images'
  )
  parser.add_argument('--fps', type=float, help='frames per second, where the format is silent')
  parser.add_argument(
    '--stride', metavar='N', type=options.positive, default=1, help='take every N-th frame'
  )
  parser.add_argument(
    '--max-side', metavar='PX', type=options.positive, help='make larger pictures this large'
  )
  parser.add_argument(
    '--check',
    action='store_true',
    help='also draw the head over some frames, to CAPTURE.check.jpg: look at it',
  )
  options.add_json(parser)
  parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
  """Runs `sa0 import`; errors are raised as ValueError or OSError."""
  from sa0_jax import archive
  from sa0_jax.capture.importers import (
    ImportOptions,
    chosen,
    find_captures,
    head_for,
  )
  from sa0_jax.head.registry import load_head

  if args.out.exists() and not args.out.is_dir():
    raise ValueError(f'{args.out}: is a file; give the name of a folder')
  wanted = ImportOptions(
    split=args.split,
    only=tuple(args.only),
    mattes=args.mattes,
    edition=args.edition,
    fps=args.fps,
    stride=args.stride,
    max_side=args.max_side or 0,
  )
  with ProgressLine('import') as line:
    line.write('looking for tracked data')
    every = find_captures(args.format, args.path, wanted)
    found = chosen(every, args.path, wanted)
    # Where things go must not depend on how many of them are asked for.
    folders = [
      args.out / archive.folder_name(item.name) if len(every) > 1 else args.out for item in found
    ]
    if len(set(folders)) != len(folders):
      raise ValueError(
        f'{args.path}: two names in it give one folder name; import them with --only'
      )
    head = head_for(args.format, found[0], wanted) if args.head is None else load_head(args.head)
    results: list[dict[str, Any]] = []
    for item, folder in zip(found, folders, strict=True):
      try:
        results.append(_import_one(args, head, item, folder, wanted, line))
      except KeyboardInterrupt as error:
        raise Interrupted(f'{len(results)} of {len(found)} captures are done') from error
      except EXPECTED as error:
        # One damaged video must not cost the others of a large set.
        if len(found) == 1 or isinstance(error, MemoryError):
          raise
        message = error_line(error, 'import')
        results.append({'name': item.name, 'capture': str(folder), 'error': message})
  failed = [result for result in results if 'error' in result]
  if args.json:
    print(json.dumps(results, indent=2))
  else:
    print('\n'.join(_summary(results)))
  if failed:
    raise ValueError(
      f'{len(failed)} of {len(found)} captures could not be imported; '
      f'the first, {failed[0]["name"]}: {failed[0]["error"]}'
    )
  return 0


def _import_one(
  args: argparse.Namespace,
  head: 'HeadModel',
  found: 'Found',
  folder: pathlib.Path,
  wanted: 'ImportOptions',
  line: ProgressLine,
) -> dict[str, Any]:
  from sa0_jax.capture import image_files
  from sa0_jax.capture.capture import load_capture
  from sa0_jax.capture.importers import check, load_found, save_imported
  from sa0_jax.capture.splits import PARTS

  line.write(f'{found.name}: reading codes')
  imported = load_found(found, head, wanted)
  line.restart()
  folder.parent.mkdir(parents=True, exist_ok=True)
  save_imported(
    imported, folder, lambda done, total: line.count(done, total, f'{found.name} frames')
  )
  capture = load_capture(folder)
  result: dict[str, Any] = {
    'name': found.name,
    'capture': str(folder),
    'frames': len(capture),
    'views': len(set(capture.view_ids.tolist())),
    'size': [capture.width, capture.height],
    'head': head.name,
    'notes': list(imported.notes),
  }
  if capture.split is not None:
    result['split'] = {name: len(capture.split.part(name)) for name in PARTS}
  if args.check:
    path = folder.with_name(folder.name + '.check.jpg')
    image_files.write(path, check.check_sheet(capture, head))
    result['check'] = str(path)
  return result


def _summary(results: list[dict[str, Any]]) -> list[str]:
  """For people: everything about one capture, a line each for the first of many."""
  lines = []
  done = [result for result in results if 'error' not in result]
  for result in done[:_SHOWN]:
    width, height = result['size']
    views = f' from {result["views"]} cameras' if result['views'] > 1 else ''
    split = ', '.join(f'{n} {name}' for name, n in result.get('split', {}).items())
    lines.append(
      f'wrote {result["capture"]}: {result["frames"]} frames{views}, {width} x {height} px, '
      f'head {result["head"]}{f", {split}" if split else ""}'
    )
    lines += [f'  {note}' for note in result['notes']]
    if 'check' in result:
      lines.append(f'  look at {result["check"]}')
  if len(done) > _SHOWN:
    lines.append(f'… and {len(done) - _SHOWN} more captures')
  return lines
