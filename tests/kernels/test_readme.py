"""The examples in kernels/README.md run as they stand, one after the other."""

import pathlib
import re

README = pathlib.Path(__file__).resolve().parents[2] / 'kernels' / 'README.md'


def test_the_examples_run_and_print_what_they_say(capsys):
  example = '\n'.join(re.findall(r'```python\n(.*?)```', README.read_text(), re.DOTALL))
  exec(compile(example, str(README), 'exec'), {'__name__': 'readme'})
  promised = re.findall(r'print\(.*\)  # (.*)', example)
  assert capsys.readouterr().out.splitlines() == promised
