"""The project's own files, and what its modules import."""

import ast
import functools
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
# Import package → its folder, as pyproject.toml maps them.
PACKAGES = {
  'sa0_jax': 'sa0_jax',
  'sa0_kernels': 'kernels/sa0_kernels',
  'sa0_jax.configs': 'configs',
}
_IGNORED = {'.git', '.venv', 'build', 'dist', '__pycache__', 'demo'}


class Import(NamedTuple):
  """One import, at the top of a module or inside a function."""

  path: str  # of the importing file, relative to the project
  line: int
  module: str  # the name as far as it can be a module: 'sa0_jax.head.lbs.pose_head'


@functools.cache
def project_files() -> tuple[str, ...]:
  """Every file of the project: what git tracks, or all there is in a checkout without git."""
  listed = subprocess.run(
    ['git', 'ls-files'], cwd=ROOT, capture_output=True, text=True, check=False
  )
  if listed.returncode == 0:
    names = listed.stdout.splitlines()
  else:
    names = [str(p.relative_to(ROOT)) for p in ROOT.rglob('*') if not _IGNORED & set(p.parts)]
  return tuple(sorted(n for n in names if (ROOT / n).is_file()))


def python_files(*folders: str) -> list[str]:
  """Python files, all or those under some folders."""
  return [
    n
    for n in project_files()
    if n.endswith('.py') and (not folders or any(n.startswith(f'{f}/') for f in folders))
  ]


def package_files() -> list[str]:
  """Python files that are installed."""
  return python_files(*PACKAGES.values())


@functools.cache
def read(path: str) -> str:
  """Text of a project file."""
  return (ROOT / path).read_text(encoding='utf-8')


@functools.cache
def parse(path: str) -> ast.Module:
  """Syntax tree of a project file."""
  return ast.parse(read(path), path)


def imports(path: str) -> Iterator[Import]:
  """Everything a file imports; `from a import b` counts as a.b."""
  for node in ast.walk(parse(path)):
    if isinstance(node, ast.Import):
      for alias in node.names:
        yield Import(path, node.lineno, alias.name)
    elif isinstance(node, ast.ImportFrom):
      # Relative imports are not used; ruff's isort order would hide them from this list.
      prefix = '.' * node.level + (node.module or '')
      for alias in node.names:
        yield Import(path, node.lineno, f'{prefix}.{alias.name}')


def functions(path: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
  """Every function and method of a file, nested ones included."""
  for node in ast.walk(parse(path)):
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
      yield node
