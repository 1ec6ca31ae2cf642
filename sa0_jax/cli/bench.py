"""`sa0 bench`: how fast this machine is, and how exact."""

import argparse
import json
import pathlib
from typing import Any

from sa0_jax.cli import options


def add_parser(subparsers: argparse._SubParsersAction) -> None:
  """Registers the command."""
  parser = subparsers.add_parser(
    'bench',
    help='measure the rasterizer, refinement, generator, data or training on this machine',
    description='Measures speed, and for the rasterizer also errors, on fixed workloads.',
    epilog='example: sa0 bench rasterizer --json rasterizer.json',
    allow_abbrev=False,
  )
  actions = parser.add_subparsers(dest='bench', required=True, metavar='WHAT')
  rasterizer = actions.add_parser(
    'rasterizer',
    help='forward + backward on the standard workload',
    description='Milliseconds of forward + backward through jit, projection included, at 256² and '
    '512² with 3 channels and 512² with 32, and relative L2 errors of image, alpha and gradients.',
    epilog='example: sa0 bench rasterizer --implementation numba --json',
    allow_abbrev=False,
  )
  rasterizer.add_argument(
    '--implementation',
    metavar='NAME',
    action='append',
    help='reference, xla, numba, triton, mosaic_gpu or mosaic_tpu; may be given again (default: '
    'all; `sa0 doctor` says which run here)',
  )
  rasterizer.add_argument(
    '--oracle',
    metavar='PATH.npz',
    type=pathlib.Path,
    help='what errors are measured against (default: the reference in float64)',
  )
  rasterizer.add_argument(
    '--sweep',
    action='store_true',
    help='instead: images a second by number of Gaussians and by size, for `sa0 plot`; all '
    'implementations but the reference unless named',
  )
  refine = actions.add_parser(
    'refine',
    help='refinement steps a second',
    description='Whole refinement steps a second on a synthetic subject; the median of several '
    'chunks, compilation apart.',
    epilog='example: sa0 bench refine --resolution 512 --uv-size 256 --json',
    allow_abbrev=False,
  )
  _add_numbers(
    refine,
    ('resolution', 'side of the images, px'),
    ('uv-size', 'side of the UV image; one Gaussian per valid texel'),
    ('chunks', 'how many runs of steps are timed'),
    ('steps', 'steps in each'),
  )
  generator = actions.add_parser(
    'generator',
    help='portraits to Gaussians, milliseconds',
    description='Latency of single calls of the feed-forward generator with random weights: encode '
    '(once per person), decode (per frame), forward (both in one program), render; medians.',
    epilog='example: sa0 bench generator --sources 4 --config.generator.dtype=bfloat16',
    allow_abbrev=False,
  )
  options.add_config(generator, 'paper')
  _add_numbers(
    generator,
    ('sources', 'portraits, 1 to 4 (default: 1)'),
    ('repeats', 'calls that are timed'),
  )
  measures = {rasterizer: _rasterizer, refine: _refine, generator: _generator}
  measures[_add_data(actions)] = _data
  measures[_add_train(actions)] = _train
  for action, measure in measures.items():
    action.set_defaults(measure=measure)
    action.add_argument(
      '--json',
      metavar='PATH',
      nargs='?',
      const='-',
      help='print JSON, or write it to a file and print the text',
    )
  parser.set_defaults(run=run)


def _add_data(actions: argparse._SubParsersAction) -> argparse.ArgumentParser:
  """Adds `sa0 bench data`."""
  data: argparse.ArgumentParser = actions.add_parser(
    'data',
    help='images read, decoded and batched, a second',
    description='Images of JPEG and matte a second, read, decoded and batched as training does it, '
    'from made-up files like photographs or from your own data sets; and how many cores keep a '
    'training step of a given time supplied.',
    epilog='example: sa0 bench data --step-batch 48 --step-seconds 0.5 --json',
    allow_abbrev=False,
  )
  for name, text in (
    ('image-size', 'side of the images, px (default: 512)'),
    ('batch-size', 'people a batch (default: 8)'),
    ('batches', 'that are timed (default: 24)'),
    ('threads', 'that decode (default: one for each core)'),
    ('step-batch', 'people of a training step, over all devices (default: 48)'),
  ):
    data.add_argument(f'--{name}', metavar='N', type=options.positive, help=text)
  data.add_argument(
    '--step-seconds', metavar='S', type=float, help='time of a training step (default: 0.5)'
  )
  data.add_argument(
    '--dataset', metavar='DIR', action='append', help='made by `sa0 prepare`; may be given again'
  )
  return data


def _add_train(actions: argparse._SubParsersAction) -> argparse.ArgumentParser:
  """Adds `sa0 bench train`."""
  train: argparse.ArgumentParser = actions.add_parser(
    'train',
    help='training steps and images a second, and where their time goes',
    description='Whole training steps from random weights, of a made-up batch or, where '
    '--config.phase1.data.datasets names some, of data sets: images and steps a second, the share '
    'of time that waits for data, model FLOPs utilization against the measured rate of products of '
    'matrices, and the share of each part by the profiler.',
    epilog='example: sa0 bench train --config=tiny --steps 5 --json train.json',
    allow_abbrev=False,
  )
  options.add_config(train, 'paper')
  train.add_argument('--phase', type=int, choices=(1, 2), help='of training (default: 1)')
  for name, text in (
    ('batch-size', "targets a step (default: the phase's)"),
    ('steps', 'that are timed (default: 10)'),
  ):
    train.add_argument(f'--{name}', metavar='N', type=options.positive, help=text)
  return train


def _add_numbers(parser: argparse.ArgumentParser, *numbers: tuple[str, str]) -> None:
  """Adds (name, help) of the workload's sizes, and the rasterizer."""
  for name, text in numbers:
    parser.add_argument(f'--{name}', metavar='N', type=options.positive, help=text)
  parser.add_argument('--implementation', metavar='NAME', help='rasterizer (default: the fastest)')


def _given(args: argparse.Namespace, *names: str) -> dict[str, Any]:
  """What was said on the command line; the library has the other defaults."""
  return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


def run(args: argparse.Namespace) -> int:
  """Runs `sa0 bench`; errors are raised as ValueError, OSError or RuntimeError."""
  target = None if args.json in (None, '-') else options.check_output(pathlib.Path(args.json))
  report, text = args.measure(args)
  rendered = json.dumps(report, indent=2)
  if target is not None:
    from sa0_jax import archive

    with archive.atomic_write(target) as file:
      file.write((rendered + '\n').encode())
  print(rendered if args.json == '-' else text)
  return 0


def _rasterizer(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
  from sa0_kernels import bench, implementations

  names = args.implementation or list(implementations())
  unknown = sorted(set(names) - set(implementations()))
  if unknown:
    raise ValueError(f'no rasterizer {unknown[0]!r}; there are {", ".join(implementations())}')
  if args.sweep:
    if args.oracle is not None:
      raise ValueError('--sweep measures no errors: leave --oracle out')
    report = bench.sweep(args.implementation or bench.default_of_sweep())
    return report, bench.table(report)
  oracle = None if args.oracle is None else str(args.oracle)
  report = bench.run(names, oracle)
  return report, bench.table(report)


def _refine(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
  from sa0_jax.refine.bench import RefineBench, measure

  given = _given(args, 'resolution', 'uv_size', 'chunks', 'steps', 'implementation')
  report = measure(RefineBench(**given))
  text = (
    f'{report["iterations_per_second"]:.2f} iterations/s at {report["resolution"]}², '
    f'{report["num_gaussians"]} Gaussians: median {report["milliseconds_median"]:.0f} ms, min '
    f'{report["milliseconds_min"]:.0f} ms; first call {report["first_call_seconds"]:.1f} s; '
    f'{report["device"]}, {report["cpu_count"]} cores'
  )
  return report, text


def _generator(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
  from sa0_jax.generator.bench import GeneratorBench, measure
  from sa0_jax.train.config import TrainConfig

  settings = options.read_settings(args, TrainConfig)
  given = _given(args, 'sources', 'repeats', 'implementation')
  report = {'config': args.config, **measure(GeneratorBench(settings.generator, **given))}
  parts = ', '.join(
    f'{name} {report[f"{name}_milliseconds"]:.2f} ms'
    for name in ('encode', 'decode', 'forward', 'render')
  )
  text = (
    f'{args.config}, {report["sources"]} of {report["image_size"]}² px, {report["dtype"]}, '
    f'{report["num_gaussians"]} Gaussians: {parts}; first call '
    f'{report["forward_first_call_seconds"]:.1f} s; {report["device"]}, {report["jax"]}'
  )
  return report, text


def _data(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
  from sa0_jax.data.bench import DataBench, measure

  names = ('image_size', 'batch_size', 'batches', 'threads', 'step_batch', 'step_seconds')
  datasets = tuple(args.dataset or ())
  report = measure(DataBench(datasets=datasets, **_given(args, *names)))
  stages = report['stages']
  text = (
    f'{report["images_per_second"]:.0f} images/s of {report["image_size"]}² px with '
    f'{report["threads"]} decoding threads on {report["cpu_count"]} cores; '
    f'{report["cpu_milliseconds_per_image"]:.2f} ms of a core an image (read '
    f'{stages["read_milliseconds"]:.2f}, JPEG of {stages["jpeg_bytes"] / 1e3:.0f} kB '
    f'{stages["jpeg_milliseconds"]:.2f}, matte {stages["matte_milliseconds"]:.2f})\n'
    f'steps of {report["step_batch"]} people in {report["step_seconds"]} s need '
    f'{report["cores_needed_mean"]:.1f} such cores for 1 to 4 sources, '
    f'{report["cores_needed_most"]:.1f} for always 4'
  )
  return report, text


def _train(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
  from sa0_jax.train import trace
  from sa0_jax.train.bench import TrainBench, measure
  from sa0_jax.train.config import TrainConfig

  settings = options.read_settings(args, TrainConfig)
  given = _given(args, 'phase', 'batch_size', 'steps')
  report = {'config': args.config, **measure(TrainBench(settings, **given))}
  used, of = report['model_flops_utilization'], report['matmul_flops_per_second'] / 1e12
  memory = report['device_memory_bytes'] or report['host_memory_bytes']
  text = [
    f'{args.config}, phase {report["phase"]}, {report["batch_size"]} targets, {report["dtype"]}: '
    f'{report["images_per_second"]:.2f} images/s, {report["steps_per_second"]:.3f} steps/s, data '
    f'wait {100 * report["data_wait_share"]:.0f}%, '
    + ('' if used is None else f'{100 * used:.0f}% of the {of:.2f} TFLOP/s of a matrix product, ')
    + ('' if memory is None else f'{memory / 2**30:.1f} GiB; ')
    + f'first call {report["first_call_seconds"]:.1f} s; '
    f'{report["devices"]} × {report["device"]}, jax {report["jax"]}'
  ]
  parts = trace.table(trace.Part(**part) for part in report['parts'])
  return report, '\n'.join([*text, parts])
