"""What must not be in the sources."""

import ast
import re

import pytest

from tests.structure.sources import package_files, parse, project_files, python_files, read

# Written so that this file does not contain what it looks for.
WORDS = {
  'an unfinished place': r'\b(TO' + r'DO|FIX' + r'ME|X' + r'XX)\b',
  'a path of some machine': r'(?<![\w.$}~])/(work|tmp|root|home|opt|Users)/',
  'a neighbouring folder': r'\.\./shared',
  'a package registry': r'py' + r'pi\.org|python' + r'hosted|artifact' + r'ory|index' + r'-url',
}
TEXT = ('.py', '.md', '.toml', '.txt', '.cfg', '.yml', '.yaml', '.sh', 'Makefile', 'run')
CALLS = {'eval', 'exec', 'compile', '__import__'}
PICKLES = {'pickle', 'cPickle', 'dill', 'joblib', 'shelve', 'marshal'}


@pytest.mark.parametrize('what', sorted(WORDS))
def test_no_file_holds(what):
  pattern = re.compile(WORDS[what])
  found = [
    f'{path}:{number} {line.strip()[:80]}'
    for path in project_files()
    if path.endswith(TEXT)
    for number, line in enumerate(read(path).splitlines(), 1)
    if pattern.search(line)
  ]
  assert found == []


def test_nothing_is_evaluated():
  found = [
    f'{path}:{node.lineno} {node.func.id}'
    for path in package_files()
    for node in ast.walk(parse(path))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CALLS
  ]
  assert found == []


def test_nothing_is_unpickled():
  """FLAME's pickles are read by our own interpreter (head/unpickle.py), which runs no code."""
  found = []
  for path in package_files():
    for node in ast.walk(parse(path)):
      if isinstance(node, ast.Attribute) and node.attr in ('load', 'loads', 'Unpickler'):
        owner = node.value.id if isinstance(node.value, ast.Name) else ''
        found += [f'{path}:{node.lineno}'] * (owner in PICKLES)
      if isinstance(node, ast.ImportFrom) and node.module in PICKLES:
        found += [f'{path}:{node.lineno}'] * any(
          a.name in ('load', 'loads', 'Unpickler') for a in node.names
        )
      if isinstance(node, ast.keyword) and node.arg == 'allow_pickle':
        allowed = not isinstance(node.value, ast.Constant) or node.value.value is not False
        found += [f'{path}:{node.value.lineno}'] * allowed
  assert found == []


def _narrows(test: ast.expr) -> bool:
  """`x is not None`, `isinstance(x, T)`, and conjunctions of them: hints to the type checker."""
  if isinstance(test, ast.BoolOp):
    return all(_narrows(value) for value in test.values)
  if isinstance(test, ast.Compare):
    return isinstance(test.ops[0], ast.IsNot)
  called = test.func if isinstance(test, ast.Call) else None
  return isinstance(called, ast.Name) and called.id == 'isinstance'


def test_assert_only_narrows_types():
  """Users' mistakes are ValueErrors with a line they can act on; asserts vanish under -O."""
  found = [
    f'{path}:{node.lineno}'
    for path in package_files()
    for node in ast.walk(parse(path))
    if isinstance(node, ast.Assert) and not _narrows(node.test)
  ]
  assert found == []


def test_tests_do_not_skip_for_good():
  """A skip needs a reason that can go away: a missing library or file, never a plain skip."""
  found = [
    f'{path}:{node.lineno}'
    for path in python_files('tests')
    for node in ast.walk(parse(path))
    if isinstance(node, ast.Attribute)
    and node.attr == 'skip'
    and isinstance(node.value, ast.Attribute)
    and node.value.attr == 'mark'
  ]
  assert found == []
