"""What mkdocs needs besides the pages: pages made of files that live elsewhere.

The README is the site's first page, and the tutorial is a Python file that the tests run: neither
is written twice.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
# Page → the file it is made of. Links between them are turned to the pages.
PAGES = {
  'index.md': 'README.md',
  'kernels.md': 'kernels/README.md',
  'results.md': 'results/README.md',
  'changelog.md': 'CHANGELOG.md',
  'tutorial.md': 'docs/tutorial.py',
}
_LINK = re.compile(r'(\]\(|src=")((?!https?:|#)[^)#"\s]+)')


def on_files(files: Files, config: Any) -> Files:
  """Adds the pages of PAGES."""
  for page, source in PAGES.items():
    text = (ROOT / source).read_text(encoding='utf-8')
    if source.endswith('.py'):
      text = page_of(text)
    files.append(File.generated(config, page, content=turned(text, source)))
  return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
  """Turns links that leave docs/ to the pages made of their targets."""
  made = page.file.src_uri in PAGES
  return markdown if made else turned(markdown, f'docs/{page.file.src_uri}')


def turned(text: str, source: str) -> str:
  """Text of a file of the checkout with its links as they are on the site."""
  pages = {origin: page for page, origin in PAGES.items()}

  def link(match: re.Match) -> str:
    target = (ROOT / source).parent.joinpath(match[2]).resolve()
    name = target.relative_to(ROOT).as_posix() if target.is_relative_to(ROOT) else match[2]
    return match[1] + pages.get(name, name.removeprefix('docs/'))

  return _LINK.sub(link, text)


def page_of(code: str) -> str:
  """A notebook-style Python file as a page: `# %% [markdown]` cells are text, others code."""
  page = []
  for cell in re.split(r'^# %%', code, flags=re.MULTILINE)[1:]:
    kind, _, body = cell.partition('\n')
    if 'markdown' in kind:
      page.append(re.sub(r'^# ?', '', body.strip('\n'), flags=re.MULTILINE))
    else:
      page.append(f'```python\n{body.strip()}\n```')
  return '\n\n'.join(page) + '\n'
