"""A headless Chromium, spoken to over a pipe in the DevTools protocol: no driver, no package."""

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from typing import Any

PROGRAMS = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable')
# Software rendering: machines that test have no screen and no GPU.
_FLAGS = (
  '--headless=new',
  '--no-sandbox',  # containers run tests as root
  '--use-gl=angle',
  '--use-angle=swiftshader',
  '--enable-unsafe-swiftshader',
  '--disable-dev-shm-usage',
  '--disable-background-networking',
  '--disable-component-update',
  '--no-first-run',
  '--hide-scrollbars',
  '--remote-debugging-pipe',
)


# The browser reads descriptor 3 and writes 4. A program of its own does that: forking a process
# with JAX's threads in it is a warning.
_LAUNCH = (
  'import os, sys, fcntl\n'
  'ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]\n'
  'os.dup2(ends[0], 3), os.dup2(ends[1], 4)\n'
  'os.execv(sys.argv[3], sys.argv[3:])'
)


def program() -> str | None:
  """The browser of this machine, or None."""
  return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


class Page:
  """One page of a browser of its own, with all it has asked for and complained about."""

  def __init__(self, folder, size=(800, 600)):
    self.folder = folder  # what the page saves lands here
    self.requests: list[str] = []
    self.complaints: list[str] = []
    self._answers: dict[int, dict] = {}
    self._loaded, self._next, self._buffer = False, 0, b''
    to_browser, self._out = os.pipe()
    self._in, from_browser = os.pipe()

    ends = (to_browser, from_browser)
    with open(folder / 'chromium.log', 'wb') as log:
      self._process = subprocess.Popen(
        [
          *(sys.executable, '-SEc', _LAUNCH, *map(str, ends), str(program())),
          *_FLAGS,
          f'--window-size={size[0]},{size[1]}',
          f'--user-data-dir={folder / "profile"}',
          'about:blank',
        ],
        pass_fds=ends,
        stdout=log,
        stderr=log,
      )
    os.close(to_browser)
    os.close(from_browser)
    targets = self._call('Target.getTargets', session=None)['targetInfos']
    target = next(t['targetId'] for t in targets if t['type'] == 'page')
    attach = {'targetId': target, 'flatten': True}
    self._session = None
    self._session = self._call('Target.attachToTarget', attach)['sessionId']
    for domain in ('Page', 'Runtime', 'Network', 'Log'):
      self._call(f'{domain}.enable')
    download = {'behavior': 'allow', 'downloadPath': str(folder)}
    self._call('Browser.setDownloadBehavior', download, session=None)

  def close(self) -> None:
    """Ends the browser."""
    self._process.terminate()
    self._process.wait(20)
    os.close(self._in)
    os.close(self._out)

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self.close()

  def resize(self, width: int, height: int, mobile: bool = False) -> None:
    """Sets the size of the page in CSS pixels, one device pixel each."""
    metrics = {'width': width, 'height': height, 'deviceScaleFactor': 1, 'mobile': mobile}
    self._call('Emulation.setDeviceMetricsOverride', metrics)

  def open(self, url: str) -> None:
    """Goes to an address and waits until the page has its avatars."""
    self._loaded = False
    self._call('Page.navigate', {'url': url})
    while not self._loaded:
      self._read(time.monotonic() + 60)
    self.run('window.sa0.then(() => null)')

  def run(self, expression: str, timeout: float = 120) -> Any:
    """The value of a JavaScript expression; promises are waited for."""
    asked = {'expression': expression, 'awaitPromise': True, 'returnByValue': True}
    answer = self._call('Runtime.evaluate', asked, timeout=timeout)
    if 'exceptionDetails' in answer:
      raise RuntimeError(json.dumps(answer['exceptionDetails'])[:2000])
    return answer['result'].get('value')

  def key(self, key: str) -> None:
    """Presses and lets go a key."""
    for kind in ('keyDown', 'keyUp'):
      self._call('Input.dispatchKeyEvent', {'type': kind, 'key': key, 'code': key})

  def drag(self, start: tuple[int, int], end: tuple[int, int]) -> None:
    """Drags with the left button."""
    left = {'button': 'left', 'clickCount': 1, 'buttons': 1}
    for kind, (x, y) in (('mousePressed', start), ('mouseMoved', end), ('mouseReleased', end)):
      self._call('Input.dispatchMouseEvent', {'type': kind, 'x': x, 'y': y, **left})

  def screenshot(self) -> bytes:
    """The page as a PNG file."""
    return base64.b64decode(self._call('Page.captureScreenshot', {'format': 'png'})['data'])

  def _call(self, method: str, params: dict | None = None, session: Any = '', timeout: float = 60):
    self._next += 1
    number = self._next
    message: dict = {'id': number, 'method': method, 'params': params or {}}
    if session is not None and getattr(self, '_session', None):
      message['sessionId'] = self._session
    os.write(self._out, json.dumps(message).encode() + b'\0')
    end = time.monotonic() + timeout
    while number not in self._answers:
      self._read(end)
    answer = self._answers.pop(number)
    if 'error' in answer:
      raise RuntimeError(f'{method}: {answer["error"]}')
    return answer['result']

  def _read(self, end: float) -> None:
    if not select.select([self._in], [], [], max(0.0, end - time.monotonic()))[0]:
      raise TimeoutError('the browser does not answer')
    data = os.read(self._in, 1 << 20)
    if not data:
      raise RuntimeError('the browser has ended')
    *messages, self._buffer = (self._buffer + data).split(b'\0')
    for message in map(json.loads, messages):
      if 'id' in message:
        self._answers[message['id']] = message
      else:
        self._event(message['method'], message['params'])

  def _event(self, method: str, params: dict) -> None:
    if method == 'Network.requestWillBeSent':
      self.requests.append(params['request']['url'])
    elif method == 'Page.loadEventFired':
      self._loaded = True
    elif method == 'Runtime.exceptionThrown':
      self.complaints.append(json.dumps(params['exceptionDetails']))
    elif method == 'Log.entryAdded' and params['entry']['level'] in ('warning', 'error'):
      self.complaints.append(params['entry']['text'])
    elif method == 'Runtime.consoleAPICalled' and params['type'] in ('warning', 'error', 'assert'):
      self.complaints.append(' '.join(str(a.get('value', a)) for a in params['args']))
