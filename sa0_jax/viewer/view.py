"""`sa0 view` as a function: avatars in, a server that shows them out."""

from collections.abc import Sequence

from sa0_jax.avatar.avatar import Avatar
from sa0_jax.capture.capture import Capture
from sa0_jax.viewer import page
from sa0_jax.viewer.pack import pack_avatar, playback_of
from sa0_jax.viewer.server import ViewerServer


def serve_avatars(
  avatars: Sequence[Avatar], capture: Capture | None = None, port: int = 0
) -> ViewerServer:
  """A server that shows avatars side by side; it answers once its `serve_forever` runs.

  Args:
    avatars: one or two.
    capture: whose motion plays; tracked with the head model of every avatar.
    port: 0 takes a free one.

  Raises:
    ValueError: the capture was tracked with another head model.
    OSError: the port is taken.
  """
  text = page.served_page([avatar.name for avatar in avatars])
  routes = {
    '/': ('text/html; charset=utf-8', text.encode()),
    '/viewer.js': ('text/javascript; charset=utf-8', page.static('viewer.js').encode()),
  }
  for index, avatar in enumerate(avatars):
    playback = None if capture is None else playback_of(capture, avatar.head)
    routes[f'/avatar/{index}'] = ('application/octet-stream', pack_avatar(avatar, playback))
  return ViewerServer(routes, page.served_policy(text), port)
