"""`sa0`: the command line.

Exit codes: 0 done, 1 failed (one line on standard error; SA0_TRACEBACK=1 shows where), 2 wrong
usage, 130 interrupted.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from sa0_jax.cli import options
from sa0_jax.cli.errors import EXPECTED, Interrupted, error_line

# Modules of this package with `add_parser(subparsers)`; they import what they need when they run,
# so that --help is quick.
COMMANDS = (
  'demo',
  'studio',
  'track',
  'import',
  'clean',
  'prepare',
  'train',
  'reconstruct',
  'refine',
  'render',
  'evaluate',
  'ablate',
  'plot',
  'view',
  'drive',
  'export',
  'head',
  'inspect',
  'bench',
  'doctor',
)
_MODULES = {'import': 'import_'}  # a keyword names no module


def build_parser() -> argparse.ArgumentParser:
  """The parser of the whole command line."""
  from sa0_jax import __version__

  parser = argparse.ArgumentParser(
    prog='sa0',
    description='SpatialAvatar-0: animatable Gaussian head avatars from video.',
    epilog='`sa0 COMMAND --help` explains a command and has an example.',
    allow_abbrev=False,
  )
  parser.add_argument('--version', action='version', version=f'sa0 {__version__}')
  subparsers = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
  for command in COMMANDS:
    module = _MODULES.get(command, command)
    importlib.import_module(f'sa0_jax.cli.{module}').add_parser(subparsers)
  return parser


def main(argv: Sequence[str] | None = None) -> int:
  """Runs a command.

  Args:
    argv: its words; None takes the process's own.

  Returns:
    The exit code.
  """
  try:
    args = _parse(sys.argv[1:] if argv is None else argv)
  except SystemExit as exit_:  # argparse has said what is wrong, or has printed help
    return exit_.code if isinstance(exit_.code, int) else 2
  try:
    return _run(args)
  except BrokenPipeError:
    # Whoever read our output has gone (`sa0 … | head`); without this the interpreter would
    # complain once more when it flushes.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1
  except KeyboardInterrupt as error:
    saved = str(error) if isinstance(error, Interrupted) else 'nothing was written'
    print(f'\nsa0 {args.command}: interrupted; {saved}', file=sys.stderr)
    return 130
  except EXPECTED as error:
    if os.environ.get('SA0_TRACEBACK'):
      raise
    print(f'sa0 {args.command}: {error_line(error, args.command)}', file=sys.stderr)
    return 1


def _parse(argv: Sequence[str]) -> argparse.Namespace:
  parser = build_parser()
  try:
    words, overrides = options.split_overrides(argv)
  except ValueError as error:
    parser.error(str(error))
  args = parser.parse_args(words)
  if overrides and not hasattr(args, 'config'):
    parser.error(f'{args.command} has no configuration: --config.{next(iter(overrides))}')
  args.overrides = overrides
  return args


def _run(args: argparse.Namespace) -> int:
  from sa0_jax.cache import keep_compiled_programs

  keep_compiled_programs()
  code = args.run(args)
  sys.stdout.flush()
  return code


if __name__ == '__main__':
  sys.exit(main())
