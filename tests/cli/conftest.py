"""Commands run in this process, on one tiny capture."""

import dataclasses
import os

import numpy as np
import pytest
from sa0_kernels import Camera

from sa0_jax.capture.capture import Capture, MemoryImages
from sa0_jax.cli.main import main
from sa0_jax.head.model import HeadCodes
from sa0_jax.head.registry import load_head
from sa0_jax.mesh_render import look_at_camera

# One set of settings for all: every other one would be compiled again.
FAST = (
  '--config.steps=6',
  '--config.uv_size=24',
  '--config.steps_per_call=3',
  '--config.held_out=0.4',
  '--config.checkpoint_every=2',
)


@pytest.fixture(autouse=True)
def _own_caches(monkeypatch, tmp_path_factory):
  """Commands keep what they compile; tests must not touch the user's folder or later tests."""
  monkeypatch.setenv('SA0_CACHE', str(tmp_path_factory.getbasetemp() / 'cache'))
  for name in ('JAX_COMPILATION_CACHE_DIR', 'NUMBA_CACHE_DIR'):
    monkeypatch.setenv(name, os.environ.get(name, str(tmp_path_factory.getbasetemp() / name)))
  monkeypatch.delenv('SA0_TRACEBACK', raising=False)


@pytest.fixture(scope='session')
def capture() -> Capture:
  """Five frames of a head-sized blob, exactly posed; 48 px."""
  pytest.importorskip('numba')
  head = load_head()
  frames, size = 5, 48
  camera = look_at_camera(
    [0.0, 0.0, 0.0], distance=0.9, yaw=0.0, pitch=0.0, focal=2.2, size=(size, size)
  )
  row, column = np.mgrid[:size, :size] + 0.5
  blob = ((row - 24) / 18) ** 2 + ((column - 24) / 13) ** 2 < 1
  images = np.stack([np.full((size, size, 3), (180 + 5 * i, 120, 90), np.uint8) for i in range(5)])
  images[:, 20:24, 18:30] = (40, 60, 90)
  neutral = HeadCodes.neutral(head, (frames,))
  codes = {f.name: np.array(getattr(neutral, f.name)) for f in dataclasses.fields(HeadCodes)}
  codes['shape'] = codes['shape'][0]
  codes['jaw'][:, 0] = np.linspace(0.01, 0.2, frames)
  return Capture(
    name='blob',
    head_name=head.name,
    head_fingerprint=head.fingerprint,
    codes=HeadCodes(**codes),
    camera=Camera(
      np.stack([np.asarray(camera.world_to_camera, np.float32)] * frames),
      np.stack([np.asarray(camera.intrinsics, np.float32)] * frames),
      size,
      size,
    ),
    source=MemoryImages(images, np.stack([255 * blob.astype(np.uint8)] * frames)),
    ids=np.arange(frames),
    times=np.arange(frames) / 25.0,
    view_ids=np.zeros(frames, np.int64),
    fps=25.0,
  )


@pytest.fixture(scope='session')
def capture_folder(capture, tmp_path_factory):
  """The capture as users have it. Tests that damage it copy it first."""
  folder = tmp_path_factory.mktemp('captures') / 'blob'
  capture.save(folder)
  return folder


@pytest.fixture(scope='session')
def refined(capture_folder, tmp_path_factory):
  """An avatar made by `sa0 refine`, with its report and preview."""
  out = tmp_path_factory.mktemp('refined') / 'blob.sa0'
  arguments = ['refine', capture_folder, '--out', out, '--preview', out.with_suffix('.mp4')]
  assert main([*map(str, arguments), *FAST]) == 0
  return out


@pytest.fixture
def sa0(capsys):
  """Runs a command: sa0('render', path, …) → (exit code, standard output, standard error)."""

  def run(*words):
    capsys.readouterr()
    code = main([str(word) for word in words])
    output = capsys.readouterr()
    return code, output.out, output.err

  return run


@pytest.fixture
def fails(sa0):
  """Runs a command that must fail with exit code 1 and one line; returns the line."""

  def run(*words):
    code, _, errors = sa0(*words)
    # Progress lines may stand before it.
    lines = [line for line in errors.splitlines() if line.startswith('sa0 ')]
    assert code == 1, errors
    assert len(lines) == 1, errors
    assert 'Traceback' not in errors
    assert lines[0].startswith(f'sa0 {words[0]}: ')
    return lines[0]

  return run
