"""The page in a real browser, drawn by software: `make test-browser`."""

import base64
import dataclasses
import itertools
import re
import threading
import time

import cv2
import jax.numpy as jnp
import numpy as np
import pytest

from sa0_jax.avatar.binding import triangle_frames
from sa0_jax.export.settings import ExportSettings
from sa0_jax.head.lbs import pose_head
from sa0_jax.render import Renderer
from sa0_jax.viewer.page import export_html
from sa0_jax.viewer.view import serve_avatars
from tests.viewer import chromium

pytestmark = [
  pytest.mark.browser,
  pytest.mark.skipif(chromium.program() is None, reason='no Chromium on the PATH'),
]
SIDE = 256  # px of the pictures compared
AGREEMENT = 30.0  # dB


@pytest.fixture(scope='module')
def address(avatar, capture):
  """Of a server with the avatar twice, and the capture's motion."""
  with serve_avatars([avatar, avatar], capture) as server:
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server.url
    server.shutdown()
    thread.join()


@pytest.fixture(scope='module')
def shared(address, tmp_path_factory):
  """One browser with the page open."""
  with chromium.Page(tmp_path_factory.mktemp('browser')) as browser:
    browser.resize(900, 600)
    browser.open(address)
    yield browser


@pytest.fixture
def page(shared):
  """The same, which must not have complained by the end of the test."""
  yield shared
  assert shared.complaints == []


def script(body: str) -> str:
  """JavaScript with the page's parts at hand; its value is that of `return`."""
  return f'window.sa0.then(async ({{stage, panel, packs}}) => {{ {body} }})'


def picture(address: str) -> np.ndarray:
  """[h, w, 3] RGB in [0, 1] of a data: address."""
  data = np.frombuffer(base64.b64decode(address.partition(',')[2]), np.uint8)
  return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1] / 255.0


def psnr(a, b) -> float:
  return float(-10 * np.log10(np.mean((np.asarray(a) - np.asarray(b)) ** 2)))


def test_the_page_asks_for_nothing_outside(page, address):
  assert page.requests
  assert {address, f'{address}viewer.js', f'{address}avatar/1'} <= set(page.requests)
  inside = re.compile(rf'(blob:)?{re.escape(address)}|data:')
  assert [url for url in page.requests if not inside.match(url)] == []


@pytest.mark.parametrize('frame', [0, 3])
def test_the_rig_poses_and_frames_as_the_library_does(page, avatar, capture, frame):
  arrays = page.run(
    script(f"""panel.playback.go({frame});
    const {{ head, splats }} = stage.panes[0];
    return [[...head.vertices], [...splats.frameData.slice(0, 8 * head.faces.length / 3)]];""")
  )
  vertices, frames = (
    np.reshape(array, (-1, width)) for array, width in zip(arrays, (3, 8), strict=True)
  )
  codes = dataclasses.replace(capture.frame_codes(frame), shape=avatar.shape)
  expected = np.asarray(pose_head(avatar.head, codes))
  assert np.abs(vertices - expected).max() < 5e-6
  own = triangle_frames(jnp.asarray(expected), jnp.asarray(avatar.head.faces))
  assert np.abs(frames[:, :3] - own.center).max() < 5e-6
  assert np.abs(frames[:, 3] - own.scale).max() < 1e-5
  assert np.allclose(np.linalg.norm(frames[:, 4:], axis=1), 1, atol=1e-6)


@pytest.mark.parametrize('frame', [0, 1, 3])
def test_its_pictures_are_those_of_render(page, avatar, capture, frame):
  drawn = picture(
    page.run(
      script(f"""stage.panes[0].resize({SIDE}, {SIDE}, 1);
      panel.playback.go({frame});
      await stage.settle();
      const pane = stage.panes[0];
      stage.render();
      return pane.canvas.toDataURL();""")
    )
  )
  camera = capture.frame_camera(frame).resized(SIDE, SIDE)
  rendered = Renderer(avatar)(capture.frame_codes(frame), camera).rgb
  assert drawn.shape == rendered.shape
  assert np.mean(rendered < 0.9) > 0.1  # not an empty picture
  agreement = psnr(drawn, np.clip(rendered, 0, 1))
  print(f'frame {frame}: {agreement:.2f} dB')
  assert agreement >= AGREEMENT


def settled(page, body='') -> np.ndarray:
  return picture(
    page.run(script(f'{body}; await stage.settle(); return stage.picture().toDataURL();'))
  )


def slide(name: str, value: float) -> str:
  """Moves a slider as a hand does."""
  return f"""{{ const input = document.querySelector('input[data-slider="{name}"]');
    input.value = {value}; input.dispatchEvent(new Event('input')); }}"""


def test_sliders_move_what_they_name(page):
  before = settled(
    page, "document.getElementById('home').click(); panel.preset(packs[0].presets[0])"
  )
  vertices = 'return [...stage.panes[0].head.vertices]'
  rest = np.array(page.run(script(vertices)))
  for name, value in (('Jaw', 0.4), ('mouthSmileLeft', 1.0), ('Gaze across', 0.3)):
    moved = np.array(page.run(script(slide(name, value) + vertices)))
    assert np.abs(moved - rest).max() > 1e-3
    rest = moved
  assert np.abs(settled(page) - before).max() > 0.1
  assert np.abs(settled(page, 'panel.preset(packs[0].presets[0])') - before).max() < 0.02


def test_playback_runs_and_stops(page):
  page.run(script("panel.playback.go(0); document.getElementById('play').click();"))
  seen = set()
  end = time.monotonic() + 60
  while len(seen) < 3 and time.monotonic() < end:
    seen.add(page.run(script("return document.getElementById('scrub').value")))
  assert len(seen) >= 3
  page.run(script("document.getElementById('play').click();"))
  rest = page.run(script('return panel.playback.position'))
  time.sleep(0.3)
  assert page.run(script('return panel.playback.position')) == rest


def test_keys_and_mouse_turn_the_head(page):
  front = "document.getElementById('home').click(); document.getElementById('stage').focus();"
  place = 'return stage.eye.position.toArray()'
  home = np.array(page.run(script(front + place)))
  page.key('ArrowRight')
  turned = np.array(page.run(script(place)))
  assert np.linalg.norm(turned - home) > 0.01
  page.key('+')
  nearer = np.array(page.run(script(place)))
  assert np.linalg.norm(nearer) < np.linalg.norm(turned)
  page.key('Home')
  assert np.allclose(page.run(script(place)), home)
  page.drag((200, 300), (260, 300))
  assert np.linalg.norm(np.array(page.run(script(place))) - home) > 0.01


def test_views_differ(page):
  pictures = [
    settled(page, f"stage.show('{what}')") for what in ('mesh', 'points', 'both', 'splats')
  ]
  for one, other in itertools.pairwise(pictures):
    assert np.abs(one - other).mean() > 1e-3


def test_screenshot_and_turntable_are_files(page):
  page.run(script("await stage.settle(); document.getElementById('screenshot').click()"))
  saved = wait_for(page.folder, '*.png')
  drawn = cv2.imread(str(saved))
  assert drawn is not None
  assert drawn.std() > 5
  size = page.run(script('const {blob} = await panel.record(0.7); return blob.size'))
  assert size > 1000


def wait_for(folder, pattern):
  end = time.monotonic() + 30
  while time.monotonic() < end:
    found = [path for path in folder.glob(pattern) if path.stat().st_size]
    if found:
      return found[0]
    time.sleep(0.1)
  raise TimeoutError(pattern)


def test_it_fits_a_phone(page):
  page.resize(390, 844, mobile=True)
  time.sleep(0.3)
  width, stage, panel = page.run(
    script("""return [document.documentElement.scrollWidth, stage.element.clientWidth,
    document.getElementById('panel').getBoundingClientRect().top]""")
  )
  page.resize(900, 600)
  assert (width, stage) == (390, 390)
  assert 300 < panel < 600


def test_the_exported_file_needs_no_network(avatar, capture, tmp_path):
  path = tmp_path / 'export.html'
  export_html(avatar, path, ExportSettings(motion=capture))
  with chromium.Page(tmp_path) as page:
    page.resize(700, 400)
    page.open(path.as_uri())
    drawn = settled(page, 'panel.playback.go(1)')
    assert page.complaints == []
    outside = [u for u in page.requests if not u.startswith(('file:', 'blob:', 'data:'))]
  assert outside == []
  assert drawn.std() > 0.05
