"""What the seed says about beards and glasses, for sets that shall have them.

Each is drawn from a stream of its own: a person who has neither is the same to the last bit as in a
set without them.
"""

import dataclasses

import numpy as np

from sa0_jax.capture.studio.subject import (
  BEARD_STYLES,
  GLASSES_STYLES,
  BeardLook,
  Color,
  GlassesLook,
  Subject,
)
from sa0_jax.head.model import HeadModel

NONE, DRAWN = 'none', 'drawn'

# Shares among grown men; the rest are shaved or have the stubble that is painted.
_BEARD_SHARES = {'moustache': 0.05, 'goatee': 0.09, 'short': 0.18, 'full': 0.13, 'long': 0.05}
# What the shape code says for a face of masculinity 1, see `identity.sample_identity`, and the
# masculinity from which a beard is plausible.
_PER_MASCULINITY, _BEARDED_FROM = 0.95, 0.3
# Stubble painted under a beard, at least: skin never shines through between strands.
_UNDERCOAT = {'moustache': 0.0, 'goatee': 0.15, 'short': 0.75, 'full': 0.85, 'long': 0.85}

# Share of people in glasses, young and old.
_GLASSES_SHARES = (0.15, 0.40)
_STYLE_SHARES = {'round': 0.2, 'oval': 0.2, 'rectangle': 0.35, 'browline': 0.12, 'pilot': 0.13}
_PLASTICS: tuple[Color, ...] = (
  (0.012, 0.012, 0.013),
  (0.012, 0.012, 0.013),
  (0.070, 0.030, 0.012),
  (0.030, 0.016, 0.010),
  (0.015, 0.022, 0.060),
  (0.110, 0.018, 0.018),
  (0.350, 0.330, 0.300),
)
_METALS: tuple[Color, ...] = (
  (0.030, 0.030, 0.032),
  (0.280, 0.280, 0.290),
  (0.330, 0.230, 0.100),
  (0.300, 0.180, 0.130),
)


def add_beard(
  subject: Subject, head: HeadModel, wanted: str, stream: np.random.SeedSequence
) -> Subject:
  """The subject with a beard.

  Args:
    subject: who.
    head: the procedural head.
    wanted: 'none', 'drawn' (the seed says whether and which), or one of `BEARD_STYLES`.
    stream: where the randomness comes from.
  """
  if wanted == NONE:
    return subject
  rng = np.random.default_rng(stream)
  masculinity = float(subject.shape[head.shape_names.index('male_female')]) / _PER_MASCULINITY
  has, shares = rng.random(), np.array([_BEARD_SHARES[style] for style in BEARD_STYLES])
  style = str(rng.choice(BEARD_STYLES, p=shares / shares.sum()))
  hair = np.asarray(subject.look.hair.color)
  # Beards are redder than the hair above, and grey earlier.
  tint = np.array([1.0 + 0.25 * rng.random(), 1.0, 1.0 - 0.10 * rng.random()])
  grey = 0.35 * rng.random() * float(hair.mean() > 0.12)
  color = np.clip(rng.uniform(0.75, 1.1) * hair * tint * (1 - grey) + 0.3 * grey, 0.003, 0.9)
  beard = BeardLook(
    style,
    (float(color[0]), float(color[1]), float(color[2])),
    length=float(rng.uniform(0.75, 1.3)),
    density=float(rng.uniform(0.65, 1.0)),
    curl=float(rng.uniform(0.1, 0.8)),
  )
  if wanted == DRAWN and (masculinity < _BEARDED_FROM or has >= shares.sum()):
    return subject
  if wanted != DRAWN:
    beard = dataclasses.replace(beard, style=wanted)
  look = subject.look
  stubble = max(look.skin.stubble, _UNDERCOAT[beard.style] * beard.density)
  skin = dataclasses.replace(look.skin, stubble=stubble)
  return dataclasses.replace(subject, look=dataclasses.replace(look, skin=skin, beard=beard))


def add_glasses(
  subject: Subject, head: HeadModel, wanted: str, stream: np.random.SeedSequence
) -> Subject:
  """The subject with glasses; arguments as `add_beard`."""
  if wanted == NONE:
    return subject
  rng = np.random.default_rng(stream)
  # The code of age runs from about −1 to 1.6.
  age = float(np.clip((subject.shape[head.shape_names.index('age_sag')] + 1.0) / 2.6, 0, 1))
  young, old = _GLASSES_SHARES
  has = rng.random() < young + (old - young) * age
  shares = np.array([_STYLE_SHARES[style] for style in GLASSES_STYLES])
  style = str(rng.choice(GLASSES_STYLES, p=shares / shares.sum()))
  if wanted not in (NONE, DRAWN):
    style = wanted
  metal = rng.random() < {'pilot': 0.9, 'rectangle': 0.25, 'browline': 0.0}.get(style, 0.5)
  palette = _METALS if metal else _PLASTICS
  glasses = GlassesLook(
    style,
    palette[int(rng.integers(len(palette)))],
    rim=float(rng.uniform(1.0, 1.6) if metal else rng.uniform(2.2, 4.2)),
    size=float(rng.uniform(0.92, 1.10)),
    gloss=float(rng.uniform(0.7, 1.0) if metal else rng.uniform(0.25, 0.5)),
  )
  if wanted == DRAWN and not has:
    return subject
  return dataclasses.replace(subject, look=dataclasses.replace(subject.look, glasses=glasses))
