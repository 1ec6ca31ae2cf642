"""`sa0 view` serves until Ctrl-C, and `sa0 export --format html` writes the same page."""

import contextlib
import os
import signal
import socket
import threading
import urllib.request
import webbrowser

import pytest


@pytest.fixture
def visited(monkeypatch):
  """Stands in for the browser: fetches the page, then presses Ctrl-C."""
  pages: dict[str, bytes] = {}
  # A suite begun in the background (nohup, &) ignores the signal, and the test would never end.
  before = signal.signal(signal.SIGINT, signal.default_int_handler)

  def visit(url):
    for name in ('', 'viewer.js', 'avatar/0'):
      with contextlib.suppress(OSError), urllib.request.urlopen(url + name, timeout=20) as answer:
        pages[url + name] = answer.read()
    os.kill(os.getpid(), signal.SIGINT)

  monkeypatch.setattr(
    webbrowser, 'open', lambda url: threading.Thread(target=visit, args=(url,)).start()
  )
  yield pages
  signal.signal(signal.SIGINT, before)


def test_view_serves_until_interrupted_and_frees_its_port(sa0, refined, capture_folder, visited):
  code, output, error = sa0('view', refined, '--drive', capture_folder)
  assert (code, error) == (0, '')
  assert [len(body) > 500 for body in visited.values()] == [True] * 3
  [url] = [name for name in visited if name.endswith('/')]
  assert url in output
  with socket.socket() as free:
    free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    free.bind(('127.0.0.1', int(url.rstrip('/').rpartition(':')[2])))


def test_a_port_in_use_is_an_error_of_one_line(sa0, refined):
  with socket.socket() as taken:
    taken.bind(('127.0.0.1', 0))
    taken.listen()
    port = taken.getsockname()[1]
    code, _, error = sa0('view', refined, '--port', port, '--no-browser')
  assert code == 1
  assert error.count('\n') == 1
  assert f'port {port} of 127.0.0.1: Address already in use; choose another' in error


@pytest.mark.parametrize('port', ['-1', '65536', 'x'])
def test_no_port(sa0, refined, port):
  assert sa0('view', refined, f'--port={port}')[0] == 2


def test_export_html(sa0, refined, capture_folder, tmp_path):
  words = ('export', refined, '--format', 'html', '--drive', capture_folder)
  code, output, _ = sa0(*words, '--out', tmp_path / 'x.html')
  assert code == 0
  assert 'x.html' in output
  assert 'data-avatar>' in (tmp_path / 'x.html').read_text()
  code, _, error = sa0(*words, '--out', tmp_path / 'x.ply')
  assert (code, 'html file is named *.html' in error) == (1, True)
