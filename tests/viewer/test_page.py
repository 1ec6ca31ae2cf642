"""The built page is that of its sources, and the exported one holds everything."""

import base64
import dataclasses
import hashlib
import re

import pytest

from sa0_jax.export.settings import ExportSettings
from sa0_jax.viewer import page
from sa0_jax.viewer.pack import pack_avatar, playback_of
from sa0_jax.viewer.page import export_html
from tests.structure.sources import ROOT

WEB = ROOT / 'sa0_jax' / 'viewer' / 'web'


def test_the_bundle_was_built_from_these_sources():
  digest = hashlib.sha256()
  names = [
    'package-lock.json',
    *(f'src/{n}' for n in sorted(p.name for p in (WEB / 'src').iterdir())),
  ]
  for name in names:
    digest.update(f'{name}\0'.encode() + (WEB / name).read_bytes())
  found = re.search(r'sha256 ([0-9a-f]{64})', page.static('viewer.js')[:200])[1]
  assert found == digest.hexdigest(), 'run `make viewer`'


def test_the_lock_file_names_versions_and_hashes_and_no_host():
  lock = (WEB / 'package-lock.json').read_text()
  assert '"resolved"' not in lock
  assert '://' not in re.sub(r'"(url|funding)": "[^"]*"', '', lock)
  assert lock.count('"integrity"') == lock.count('"node_modules/')


def test_licences_lie_beside_the_bundle():
  notice = page.static('NOTICE.txt')
  for name in ('three', '@sparkjsdev/spark', 'fflate'):
    assert re.search(rf'^{name} \d+\.\d+\.\d+$', notice, re.MULTILINE)
  assert notice.count('Permission is hereby granted') == 3


def test_export_holds_everything_and_allows_nothing_else(avatar, capture, tmp_path):
  path = tmp_path / 'a.html'
  export_html(avatar, path, ExportSettings(motion=capture))
  text = path.read_text()
  policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', text)
  assert policy.start() < min(text.index('<title>'), text.index('<style>'), text.index('<script'))
  assert "default-src 'none'" in policy[1]
  assert not re.search(r"https?:|\*|'unsafe-|'self'", policy[1].replace("'wasm-unsafe-eval'", ''))
  [data] = re.findall(r'<script type="text/plain" data-avatar>([^<]*)</script>', text)
  assert base64.b64decode(data) == pack_avatar(avatar, playback_of(capture, avatar.head))
  [script] = re.findall(r'<script>(.*?)</script>', text, re.DOTALL)
  assert script == page.static('viewer.js')
  digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
  assert f"'sha256-{digest}'" in policy[1]
  assert '<title>a &lt;b&gt;test&lt;/b&gt; &amp; {{scripts}}</title>' in text
  assert page.static('NOTICE.txt') in text


def test_export_of_another_heads_motion_is_refused(avatar, capture, tmp_path):
  other = dataclasses.replace(capture, head_name='flame2020')
  with pytest.raises(ValueError, match='flame2020'):
    export_html(avatar, tmp_path / 'a.html', ExportSettings(motion=other))
  assert not list(tmp_path.iterdir())
