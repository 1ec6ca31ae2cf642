"""Files that runs leave behind and read again: checkpoints, numbers, stages, profiles.

They are the user's own, but they lie on disks, are copied, and are cut short like all others.
"""

import functools
import json
import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

_IDENTITY = {'seed': 1, 'data': ['monocular'], 'rate': 2.5e-4}


def _state():
  rng = np.random.default_rng(0)
  weights = {'up': jnp.asarray(rng.normal(size=(8, 16)), jnp.float32), 'empty': jnp.zeros((0, 2))}
  return {'trainable': weights, 'step': jnp.asarray(3, jnp.int32), 'mask': jnp.ones(4, bool)}


def _store(folder):
  from sa0_jax.train.checkpoint import CheckpointConfig, CheckpointStore

  return CheckpointStore(folder, _IDENTITY, CheckpointConfig(), lambda text: None)


def _checkpoint(folder):
  from sa0_jax.train.checkpoint import Position

  store = _store(folder / 'checkpoints')
  store.save(_state(), Position(3, 1, 20.0, {'next_index': 7}), wait=True)
  store.close()
  return folder / 'checkpoints'


def _read_checkpoint(path):
  """What comes back is to the last bit what was saved, or nothing does."""
  from sa0_jax.train.checkpoint import read_leaves

  place = lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding)  # noqa: E731
  wanted = _state()
  found = _store(path).restore(lambda _: jax.tree.map(place, wanted))
  if found is not None:
    for a, b in zip(jax.tree.leaves(found[0]), jax.tree.leaves(wanted), strict=True):
      assert np.asarray(a).tobytes() == np.asarray(b).tobytes(), 'other bits than were saved'
  read_leaves(path, 3, ('trainable',))


class _Small(NamedTuple):
  """As much of a `RefineState` as the store asks for."""

  step: Any
  weights: Any


@functools.cache
def _refine_state():
  return _Small(jnp.asarray(3, jnp.int32), _state()['trainable']['up'])


def _refine_checkpoint(folder):
  from sa0_jax.refine.checkpoint import CheckpointStore

  store = CheckpointStore(folder / 'checkpoints', _IDENTITY)
  store.save(_refine_state())
  store.close()
  return folder / 'checkpoints'


def _read_refine_checkpoint(path):
  from sa0_jax.refine.checkpoint import CheckpointStore

  CheckpointStore(path, _IDENTITY).restore(_refine_state())


def _metrics(folder):
  from sa0_jax.train.writers import RunWriter

  with RunWriter(folder, 0, tensorboard=False) as writer:
    for step in range(6):
      writer.scalars(step, {'loss': 0.5, 'sa0_monocular/psnr': 20.0 + step})
  return folder / 'metrics.jsonl'


def _read_metrics(path):
  from sa0_jax.evaluate import ablation
  from sa0_jax.train.writers import RunWriter

  ablation._held_out(path.parent)
  RunWriter(path.parent, 4, tensorboard=False).close()


def _scores(folder):
  from sa0_jax.evaluate.ablation import SCORES

  content = {
    'by_sources': {str(n): {'monocular': 20.0 + n, 'multiview': 21.0 + n} for n in range(1, 5)},
    'refined': {'psnr': 30.0, 'max_aspect_ratio': 7.5},
  }
  (folder / 'C-0').mkdir()
  (folder / 'C-0' / SCORES).write_text(json.dumps(content))
  return folder


def _read_scores(path):
  from sa0_jax.evaluate.ablation import Ablation, collect, to_markdown
  from sa0_jax.train.config import TrainConfig

  to_markdown(collect(Ablation({'C': TrainConfig()}, {}, path), (0,)), 'x')


def _result(folder):
  from sa0_jax.evaluate.run import RESULT_FORMAT, RESULT_VERSION

  rows = [{'frame': n, 'psnr': 30.0, 'ssim_rgb': 0.9} for n in range(3)]
  content = {'format': RESULT_FORMAT, 'version': RESULT_VERSION, 'key': 'k', 'clip': 'anna'}
  content |= {'driver': 'anna', 'sources': [0], 'frames': rows}
  (folder / 'anna.json').write_text(json.dumps(content))
  return folder / 'anna.json'


def _read_result(path):
  from sa0_jax.evaluate.report import summarize
  from sa0_jax.evaluate.run import EvaluateConfig, _read_result

  result = _read_result(path, 'k')
  if result is not None:
    summarize([result], EvaluateConfig('self', 64), {})


def _profile(folder):
  from sa0_jax.train.trace import Profile

  step = jax.jit(lambda x: jnp.tanh(x @ x))
  made, state = Profile(folder, 1, 1), jnp.eye(8)
  for number in range(3):
    made.before(number, state)
    state = step(state)
    made.after(number, state)
  made.close()
  for path in folder.rglob('*'):
    if path.is_file() and path.name != 'steps.json' and not path.name.endswith('.xplane.pb'):
      path.unlink()  # of TensorBoard's, which we do not read
  return folder


def _read_profile(path):
  from sa0_jax.train import trace

  trace.table(trace.breakdown(path))


def _tuning(folder):
  sizes = {'xla': {'few': 8, 'many': 32}, 'numba': {'few': 16}}
  (folder / 'tuning.json').write_text(json.dumps({jax.devices()[0].device_kind: sizes}))
  return folder / 'tuning.json'


def _read_tuning(path):
  from sa0_kernels import tuning

  os.environ['SA0_TUNING'] = str(path)
  tuning._read.cache_clear()  # damage may leave size and time of the file as they were
  for name in ('xla', 'numba', 'triton'):
    tuning.tuned_tile_size(name, 3)


_STAGES = {'footage': 'x', 'settings': [1, 2]}


def _stages(folder):
  from sa0_jax.capture.track.stages import StageStore, to_arrays

  StageStore(folder / 'work', _STAGES).save('landmark_fit', to_arrays(_state()))
  return folder / 'work'


def _read_stages(path):
  """A folder of another run would be emptied: here it is only looked at."""
  from sa0_jax.capture.track.stages import StageStore, from_arrays

  identity = path / 'identity.json'
  if identity.read_bytes() != json.dumps(_STAGES, sort_keys=True).encode():
    raise ValueError(f'{path}: of another run')
  found = StageStore(path, _STAGES).load('landmark_fit')
  if found is None:
    raise ValueError(f'{path}: damaged')
  same = from_arrays(found, _state())
  assert jax.tree.map(jnp.shape, same) == jax.tree.map(jnp.shape, _state())


def _shard_job(folder):
  """Of one shard, four frames."""
  from sa0_jax.data.build import ShardJob
  from sa0_jax.data.config import BuildConfig
  from sa0_jax.data.plan import Piece
  from sa0_jax.head.registry import PROCEDURAL
  from tests.data.scenes import SIZE

  pieces = (Piece('p0', 'p0', (0, 0), 0, 4),)
  captures, config = folder.parent / 'captures', BuildConfig('sa0_monocular')
  return ShardJob(
    str(captures), str(folder), config, PROCEDURAL, (SIZE, SIZE), 'train', 0, 1, pieces
  )


def _shard(folder):
  from sa0_jax.data.build import build_shard
  from tests.data.scenes import save_captures

  save_captures(folder.parent / 'captures', 1, instants=4)
  for name in ('dataset', 'parts'):
    (folder / name).mkdir()
  build_shard(_shard_job(folder))
  return folder


def _read_shard(path):
  """Whole, or made again; of a whole one the rows can be joined."""
  from sa0_jax.data import build, index

  job = _shard_job(path)
  if build._is_whole(job):
    index.write_index(path.parent / 'index', [build.read_part(job)] * 2)


def _report(folder):
  from sa0_jax.data.build import REPORT

  content = {'splits': {'train': {'frames': 6}}, 'bad_frames': ['p0/1: dark'], 'unlisted': ['p9']}
  (folder / REPORT).write_text(json.dumps(content))
  return folder


def _read_report(path):
  from sa0_jax.data.build import read_report

  return read_report(path)


RUN_READERS = {
  'checkpoint': (_checkpoint, _read_checkpoint),
  'evaluation_result': (_result, _read_result),
  'metrics': (_metrics, _read_metrics),
  'profile': (_profile, _read_profile),
  'refine_checkpoint': (_refine_checkpoint, _read_refine_checkpoint),
  'report': (_report, _read_report),
  'scores': (_scores, _read_scores),
  'shard': (_shard, _read_shard),
  'stages': (_stages, _read_stages),
  'tuning': (_tuning, _read_tuning),
}
