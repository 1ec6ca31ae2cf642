"""Building a data set: shards are whole or absent, and an interrupted build goes on.

    plan = make_plan('captures', {'train': […], 'val': […]}, BuildConfig('sa0_monocular'))
    report = build(plan, 'data')          # data/sa0_monocular/1.0.0, which TFDS reads

The same captures and settings give the same bytes, whoever built which shard and however often
the build was interrupted.
"""

import dataclasses
import errno
import functools
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import as_completed
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from jaxtyping import Float

from sa0_jax import archive
from sa0_jax.capture.capture import Capture, load_capture
from sa0_jax.data import index
from sa0_jax.data.config import VERSION, BuildConfig
from sa0_jax.data.plan import Piece, Plan
from sa0_jax.data.records import BadFrameError, Encoder, frame_features
from sa0_jax.geometry.projection import project_points
from sa0_jax.head.lbs import LandmarkArrays, pose_landmarks
from sa0_jax.head.model import HeadModel
from sa0_jax.head.registry import load_head
from sa0_jax.processes import worker_pool

MANIFEST = 'sa0_build.json'
REPORT = 'sa0_report.json'
# One record each: random access reads nothing else. JPEG and PNG cannot be compressed further.
_WRITER_OPTIONS = 'group_size:1,uncompressed'
_CHUNK = 64  # frames whose boxes are computed at once; one program for all captures
MAX_JSON_BYTES = 1 << 30  # of a manifest or a report
_NAMED = 5  # bad frames in an error message
_DESCRIPTION = (
  'Frames of tracked head captures: colour as filmed, matte, codes of a FLAME-format head model, '
  'OpenCV camera (metres, px). Made by `sa0 prepare`.'
)

Progress = Callable[[int, int], None]


class ShardJob(NamedTuple):
  """What one worker does at a time; it can be sent to another machine that sees the same files.

  Attributes:
    captures: folder of all captures.
    work: folder of the unfinished build.
    config: how to build.
    head: name of the head model.
    size: of the images, width and height.
    split: name of the split.
    number: of the shard.
    total: number of shards of the split.
    pieces: what it holds.
  """

  captures: str
  work: str
  config: BuildConfig
  head: str
  size: tuple[int, int]
  split: str
  number: int
  total: int
  pieces: tuple[Piece, ...]

  @property
  def records(self) -> Path:
    """The shard's file."""
    file = f'{self.config.name}-{self.split}.array_record-{self.number:05d}-of-{self.total:05d}'
    return Path(self.work) / 'dataset' / file

  @property
  def part(self) -> Path:
    """Its index rows and what was left out; written last, so that it marks a whole shard."""
    return Path(self.work) / 'parts' / f'{self.split}-{self.number:05d}.npz'

  @property
  def num_frames(self) -> int:
    """Frames to look at."""
    return sum(piece.stop - piece.start for piece in self.pieces)


@dataclasses.dataclass(frozen=True)
class BuildReport:
  """What a data set holds.

  Attributes:
    path: its folder.
    splits: split → subjects, clips, frames, shards and bytes.
    bad_frames: what was left out: capture, frame and reason.
    unlisted: subjects that no split file names.
  """

  path: str
  splits: dict[str, dict[str, int]]
  bad_frames: tuple[str, ...]
  unlisted: tuple[str, ...]


def dataset_folder(data_dir: str | os.PathLike[str], name: str) -> Path:
  """Where a data set lies in a TFDS data folder."""
  return Path(data_dir) / name / VERSION


def shard_jobs(plan: Plan, data_dir: str | os.PathLike[str]) -> list[ShardJob]:
  """All shards of a data set."""
  work = dataset_folder(data_dir, plan.config.name).with_name(f'incomplete.{VERSION}')
  return [
    ShardJob(
      str(plan.captures),
      str(work),
      plan.config,
      plan.head[0],
      plan.size,
      split,
      number,
      len(shards),
      tuple(pieces),
    )
    for split, shards in plan.shards.items()
    for number, pieces in enumerate(shards)
  ]


def build(
  plan: Plan,
  data_dir: str | os.PathLike[str],
  jobs: int = 1,
  progress: Progress | None = None,
  runner: Callable[[list[ShardJob]], Iterable[ShardJob]] | None = None,
) -> BuildReport:
  """Builds a data set, or what is missing of it.

  Args:
    plan: from `make_plan`.
    data_dir: TFDS data folder.
    jobs: worker processes; 1 works in this one.
    progress: called as progress(frames done, all frames) after each shard.
    runner: does the jobs in another way than processes of this machine (`beam.run_shards`).

  Returns:
    What was built. A finished data set of the same plan is left alone.

  Raises:
    ValueError: another data set, or another unfinished one, is in the place; or too many frames
      are bad.
  """
  final = dataset_folder(data_dir, plan.config.name)
  everything = shard_jobs(plan, data_dir)
  work = final.with_name(f'incomplete.{VERSION}')
  if _same_build(final / MANIFEST, plan, final):
    shutil.rmtree(work, ignore_errors=True)  # what a kill after the last rename left
    return read_report(final)
  if not _same_build(work / MANIFEST, plan, work):
    for folder in ('dataset', 'parts'):
      (work / folder).mkdir(parents=True, exist_ok=True)
    with archive.atomic_write(work / MANIFEST) as file:
      file.write(plan.manifest())
  missing = [job for job in everything if not _is_whole(job)]
  done, bad = plan.num_frames - sum(job.num_frames for job in missing), list[str]()
  if progress is not None:
    progress(done, plan.num_frames)
  for job in (runner or functools.partial(_run_here, jobs=jobs))(missing):
    done += job.num_frames
    bad += bad_frames(job)
    _check_bad(bad, plan)
    if progress is not None:
      progress(done, plan.num_frames)
  return _finish(plan, everything, work, final)


def _same_build(manifest: Path, plan: Plan, folder: Path) -> bool:
  """Whether a folder holds a build of this plan.

  Raises:
    ValueError: it holds another.
  """
  if not folder.exists():
    return False
  if not manifest.is_file() and folder.name.startswith('incomplete'):
    return False  # killed before the first byte
  if not manifest.is_file() or manifest.read_bytes() != plan.manifest():
    raise ValueError(
      f'{folder}: made of other captures, splits or settings; remove it, or choose another '
      '--data_dir'
    )
  return True


def _is_whole(job: ShardJob) -> bool:
  """Whether a shard is there and lacks no frame; with one missing it is tried again."""
  if not job.part.is_file() or not job.records.is_file():
    return False
  try:
    part = read_part(job)
    lengths = {len(part[name]) for name in index.FIELDS}
    sizes = [int(part[name].item()) for name in ('size', 'bytes')]
    complete = not len(part['bad']) and lengths == {job.num_frames}
  except (ValueError, KeyError, TypeError):  # damaged, or something else under its name
    return False
  return complete and sizes[0] == job.records.stat().st_size


def read_part(job: ShardJob) -> dict[str, np.ndarray]:
  """Index rows of a finished shard, 'bad' frames, 'size' of its file and 'bytes' of its records."""
  return archive.read_arrays(job.part, max_bytes=1 << 34)


def _run_here(missing: list[ShardJob], jobs: int) -> Iterator[ShardJob]:
  """Does the jobs on this machine; gives each when it is done."""
  if jobs == 1 or len(missing) < 2:
    for job in missing:
      yield build_shard(job)
    return
  # Ctrl-C ends after the shards in work.
  pool = worker_pool(min(jobs, len(missing)))
  try:
    for future in as_completed([pool.submit(build_shard, job) for job in missing]):
      yield future.result()
  finally:
    pool.shutdown(cancel_futures=True)


def build_shard(job: ShardJob) -> ShardJob:
  """Writes one shard, a pure function of its captures; returns the job.

  Raises:
    FileNotFoundError: a capture has gone.
    ValueError: a capture changed since the plan, or the head model is another one.
  """
  head = load_head(job.head)
  encoder = Encoder(frame_features(head, job.size), job.size, job.config.jpeg_quality)
  temporary = job.records.with_name(f'.{job.records.name}')
  writer = ArrayRecordWriter(str(temporary), _WRITER_OPTIONS)
  rows: list[dict[str, np.ndarray]] = []
  bad: list[str] = []
  num_bytes = 0
  try:
    for piece in job.pieces:
      capture = load_capture(Path(job.captures) / piece.path)
      capture.check_head(head)
      boxes = face_boxes(head, capture, piece.start, piece.stop)
      labels = {'subject': piece.subject, 'clip': piece.path}
      kept = []
      for position in range(piece.start, piece.stop):
        try:
          record = encoder(capture, position, labels, boxes[position - piece.start])
        except BadFrameError as error:
          bad.append(f'{piece.path}, frame {capture.ids[position]}: {error}')
          continue
        writer.write(record)
        num_bytes += len(record)
        kept.append(position)
      part = index.clip_rows(capture, *piece.numbers)
      rows.append({name: array[kept] for name, array in part.items()})
  finally:
    writer.close()
  _publish(temporary, job.records, sum(len(part['clip']) for part in rows))
  arrays = {name: np.concatenate([part[name] for part in rows]) for name in index.FIELDS}
  arrays['bad'] = np.array(bad, f'U{max(map(len, bad), default=1)}')
  arrays['size'] = np.array([job.records.stat().st_size], np.int64)
  arrays['bytes'] = np.array([num_bytes], np.int64)
  archive.write_arrays(job.part, arrays)
  return job


def _publish(temporary: Path, target: Path, count: int) -> None:
  """Gives a shard its name once it is on the disk."""
  reader = ArrayRecordReader(str(temporary))
  written = reader.num_records()
  reader.close()
  if written != count:
    raise OSError(errno.EIO, f'{written} of {count} records were written', str(target))
  with open(temporary, 'rb') as file:
    os.fsync(file.fileno())
  os.replace(temporary, target)


def face_boxes(
  head: HeadModel, capture: Capture, start: int, stop: int
) -> Float[np.ndarray, 'n 4']:
  """Boxes around the landmarks of the face, as a face detector would draw them.

  Args:
    head: with 68-point or MediaPipe landmarks.
    capture: frames of this head.
    start, stop: which frames.

  Returns:
    Left, top, right, bottom, px; parts may lie outside the image.
  """
  scheme = '68' if head.landmarks68 is not None else 'mediapipe'
  landmarks = LandmarkArrays.from_head(head, head.require_landmarks(scheme))
  boxes = np.empty((stop - start, 4), np.float32)
  for begin in range(start, stop, _CHUNK):
    rows = np.minimum(np.arange(begin, begin + _CHUNK), stop - 1)
    codes = jax.tree.map(jnp.asarray, capture.frame_codes(rows))
    points = np.asarray(pose_landmarks(landmarks, codes))
    pixels = project_points(points, capture.frame_camera(rows)).pixels
    ends = np.concatenate([pixels.min(axis=1), pixels.max(axis=1)], axis=-1)
    boxes[begin - start : begin - start + _CHUNK] = ends[: stop - begin]
  return boxes


def bad_frames(job: ShardJob) -> list[str]:
  """What a finished shard had to leave out: capture, frame and reason."""
  return [str(text) for text in archive.read_arrays(job.part, ('bad',))['bad']]


def _check_bad(bad: list[str], plan: Plan) -> None:
  """Raises ValueError when more frames are bad than allowed."""
  if len(bad) > plan.config.max_bad_share * plan.num_frames:
    named = '; '.join(sorted(bad)[:_NAMED])
    raise ValueError(
      f'{len(bad)} of {plan.num_frames} frames cannot be used, more than the '
      f'{plan.config.max_bad_share:.1%} allowed (max_bad_share): {named}'
      f'{"; …" if len(bad) > _NAMED else ""}. Repair or remove them and run it again'
    )


def _finish(plan: Plan, jobs: list[ShardJob], work: Path, final: Path) -> BuildReport:
  """Index, TFDS's own files and the report; then the data set appears under its name."""
  folder = work / 'dataset'
  head = load_head(plan.head[0])
  infos, splits, bad = [], {}, list[str]()
  for split in plan.shards:
    parts = [read_part(job) for job in jobs if job.split == split]
    lengths = [len(part['clip']) for part in parts]
    if not sum(lengths):
      raise ValueError(f'split {split!r} has no usable frame')
    index.write_index(folder / 'sa0_index' / split, parts)
    num_bytes = sum(int(part['bytes'][0]) for part in parts)
    infos.append(_split_info(plan.config.name, folder, split, lengths, num_bytes))
    splits[split] = {
      'subjects': len(np.unique(np.concatenate([part['subject'] for part in parts]))),
      'clips': len(np.unique(np.concatenate([part['clip'] for part in parts]))),
      'frames': sum(lengths),
      'shards': len(parts),
      'bytes': num_bytes,
    }
    bad += [str(text) for part in parts for text in part['bad']]
  tfds.folder_dataset.write_metadata(
    data_dir=str(folder),
    features=frame_features(head, plan.size),
    split_infos=infos,
    version=VERSION,
    filename_template=infos[0].filename_template,
    check_data=False,  # its check reads through TensorFlow
    description=_DESCRIPTION,
  )
  content = {'splits': splits, 'bad_frames': bad, 'unlisted': plan.unlisted}
  with archive.atomic_write(folder / REPORT) as file:
    file.write(json.dumps(content, indent=1).encode())
  with archive.atomic_write(folder / MANIFEST) as file:
    file.write(plan.manifest())
  os.rename(folder, final)
  shutil.rmtree(work)
  return read_report(final)


def _split_info(
  name: str, folder: Path, split: str, lengths: list[int], num_bytes: int
) -> tfds.core.SplitInfo:
  template = tfds.core.ShardedFileTemplate(
    data_dir=str(folder), dataset_name=name, split=split, filetype_suffix='array_record'
  )
  return tfds.core.SplitInfo(
    name=split, shard_lengths=lengths, num_bytes=num_bytes, filename_template=template
  )


def read_report(folder: Path) -> BuildReport:
  """The report of a finished data set.

  Raises:
    FileNotFoundError: there is none.
    ValueError: it is damaged.
  """
  path = folder / REPORT
  if not path.is_file():
    raise FileNotFoundError(f'{path}: missing; make the data set again with `sa0 prepare`')
  content: dict[str, Any] = archive.read_json(path, MAX_JSON_BYTES)
  try:
    return BuildReport(
      str(folder),
      dict(content['splits']),
      tuple(content['bad_frames']),
      tuple(content['unlisted']),
    )
  except (ValueError, KeyError, TypeError) as error:
    raise ValueError(f'{path}: damaged ({error})') from error
