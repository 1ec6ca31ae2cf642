"""Serves the page to this machine's browser, and to nothing else.

The avatar of a person is nobody else's business, and any web page a user has open can send requests
to 127.0.0.1. So: only the loopback address is listened on; a fixed table of routes, no path ever
becomes a file name; the Host header must be ours (a foreign name that resolves to 127.0.0.1 is
refused); what another site's page asks for is refused.
"""

import http.server
import socketserver
from typing import Any

HOST = '127.0.0.1'
_TIMEOUT = 30  # seconds a connection may be silent
# Sec-Fetch-Site of requests that our own page, or the address bar, makes.
_OWN_SITES = (None, 'same-origin', 'none')


class ViewerServer(socketserver.ThreadingMixIn, http.server.HTTPServer):
  """An HTTP server of a few fixed answers on the loopback address.

  Use it as a context manager, or call `server_close` when done: the port is free then.
  """

  daemon_threads = True
  # The port of a viewer that has just ended can be taken again; that of a living one cannot.
  allow_reuse_address = True

  def __init__(self, routes: dict[str, tuple[str, bytes]], policy: str, port: int = 0):
    """Listens.

    Args:
      routes: path → (content type, answer).
      policy: content security policy sent with every answer.
      port: 0 takes a free one.

    Raises:
      OSError: the port is taken.
    """
    self.routes = routes
    self.policy = policy
    try:
      super().__init__((HOST, port), _Handler)
    except OSError as error:
      reason = f'port {port} of {HOST}: {error.strerror}; choose another one, or 0 for any'
      raise OSError(error.errno, reason) from error

  def server_bind(self) -> None:
    """Binds the address; the base class would ask a name server about it."""
    socketserver.TCPServer.server_bind(self)
    self.server_name, self.server_port = HOST, self.server_address[1]

  @property
  def url(self) -> str:
    """Address of the page."""
    return f'http://{HOST}:{self.server_port}/'

  @property
  def own_hosts(self) -> tuple[str, str]:
    """What the Host header may say."""
    return f'{HOST}:{self.server_port}', f'localhost:{self.server_port}'

  def handle_error(self, request: Any, client_address: Any) -> None:
    """A browser that goes away in the middle of an answer is no error."""


class _Handler(http.server.BaseHTTPRequestHandler):
  server: ViewerServer
  timeout = _TIMEOUT
  server_version, sys_version = 'sa0', ''

  def do_GET(self) -> None:
    """Answers one request; other methods are refused by the base class (501)."""
    if not self._is_ours():
      self._send(403, 'text/plain; charset=utf-8', b'only for the page of sa0 view itself\n')
    elif self.path not in self.server.routes:
      self._send(404, 'text/plain; charset=utf-8', b'no such page\n')
    else:
      self._send(200, *self.server.routes[self.path])

  def _is_ours(self) -> bool:
    hosts, origins = self.headers.get_all('Host', []), self.headers.get_all('Origin', [])
    own = self.server.own_hosts
    return (
      len(hosts) == 1
      and hosts[0] in own
      and all(origin in {f'http://{host}' for host in own} for origin in origins)
      and self.headers['Sec-Fetch-Site'] in _OWN_SITES
    )

  def _send(self, status: int, content_type: str, body: bytes) -> None:
    self.send_response(status)
    self.send_header('Content-Type', content_type)
    self.send_header('Content-Length', str(len(body)))
    self.end_headers()
    self.wfile.write(body)

  def end_headers(self) -> None:
    """Adds what every answer carries, refusals of the base class included."""
    self.send_header('Content-Security-Policy', self.server.policy)
    self.send_header('X-Content-Type-Options', 'nosniff')
    self.send_header('Cross-Origin-Resource-Policy', 'same-origin')
    self.send_header('Cross-Origin-Opener-Policy', 'same-origin')
    self.send_header('Referrer-Policy', 'no-referrer')
    self.send_header('Cache-Control', 'no-store')
    super().end_headers()

  def log_message(self, *args: Any) -> None:
    """Keeps the terminal quiet."""
