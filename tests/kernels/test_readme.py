"""The example in kernels/README.md runs as it stands."""

import pathlib
import re

README = pathlib.Path(__file__).resolve().parents[2] / 'kernels' / 'README.md'


def test_the_example_runs_and_prints_what_it_says(capsys):
  (example,) = re.findall(r'```python\n(.*?)```', README.read_text(), re.DOTALL)
  exec(compile(example, str(README), 'exec'), {'__name__': 'readme'})
  promised = re.findall(r'print\(.*\)  # (.*)', example)
  assert capsys.readouterr().out.splitlines() == promised
