"""How long things may be, and how they are called."""

import ast
import tomllib

from tests.structure.sources import functions, package_files, python_files, read

MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 80
MAX_PARAMETERS = 8  # of public functions; more are grouped into a frozen dataclass
VAGUE_NAMES = {'utils', 'util', 'helpers', 'helper', 'common', 'misc'}


def test_files_are_short():
  lines = {path: read(path).count('\n') for path in python_files()}
  assert {path: n for path, n in lines.items() if n > MAX_FILE_LINES} == {}


def test_functions_are_short():
  lengths = {
    f'{path}:{f.lineno} {f.name}': f.end_lineno - f.lineno + 1
    for path in python_files()
    for f in functions(path)
  }
  assert {name: n for name, n in lengths.items() if n > MAX_FUNCTION_LINES} == {}


def compiled(function) -> bool:
  """Whether numba compiles it: such functions take arrays, which no dataclass can group."""
  return any('njit' in ast.unparse(decorator) for decorator in function.decorator_list)


def test_public_functions_take_few_parameters():
  counts = {}
  for path in package_files():
    for f in functions(path):
      names = [a.arg for a in (*f.args.posonlyargs, *f.args.args, *f.args.kwonlyargs)]
      if not f.name.startswith('_') and not compiled(f):
        counts[f'{path}:{f.lineno} {f.name}'] = len(set(names) - {'self', 'cls'})
  assert {name: n for name, n in counts.items() if n > MAX_PARAMETERS} == {}


def test_no_file_is_called_utils():
  stems = {path: path.rsplit('/', 1)[-1].removesuffix('.py') for path in python_files()}
  assert [path for path, stem in stems.items() if stem in VAGUE_NAMES] == []


def test_the_formatter_is_configured():
  ruff = tomllib.loads(read('pyproject.toml'))['tool']['ruff']
  assert (ruff['indent-width'], ruff['line-length']) == (2, 100)
  assert ruff['format']['quote-style'] == 'single'
  assert 'D1' in ruff['lint']['select']  # docstrings on everything public
