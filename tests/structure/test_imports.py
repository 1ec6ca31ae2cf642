"""Who may import whom: arrows point down the list of layers, and libraries have their places."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import PurePosixPath

import pytest

from tests.structure.sources import ROOT, Import, imports, package_files, parse, read

# From the bottom up. A part imports from lower layers and from itself only.
LAYERS = (
  {'sa0_kernels'},
  {
    'archive',
    'cache',
    'geometry',
    'metrics',
    'mesh_render',
    'precision',
    'processes',
    'protobuf',
    'safetensors',
    'settings',
    'video',
  },
  {'losses'},
  {'head'},
  {'avatar'},
  {'render'},
  {'capture'},
  {'data', 'drive', 'export', 'generator', 'refine'},
  {'train', 'viewer'},
  {'evaluate'},
  {'__init__', 'config', 'configs'},
  {'cli'},
)
RANK = {part: rank for rank, parts in enumerate(LAYERS) for part in parts}
KERNEL_FILES = {'mesh_render_kernels': 'mesh_render'}  # numba halves of one-file parts

# Library → the only files that may import it (a folder ends in /).
PLACES = {
  'absl': ('sa0_jax/cli/', 'sa0_jax/config.py', 'configs/'),
  'ml_collections': ('sa0_jax/cli/', 'sa0_jax/config.py', 'configs/'),
  'orbax': ('sa0_jax/refine/checkpoint.py', 'sa0_jax/train/checkpoint.py'),
  'onnxruntime': ('sa0_jax/evaluate/face_network.py',),
  'onnx': (),
  'matplotlib': ('sa0_jax/evaluate/plots.py',),
  'mediapipe': ('sa0_jax/capture/track/worker.py',),
  'torch': (),
  'tensorflow': (),
  'flax': ('sa0_jax/generator/', 'sa0_jax/train/'),
  'grain': ('sa0_jax/data/',),
  'tensorflow_datasets': ('sa0_jax/data/',),
  'array_record': ('sa0_jax/data/',),
  'apache_beam': ('sa0_jax/data/beam.py',),
  'clu': ('sa0_jax/train/writers.py',),
  'tensorboardX': ('sa0_jax/train/writers.py',),
}
# Import name → distribution, where they differ.
DISTRIBUTIONS = {
  'cv2': 'opencv-python-headless',
  'llvmlite': 'numba',
  'ml_collections': 'ml-collections',
  'orbax': 'orbax-checkpoint',
  'absl': 'absl-py',
  'array_record': 'array-record',
  'tensorflow_datasets': 'tensorflow-datasets',
}
# In the tracker's own environment; extras that are imported where they are asked for.
FOREIGN = {'mediapipe', 'apache_beam', 'tensorboardX', 'onnxruntime', 'matplotlib'}


def part_of_file(path: str) -> str:
  """The part of the house a file belongs to."""
  parts = PurePosixPath(path).with_suffix('').parts
  if parts[0] == 'configs':
    return 'configs'
  name = 'sa0_kernels' if parts[0] == 'kernels' else parts[1]
  return KERNEL_FILES.get(name, name)


def part_of_module(module: str) -> str | None:
  """The part of the house a module belongs to; None for other people's."""
  words = module.split('.')
  if words[0] == 'sa0_kernels':
    return words[0]
  if words[0] != 'sa0_jax':
    return None
  if len(words) == 1 or (len(words) == 2 and words[1] not in {*RANK, *KERNEL_FILES}):
    return '__init__'
  return KERNEL_FILES.get(words[1], words[1])


def allowed(item: Import) -> bool:
  """Whether an import of our own points downwards, or stays inside its part."""
  here, there = part_of_file(item.path), part_of_module(item.module)
  return there is None or here == there or RANK[there] < RANK[here]


ALL = [item for path in package_files() for item in imports(path)]


def where(items) -> list[str]:
  """For messages."""
  return [f'{i.path}:{i.line} imports {i.module}' for i in items]


def test_every_part_has_its_layer():
  assert {part_of_file(path) for path in package_files()} <= set(RANK)


def test_arrows_point_downwards():
  assert where(i for i in ALL if not allowed(i)) == []


def test_the_rule_finds_an_arrow_that_points_upwards():
  assert not allowed(Import('sa0_jax/losses/x.py', 1, 'sa0_jax.capture.capture'))
  assert not allowed(Import('kernels/sa0_kernels/x.py', 1, 'sa0_jax'))
  assert not allowed(Import('sa0_jax/head/x.py', 1, 'sa0_jax.Avatar'))
  assert not allowed(Import('sa0_jax/render.py', 1, 'sa0_jax.refine.loop'))
  assert not allowed(Import('sa0_jax/capture/track/x.py', 1, 'sa0_jax.refine.loop'))
  assert allowed(Import('sa0_jax/cli/x.py', 1, 'sa0_jax.render'))


def test_the_studio_and_the_tracker_do_not_know_each_other():
  assert (
    where(
      i
      for i in ALL
      for one, other in (('track', 'studio'), ('studio', 'track'))
      if i.path.startswith(f'sa0_jax/capture/{one}/')
      and i.module.startswith(f'sa0_jax.capture.{other}')
    )
    == []
  )


def test_generator_losses_and_data_do_not_know_each_other():
  parts = {'generator', 'losses', 'data'}
  assert (
    where(
      i
      for i in ALL
      if {part_of_file(i.path), part_of_module(i.module)} <= parts
      and part_of_file(i.path) != part_of_module(i.module)
    )
    == []
  )


@pytest.mark.parametrize('library', sorted(PLACES))
def test_libraries_have_their_places(library):
  assert (
    where(
      i for i in ALL if i.module.split('.')[0] == library and not i.path.startswith(PLACES[library])
    )
    == []
  )


def test_one_file_makes_meshes_and_one_starts_processes():
  """Attributes, not imports: `jax.sharding.Mesh` is imported for annotations, too."""
  found = {
    (words, path)
    for path in package_files()
    for node in ast.walk(parse(path))
    if isinstance(node, ast.Call)
    for words in (ast.unparse(node.func),)
    if words in ('Mesh', 'jax.make_mesh', 'jax.sharding.Mesh') or '.distributed.' in words
  }
  assert {path for words, path in found if 'distributed' in words} == {'sa0_jax/train/cluster.py'}
  assert {path for words, path in found if 'distributed' not in words} <= {
    'sa0_jax/train/parallel.py'
  }


def test_imports_are_absolute():
  assert where(i for i in ALL if i.module.startswith('.')) == []


def test_what_is_imported_is_declared():
  project = tomllib.loads(read('pyproject.toml'))['project']
  declared = [*project['dependencies'], *project['optional-dependencies']['cpu']]
  names = {re.match(r'[\w-]+', requirement)[0] for requirement in declared}
  imported = {i.module.split('.')[0] for i in ALL} - {'sa0_jax', 'sa0_kernels'}
  others = imported - set(sys.stdlib_module_names) - FOREIGN
  assert {DISTRIBUTIONS.get(name, name) for name in others} <= names


def test_modules_that_only_unix_has_are_imported_where_they_are_needed():
  """Inside a function that can do without: at a module's top, Windows could not import it."""
  unix = {'fcntl', 'grp', 'pwd', 'resource', 'termios'}
  tops = {(path, node.lineno) for path in package_files() for node in parse(path).body}
  assert where(i for i in ALL if i.module in unix and (i.path, i.line) in tops) == []


def test_importing_the_package_loads_nothing_heavy():
  """numba, OpenCV, orbax and video libraries are imported when first needed."""
  heavy = {'numba', 'cv2', 'orbax', 'av', 'optax', 'tensorflow', 'flax', 'ml_collections'}
  heavy |= {'grain', 'tensorflow_datasets', 'array_record', 'clu', 'tensorboardX'}
  program = f'import sys, sa0_jax; print(*({heavy!r} & sys.modules.keys()))'
  done = subprocess.run(
    [sys.executable, '-c', program], cwd=ROOT, capture_output=True, text=True, check=True
  )
  assert done.stdout.split() == []


def test_only_data_needs_the_data_libraries():
  """Rendering, refining and the network run where neither grain nor TFDS is installed."""
  program = (
    'import sys\n'
    "for name in ('grain', 'tensorflow_datasets', 'array_record'): sys.modules[name] = None\n"
    'import sa0_jax.refine.loop, sa0_jax.render, sa0_jax.train.step, sa0_jax.train.inspect\n'
    'from sa0_jax.configs import base\n'
    'from sa0_jax.cli.main import build_parser\n'
    'build_parser(), base.get_config()\n'
  )
  subprocess.run([sys.executable, '-c', program], cwd=ROOT, check=True)
