"""How a subject moves: speech, moods, blinks, gaze and the head, as smooth curves over time.

Every track is a function of continuous time drawn from its own random stream, so frame rate and
length are free and a longer clip begins like a shorter one. Rotations are about the head's axes:
positive yaw turns to the subject's left, positive pitch looks down.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from sa0_jax.capture.studio.visemes import CONSONANTS, JAW, MOODS, VISEMES, VOWELS, Shape
from sa0_jax.head.model import HeadCodes, HeadModel

Times = Float[np.ndarray, ' t']
Curves = dict[str, np.ndarray]

# Largest rotations anybody here makes, radians.
MAX_JAW, MAX_EYE = 0.32, 0.45
# Eye rotation at which the lids have followed fully, radians.
_LID_RANGE = 0.42
# Half the distance between the eyes over the distance to the camera: how far eyes converge.
_VERGENCE = 0.0315


@dataclasses.dataclass(frozen=True)
class Performance:
  """A way of moving.

  Attributes:
    seed: of everything that happens.
    liveliness: size of expressions; 1 = average.
    pace: syllables a second while speaking.
    talkative: share of time spent speaking, 0 to 1.
    yaw: largest turn of the head, radians.
    pitch: largest nod, radians.
    roll: largest tilt, radians.
    sway: largest shift of the body, metres.
    blink_every: mean seconds between blinks.
    lids: how far the upper lids hang at rest, share of a blink.
    asymmetry: difference between the two sides of the face, share.
  """

  seed: int
  liveliness: float = 1.0
  pace: float = 4.2
  talkative: float = 0.7
  yaw: float = 0.34
  pitch: float = 0.12
  roll: float = 0.08
  sway: float = 0.010
  blink_every: float = 3.0
  lids: float = 0.12
  asymmetry: float = 0.0


def sample_performance(rng: np.random.Generator) -> Performance:
  """Draws a way of moving."""
  return Performance(
    seed=int(rng.integers(2**31)),
    liveliness=float(rng.uniform(0.8, 1.15)),
    pace=float(rng.uniform(3.6, 4.8)),
    talkative=float(rng.uniform(0.6, 0.85)),
    yaw=float(rng.uniform(0.26, 0.42)),
    pitch=float(rng.uniform(0.08, 0.15)),
    roll=float(rng.uniform(0.05, 0.11)),
    sway=float(rng.uniform(0.006, 0.014)),
    blink_every=float(rng.uniform(2.2, 4.0)),
    lids=float(rng.uniform(0.06, 0.17)),
    asymmetry=float(rng.normal(0.0, 0.06)),
  )


def perform(
  performance: Performance, head: HeadModel, shape: Float[np.ndarray, ' s'], times: Times
) -> HeadCodes:
  """The codes of a performance.

  Args:
    performance: how the subject moves.
    head: the procedural head, whose expression directions have ARKit's names.
    shape: [s] who.
    times: [t] seconds.

  Returns:
    NumPy codes [t, …] with one shape code.

  Raises:
    ValueError: the head lacks a named direction.
  """
  streams = np.random.SeedSequence(performance.seed).spawn(6)
  speech, mood, blink, gaze, brow, motion = (np.random.default_rng(s) for s in streams)
  voice = _speech(speech, performance, times)
  curves = _sum_of(voice, _moods(mood, performance, times), _brow_accents(brow, performance, times))
  angles, translation = _head_motion(motion, performance, times, voice[JAW])
  eyes = _gaze(gaze, times, angles)
  _add_lids(curves, performance, _blinks(blink, performance, times), eyes)
  jaw = np.clip(curves.pop(JAW), 0.0, MAX_JAW)
  # The body takes a third of the turn, the neck the rest.
  root, neck = _axis_angle(0.33 * angles), _axis_angle(0.67 * angles)
  zero = np.zeros_like(jaw)
  left, right = (
    np.stack([eyes[:, 0], eyes[:, 1] + turn, zero], axis=1) for turn in (-_VERGENCE, _VERGENCE)
  )
  return HeadCodes(
    shape=np.asarray(shape, np.float32),
    expression=_expression_code(curves, performance, head),
    rotation=root.astype(np.float32),
    neck=neck.astype(np.float32),
    jaw=np.stack([jaw, zero, zero], axis=1).astype(np.float32),
    eyes=np.concatenate([left, right], axis=1).astype(np.float32),
    translation=translation.astype(np.float32),
  )


def _expression_code(
  curves: Curves, performance: Performance, head: HeadModel
) -> Float[np.ndarray, 't e']:
  rows = {name: row for row, name in enumerate(head.expression_names)}
  count = len(next(iter(curves.values())))
  code = np.zeros((count, head.num_expression), np.float32)
  for name, curve in curves.items():
    sides = {name: 1.0} if name in rows else {
      name + 'Left': 1.0 + performance.asymmetry, name + 'Right': 1.0 - performance.asymmetry
    }  # fmt: skip
    for side, share in sides.items():
      if side not in rows:
        raise ValueError(f'studio: head {head.name!r} has no expression direction {side!r}')
      # A blink must close both eyes.
      share = 1.0 if name.startswith('eye') else share
      code[:, rows[side]] = np.clip(code[:, rows[side]] + share * curve, 0.0, 1.0)
  return code


def _sum_of(*tracks: Curves) -> Curves:
  total: Curves = {}
  for track in tracks:
    for name, curve in track.items():
      total[name] = total.get(name, 0.0) + curve
  return total


def _ease(t: np.ndarray) -> np.ndarray:
  t = np.clip(t, 0.0, 1.0)
  return t * t * t * (10.0 - 15.0 * t + 6.0 * t * t)


def _keyed(times: Times, keys: list[tuple[float, Shape, float]]) -> Curves:
  """Curves through (time, shape, amount) keys: minimum jerk from each to the next."""
  names = sorted({name for _, shape, _ in keys for name in shape})
  at = np.array([key[0] for key in keys])
  values = np.array([[amount * shape.get(n, 0.0) for n in names] for _, shape, amount in keys])
  after = np.clip(np.searchsorted(at, times, side='right'), 1, len(at) - 1)
  share = _ease((times - at[after - 1]) / np.maximum(at[after] - at[after - 1], 1e-6))
  mixed = values[after - 1] + share[:, None] * (values[after] - values[after - 1])
  return dict(zip(names, mixed.T, strict=True))


def _speech(rng: np.random.Generator, performance: Performance, times: Times) -> Curves:
  """Phrases of syllables between pauses."""
  end = float(times.max()) + 1.0
  keys: list[tuple[float, Shape, float]] = [(-1.0, VISEMES['rest'], 1.0)]
  now = 0.25
  while now < end:
    keys.append((now, VISEMES['rest'], 1.0))
    for _ in range(rng.integers(4, 13)):
      length = rng.uniform(0.8, 1.25) / performance.pace
      stress = performance.liveliness * rng.uniform(0.6, 1.15)
      now += 0.42 * length
      keys.append((now, VISEMES[CONSONANTS[rng.integers(len(CONSONANTS))]], min(stress + 0.2, 1.2)))
      now += 0.58 * length
      keys.append((now, VISEMES[VOWELS[rng.integers(len(VOWELS))]], stress))
    now += rng.uniform(0.18, 0.30)
    keys.append((now, VISEMES['rest'], 1.0))
    now += rng.uniform(0.4, 1.6) * (1.0 - performance.talkative) / 0.35
  keys.append((end + 10.0, VISEMES['rest'], 1.0))
  # Neighbouring sounds share their mouth shapes: a weighted mean over a tenth of a second.
  shared = [_keyed(times + delay, keys) for delay in (-0.045, 0.0, 0.045)]
  return {
    name: 0.27 * shared[0][name] + 0.46 * shared[1][name] + 0.27 * shared[2][name]
    for name in shared[0]
  }


def _moods(rng: np.random.Generator, performance: Performance, times: Times) -> Curves:
  end, now = float(times.max()) + 1.0, rng.uniform(0.5, 1.5)
  keys: list[tuple[float, Shape, float]] = [(-1.0, {}, 0.0)]
  names = [name for name in MOODS if name != 'neutral']
  while now < end:
    mood = MOODS[names[rng.integers(len(names))]]
    amount = performance.liveliness * rng.uniform(0.5, 1.0)
    rise, hold, fall = rng.uniform(0.35, 0.6), rng.uniform(0.5, 1.8), rng.uniform(0.4, 0.8)
    keys += [(now, {}, 0.0), (now + rise, mood, amount), (now + rise + hold, mood, 0.9 * amount)]
    now += rise + hold + fall
    keys.append((now, {}, 0.0))
    now += rng.uniform(0.3, 2.0)
  return _keyed(times, [*keys, (end + 20.0, {}, 0.0)])


def _brow_accents(rng: np.random.Generator, performance: Performance, times: Times) -> Curves:
  end, now = float(times.max()) + 1.0, rng.uniform(0.2, 1.0)
  keys: list[tuple[float, Shape, float]] = [(-1.0, {}, 0.0)]
  accents: tuple[Shape, ...] = (
    {'browInnerUp': 0.30, 'browOuterUp': 0.22},
    {'browInnerUp': 0.45},
    {'browDown': 0.32},
  )
  while now < end:
    accent = accents[rng.integers(len(accents))]
    length = rng.uniform(0.16, 0.30)
    amount = performance.liveliness * rng.uniform(0.4, 1.0)
    keys += [(now, {}, 0.0), (now + length, accent, amount), (now + 2.6 * length, {}, 0.0)]
    now += 2.6 * length + rng.uniform(0.4, 2.2)
  return _keyed(times, [*keys, (end + 20.0, {}, 0.0)])


def _blinks(rng: np.random.Generator, performance: Performance, times: Times) -> np.ndarray:
  """How far the lids are closed: 90 ms down, 40 ms shut, 170 ms up."""
  closed = np.zeros(len(times))
  now, end = rng.uniform(0.5, 1.5), float(times.max()) + 1.0
  while now < end:
    t = times - now
    closed = np.maximum(closed, np.minimum(_ease(t / 0.09), 1 - _ease((t - 0.13) / 0.17)))
    # Now and then two in a row.
    pause = 0.35 if rng.random() < 0.12 else rng.gamma(3.0, performance.blink_every / 3.0)
    now += 0.35 + pause
  return closed


def _gaze(
  rng: np.random.Generator, times: Times, angles: Float[np.ndarray, 't 3']
) -> Float[np.ndarray, 't 2']:
  """Pitch and yaw of both eyes in the head: fixations joined by saccades of 50 ms.

  Most fixations are on the camera, and the eyes turn against the head to stay there.
  """
  now, end = 0.0, float(times.max()) + 1.0
  at, targets = [-1.0], [(0.0, 0.0, 1.0)]
  while now < end:
    now += rng.gamma(3.0, 0.35)
    if rng.random() < 0.55:
      spot = (rng.normal(0, 0.02), rng.normal(0, 0.025), 1.0)
    else:
      spot = (float(rng.uniform(-0.16, 0.20)), float(rng.uniform(-0.32, 0.32)), 0.35)
    at += [now, now + 0.05]
    targets += [targets[-1], spot]
  keys, values = np.array(at), np.array(targets)
  after = np.clip(np.searchsorted(keys, times, side='right'), 1, len(keys) - 1)
  share = _ease((times - keys[after - 1]) / np.maximum(keys[after] - keys[after - 1], 1e-6))
  target = values[after - 1] + share[:, None] * (values[after] - values[after - 1])
  # Where the head points, the eyes take back what they can.
  back = 0.85 * target[:, 2:] * angles[:, [1, 0]]
  turned = target[:, :2] - back
  return MAX_EYE * np.tanh(turned / MAX_EYE)


def _add_lids(
  curves: Curves, performance: Performance, blink: np.ndarray, eyes: Float[np.ndarray, 't 2']
) -> None:
  """Adds blinks, and lids that follow the gaze while they are open; in place."""
  opened = 1.0 - blink
  for name in ('eyeSquint', 'eyeWide'):
    curves[name] = curves.get(name, 0.0) * opened
  resting = performance.lids * (1.0 - np.clip(curves['eyeWide'] / 0.4, 0, 1))
  curves['eyeBlink'] = resting + (1.0 - resting) * blink
  pitch, yaw = eyes[:, 0] / _LID_RANGE, eyes[:, 1] / _LID_RANGE
  curves['eyeLookDown'] = np.maximum(pitch, 0) * opened
  curves['eyeLookUp'] = np.maximum(-pitch, 0) * opened
  curves['eyeLookOutLeft'] = curves['eyeLookInRight'] = np.maximum(yaw, 0) * opened
  curves['eyeLookInLeft'] = curves['eyeLookOutRight'] = np.maximum(-yaw, 0) * opened


def _drift(
  rng: np.random.Generator, times: Times, slowest: float, fastest: float, terms: int = 5
) -> np.ndarray:
  """A smooth wandering curve within [−1, 1]: waves of frequencies in hertz, slow ones larger."""
  frequency = np.exp(rng.uniform(np.log(slowest), np.log(fastest), terms))
  weight = frequency**-0.6 * rng.uniform(0.6, 1.4, terms)
  weight /= weight.sum()
  phase = rng.uniform(0, 2 * np.pi, terms)
  # Each sum of sines rarely reaches its bound; stretched, and bent back near it.
  wave = (weight * np.sin(2 * np.pi * frequency * times[:, None] + phase)).sum(axis=1)
  return np.tanh(1.9 * wave) / np.tanh(1.9)


def _head_motion(
  rng: np.random.Generator, performance: Performance, times: Times, jaw: np.ndarray
) -> tuple[Float[np.ndarray, 't 3'], Float[np.ndarray, 't 3']]:
  """Yaw, pitch and roll of head and body together, and the body's shift in metres."""
  yaw = performance.yaw * _drift(rng, times, 0.22, 0.6)
  pitch = performance.pitch * _drift(rng, times, 0.25, 0.8) - 0.12 * (jaw - 0.05)
  roll = performance.roll * _drift(rng, times, 0.22, 0.6) - 0.08 * yaw
  shift = np.stack([_drift(rng, times, 0.15, 0.4) for _ in range(3)], axis=1)
  return np.stack([yaw, pitch, roll], axis=1), performance.sway * shift * [1.0, 0.4, 1.0]


def _axis_angle(angles: Float[np.ndarray, 't 3']) -> Float[np.ndarray, 't 3']:
  """Rotation vectors (pitch about x, yaw about y, roll about z) of small yaw, pitch and roll."""
  return angles[:, [1, 0, 2]]
