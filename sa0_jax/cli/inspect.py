"""`sa0 inspect`: parameters, operations and memory of a configuration before it is run."""

import argparse
import dataclasses
import json
import os
from typing import TYPE_CHECKING, Any

from sa0_jax.cli import options
from sa0_jax.cli.progress import ProgressLine

if TYPE_CHECKING:
  from sa0_jax.train.inspect import ModuleSize, ProgramSize

_PROGRAMS = ('forward', 'phase1', 'phase2')
_GIB = 2**30


def add_parser(subparsers: argparse._SubParsersAction) -> None:
  """Registers the command."""
  parser = subparsers.add_parser(
    'inspect',
    help='parameters, operations and memory of a training configuration',
    description='Prints the parameters of the network, and compiles its programs: forward '
    '(portraits to images) and a whole training step of each phase, its batch spread over all '
    'devices. '
    'Memory is what the compiler plans for each device. With --for it is compiled for a machine '
    "that is not there; its compiler must be: libtpu for a TPU, JAX's CUDA plugin for a GPU.",
    epilog='example: sa0 inspect --config=paper --for h100:8',
    allow_abbrev=False,
  )
  options.add_config(parser, 'paper')
  parser.add_argument(
    '--for',
    dest='machine',
    metavar='MACHINE',
    help='h100:8, h200:8, a100:8, b200:8, l4, v5p:2x2x2, v5e:4x4, v6e:2x2 … (default: this one)',
  )
  parser.add_argument(
    '--program',
    choices=(*_PROGRAMS, 'all', 'none'),
    default='all',
    help='what is compiled (default: all; none prints parameters only)',
  )
  parser.add_argument(
    '--quick',
    action='store_true',
    help='leave the code unpolished: the same memory and transfers, for a TPU in a fraction of the '
    'time (a program that is to run wants it polished)',
  )
  options.add_json(parser)
  parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
  """Runs `sa0 inspect`; errors are raised as ValueError, OSError or RuntimeError."""
  if args.machine:
    # A compiler for machines that are not there is also a plugin JAX would look for devices with.
    os.environ.setdefault('JAX_PLATFORMS', 'cpu')
  from sa0_kernels import targets

  from sa0_jax.train import inspect
  from sa0_jax.train.config import TrainConfig

  settings = options.read_settings(args, TrainConfig)
  machine = targets.target(args.machine) if args.machine else None
  modules = inspect.module_sizes(settings)
  names = {'all': _PROGRAMS, 'none': ()}.get(args.program, (args.program,))
  programs = []
  with ProgressLine('inspect') as line:
    for name in names:
      line.write(f'compiling {name} for {args.machine or "this machine"}', force=True)
      programs.append(inspect.compile_program(name, settings, machine, args.quick))
  if args.json:
    print(json.dumps(_report(modules, programs), indent=2))
  else:
    print(_text(modules, programs))
  return 0


def _report(modules: 'list[ModuleSize]', programs: 'list[ProgramSize]') -> dict[str, Any]:
  return {
    'modules': [dataclasses.asdict(module) for module in modules],
    'parameters': sum(module.parameters for module in modules),
    'programs': [{**dataclasses.asdict(program), 'fits': program.fits} for program in programs],
  }


def _text(modules: 'list[ModuleSize]', programs: 'list[ProgramSize]') -> str:
  lines = [f'{"module":12} {"parameters":>12} {"in phase 1":>12} {"in phase 2":>12}']
  rows = [(m.name, m.parameters, m.trained1, m.trained2) for m in modules]
  rows.append(('all', *(sum(column) for column in list(zip(*rows, strict=True))[1:])))
  lines += [f'{name:12} {count:12,} {one:12,} {two:12,}' for name, count, one, two in rows]
  for program in programs:
    flops = 'not known' if program.flops is None else f'{program.flops / 1e12:.3f} TFLOP'
    transfers = ', '.join(f'{n} {kind}' for kind, n in program.collectives.items()) or 'none'
    has = ''
    if program.memory_bytes is not None:
      verdict = 'fits' if program.fits else 'DOES NOT FIT'
      has = f' of {program.memory_bytes / _GIB:.1f} GiB: {verdict}'
    lines += [
      '',
      f'{program.name}, {program.batch_size} targets over {program.devices} × {program.machine}, '
      f'{program.implementation}: {flops} in all',
      f'  a device: {program.peak_bytes / _GIB:.2f} GiB at most{has} '
      f'(arguments {program.argument_bytes / _GIB:.2f}, '
      f'temporary {program.temporary_bytes / _GIB:.2f})',
      f'  between devices: {transfers}; compiled in {program.compile_seconds:.0f} s'
      f'{", unpolished" if program.quick else ""}',
    ]
  return '\n'.join(lines)
