"""Sets of subjects: described exactly, built in any way with the same bytes, continued when cut."""

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest

from sa0_jax.capture.capture import load_capture
from sa0_jax.capture.studio import (
  StudioConfig,
  StudioSet,
  build_set,
  describe_set,
  read_set,
  varied,
)

pytest.importorskip('numba')

TINY = varied(frames=2, resolution=24, hair='bald')
# As FORMATS would have it, written by hand.
MANIFEST = {
  'format': 'sa0-studio',
  'version': 1,
  'edition': 1,
  'subjects': 5,
  'seeds': [[3, 5], [10, 13]],
  'film': {
    'kind': 'multiview',
    'frames': 4,
    'resolution': 64,
    'fps': 2,
    'cameras': 8,
    'supersampling': 2,
    'hair': None,
    'beard': 'drawn',
    'glasses': 'none',
    'background': 'room',
    'sensor': 'drawn',
  },
  'image_format': 'png',
}


def _digests(folder: Path) -> dict[str, str]:
  return {
    str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
    for path in sorted(folder.rglob('*'))
    if path.is_file()
  }


def _changed(**changes) -> dict:
  return {**MANIFEST, **changes}


def test_one_worker_and_two_write_the_same_bytes(tmp_path) -> None:
  wanted = StudioSet(((5, 7),), TINY)
  one, two = tmp_path / 'one', tmp_path / 'two'
  calls: list[tuple[int, int]] = []
  report = build_set(wanted, one, workers=1)
  assert (report.made, report.kept, report.pictures) == (2, 0, 4)
  build_set(wanted, two, workers=2, progress=lambda done, total: calls.append((done, total)))
  assert calls == [(2, 4), (4, 4)]
  assert _digests(one) == _digests(two)
  capture = load_capture(two / 'studio-000006')
  assert (capture.name, len(capture), capture.width) == ('studio-6', 2, 24)
  assert capture.frames[0].pixels.image.std() > 5
  assert (
    sorted(path.suffix for path in (one / 'studio-000005' / 'images').iterdir()) == ['.jpg'] * 2
  )


def test_an_interrupted_set_continues_and_finished_subjects_stay(tmp_path) -> None:
  wanted = StudioSet(((0, 3),), dataclasses.replace(TINY, frames=1, resolution=16))
  out = tmp_path / 'set'

  def interrupt(done: int, total: int) -> None:
    raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    build_set(wanted, out, workers=1, progress=interrupt)
  assert sorted(path.name for path in out.iterdir()) == ['studio-000000', 'studio.json']
  first = (out / 'studio-000000' / 'capture.json').stat()
  # What a killed process leaves of a subject, and something of the user's.
  (out / '.studio-000001.0123abcd').mkdir()
  (out / '.studio-notes').mkdir()
  report = build_set(wanted, out, only=slice(0, 2), workers=1)
  assert (report.made, report.kept) == (1, 1)
  names = sorted(path.name for path in out.iterdir())
  assert names == ['.studio-notes', 'studio-000000', 'studio-000001', 'studio.json']
  again = (out / 'studio-000000' / 'capture.json').stat()
  assert (again.st_mtime_ns, again.st_ino) == (first.st_mtime_ns, first.st_ino)


def test_a_description_comes_back_and_is_readable_when_written_by_hand(tmp_path) -> None:
  path = tmp_path / 'studio.json'
  path.write_text(json.dumps(MANIFEST))
  read = read_set(path)
  film = StudioConfig(
    kind='multiview', frames=4, resolution=64, fps=2.0, cameras=8, beard='drawn',
    background='room', sensor='drawn',
  )  # fmt: skip
  assert read == StudioSet(((3, 5), (10, 13)), film, 'png')
  assert [*read.all_seeds()] == [3, 4, 10, 11, 12]
  assert read.pictures == 32
  written = describe_set(read, tmp_path / 'set')
  assert json.loads(written.read_text()) == MANIFEST
  assert read_set(tmp_path / 'set') == read


def test_two_thousand_subjects_are_described_in_a_few_lines_and_may_grow(tmp_path) -> None:
  wanted = StudioSet(((0, 2000),))
  path = describe_set(wanted, tmp_path)
  assert path.stat().st_size < 1000
  assert describe_set(wanted, tmp_path) == path
  more = StudioSet(((0, 2500), (9000, 9100)))
  describe_set(more, tmp_path)
  assert len(read_set(tmp_path)) == 2600
  with pytest.raises(ValueError, match='seeds'):
    describe_set(wanted, tmp_path)
  with pytest.raises(ValueError, match='frames 24, not 25'):
    describe_set(dataclasses.replace(more, film=varied(frames=25)), tmp_path)
  assert len(read_set(tmp_path)) == 2600


def test_folders_of_other_things_are_left_alone(tmp_path) -> None:
  (tmp_path / 'thesis.tex').write_text('…')
  with pytest.raises(ValueError, match='no studio set'):
    build_set(StudioSet(((0, 1),)), tmp_path)
  with pytest.raises(FileNotFoundError, match='sa0 studio'):
    read_set(tmp_path / 'none.json')


@pytest.mark.parametrize(
  ('table', 'words'),
  [
    ([], 'not the description'),
    (_changed(format='sa0-capture'), 'not the description'),
    (_changed(version=2), 'version 2'),
    (_changed(edition=0), 'edition 0'),
    (_changed(seeds=[[5, 3]]), 'ranges'),
    (_changed(seeds=[[0, 5], [4, 9]]), 'ranges'),
    (_changed(seeds=[[0, 5.5]]), "'seeds' must be"),
    (_changed(seeds=[]), 'seeds must be'),
    (_changed(seeds=[[0, 10**9]]), 'more than'),
    (_changed(seeds=7), "'seeds' must be"),
    (_changed(image_format='tiff'), 'image_format'),
    (_changed(film={**MANIFEST['film'], 'frames': 0}), 'frames must be'),
    (_changed(film={**MANIFEST['film'], 'frames': '4'}), 'frames must be'),
    (_changed(film={**MANIFEST['film'], 'beard': 'green'}), 'beard must be'),
    (_changed(film={**MANIFEST['film'], 'beard': 7}), 'film.beard'),
    (_changed(film={**MANIFEST['film'], 'fps': 'fast'}), 'film.fps'),
    (_changed(film={**MANIFEST['film'], 'hats': 'drawn'}), "'film' must have exactly"),
    (_changed(film=None), "'film' must have exactly"),
  ],
)
def test_wrong_descriptions_are_named_in_one_line(unchecked_shapes, tmp_path, table, words) -> None:
  path = tmp_path / 'studio.json'
  path.write_text(json.dumps(table))
  with pytest.raises(ValueError, match=words) as caught:
    read_set(path)
  assert str(caught.value).startswith(str(path))
  assert '\n' not in str(caught.value)


def test_damaged_descriptions_are_refused(tmp_path) -> None:
  path = tmp_path / 'studio.json'
  for text in ('', '{', '[' * 100_000, '\x00\xff'):
    path.write_text(text)
    with pytest.raises(ValueError, match=r'studio\.json'):
      read_set(path)
  path.write_bytes(b' ' * (2 << 20))
  with pytest.raises(ValueError, match='larger'):
    read_set(path)
