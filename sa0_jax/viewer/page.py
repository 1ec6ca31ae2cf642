"""The page: its parts as they are served, and all of it in one file that needs no server."""

import base64
import hashlib
import html
import os
import re
from importlib import resources

from sa0_jax import archive
from sa0_jax.avatar.avatar import Avatar
from sa0_jax.export.settings import ExportSettings
from sa0_jax.viewer.pack import pack_avatar, playback_of

# Spark compiles WebAssembly and sorts in a worker whose code it carries along. Nothing outside.
_POLICY = (
  "default-src 'none'; script-src {script} 'wasm-unsafe-eval'; style-src {style}; "
  'worker-src blob:; connect-src {connect}; img-src data: blob:; media-src blob:; '
  "base-uri 'none'; form-action 'none'"
)


def static(name: str) -> str:
  """Text of one of the built files (`viewer/web/build.mjs` makes them)."""
  return resources.files('sa0_jax.viewer').joinpath('static', name).read_text(encoding='utf-8')


def served_page(names: list[str]) -> str:
  """The HTML of the page that a server hands out; it fetches viewer.js and avatar/N."""
  return _fill(names, '<script src="viewer.js"></script>')


def served_policy(page: str) -> str:
  """The content security policy of that page: nothing but this server, and no framing."""
  policy = _POLICY.format(script="'self'", style=_style_hash(page), connect="'self'")
  return f"{policy}; frame-ancestors 'none'"


def export_html(
  avatar: Avatar, path: str | os.PathLike[str], settings: ExportSettings | None = None
) -> None:
  """Writes an avatar as one web page that opens from a file and asks no network for anything.

  Args:
    avatar: the avatar.
    path: where.
    settings: `motion` can be played in it; without, there are sliders only.

  Raises:
    ValueError: the capture was tracked with another head model.
    OSError: the file cannot be written.
  """
  capture = None if settings is None else settings.motion
  playback = None if capture is None else playback_of(capture, avatar.head)
  text = self_contained([avatar.name], [pack_avatar(avatar, playback)])
  with archive.atomic_write(path) as file:
    file.write(text.encode())


def self_contained(names: list[str], packs: list[bytes]) -> str:
  """The HTML of that page.

  Args:
    names: of the avatars, for the title.
    packs: their files (`pack.pack_avatar`).
  """
  script = static('viewer.js')
  data = '\n'.join(
    f'<script type="text/plain" data-avatar>{base64.b64encode(pack).decode()}</script>'
    for pack in packs
  )
  page = _fill(names, f'{data}\n<script>{script}</script>\n<!--\n{static("NOTICE.txt")}\n-->')
  policy = _POLICY.format(
    script=f"'sha256-{_digest(script)}'", style=_style_hash(page), connect='data:'
  )
  meta = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
  return page.replace('<meta charset="utf-8">', f'<meta charset="utf-8">\n{meta}', 1)


def _fill(names: list[str], scripts: str) -> str:
  values = {
    'avatars': str(len(names)),
    'title': html.escape(' · '.join(names)),
    'scripts': scripts,
  }
  return re.sub(r'\{\{(\w+)\}\}', lambda match: values[match[1]], static('index.html'))


def _style_hash(page: str) -> str:
  style = re.search(r'<style>(.*?)</style>', page, re.DOTALL)
  return f"'sha256-{_digest(style[1])}'" if style else "'none'"


def _digest(text: str) -> str:
  return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
