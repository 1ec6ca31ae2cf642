"""Sets of synthetic subjects: described by a few numbers, built in parallel, continued when cut.

A set folder holds

    studio.json      the description: format, versions, seeds, what is filmed of each
    studio-000000/   one capture folder a seed, see `sa0_jax.capture.capture`
    studio-000001/   …

A subject depends on its seed and the description alone: not on the others, the order, or how many
are made at once.
"""

import contextlib
import dataclasses
import json
import multiprocessing
import os
import re
import shutil
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from sa0_jax import archive
from sa0_jax.capture.studio.config import StudioConfig
from sa0_jax.capture.studio.extras import DRAWN
from sa0_jax.processes import worker_pool

FORMAT, VERSION = 'sa0-studio', 1
# Of the studio itself: raised whenever the same seed and config would give other pictures.
EDITION = 1
MANIFEST = 'studio.json'
MAX_SUBJECTS = 1_000_000
_MAX_BYTES = 1 << 20
_RANGES = 10_000

Progress = Callable[[int, int], None]


def varied(**changes: Any) -> StudioConfig:
  """What data sets are filmed with: everything the studio can vary, drawn from the seed.

  Args:
    **changes: fields of `StudioConfig` that shall be otherwise.
  """
  drawn = {'beard': DRAWN, 'glasses': DRAWN, 'background': DRAWN, 'sensor': DRAWN}
  multiview = changes.get('kind') == 'multiview'
  length = {'frames': 8} if multiview else {'frames': 24, 'fps': 5.0}
  return StudioConfig(**{**drawn, **length, **changes})


@dataclasses.dataclass(frozen=True)
class StudioSet:
  """A set of subjects.

  Attributes:
    seeds: ranges (first, one past the last) of the subjects' seeds, in order.
    film: what is filmed of each; its own seed is not used and is 0.
    image_format: 'jpg' or 'png', as in `Capture.save`.

  Raises:
    ValueError: a value is out of range.
  """

  seeds: tuple[tuple[int, int], ...]
  film: StudioConfig = dataclasses.field(default_factory=varied)
  image_format: str = 'jpg'

  def __post_init__(self) -> None:
    if not 1 <= len(self.seeds) <= _RANGES:
      raise ValueError(f'StudioSet: seeds must be 1 to {_RANGES} ranges, got {len(self.seeds)}')
    end = 0
    for first, stop in self.seeds:
      if not end <= first < stop <= 2**63 - 1:
        raise ValueError(
          f'StudioSet: seeds must be ranges (first, one past the last) that rise, got {self.seeds}'
        )
      end = stop
    if len(self) > MAX_SUBJECTS:
      raise ValueError(f'StudioSet: {len(self)} subjects, more than {MAX_SUBJECTS}')
    if self.film.seed != 0:
      raise ValueError(f'StudioSet: film.seed is not used and must be 0, got {self.film.seed}')
    if self.image_format not in ('jpg', 'png'):
      raise ValueError(f"StudioSet: image_format must be 'jpg' or 'png', got {self.image_format!r}")

  def __len__(self) -> int:
    return sum(stop - first for first, stop in self.seeds)

  @property
  def pictures(self) -> int:
    """Pictures of one subject."""
    return self.film.frames * (self.film.cameras if self.film.kind == 'multiview' else 1)

  def all_seeds(self) -> Iterator[int]:
    """The subjects' seeds in order."""
    for first, stop in self.seeds:
      yield from range(first, stop)

  def folder(self, seed: int) -> str:
    """Name of a subject's capture folder."""
    return f'studio-{seed:06d}'

  def to_json(self) -> dict[str, Any]:
    """The description as `studio.json` has it."""
    film = dataclasses.asdict(self.film)
    del film['seed']
    return {
      'format': FORMAT,
      'version': VERSION,
      'edition': EDITION,
      'subjects': len(self),
      'seeds': [list(pair) for pair in self.seeds],
      'film': film,
      'image_format': self.image_format,
    }

  @classmethod
  def from_json(cls, table: Any, source: str) -> 'StudioSet':
    """A description from what `to_json` gave.

    Args:
      table: parsed JSON.
      source: what to call it in messages.

    Raises:
      ValueError: it is none, of another version, or holds a wrong value.
    """
    if not isinstance(table, dict) or table.get('format') != FORMAT:
      raise ValueError(f'{source}: not the description of a studio set')
    if (table.get('version'), table.get('edition')) != (VERSION, EDITION):
      raise ValueError(
        f'{source}: version {table.get("version")}, studio edition {table.get("edition")}; this '
        f'program has version {VERSION}, edition {EDITION} and would film other pictures'
      )
    seeds, film = table.get('seeds'), table.get('film')
    known = {field.name for field in dataclasses.fields(StudioConfig)} - {'seed'}
    if not isinstance(film, dict) or set(film) != known:
      raise ValueError(f"{source}: 'film' must have exactly the fields {', '.join(sorted(known))}")
    if not isinstance(seeds, list) or not all(_is_pair(pair) for pair in seeds):
      raise ValueError(f"{source}: 'seeds' must be a list of [first, one past the last]")
    text = ('kind', 'hair', 'beard', 'glasses', 'background', 'sensor')
    for name in text:
      if not isinstance(film[name], str) and not (name == 'hair' and film[name] is None):
        raise ValueError(f'{source}: film.{name} must be a text')
    fps = film['fps']
    if fps is not None and (isinstance(fps, bool) or not isinstance(fps, int | float)):
      raise ValueError(f'{source}: film.fps must be a number or null')
    try:
      film_config = StudioConfig(**{**film, 'fps': None if fps is None else float(fps)})
      ranges = tuple((int(first), int(stop)) for first, stop in seeds)
      return cls(ranges, film_config, table.get('image_format', ''))
    except ValueError as error:
      raise ValueError(f'{source}: {error}') from error


def _is_pair(pair: Any) -> bool:
  return isinstance(pair, list) and len(pair) == 2 and all(type(value) is int for value in pair)


@dataclasses.dataclass(frozen=True)
class BuildReport:
  """What a build has done.

  Attributes:
    made: subjects filmed now.
    kept: subjects that were there.
    pictures: pictures filmed now.
  """

  made: int
  kept: int
  pictures: int


def read_set(path: str | os.PathLike[str]) -> StudioSet:
  """Reads a description.

  Args:
    path: a set's folder, or its studio.json.

  Raises:
    FileNotFoundError: there is none.
    ValueError: it is damaged, of another version, or holds a wrong value.
  """
  path = Path(path)
  path = path / MANIFEST if path.is_dir() else path
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such description; `sa0 studio` writes one')
  return StudioSet.from_json(archive.read_json(path, _MAX_BYTES), str(path))


def describe_set(wanted: StudioSet, folder: str | os.PathLike[str]) -> Path:
  """Writes `studio.json`; a set that stands there may grow, but not change.

  Args:
    wanted: the set.
    folder: where it is or will be.

  Returns:
    The file.

  Raises:
    ValueError: the folder holds another set, or other things.
  """
  folder = Path(folder)
  path = folder / MANIFEST
  if path.exists():
    there = read_set(path)
    same = dataclasses.replace(wanted, seeds=there.seeds) == there
    if not same or not all(_covered(pair, wanted.seeds) for pair in there.seeds):
      raise ValueError(
        f'{folder}: holds another set ({_difference(there, wanted)}); give the same options as '
        'then, or another folder'
      )
    if there == wanted:
      return path
  elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
    raise ValueError(f'{folder}: exists and is no studio set; choose another place')
  folder.mkdir(parents=True, exist_ok=True)
  with archive.atomic_write(path) as file:
    file.write((json.dumps(wanted.to_json(), indent=1) + '\n').encode())
  return path


def _covered(pair: tuple[int, int], ranges: tuple[tuple[int, int], ...]) -> bool:
  return any(first <= pair[0] and pair[1] <= stop for first, stop in ranges)


def _difference(there: StudioSet, wanted: StudioSet) -> str:
  """The first thing in which two sets differ, for a message."""
  before, now = there.to_json(), wanted.to_json()
  for name in ('film', 'image_format', 'seeds'):
    if before[name] == now[name]:
      continue
    if name != 'film':
      return f'{name} {before[name]}, not {now[name]}'
    for field, value in before['film'].items():
      if value != now['film'][field]:
        return f'{field} {value}, not {now["film"][field]}'
  return 'the same description'


def build_set(
  wanted: StudioSet,
  folder: str | os.PathLike[str],
  *,
  only: slice = slice(None),
  workers: int | None = None,
  progress: Progress | None = None,
) -> BuildReport:
  """Films the subjects of a set that are not there yet.

  Every finished subject is kept whatever happens to the others; one that was cut off is made again.
  Several machines may build parts of one set into one folder. With more than one worker, subjects
  are made in processes of their own: a script that calls this needs the usual
  `if __name__ == '__main__':`.

  Args:
    wanted: the set.
    folder: where it is or will be.
    only: which of its subjects, by position.
    workers: subjects filmed at once; None takes as many as there are processors.
    progress: called with (pictures of this call done, in all) after each subject.

  Returns:
    What was done.

  Raises:
    ValueError: the folder holds another set, or other things.
    RuntimeError: a worker died.
    ImportError: numba is missing.
  """
  describe_set(wanted, folder)
  chosen = [*wanted.all_seeds()][only]
  jobs = []
  for seed in chosen:
    place = Path(folder) / wanted.folder(seed)
    if not (place / 'capture.json').is_file():
      config = dataclasses.replace(wanted.film, seed=seed)
      jobs.append(_Job(config, str(place), wanted.image_format))
  count = min(workers or os.cpu_count() or 1, max(len(jobs), 1))
  try:
    with contextlib.closing(_finished(jobs, count)) as finished:
      for done, _ in enumerate(finished, 1):
        if progress is not None:
          progress(done * wanted.pictures, len(jobs) * wanted.pictures)
  finally:
    _sweep(Path(folder), {Path(job.place).name for job in jobs})
  return BuildReport(len(jobs), len(chosen) - len(jobs), len(jobs) * wanted.pictures)


@dataclasses.dataclass(frozen=True)
class _Job:
  """One subject to film."""

  config: StudioConfig
  place: str
  image_format: str
  threads: int | None = 1


def _finished(jobs: list[_Job], workers: int) -> Generator[None, None, None]:
  """Does the jobs; gives one item for each that is done."""
  if workers == 1 and _has_processor():
    for job in jobs:
      _make(dataclasses.replace(job, threads=None))
      yield
    return
  before = {child.pid for child in multiprocessing.active_children()}
  with worker_pool(workers) as pool:
    try:
      pending: list[Future[None]] = [pool.submit(_make, job) for job in jobs]
      for future in as_completed(pending):
        future.result()
        yield
    except BaseException as error:
      pool.shutdown(wait=False, cancel_futures=True)
      for child in multiprocessing.active_children():
        if child.pid not in before:
          child.terminate()
      if isinstance(error, BrokenProcessPool):
        raise RuntimeError(
          'studio: a worker died, out of memory perhaps; finished subjects are kept: run it again '
          'with fewer workers'
        ) from error
      raise


def _has_processor() -> bool:
  """Whether JAX may use the processor in this process; JAX_PLATFORMS may leave it out."""
  import jax

  try:
    return bool(jax.local_devices(backend='cpu'))
  except RuntimeError:
    return False


def _make(job: _Job) -> None:
  """Films one subject and writes its capture."""
  import jax

  from sa0_jax.capture.studio.filming import film

  # On the processor in every case, so that the number of workers changes nothing.
  with jax.default_device(jax.local_devices(backend='cpu')[0]):
    film(job.config, threads=job.threads).save(job.place, job.image_format)


def _sweep(folder: Path, names: set[str]) -> None:
  """Removes what interrupted subjects of this build have left."""
  for path in folder.glob('.studio-*'):
    match = re.fullmatch(r'\.(studio-\d+)\.[0-9a-f]{8}(\.old)?', path.name)
    if match and match[1] in names:
      shutil.rmtree(path, ignore_errors=True)
