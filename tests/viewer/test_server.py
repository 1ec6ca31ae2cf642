"""The server answers its own page on this machine, and nobody else."""

import http.client
import re
import socket
import threading

import pytest

from sa0_jax.viewer import page
from sa0_jax.viewer.server import HOST, ViewerServer
from sa0_jax.viewer.view import serve_avatars

ROUTES = {'/': ('text/html', b'<p>'), '/avatar/0': ('application/octet-stream', b'\x00\x01')}
POLICY = "default-src 'none'"


@pytest.fixture
def serve():
  """Starts servers, and ends them with the test."""
  started = []

  def start(server):
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    started.append((server, thread))
    return server

  yield start
  for server, thread in started:
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def server(serve):
  return serve(ViewerServer(ROUTES, POLICY))


def ask(server, path='/', method='GET', headers=(), host=None):
  """One request, with exactly these headers → (status, headers, body)."""
  connection = http.client.HTTPConnection(HOST, server.server_port, timeout=10)
  connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
  for name, value in (*((('Host', host),) if host else ()), *headers):
    connection.putheader(name, value)
  connection.endheaders()
  answer = connection.getresponse()
  body = answer.read()
  connection.close()
  return answer.status, answer.headers, body


def own(server) -> str:
  return f'127.0.0.1:{server.server_port}'


def test_it_listens_on_the_loopback_address_alone(server):
  assert server.socket.getsockname()[0] == '127.0.0.1'
  assert server.url == f'http://127.0.0.1:{server.server_port}/'


@pytest.mark.parametrize('path', sorted(ROUTES))
def test_its_routes(server, path):
  status, headers, body = ask(server, path, host=own(server))
  assert (status, headers['Content-Type'], body) == (200, *ROUTES[path])
  assert headers['Content-Length'] == str(len(body))
  assert ask(server, path, host=f'localhost:{server.server_port}')[0] == 200


@pytest.mark.parametrize(
  'path',
  [
    *('/x', '/avatar/1', '/avatar/', '/?x', '//x/', '/../etc/passwd', '/%2e%2e/%2e%2e/etc/passwd'),
    *('/static/viewer.js', 'http://example.org/', '*', '/avatar/0/../0', '/%00'),
  ],
)
def test_nothing_else_is_there(server, path):
  assert ask(server, path, host=own(server))[0] == 404


@pytest.mark.parametrize('method', ['POST', 'PUT', 'HEAD', 'DELETE', 'OPTIONS', 'CONNECT'])
def test_other_methods_are_refused(server, method):
  status, headers, _ = ask(server, method=method, host=own(server))
  assert status == 501
  assert headers['X-Content-Type-Options'] == 'nosniff'


@pytest.mark.parametrize(
  'host', [None, 'example.org', 'example.org:80', '127.0.0.1', 'localhost', '[::1]', '0.0.0.0']
)
def test_a_foreign_host_header_is_refused(server, host):
  """A page of a name that has been pointed at 127.0.0.1 (DNS rebinding) gets nothing."""
  assert ask(server, host=host)[0] == 403
  if host:
    assert ask(server, host=f'{host}:1')[0] == 403


def test_two_host_headers_are_refused(server):
  assert ask(server, host=own(server), headers=[('Host', 'example.org')])[0] == 403


@pytest.mark.parametrize('origin', ['http://example.org', 'null', 'https://127.0.0.1:{port}'])
def test_a_foreign_origin_is_refused(server, origin):
  origin = origin.format(port=server.server_port)
  assert ask(server, '/avatar/0', host=own(server), headers=[('Origin', origin)])[0] == 403


@pytest.mark.parametrize('site', ['cross-site', 'same-site', 'anything'])
def test_requests_of_other_sites_are_refused(server, site):
  headers = [('Sec-Fetch-Site', site)]
  assert ask(server, '/avatar/0', host=own(server), headers=headers)[0] == 403


@pytest.mark.parametrize('site', ['same-origin', 'none'])
def test_requests_of_its_own_page_are_answered(server, site):
  headers = [('Sec-Fetch-Site', site), ('Origin', f'http://{own(server)}')]
  assert ask(server, '/avatar/0', host=own(server), headers=headers)[0] == 200


@pytest.mark.parametrize('path', ['/', '/nothing'])
def test_every_answer_forbids_what_it_does_not_need(server, path):
  for host in (own(server), 'example.org'):
    _, headers, _ = ask(server, path, host=host)
    assert headers['Content-Security-Policy'] == POLICY
    assert headers['X-Content-Type-Options'] == 'nosniff'
    assert headers['Referrer-Policy'] == 'no-referrer'
    assert headers['Cache-Control'] == 'no-store'
    assert headers['Cross-Origin-Resource-Policy'] == 'same-origin'


def test_two_at_once(server, serve):
  other = serve(ViewerServer({'/': ('text/html', b'other')}, POLICY))
  assert other.server_port != server.server_port
  assert ask(other, host=own(other))[2] == b'other'
  assert ask(server, host=own(server))[2] == b'<p>'
  assert ask(server, host=own(other))[0] == 403


def test_a_slow_client_stops_nobody(server):
  with socket.create_connection((HOST, server.server_port)) as slow:
    slow.sendall(b'GET / HTTP/1.0\r\n')  # and no end
    assert ask(server, host=own(server))[0] == 200


def test_the_port_is_taken_while_it_runs_and_free_afterwards(server):
  with pytest.raises(OSError, match='in use'):
    ViewerServer(ROUTES, POLICY, server.server_port)
  with ViewerServer(ROUTES, POLICY) as first:
    port = first.server_port
  with ViewerServer(ROUTES, POLICY, port) as second:
    assert second.server_port == port


def test_an_avatars_page(avatar, capture, serve):
  server = serve(serve_avatars([avatar, avatar], capture))
  assert set(server.routes) == {'/', '/viewer.js', '/avatar/0', '/avatar/1'}
  _, headers, body = ask(server, host=own(server))
  text = body.decode()
  assert 'data-avatars="2"' in text
  assert 'a &lt;b&gt;test&lt;/b&gt; &amp; {{scripts}} · a' in text
  policy = headers['Content-Security-Policy']
  assert policy.startswith("default-src 'none'")
  assert not re.search(r"https?:|\*|'unsafe-", policy.replace("'wasm-unsafe-eval'", ''))
  assert ask(server, '/viewer.js', host=own(server))[2].decode() == page.static('viewer.js')
  assert ask(server, '/avatar/1', host=own(server))[2][:8] == b'SA0VIEW1'
