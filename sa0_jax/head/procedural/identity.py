"""Plausible random adults: correlated identity codes and the colours that go with them.

A person is drawn from a few latent traits that real measurements share (sex, age, weight, three
axes of facial form that vary between populations, overall size), independent local variation, and
a little of the smooth directions. Several named directions overlap on the face, so each varies by
less than its unit; `docs/procedural_head.md` has the resulting statistics.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from sa0_jax.head.model import HeadModel
from sa0_jax.head.procedural.paint import (
  HAIR_COLORS,
  IRIS_COLORS,
  SKIN_TONES,
  Color,
  Look,
)

# Standard deviation of a local named direction beyond what the traits explain, and of a smooth one.
LOCAL_SPREAD, SMOOTH_SPREAD = 0.55, 0.55
ASYMMETRY_SPREAD = 0.6
# No local coefficient goes further than this.
LIMIT = 2.2

# What each trait adds to the named directions, for one standard deviation of the trait.
TRAITS: dict[str, dict[str, float]] = {
  # Broad nose with a low bridge, full lips, some prognathism (positive) or the opposite.
  'breadth': {
    'nose_width': 0.8,
    'nostril_flare': 0.6,
    'nose_tip_width': 0.5,
    'nose_bridge_height': -0.5,
    'nose_tip_protrusion': -0.4,
    'lip_upper_full': 0.6,
    'lip_lower_full': 0.6,
    'lip_protrusion': 0.6,
    'prognathism': 0.5,
    'mouth_width': 0.3,
    'forehead_bulge': 0.3,
    'nose_hump': -0.3,
  },
  # Flat midface, low bridge, wide cheekbones, folded upper lid (positive) or the opposite.
  'flatness': {
    'facial_flatness': 0.7,
    'nose_bridge_height': -0.6,
    'epicanthic': 0.9,
    'upper_lid_droop': 0.4,
    'cheekbone': 0.6,
    'face_width': 0.4,
    'orbit_hollow': -0.5,
    'brow_ridge': -0.4,
    'eye_depth': -0.4,
    'nose_hump': -0.4,
    'nose_length': -0.2,
  },
  # Long narrow face with a long narrow nose (positive) or short and round.
  'length': {
    'face_length': 0.7,
    'face_width': -0.4,
    'head_width': -0.3,
    'nose_length': 0.6,
    'nose_width': -0.3,
    'chin_height': 0.4,
    'philtrum_length': 0.3,
    'cheek_full': -0.4,
    'forehead_width': -0.2,
  },
}

# Hair colours by how dark the skin is (rows: three lightest, two middle, darkest).
_HAIR_CHANCES = {
  'porcelain': (0.05, 0.25, 0.30, 0.15, 0.25, 0.0),
  'fair': (0.10, 0.30, 0.30, 0.10, 0.20, 0.0),
  'medium': (0.35, 0.40, 0.20, 0.03, 0.02, 0.0),
  'olive': (0.55, 0.35, 0.10, 0.0, 0.0, 0.0),
  'brown': (0.80, 0.20, 0.0, 0.0, 0.0, 0.0),
  'dark': (0.90, 0.10, 0.0, 0.0, 0.0, 0.0),
}
_IRIS_CHANCES = {
  'porcelain': (0.05, 0.15, 0.15, 0.15, 0.35, 0.15),
  'fair': (0.10, 0.25, 0.15, 0.15, 0.25, 0.10),
  'medium': (0.40, 0.40, 0.12, 0.04, 0.03, 0.01),
  'olive': (0.60, 0.35, 0.05, 0.0, 0.0, 0.0),
  'brown': (0.75, 0.25, 0.0, 0.0, 0.0, 0.0),
  'dark': (0.85, 0.15, 0.0, 0.0, 0.0, 0.0),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Identity:
  """A random person.

  Attributes:
    shape: [s] float32 identity code for the procedural head.
    look: colours to paint with.
    masculinity: about −1 for women, +1 for men.
    age: 0 young to 1 old.
  """

  shape: Float[np.ndarray, ' s']
  look: Look
  masculinity: float
  age: float


def sample_identity(head: HeadModel, seed: int | np.random.Generator) -> Identity:
  """Draws a plausible adult; the same seed gives the same person everywhere.

  Args:
    head: the procedural head (its directions are found by their names).
    seed: a number, or a generator to draw from.

  Raises:
    ValueError: the head has not the procedural head's directions.
  """
  missing = [
    name for name in ('male_female', 'age_sag', 'hair_volume') if name not in head.shape_names
  ]
  if missing:
    raise ValueError(f'sample_identity: head {head.name!r} has no direction {missing[0]!r}')
  rng = np.random.default_rng(seed)
  named = [name for name in head.shape_names if name and not name.startswith('smooth_')]
  code = dict.fromkeys(named, 0.0)
  masculinity = float(np.clip(rng.choice([-1.0, 1.0]) + 0.45 * rng.normal(), -1.9, 1.9))
  age = float(rng.beta(1.6, 2.2))
  weight = float(np.clip(rng.normal(), -1.7, 2.2))
  for name in named:
    spread = ASYMMETRY_SPREAD if name.startswith('asym') else LOCAL_SPREAD
    code[name] = spread * float(np.clip(rng.normal(), -2, 2))
  traits = {trait: float(np.clip(rng.normal(), -1.9, 1.9)) for trait in TRAITS}
  for trait, loadings in TRAITS.items():
    for name, loading in loadings.items():
      code[name] += loading * traits[trait]
  code = {name: float(np.clip(value, -LIMIT, LIMIT)) for name, value in code.items()}
  code['male_female'] = 0.95 * masculinity
  code['weight'] = 0.75 * weight + 0.3 * (age - 0.4)
  code['age_sag'] = 2.6 * age - 1.0 + 0.25 * float(rng.normal())
  code['hair_volume'] = float(rng.uniform(0.4, 3.2))
  shape = np.zeros(len(head.shape_names), np.float32)
  shape[: len(named)] = [code[name] for name in named]
  smooth = len(head.shape_names) - len(named)
  shape[len(named) :] = SMOOTH_SPREAD * np.clip(rng.normal(size=smooth), -2.2, 2.2)
  return Identity(shape, _sample_look(rng, traits, masculinity, age), masculinity, age)


def _sample_look(
  rng: np.random.Generator, traits: dict[str, float], masculinity: float, age: float
) -> Look:
  """Colours that go with the traits, with plenty of exceptions."""
  darkness = 0.42 + 0.17 * traits['breadth'] + 0.03 * traits['flatness'] + 0.12 * rng.normal()
  tones = list(SKIN_TONES)
  tone = tones[int(np.clip(darkness * len(tones), 0, len(tones) - 1))]
  following = tones[min(tones.index(tone) + 1, len(tones) - 1)]
  between = rng.uniform(0, 0.8)
  skin = (1 - between) * np.array(SKIN_TONES[tone]) + between * np.array(SKIN_TONES[following])
  hair = HAIR_COLORS[str(rng.choice(list(HAIR_COLORS), p=_HAIR_CHANCES[tone]))]
  if age > 0.62 and rng.random() < 0.7:
    hair = HAIR_COLORS['grey']
  iris = IRIS_COLORS[str(rng.choice(list(IRIS_COLORS), p=_IRIS_CHANCES[tone]))]
  bald = masculinity > 0 and rng.random() < 0.10 + 0.35 * age
  return Look(
    skin=_color(skin),
    hair=hair,
    iris=iris,
    scalp=0.25 if bald else 0.97,
    stubble=float(max(0.0, rng.normal(0.22, 0.22))) if masculinity > 0 else 0.0,
    brows=float(np.clip(0.72 + 0.10 * masculinity + 0.08 * rng.normal(), 0.4, 0.95)),
    ruddiness=float(np.clip(rng.normal(0.85, 0.25), 0.3, 1.4)),
  )


def _color(values: np.ndarray) -> Color:
  return float(values[0]), float(values[1]), float(values[2])
