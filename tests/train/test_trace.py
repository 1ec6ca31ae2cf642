"""Where a step's time goes: read from real profiles, of a small program and of a training step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sa0_jax.train import trace, xplane
from tests.train import test_step


@functools.cache
def small_step():
  """A program with a large part, a small one, a backward pass and something outside."""

  def loss(weights, x):
    with jax.named_scope('encoder'):
      for _ in range(4):
        x = jnp.tanh(x @ weights)
    with jax.named_scope('rasterizer'):
      return jnp.sum(jnp.sort(x[:64, :64]))

  def step(weights):
    return weights - 1e-3 * jax.grad(loss)(weights, jnp.ones((600, 600)))

  return jax.jit(step)


def profile(folder, step, state, start, count, total):
  """Runs `total` steps and traces some."""
  made = trace.Profile(folder, start, count)
  for number in range(total):
    made.before(number, state)
    state = step(state)
    made.after(number, state)
  made.close()
  return state


def check_parts(parts):
  """They add up to the step, longest first."""
  assert sum(part.share for part in parts) == pytest.approx(1.0, abs=0.02)
  assert [p.milliseconds for p in parts] == sorted((p.milliseconds for p in parts), reverse=True)
  assert all(part.milliseconds >= 0 for part in parts)
  return {part.name: part for part in parts}


def test_parts_of_a_small_program_add_up(tmp_path):
  weights = jnp.eye(600)
  profile(tmp_path, small_step(), weights, start=2, count=3, total=6)
  parts = check_parts(trace.breakdown(tmp_path))
  assert set(parts) <= {'encoder', 'rasterizer', 'other', 'idle'}
  assert parts['encoder'].share > parts['rasterizer'].share > 0
  text = trace.table(parts.values())
  assert text.splitlines()[-1].startswith('step ')
  assert len(text.splitlines()) == len(parts) + 1


@pytest.mark.slow
def test_the_parts_of_a_training_step_are_found(tmp_path):
  batch, rig = test_step.inputs()
  made = test_step.trainer()
  step = lambda state: made.step(state, batch, rig, None)[0]  # noqa: E731
  profile(tmp_path, step, made.init(), start=2, count=2, total=4)
  parts = check_parts(trace.breakdown(tmp_path))
  named = {'encoder', 'dpt', 'warp', 'unet', 'decoder', 'residual', 'binding', 'rasterizer'}
  assert {name for name in {*named, 'losses'} if parts[name].milliseconds > 0} == {*named, 'losses'}
  assert sum(parts[name].share for name in {*named, 'losses'}) > 0.5


def test_a_profile_that_did_not_end_has_no_breakdown(tmp_path):
  profile(tmp_path, small_step(), jnp.eye(600), start=1, count=5, total=3)
  with pytest.raises(FileNotFoundError, match='no finished profile'):
    trace.breakdown(tmp_path)


def test_steps_outside_are_not_traced(tmp_path):
  profile(tmp_path, small_step(), jnp.eye(600), start=5, count=1, total=3)
  assert list(tmp_path.iterdir()) == []


def test_settings_are_checked(tmp_path):
  with pytest.raises(ValueError, match='count positive, got 1 and 0'):
    trace.Profile(tmp_path, 1, 0)


@pytest.mark.parametrize(
  ('origin', 'part'),
  [
    ('jit(step)/jvp(encoder)/dot_general', 'encoder'),
    ('jit(step)/transpose(jvp(encoder))/dot_general', 'encoder'),
    ('jit(step)/jvp(vmap(rasterizer))/ffi_call', 'rasterizer'),
    ('jit(step)/losses/decoder/add', 'decoder'),
    ('jit(to_batch)/add', 'feed'),
    ('jit(step)/encoders/add', 'other'),
    ("state.trainable['encoder']['bias'].value", 'other'),
    ('', 'other'),
  ],
)
def test_an_operation_belongs_to_the_innermost_scope(origin, part):
  assert trace.part_of(origin) == part


def shared(*lines):
  return trace._shared([[trace._Operation(*operation) for operation in line] for line in lines])


def test_moments_are_shared_by_what_runs():
  assert shared([(0.0, 10.0, 'a')]) == {'a': 10.0}
  # Two threads: alone 0 to 4, halves 4 to 10, alone 10 to 12.
  assert shared([(0.0, 10.0, 'a')], [(4.0, 12.0, 'b')]) == {'a': 7.0, 'b': 5.0}
  # The inner operation interrupts the outer one, twice.
  nested = [(0.0, 10.0, 'a'), (2.0, 4.0, 'b'), (4.0, 5.0, 'c'), (8.0, 10.0, 'b')]
  assert shared(nested) == {'a': 5.0, 'b': 4.0, 'c': 1.0}
  # Gaps are nobody's.
  assert shared([(0.0, 1.0, 'a'), (5.0, 6.0, 'a')], []) == {'a': 2.0}


def test_shares_are_the_time_in_which_anything_ran():
  rng = np.random.default_rng(0)
  for _ in range(5):
    lines = []
    for _ in range(3):
      begins = rng.uniform(0, 100, 15)
      lines.append([(b, b + rng.uniform(0, 9), rng.choice(list('abc'))) for b in begins])
    at = np.linspace(0, 110, 22_001)
    busy = np.zeros(len(at), bool)
    for line in lines:
      for begin, end, _ in line:
        busy |= (at >= begin) & (at < end)
    assert sum(shared(*lines).values()) == pytest.approx(busy.mean() * 110, abs=0.5)


def field(number, data):
  """Bytes, a string or a message of a protocol buffer."""
  return bytes([number << 3 | 2, len(data)]) + data


def small_profile():
  """The least a profile with one program needs."""
  add = field(2, field(1, b'add.1') + field(7, field(2, b'jit(f)/add')))
  module = field(1, b'jit_f') + field(3, add) + bytes([5 << 3, 9])
  metadata = field(5, field(6, field(1, module)))
  return field(1, field(2, b'/host:metadata') + field(4, bytes([8, 1]) + field(2, metadata)))


def test_programs_are_read():
  data = small_profile()
  assert xplane.programs(data, {9}) == [xplane.Program('jit_f', 9, {'add.1': 'jit(f)/add'})]
  assert xplane.programs(data, {8}) == []
  with pytest.raises(ValueError, match='ends inside a field'):
    xplane.programs(data[:-3], {9})


def test_damaged_profiles_are_refused_in_words():
  """Cut anywhere, with any byte changed: an error that says so, or another program."""
  data = small_profile()
  rng = np.random.default_rng(1)
  said = set()
  for _ in range(500):
    broken = bytearray(data[: rng.integers(1, len(data) + 1)])
    broken[rng.integers(len(broken))] = rng.integers(256)
    try:
      xplane.programs(bytes(broken), {9})
    except ValueError as error:
      said.add(str(error).split(':')[0])
  assert said == {'a profile is damaged'}


@pytest.mark.parametrize('text', ['[]', '{"steps": 0, "seconds": 1.0}', '{"steps": 2}', '{"st'])
def test_a_profile_whose_record_is_damaged_is_refused(tmp_path, text):
  place = tmp_path / 'plugins' / 'profile' / 'x'
  place.mkdir(parents=True)
  (place / 'a.xplane.pb').write_bytes(small_profile()[:-3])
  (tmp_path / 'steps.json').write_text(text)
  with pytest.raises(ValueError, match=r'steps\.json: (not what a profile leaves|damaged)'):
    trace.breakdown(tmp_path)
  (tmp_path / 'steps.json').write_text('{"steps": 2, "seconds": 1.5}')
  with pytest.raises(ValueError, match=r'a\.xplane\.pb: no readable profile'):
    trace.breakdown(tmp_path)
