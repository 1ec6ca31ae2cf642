"""The wheel holds what the checkout holds, and the environments are written down."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from fnmatch import fnmatch
from pathlib import PurePosixPath

import pytest

from tests.structure.sources import PACKAGES, ROOT, package_files, project_files, read

PYPROJECT = tomllib.loads(read('pyproject.toml'))
EXTRAS = {
  'cpu',
  'gpu',
  'tpu',
  'track',
  'beam',
  'tensorboard',
  'onnx',
  'plots',
  'torch-parity',
  'dev',
}
SOURCES_OF_BUNDLES = ('sa0_jax/viewer/web/',)  # what is built from them is in the wheel


def module_of_folder(folder: str) -> str:
  """Import name of a folder of the checkout."""
  for package, root in PACKAGES.items():
    if folder == root or folder.startswith(f'{root}/'):
      return package + folder.removeprefix(root).replace('/', '.')
  raise ValueError(folder)


def test_every_package_is_listed():
  folders = {str(PurePosixPath(path).parent) for path in package_files()}
  listed = PYPROJECT['tool']['setuptools']['packages']
  assert sorted(listed) == sorted(module_of_folder(f) for f in folders)
  assert {f'{f}/__init__.py' for f in folders} <= set(package_files())


def installed(path: str) -> bool:
  """Whether a file belongs in the wheel."""
  inside = path.startswith(tuple(f'{root}/' for root in PACKAGES.values()))
  return inside and not path.endswith('.md') and not path.startswith(SOURCES_OF_BUNDLES)


def test_every_data_file_is_listed():
  patterns = PYPROJECT['tool']['setuptools']['package-data']
  for path in filter(installed, project_files()):
    if path.endswith('.py'):
      continue
    folder = next(f for f in PurePosixPath(path).parents if f'{f}/__init__.py' in package_files())
    name = str(PurePosixPath(path).relative_to(folder))
    assert any(fnmatch(name, p) for p in patterns.get(module_of_folder(str(folder)), [])), path


def test_extras():
  assert set(PYPROJECT['project']['optional-dependencies']) == EXTRAS


def requirements() -> list[str]:
  """What the base package and the extras cpu and dev need."""
  project = PYPROJECT['project']
  extras = project['optional-dependencies']
  return [*project['dependencies'], *extras['cpu'], *extras['dev']]


def test_constraints_are_versions_of_everything_needed():
  lines = [line for line in read('constraints.txt').splitlines() if not line.startswith('#')]
  assert [line for line in lines if not re.fullmatch(r'[\w.-]+==[\w.]+', line)] == []
  names = {re.sub(r'[-_.]+', '-', line.split('==')[0]).lower() for line in lines}
  assert {re.match(r'[\w-]+', r)[0].lower() for r in requirements()} <= names


def test_markers_are_kept_out_of_the_default_suite():
  markers = PYPROJECT['tool']['pytest']['ini_options']['markers']
  default = re.search(r'^DEFAULT := (.*)$', read('Makefile'), re.MULTILINE)[1]
  assert sorted(m.split(':')[0] for m in markers) == sorted(re.findall(r'not (\w+)', default))


def test_the_wheel_holds_every_file_of_the_packages(tmp_path):
  pytest.importorskip('pip')
  source = tmp_path / 'source'
  for path in project_files():
    (source / path).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / path, source / path)
  subprocess.run(
    [sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps', '-w', tmp_path, source],
    check=True,
  )
  (wheel,) = tmp_path.glob('*.whl')
  with zipfile.ZipFile(wheel) as archive:
    packed = {n for n in archive.namelist() if '.dist-info/' not in n}
  wanted = {
    f'{module_of_folder(str(PurePosixPath(path).parent)).replace(".", "/")}/'
    f'{PurePosixPath(path).name}'
    for path in filter(installed, project_files())
  }
  assert packed == wanted
